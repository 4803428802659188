"""How many threads should decode, and how many should encode?

    python benchmarks/threads.py [--model tiny]

Images a second of `embed` over a folder, the model loaded, nothing stored, for each number of decoding threads and of
the model's streams (a thread each); every cell runs once in each round, and its median counts. The default is one of
either for each core: the pipeline's queues give the cores to whoever has work.
"""

from __future__ import annotations

import sys
from itertools import product

from harness import about, cores, median, parser, save_page, table
from limit import pipeline_s
from models import random_open_clip
from photos import write_photos

from cmprompt import load_encoder


def main() -> None:
    """Measure the grid and save it."""
    options = parser(__doc__, images=200, rounds=3)
    options.add_argument("--model", help="default: ViT-B-32 of random weights")
    asked = options.parse_args()
    folder, model = asked.work / f"photos-{asked.images}", asked.model
    if model is None:
        model = f"local-dir:{random_open_clip(asked.work / 'ViT-B-32')}"
    write_photos(folder, asked.images, data=asked.data)
    shown = asked.model or "ViT-B-32, random weights"
    facts = about(model=shown, pictures=f"{asked.images} JPEGs of 500 x 375")
    decoding, streams = range(1, 2 * cores() + 1), range(1, cores() + 1)
    encoders = {count: load_encoder(model, threads=count) for count in streams}
    times: dict[tuple[int, int], list[float]] = {cell: [] for cell in product(decoding, streams)}
    for encoder in encoders.values():
        pipeline_s(folder, encoder, asked.images)  # warm: the model is loaded
    for _ in range(asked.rounds):
        for (decoders, count), found in times.items():
            found.append(pipeline_s(folder, encoders[count], asked.images, decoders))
            print(f"  {decoders} decode, {count} encode: {1 / found[-1]:.1f} images/s", file=sys.stderr, flush=True)
    rates = {cell: 1 / median(found) for cell, found in times.items()}
    names = ["decoding threads", *(f"{count} encoding" for count in streams)]
    body = table(names, ([decoders, *(f"{rates[decoders, count]:.1f}" for count in streams)] for decoders in decoding))
    default = rates[cores(), cores()]
    body += f"\nThe default, {cores()} and {cores()}, reaches {default / max(rates.values()):.0%} of the best cell.\n"
    cells = [{"decoding": d, "encoding": e, "seconds": found} for (d, e), found in times.items()]
    print(save_page("threads", "Images a second by threads", body, {"cells": cells}, facts, asked.out))


if __name__ == "__main__":
    main()
