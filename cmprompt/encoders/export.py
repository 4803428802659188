"""A checkpoint's towers as OpenVINO models on disk: made from torch once, whole or not at all, checked at each load."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmprompt.atomic import beside, in_turn
from cmprompt.encoders.batches import unit
from cmprompt.encoders.sealed import seal, sealed
from cmprompt.encoders.weights import Checkpoint, cache_dir
from cmprompt.errors import CmpromptError
from cmprompt.types import Array

MANIFEST = "export.json"
FORMAT = 1  # of the folder; another one is made again
MARKED_S = 86_400  # from one mark of use to the next
TOLERANCE = 2e-4  # of a number in a unit vector, between an exported tower and torch, both in fp32
Notices = Callable[[str], None]


def exported(checkpoint: Checkpoint, weights_hash: str, notices: Notices) -> Mapping[str, Path]:
    """The towers, `images` and `texts`, that are exported; one that does not export is absent.

    They are made now, which loads torch and says so, where nothing sound is on disk. Processes that want them at once
    take turns: the first makes them, the others find them. Raises ModelError where the weights do not fit their
    configuration.
    """
    folder = folder_of(checkpoint, weights_hash)
    if (here := _read(folder, weights_hash)) is not None:
        _mark_used(folder / MANIFEST)
        return here
    with in_turn(beside(folder, "lock")):
        here = _read(folder, weights_hash)  # another process may have made them meanwhile
        return _make(folder, checkpoint, weights_hash, notices) if here is None else here


def exports_dir() -> Path:
    """Where the exported towers of all models are."""
    return cache_dir() / "exports"


def folder_of(checkpoint: Checkpoint, weights_hash: str) -> Path:
    """Where those of one model are."""
    return exports_dir() / f"{weights_hash[:16]}-{checkpoint.config_digest}"


def openvino_version() -> str:
    """Of the installed package, without importing it."""
    from importlib.metadata import version

    return version("openvino")


def _read(folder: Path, weights_hash: str) -> dict[str, Path] | None:
    """None where there is nothing, or nothing that can be trusted."""
    manifest = sealed(folder, MANIFEST)
    if manifest is None:
        return None
    try:
        if (manifest["format"], manifest["weights"]) != (FORMAT, weights_hash):
            return None
        if manifest["failed"] and manifest["openvino"] != openvino_version():
            return None  # another version may export what this one did not
        return {tower: folder / f"{tower}.xml" for tower in manifest["towers"]}
    except (KeyError, TypeError):
        return None


def _mark_used(manifest: Path) -> None:
    """By its time, once a day, for who looks after the cache."""
    with suppress(OSError):
        if time.time() - manifest.stat().st_mtime > MARKED_S:
            os.utime(manifest)


def _make(folder: Path, checkpoint: Checkpoint, weights_hash: str, notices: Notices) -> Mapping[str, Path]:
    """What there is to read then. A cache that cannot be written costs only speed."""
    notices(f"preparing {checkpoint.name} for this processor; this is done once, and takes some seconds")

    def fill(partial: Path) -> dict[str, Any]:
        failed = _export_towers(checkpoint, partial)
        for tower, reason in failed.items():
            notices(f"{checkpoint.name}: torch will encode its {tower}, since they do not export: {reason}")
        towers = sorted(path.stem for path in partial.glob("*.xml"))
        about = {"format": FORMAT, "weights": weights_hash, "openvino": openvino_version()}
        return {**about, "source": os.path.abspath(checkpoint.folder), "towers": towers, "failed": failed}

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        seal(folder, MANIFEST, fill)
        if (here := _read(folder, weights_hash)) is not None:
            return here
        problem = "it is gone again, or damaged"
    except OSError as error:
        problem = error.strerror or str(error)
    notices(f"{folder} cannot be written ({problem}), so torch encodes")
    return {}


def _export_towers(checkpoint: Checkpoint, folder: Path) -> dict[str, str]:
    """Write what exports; returns why the others do not. In fp32: a lower precision is chosen when one is loaded."""
    from cmprompt.encoders.openvino import import_openvino

    ov = import_openvino()
    failed = {}
    for plan in _plans(checkpoint):
        try:
            model = _convert(ov, plan)
            _compare(ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}), plan)
            ov.save_model(model, folder / f"{plan.tower}.xml", compress_to_fp16=False)
        except (CmpromptError, OSError, MemoryError):
            raise
        except Exception as error:  # tracing runs code of any architecture
            failed[plan.tower] = " ".join(str(error).split())[:200] or type(error).__name__
    return failed


@dataclass(frozen=True)
class _Plan:
    """How to export one tower: torch's function, inputs to trace (the first of them) and to compare both with."""

    tower: str
    run: Callable[[Any], Any]
    inputs: list[Array]
    shape: list[int]  # -1 where any will do


def _plans(checkpoint: Checkpoint) -> Iterator[_Plan]:
    from cmprompt.encoders.torch import TorchTowers, normalised
    from cmprompt.encoders.towers import encode_trimmed, is_trimmable

    model, side = TorchTowers(checkpoint, "cpu", "fp32").model, checkpoint.preprocess.size_px
    dice = np.random.default_rng(0)
    pixels = [dice.integers(0, 256, (n, 3, side, side), np.uint8) for n in (2, 3)]

    def see(pixels: Any) -> Any:
        return model.encode_image(normalised(pixels, checkpoint.preprocess))

    yield _Plan("images", see, pixels, [-1, 3, side, side])
    text_cfg = checkpoint.model_cfg["text_cfg"]
    context = int(text_cfg.get("context_length", 77))
    trims = is_trimmable(text_cfg)
    lengths = [max(2, context // 4), max(3, context // 2), context] if trims else [context] * 2
    tokens = [dice.integers(1, 256, (2, length)) for length in lengths]
    run = (lambda x: encode_trimmed(model, x)) if trims else model.encode_text
    yield _Plan("texts", run, tokens, [-1, -1 if trims else context])


def _convert(ov: Any, plan: _Plan) -> Any:
    """The OpenVINO model of a tower."""
    import torch

    class Tower(torch.nn.Module):
        def forward(self, inputs: Any) -> Any:
            return plan.run(inputs)

    with torch.inference_mode(), warnings.catch_warnings(action="ignore"):  # tracing warns of every constant
        example = torch.from_numpy(plan.inputs[0])
        return ov.convert_model(Tower(), example_input=example, input=[ov.PartialShape(plan.shape)])


def _compare(compiled: Any, plan: _Plan) -> None:
    """Raises ValueError where the exported tower gives other vectors: tracing may have fixed what should vary."""
    import torch

    for inputs in plan.inputs:
        with torch.inference_mode():
            expected = plan.run(torch.from_numpy(inputs)).numpy()
        error = np.abs(unit(compiled(inputs)[0]) - unit(expected)).max()
        if not error <= TOLERANCE:  # nor where it is not a number
            raise ValueError(f"the export is off by {error:.1g}")
