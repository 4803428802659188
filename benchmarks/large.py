"""Line 5: photos of 12 megapixels to labels, whole processes, against open_clip's transform and fp32.

    python benchmarks/large.py

The peer is one process that transforms and encodes in turn; the same with four workers is beside it, not judged.
"""

from __future__ import annotations

import sys

from folder import LABELS, ours
from harness import HERE, Line, about, in_turn, median, parser, run, save
from models import random_open_clip
from photos import write_photos

BUDGET_S = 80.0  # of one peer; at least one run


def main() -> None:
    """Save the table."""
    asked = parser(__doc__, images=200, rounds=3).parse_args()
    folder, model = asked.work / f"large-{asked.images}", random_open_clip(asked.work / "ViT-B-32")
    write_photos(folder, asked.images, 4000, 3000, asked.data)
    facts = about(model="ViT-B-32, random weights", pictures=f"{asked.images} JPEGs of 4000 x 3000")
    script = [sys.executable, HERE / "peers/open_clip_loop.py", model, folder, "--labels", LABELS]
    bounds = {"open_clip's transform, fp32": (6, 12), "the same with 4 workers": (None, None)}
    plain, parallel = bounds
    contenders = {
        "cmprompt": lambda: ours(model, folder, asked.work, asked.images),
        plain: lambda: run(script, asked.work, lines=asked.images).seconds,
        parallel: lambda: run([*script, "--workers", "4"], asked.work, lines=asked.images).seconds,
    }
    contenders["cmprompt"]()  # warm: files read, model exported
    times = in_turn(contenders, asked.rounds, BUDGET_S)
    us = median(times["cmprompt"])
    lines = []
    for name, (floor, aim) in bounds.items():
        them, both = median(times[name]), {"cmprompt": times["cmprompt"], name: times[name]}
        lines.append(Line(f"{asked.images} photos of 12 megapixels", name, them / us, floor, aim, us, them, times=both))
    print(save("large", "Photos of 12 megapixels, end to end", lines, facts, asked.out))


if __name__ == "__main__":
    main()
