"""Line 13: images a second on an NVIDIA GPU, end to end and of the model alone, and the share of the chip's rate.

    python benchmarks/gpu.py

Where there is no GPU it says so, and leaves what an earlier run found. bf16 against open_clip's fp16 loop with as many
workers as there are cores, whole processes; then the model loaded, over twenty times as many files, against the slower
of its parts: decoding on every core, and the model alone. The chip's rate is that of a large bf16 product, measured in
the same run. `--device cpu` tries the script.
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
from limit import PART, decode_s, pipeline_s
from memory import TIMES, write_copies
from models import random_open_clip
from photos import write_photos

from cmprompt import load_encoder
from cmprompt.types import Encoder

GFLOP = {"ViT-B-32": 8.8, "ViT-L-14": 162.0}  # of one image, forward: twice open_clip's GMACs
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


def model_rate(encoder: Encoder, device: str) -> float:
    """Images a second of the encoder on pixels in host memory, in the batches of a run."""
    side, batch = encoder.preprocess.size_px, int(encoder.batch_size)  # type: ignore[attr-defined]
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
    encoder, many = load_encoder(f"local-dir:{model}", device, "bf16"), TIMES * count
    alone, paths = model_rate(encoder, device), sorted(folder.iterdir())
    decoding = cores() / decode_s(paths[:PART], encoder)
    loaded = 1 / pipeline_s(write_copies(paths, work / f"copies-{count}", TIMES), encoder, many)
    rate, unit, loop = alone * GFLOP[name] * 1e9, "images/s", "open_clip's loop"
    yield Line(f"{name}, {count:,} JPEGs, cold process", loop, us / them, None, None, us, them, unit, times=times)
    slower = "the model alone" if alone < decoding else f"decoding alone, {cores()} cores"
    bound = min(alone, decoding)
    yield Line(f"{name}, {many:,} JPEGs, loaded", slower, 100 * loaded / bound, 85, 95, loaded, bound, unit, " %")
    tera, most = rate / 1e12, chip / 1e12
    yield Line(f"{name}, the model", "the chip's bf16 rate", 100 * rate / chip, None, None, tera, most, "TFLOP/s", " %")


def main() -> None:
    """Measure and save, or say that there is nothing to measure on."""
    options = parser(__doc__, images=1000, rounds=3)
    options.add_argument("--device", default="cuda")
    asked = options.parse_args()
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        print("Not run: there is no GPU on this machine.")
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
