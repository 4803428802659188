"""Which model a name means, and the encoder for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cmprompt.encoders.weights import TINY, Checkpoint, HashMismatch, read_folder
from cmprompt.errors import ModelError
from cmprompt.registry import ENCODERS, resolve
from cmprompt.types import Encoder

RECOMMENDED = "ViT-B-32-256"
OPEN_CLIP = "open_clip"
Notices = Callable[[str], None]


def load_encoder(
    model: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    *,
    exact: bool = False,
    threads: int | None = None,
    batch_size: int | None = None,
    accept_licence: bool = False,
    compiled: bool = False,
    notices: Notices | None = None,
) -> Encoder:
    """The encoder for `model`: `auto`, `tiny`, an alias of zoo.py, `architecture/tag`, `local-dir:DIR`, `hf-hub:ID`, or
    `tuned:DIR`, the model of the head in DIR with the towers that were trained with that.

    `auto` takes the recommended model if it is on this machine, else the bundled one, and tells `notices` (by default
    the log) so. Any other name is exact: it is downloaded if it may be, and never substituted. No torch is imported.
    `device`: auto, cpu, cuda, cuda:1, mps. `precision`: auto, fp32, bf16, fp16, or int8, which a run of `cmprompt
    classify` or `embed` has calibrated before. `exact`: as open_clip computes, in fp32 by torch. `threads` and
    `batch_size`: by default every core, and what the device is quick with. `compiled`: the image tower through
    torch.compile, on a GPU. `accept_licence`: the caller may use weights for research only.
    Raises ModelError (missing or damaged model), UsageError (unknown model, device or precision).
    """
    load = resolve(ENCODERS, "encoder", _kind(model))
    encoder: Encoder = load(
        model, device=device, precision=precision, exact=exact, threads=threads, batch_size=batch_size,
        accept_licence=accept_licence, compiled=compiled, notices=notices,
    )  # fmt: skip
    return encoder


def load_open_clip(
    model: str, *, accept_licence: bool = False, notices: Notices | None = None, **options: Any
) -> Encoder:
    """An open_clip model, downloaded where it is not here and may be; `options` go to `OpenClipEncoder`."""
    from cmprompt.encoders.open_clip import OpenClipEncoder

    tell = notices or logging.getLogger("cmprompt").warning

    def make(checkpoint: Checkpoint) -> Encoder:
        return OpenClipEncoder(checkpoint, notices=tell, **options)

    checkpoint = find_checkpoint(model, accept_licence=accept_licence, notices=tell)
    try:
        return make(checkpoint)
    except HashMismatch as error:
        return make(fetch_again(checkpoint, error, tell))


def find_checkpoint(model: str, *, accept_licence: bool = False, notices: Notices) -> Checkpoint:
    """The files that `model` means, downloaded where they are not here yet."""
    if model == "auto":
        return _auto(notices)
    if model.startswith("local-dir:"):
        return read_folder(Path(model.removeprefix("local-dir:")).expanduser())
    if model == "tiny":
        return read_folder(TINY)
    from cmprompt import hub

    return hub.find_or_pull(model, accept_licence=accept_licence, notices=notices)


def is_here(model: str) -> bool:
    """Would `load_encoder(model)` do without a download?"""
    from cmprompt import hub

    if model in ("auto", "tiny") or model.startswith("local-dir:") or _kind(model) != OPEN_CLIP:
        return True
    return hub.find_here(model) is not None


def _kind(model: str) -> str:
    """What of `registry.ENCODERS` loads a model: what its name begins with, up to a colon, else open_clip."""
    kind, colon, _ = model.partition(":")
    return kind if colon and kind in ENCODERS else OPEN_CLIP


def _auto(notices: Notices) -> Checkpoint:
    from cmprompt import hub

    if found := hub.find_here(RECOMMENDED, notices):
        return found
    notices(f"using tiny, bundled, trained on research data; a better one: cmprompt models pull {RECOMMENDED}")
    return read_folder(TINY)


def fetch_again(checkpoint: Checkpoint, error: ModelError, notices: Notices) -> Checkpoint:
    """One fresh download of a damaged model. Raises `error` where there is nowhere to download it from."""
    from cmprompt import hub

    if checkpoint.repo is None:
        raise error
    notices(f"{error}; downloading it once more")
    return hub.repair(checkpoint, error)
