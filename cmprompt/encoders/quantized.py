"""An exported image tower in int8: quantised by NNCF on the user's own images, kept beside the export it came from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from cmprompt.atomic import beside, in_turn, writing
from cmprompt.encoders.batches import unit
from cmprompt.encoders.export import openvino_version
from cmprompt.encoders.openvino import core, import_openvino
from cmprompt.encoders.sealed import seal, sealed
from cmprompt.errors import UsageError
from cmprompt.types import Array

CALIBRATED_ON, MEASURED_ON = 128, 64  # images; where there are fewer, a third of them measures
LEAST = 8
MANIFEST, FOLDER, TOWER = "int8.json", "int8", "images.xml"
Notices = Callable[[str], None]


@dataclass(frozen=True)
class Quantized:
    """The tower on disk. `digest` tells it from one that was calibrated on other images."""

    path: Path
    digest: str


def quantized(images: Path) -> Quantized | None:
    """What an earlier run made of the exported tower `images`; None where nothing sound is there."""
    folder = images.parent / FOLDER
    facts = sealed(folder, MANIFEST)
    if facts is None:
        return None
    return Quantized(folder / TOWER, sha256("".join(sorted(facts["files"].values())).encode()).hexdigest()[:12])


def quantize(images: Path, pixels: Array, notices: Notices) -> None:
    """Make it from the exported tower `images` and (N, 3, H, W) uint8 pixels, and tell how far it is from fp32.

    One that is there stays as it is, since a run may be using it: processes that want one at once take turns, and all
    get the first one's. Raises UsageError for too few images, or where NNCF is not installed; OutputError.
    """
    with in_turn(beside(images.parent / FOLDER, "lock")):
        if quantized(images) is None:
            _calibrate(images, pixels, notices)


def _calibrate(images: Path, pixels: Array, notices: Notices) -> None:
    require()
    if len(pixels) < LEAST:
        raise UsageError(
            f"--precision int8 is calibrated on your own images: {len(pixels)} are too few, {LEAST} will do"
        )
    judges = pixels[-min(MEASURED_ON, len(pixels) // 3) :]
    learnt = pixels[: len(pixels) - len(judges)]

    def fill(partial: Path) -> dict[str, Any]:
        plain, small = _quantize(images, learnt)
        cosines = (_rows(plain, judges) * _rows(small, judges)).sum(axis=1)
        import_openvino().save_model(small, partial / TOWER, compress_to_fp16=False)
        agreement = {"mean": float(cosines.mean()), "least": float(cosines.min())}
        return {"openvino": openvino_version(), "images": len(learnt), "cosine": agreement}

    with writing(str(images.parent)):
        agreement = seal(images.parent / FOLDER, MANIFEST, fill)["cosine"]
    notices(
        f"int8: calibrated on {len(learnt)} of your images; on {len(judges)} others its vectors have a cosine of"
        f" {agreement['mean']:.4f} with those of fp32, {agreement['least']:.4f} at least; kept in {images.parent}"
    )


def require() -> None:
    """Raises UsageError where NNCF is not installed."""
    if find_spec("nncf") is None:
        raise UsageError('--precision int8 needs NNCF: pip install "cmprompt[int8]"')


def _quantize(images: Path, pixels: Array) -> tuple[Any, Any]:
    """The tower as it was exported, and in int8. Convolutions and matrix products alike, activations too."""
    nncf = _import_nncf()
    plain = core().read_model(images)
    attends = any(node.get_type_name() in ("Softmax", "ScaledDotProductAttention") for node in plain.get_ops())
    with redirect_stdout(StringIO()):  # its progress bars go where records do
        small = nncf.quantize(
            core().read_model(images),
            nncf.Dataset([pixels[row : row + 1] for row in range(len(pixels))]),
            subset_size=len(pixels),
            model_type=nncf.ModelType.TRANSFORMER if attends else None,
        )
    return plain, small


def _rows(model: Any, pixels: Array) -> Array:
    """(N, D) unit rows, computed as the tower is written down."""
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return unit(np.concatenate([compiled(pixels[start : start + 8])[0] for start in range(0, len(pixels), 8)]))


def _import_nncf() -> Any:
    """The package, without its notes, which are not for users."""
    import logging

    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it looks for CUDA as it is imported
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf
