"""Line 13: images a second on an NVIDIA GPU, end to end and of the model alone, and the share of the chip's rate.

    python benchmarks/gpu.py

Where there is no GPU it says so and measures nothing. bf16 against open_clip's fp16 loop with as many workers as there
are cores; the chip's rate is that of a large bf16 product, measured in the same run. `--device cpu` tries the script.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from folder import LABELS, ours
from harness import HERE, Line, about, cores, in_turn, median, parser, run, save
from models import random_open_clip
from photos import write_photos

from cmprompt import load_encoder
from cmprompt.types import Encoder

GFLOP = {"ViT-B-32": 8.8, "ViT-L-14": 162.0}  # of one image, forward: twice open_clip's GMACs
BATCH = 256
SIDE = 8192  # of the square matrices


def flops(device: str, side: int) -> float:
    """FLOP a second of a bf16 product of two square matrices."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = steady(lambda: a @ b, device)
    return 2 * side**3 / seconds


def steady(work: Callable[[], object], device: str, turns: int = 10) -> float:
    """Seconds of one call, after a few."""
    for _ in range(3):
        work()
    _wait(device)
    started = time.perf_counter()
    for _ in range(turns):
        work()
    _wait(device)
    return (time.perf_counter() - started) / turns


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def model_rate(encoder: Encoder, device: str, batch: int) -> float:
    """Images a second of the encoder on pixels in host memory."""
    side = encoder.preprocess.size_px
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 3, side, side), np.uint8)
    return batch / steady(lambda: encoder.encode_images(pixels), device)


def lines_of(name: str, folder: Path, count: int, rounds: int, work: Path, device: str, chip: float) -> Iterator[Line]:
    """End to end against the loop; the model alone against the chip's rate."""
    model = random_open_clip(work / name, name)
    script = [sys.executable, HERE / "peers/open_clip_loop.py", model, folder, "--labels", LABELS, "--device", device]
    script += ["--workers", cores(), *(["--fp16"] if device != "cpu" else [])]
    contenders = {
        "cmprompt": lambda: ours(model, folder, work, count, "--device", device, "--precision", "bf16"),
        "open_clip's loop": lambda: run(script, work, lines=count).seconds,
    }
    contenders["cmprompt"]()
    times = in_turn(contenders, rounds)
    us, them = (count / median(found) for found in times.values())
    alone = model_rate(load_encoder(f"local-dir:{model}", device, "bf16", batch_size=BATCH), device, BATCH)
    rate, unit = alone * GFLOP[name] * 1e9, "images/s"
    whole, loop = f"{name}, {count:,} JPEGs, end to end", "open_clip's loop"
    yield Line(whole, loop, us / them, None, None, us, them, unit, times=times)
    yield Line(whole, "the model alone", 100 * us / alone, None, None, us, alone, unit, " %")
    tera, most = rate / 1e12, chip / 1e12
    yield Line(f"{name}, the model", "the chip's bf16 rate", 100 * rate / chip, None, None, tera, most, "TFLOP/s", " %")


def main() -> None:
    """Measure and save, or say that there is nothing to measure on."""
    options = parser(__doc__, images=1000, rounds=3)
    options.add_argument("--device", default="cuda")
    asked = options.parse_args()
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        print(save("gpu", "On a GPU", [], about(), asked.out, "\nNot run: there is no GPU on this machine.\n"))
        return
    folder = asked.work / f"photos-{asked.images}"
    write_photos(folder, asked.images, data=asked.data)
    facts = about(device=torch.cuda.get_device_name() if asked.device != "cpu" else "cpu")
    chip = flops(asked.device, SIDE if asked.device != "cpu" else 512)
    lines = [
        line
        for name in GFLOP
        for line in lines_of(name, folder, asked.images, asked.rounds, asked.work, asked.device, chip)
    ]
    print(save("gpu", "On a GPU", lines, facts, asked.out))


if __name__ == "__main__":
    main()
