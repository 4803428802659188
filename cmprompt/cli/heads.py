"""The head that --head names, and what it brings with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cmprompt.errors import UsageError

if TYPE_CHECKING:
    from cmprompt.types import Encoder, Head


def read_head(directory: str | None, labels: Sequence[str] | None, label: Sequence[str] | None) -> Head | None:
    """The fitted head that --head names, or none. Raises ModelError, and UsageError beside labels."""
    if directory is None:
        return None
    if labels or label:
        raise UsageError("--head brings its own labels; leave --labels and --label out")
    from cmprompt.heads.io import load_head

    return load_head(directory)


def model_for(head: str | None, model: str) -> str:
    """The model that is asked for, else the head's own."""
    if head is None or model != "auto":
        return model
    from cmprompt.heads.io import model_of

    return model_of(head)


def is_multi_label(head: str | None) -> bool:
    """Whether --head names a head whose labels do not exclude each other."""
    if head is None:
        return False
    from cmprompt.heads import io

    return io.is_multi_label(head)


def gives_numbers(head: str | None) -> bool:
    """Whether --head names a head of regression, whose answer is a number and no label."""
    if head is None:
        return False
    from cmprompt.heads import io

    return io.gives_numbers(head)


def check_head(head: Head, encoder: Encoder, directory: str | None) -> None:
    """Raises ModelError where the head was fitted on another model."""
    from cmprompt.heads.io import check_model

    check_model(head, encoder, directory or "")
