"""A pickled checkpoint to safetensors: once, on purpose, through torch's loader that runs no code."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmprompt.errors import ModelError, OutputError


def convert(source: Path, target: Path | None = None) -> Path:
    """Write the tensors of `source` (.bin, .pt, .pth) as safetensors: `target`, or the same name beside it.

    Raises ModelError where the pickle asks for anything but tensors, OutputError where `target` exists.
    """
    target = target or source.with_suffix(".safetensors")
    if not source.is_file():
        raise ModelError(f"no file {source}")
    if target.exists():
        raise OutputError(f"{target} exists; remove it, or name another with -o")
    tensors = plain_tensors(read_pickle(source), source)
    from safetensors.torch import save_file

    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        save_file(tensors, partial)
        shutil.copymode(source, partial)  # the library makes it readable for its owner alone
        partial.replace(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def read_pickle(source: Path) -> Any:
    """What the checkpoint holds. Raises ModelError where it is not tensors, numbers and containers alone."""
    import pickle
    import warnings

    import torch

    try:
        with warnings.catch_warnings(
            action="ignore", category=UserWarning
        ):  # of an unusual protocol: it decides itself
            return torch.load(source, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ModelError(f"{source} is refused: it is no checkpoint, holds more than tensors, or is damaged") from error


def plain_tensors(loaded: Any, source: Path) -> dict[str, Any]:
    """The state dict, whatever it is wrapped in, each tensor with memory of its own."""
    import torch

    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{source} holds no state dict but a {type(loaded).__name__}")
    named = {str(name).removeprefix("module."): value for name, value in loaded.items()}
    tensors = {name: value.contiguous().clone() for name, value in named.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ModelError(f"{source} holds no tensors")
    return tensors
