"""Bytes changed at random in files of every format: pixels or a status of the closed list, never a crash or a hang."""

from __future__ import annotations

import io
import multiprocessing
import random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cmprompt.errors import STATUSES, ItemError
from cmprompt.images import decode
from cmprompt.types import Preprocess
from tests.conftest import encode

SMALL = Preprocess(16, "shortest", "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
MAX_PIXELS = 1 << 20  # a mutant may declare any size; decoding a large one would only take time


def seeds() -> list[bytes]:
    """Some twenty small files, every format and its main varieties."""
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 32, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    frames: dict[str, Any] = {"save_all": True, "append_images": [photo.rotate(90), photo.rotate(180)]}
    files = [
        encode(photo, "JPEG", exif=exif), encode(photo, "JPEG", progressive=True),
        encode(photo.convert("CMYK"), "JPEG"),
        encode(photo, "MPO", **frames), encode(photo, "PNG", exif=exif), encode(photo.quantize(16), "PNG"),
        encode(photo.convert("RGBA"), "PNG", **frames), encode(photo.convert("L").convert("I;16"), "PNG"),
        encode(photo, "WEBP", exif=exif), encode(photo, "WEBP", lossless=True), encode(photo, "WEBP", **frames),
        encode(photo, "GIF", **frames), encode(photo, "BMP"), encode(photo.quantize(16), "BMP"),
        encode(photo, "TIFF"), encode(photo, "TIFF", compression="tiff_lzw", exif=exif),
        encode(photo.convert("1"), "TIFF", compression="group4"), encode(photo, "TIFF", compression="jpeg"),
        encode(photo, "PPM"), encode(photo, "AVIF", exif=exif, speed=10),
    ]  # fmt: skip
    try:
        import pillow_heif
    except ImportError:
        return files
    pillow_heif.from_pillow(photo).save(heic := io.BytesIO())
    return [*files, heic.getvalue()]


def mutant(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or cut off; most of them near the front, where the structure is."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = min(int(rng.random() ** 2 * len(changed)), len(changed) - 1)
        kind = rng.randrange(6)
        if kind < 3:
            changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 3:
            changed[at : at + 4] = rng.randbytes(4)
        elif kind == 4:
            del changed[at : at + rng.randrange(1, 9)]
        else:
            changed[at:at] = changed[at : at + rng.randrange(1, 65)]
        if not changed:
            break
    return bytes(changed[: rng.randrange(len(changed) + 1)] if rng.random() < 0.1 else changed)


def run(seed: int, n_mutants: int, statuses: Any) -> None:
    rng = random.Random(seed)
    files = seeds()
    counts: dict[str, int] = {}
    for i in range(n_mutants):
        data = mutant(files[i % len(files)], rng)
        try:
            pixels = decode(data, SMALL, max_pixels=MAX_PIXELS, allow_truncated=rng.random() < 0.5).pixels
            status = "ok" if pixels.shape == (3, 16, 16) else "wrong shape"
        except ItemError as error:
            status = error.status
        counts[status] = counts.get(status, 0) + 1
    statuses.put(counts)


def survive(n_mutants: int, seed: int, timeout_s: float) -> dict[str, int]:
    """The statuses of so many mutants, from a process of their own, so that a crash or a hang is seen as one."""
    context = multiprocessing.get_context("spawn")
    statuses = context.SimpleQueue()
    process = context.Process(target=run, args=(seed, n_mutants, statuses))
    process.start()
    process.join(timeout_s)
    if process.is_alive():
        process.kill()
        pytest.fail("a mutant hangs")
    assert process.exitcode == 0
    counts: dict[str, int] = statuses.get()
    return counts


def test_two_thousand_mutants() -> None:
    counts = survive(2_000, seed=7, timeout_s=300)
    assert sum(counts.values()) == 2_000 and set(counts) <= set(STATUSES)
    assert {"ok", "unreadable", "truncated", "unsupported", "too_large"} <= set(counts)


@pytest.mark.nightly
def test_a_hundred_thousand_mutants(request: pytest.FixtureRequest) -> None:
    if "nightly" not in request.config.getoption("markexpr"):
        pytest.skip("long: run it with -m nightly")
    counts = survive(100_000, seed=11, timeout_s=3600)
    assert sum(counts.values()) == 100_000 and set(counts) <= set(STATUSES)
