"""Line 8: other labels on the same folder, the second run against the first, fresh processes.

    python benchmarks/relabel.py [--model local-dir:DIR]

ViT-B-32 of random weights unless another model is named. Every round has a store of its own.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from harness import Line, about, cmprompt, median, parser, run, save
from models import random_open_clip
from photos import write_photos

LABELS = ("cat,dog,horse,coffee,rocket,person", "flower,building,car,bicycle,moon,grass")
FIRST, OTHER, KNOWN = "first run", "other labels", "labels seen before"


def rounds_of(folder: Path, model: str, work: Path, count: int, rounds: int) -> Iterator[dict[str, float]]:
    """Seconds of the three runs of each round."""
    for _ in range(rounds):
        store = work / "relabel-store"
        shutil.rmtree(store, ignore_errors=True)
        found = {}
        for name, labels in ((FIRST, LABELS[0]), (OTHER, LABELS[1]), (KNOWN, LABELS[1])):
            command = cmprompt("classify", folder, "--labels", labels, "--store", store, "--model", model, "-q")
            found[name] = run(command, work, lines=count).seconds
            print(f"  {name}: {found[name]:.2f} s", file=sys.stderr)
        yield found


def main() -> None:
    """Save the times and their ratios."""
    options = parser(__doc__, images=1000, rounds=3)
    options.add_argument("--model")
    asked = options.parse_args()
    model = asked.model or f"local-dir:{random_open_clip(asked.work / 'ViT-B-32')}"
    folder = asked.work / f"photos-{asked.images}"
    paths = write_photos(folder, asked.images, data=asked.data)
    facts = about(model=asked.model or "ViT-B-32, random weights", pictures=f"{asked.images} JPEGs of 500 x 375")
    time.sleep(3)  # a file changed in the last two seconds is read again
    warm = cmprompt("classify", paths[0], "--labels", "sun,rain", "--model", model, "--no-store", "-q")
    run(warm, asked.work, lines=1)
    found = list(rounds_of(folder, model, asked.work, asked.images, asked.rounds))
    times = {name: [one[name] for one in found] for name in (FIRST, OTHER, KNOWN)}
    first = median(times[FIRST])
    lines = [
        Line(
            f"relabel {asked.images:,} pictures: {name}", FIRST, median(times[name]) / first, floor, aim,
            median(times[name]), first, suffix=" of it", below=True, times={name: times[name], FIRST: times[FIRST]},
        )
        for name, floor, aim in ((OTHER, 0.1, 0.04), (KNOWN, None, None))
    ]  # fmt: skip
    print(save("relabel", "Other labels on the same folder", lines, facts, asked.out))


if __name__ == "__main__":
    main()
