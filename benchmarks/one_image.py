"""One picture in a fresh process, against the script that everyone writes first.

    python benchmarks/one_image.py seen    # line 6: ViT-B-32, labels seen before
    python benchmarks/one_image.py new     # line 7: the bundled model, new labels
    python benchmarks/one_image.py         # both

Every run has a picture of its own that no store knows. The first run of all, which may export the model, is beside
them, not judged.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from harness import HERE, Line, about, cmprompt, in_turn, median, parser, run, save
from models import random_open_clip
from photos import write_photos

from cmprompt.encoders.weights import TINY, read_folder

OURS, THEIRS = "cmprompt", "open_clip script"
SEEN = "cat,dog"
WORDS = "apple bridge candle desert engine forest guitar hammer island jacket kettle ladder mirror needle".split()
CASES = {  # measure, at least, aim
    "seen": ("one image, labels seen before, ViT-B-32", 0.25, 0.12),
    "new": ("one image, new labels, bundled model", 0.5, 0.2),
}


def labels_of(case: str, number: int) -> str:
    """The same two for `seen`; for `new` two that no run had before."""
    pairs = [f"{a} and {b}" for a in WORDS for b in WORDS if a != b]
    return SEEN if case == "seen" else f"{pairs[2 * number]},{pairs[2 * number + 1]}"


def measured(case: str, paths: list[Path], work: Path, rounds: int) -> Iterator[Line]:
    """The judged line, and one for the first run of all."""
    model = work / "ViT-B-32" if case == "seen" else TINY
    name = f"local-dir:{random_open_clip(model)}" if case == "seen" else "tiny"
    place, pictures = work / f"one-{case}", zip(paths, count(), strict=False)
    shutil.rmtree(place, ignore_errors=True)  # what a machine keeps that has never seen this model
    script = [sys.executable, HERE / "peers/one_image.py", model, paths[0], "--labels", SEEN]
    script += ["--vocabulary", read_folder(model).model_cfg["text_cfg"]["vocab_size"]]

    def ours() -> float:
        path, number = next(pictures)
        return run(cmprompt("classify", path, "--labels", labels_of(case, number), "--model", name), place).seconds

    first = ours()
    times = in_turn({OURS: ours, THEIRS: lambda: run(script, place, lines=1).seconds}, rounds)
    us, them = median(times[OURS]), median(times[THEIRS])
    measure, floor, aim = CASES[case]
    line = Line(measure, THEIRS, us / them, floor, aim, us, them, suffix=" of its time", below=True, times=times)
    yield line
    measure = f"{measure}: the very first run"
    yield replace(line, measure=measure, value=first / them, floor=None, aim=None, ours=first, times={})


def main() -> None:
    """Save the table of the cases that are asked for."""
    options = parser(__doc__, rounds=7)
    options.add_argument("cases", nargs="*", help="seen, new; default: both")
    asked = options.parse_args()
    paths = write_photos(asked.work / "photos-one", asked.rounds + 1, data=asked.data)
    chosen, facts = asked.cases or list(CASES), about(pictures="JPEGs of 500 x 375, another for each run")
    lines = [line for case in chosen for line in measured(case, paths, asked.work, asked.rounds)]
    name = "one-image" if not asked.cases else "one-image-" + "-".join(chosen)
    print(save(name, "One picture, a fresh process", lines, facts, asked.out))


if __name__ == "__main__":
    main()
