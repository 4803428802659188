"""What a run was: everything that determines its records, and the versions that made them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from cmprompt import __version__
from cmprompt.rule import Rule
from cmprompt.types import Encoder, Head

if TYPE_CHECKING:
    from cmprompt.tasks.questions import RowQuestions

_LIBRARIES = ("numpy", "pillow", "torch", "open_clip_torch")


def run_header(
    encoder: Encoder,
    head: Head | RowQuestions,
    rule: Rule,
    *,
    prompts: Mapping[str, Sequence[str]] | None = None,
    inputs: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What determines the records: equal headers give equal output. Holds no times, paths of outputs or argv."""
    return {
        **rows_header(encoder, prompts=prompts, inputs=inputs, options=options),
        "head": type(head).__name__,
        "head_sha256": _head_hash(head) if prompts is None else None,  # prompts and model say it all otherwise
        "labels": list(head.labels),
        "rule": asdict(rule),
    }


def rows_header(
    encoder: Encoder,
    *,
    prompts: Mapping[str, Sequence[str]] | None = None,
    inputs: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The same for rows that are not predictions."""
    from cmprompt.prompts import prompt_hash

    return {
        "model": encoder.model_id,
        "weights_hash": getattr(encoder, "weights_hash", None),
        "revision": getattr(getattr(encoder, "checkpoint", None), "revision", None),
        "encoding": encoder.store_key,
        "prompt_hash": None if prompts is None else prompt_hash(prompts),
        "inputs": list(inputs),
        "options": dict(options or {}),
        "versions": {"cmprompt": __version__, **_versions()},
    }


def _head_hash(head: Head | RowQuestions) -> str:
    """sha256 over what a head holds."""
    names = [field.name for field in fields(head)] if is_dataclass(head) else sorted(vars(head))
    digest = hashlib.sha256(type(head).__name__.encode())
    for name in names:
        digest.update(name.encode() + b"\0" + _bytes_of(getattr(head, name)))
    return digest.hexdigest()


def _bytes_of(value: Any) -> bytes:
    """The same bytes for the same value in any process: no addresses, no order of sets."""
    if hasattr(value, "tobytes"):
        return bytes(value.tobytes())
    if hasattr(value, "state_dict"):  # a torch module
        return b"".join(name.encode() + _bytes_of(part.numpy()) for name, part in value.state_dict().items())
    if isinstance(value, Mapping):
        return b"".join(_bytes_of(pair) for pair in value.items())
    if isinstance(value, set | frozenset):
        return _bytes_of(sorted(value))
    if isinstance(value, list | tuple):
        return b"".join(_bytes_of(part) + b"\0" for part in value)
    if isinstance(value, str | int | float | None):
        return repr(value).encode()
    return type(value).__name__.encode()


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
