"""Line 4: what share of the machine's limit a folder reaches, from the parts measured alone in the same run.

    python benchmarks/limit.py

Decoding and the model share the cores, so the limit is 1 / (decode core-seconds / cores + model seconds) images a
second, each part by itself: decoding on one thread, the model on as many as it runs with. The whole is a process from
its start to its end; the same without start and end is beside it.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from folder import ours
from harness import Line, about, cores, median, parser, save
from models import random_open_clip
from photos import write_photos

from cmprompt import embed, load_encoder
from cmprompt.encoding import encode_images, streams_of
from cmprompt.images import decode
from cmprompt.sources import read_items
from cmprompt.types import Encoder

PART = 250  # pictures decoded or encoded for one reading of a part


def decode_s(paths: list[Path], encoder: Encoder) -> float:
    """Core-seconds for one picture, from its bytes in the page cache to pixels."""
    started = time.thread_time()
    for path in paths:
        decode(path.read_bytes(), encoder.preprocess)
    return (time.thread_time() - started) / len(paths)


def model_s(count: int, encoder: Encoder) -> float:
    """Seconds for one picture with every stream at work, in the batches that the pipeline makes."""
    size = int(getattr(encoder, "batch_size", 16))
    side = encoder.preprocess.size_px
    batch = list(np.random.default_rng(0).integers(0, 256, (size, 3, side, side), np.uint8))
    turns = max(streams_of(encoder), count // size)
    with ThreadPoolExecutor(streams_of(encoder)) as pool:
        started = time.perf_counter()
        list(pool.map(lambda _: encode_images(encoder, batch), range(turns)))
        return (time.perf_counter() - started) / (turns * size)


def pipeline_s(folder: Path, encoder: Encoder, count: int, decode_threads: int | None = None) -> float:
    """Seconds for one picture of `embed` over the folder, the model loaded."""
    started = time.perf_counter()
    done = sum(len(batch.items) for batch in embed(read_items([str(folder)]), encoder, decode_threads=decode_threads))
    assert done == count
    return (time.perf_counter() - started) / count


def main() -> None:
    """Measure the parts and the whole in turn, and save the line."""
    asked = parser(__doc__, images=1000, rounds=3).parse_args()
    folder, model = asked.work / f"photos-{asked.images}", random_open_clip(asked.work / "ViT-B-32")
    paths = write_photos(folder, asked.images, data=asked.data)
    facts = about(model="ViT-B-32, random weights", pictures=f"{asked.images} JPEGs of 500 x 375")
    encoder = load_encoder(f"local-dir:{model}")
    model_s(1, encoder)
    ours(model, folder, asked.work, asked.images)
    parts: dict[str, list[float]] = {"decode": [], "model": [], "pipeline": [], "process": []}
    for _ in range(asked.rounds):
        parts["decode"].append(decode_s(paths[:PART], encoder))
        parts["model"].append(model_s(min(PART, asked.images), encoder))
        parts["pipeline"].append(pipeline_s(folder, encoder, asked.images))
        parts["process"].append(ours(model, folder, asked.work, asked.images) / asked.images)
        print({name: f"{1000 * found[-1]:.2f} ms" for name, found in parts.items()}, file=sys.stderr)
    limit_s = median(parts["decode"]) / cores() + median(parts["model"])
    lines = []
    for name, floor, aim in (("process", 85, 95), ("pipeline", None, None)):
        rate, most = 1 / median(parts[name]), 1 / limit_s
        measure = f"folder of {asked.images:,}, {'cold process' if name == 'process' else 'model loaded, no store'}"
        lines.append(
            Line(
                measure, "limit of the parts", 100 * rate / most, floor, aim, rate, most, "images/s", " %", times=parts
            )
        )
    rows = {
        "decode, core-seconds": median(parts["decode"]),
        "model, seconds": median(parts["model"]),
        "limit, seconds": limit_s,
    }
    notes = "\nFor one picture: " + "; ".join(f"{name} {1000 * value:.2f} ms" for name, value in rows.items()) + ".\n"
    print(save("limit", "How near the limit a folder runs", lines, facts, asked.out, notes))


if __name__ == "__main__":
    main()
