"""Line 9: a million stored vectors against 1,000 labels, the five best of each, in process.

    python benchmarks/score.py [--vectors 1000000] [--labels 1000]

Against one float32 product and `argpartition` in numpy. Seeded random unit vectors of 512 numbers, kept in fp16 as the
store keeps them. Each side has a process of its own; its extra memory is the highest resident size during the work,
less the size before it, vectors loaded. Where numpy's N x C would not fit in memory it gets fewer rows, and says so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import HERE, Line, about, median, parser, run, save

from cmprompt.heads.ranking import best_labels
from cmprompt.types import Array

DIM, BEST = 512, 5
OURS, THEIRS = "cmprompt", "numpy, one product and argpartition"
COMPARED = 2000


def units(count: int, seed: int) -> Array:
    """(count, DIM) float32 unit rows."""
    rows = np.random.default_rng(seed).standard_normal((count, DIM), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_vectors(path: Path, count: int) -> Path:
    """(count, DIM) fp16 in a .npy, made once."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = np.lib.format.open_memmap(path.with_suffix(".partial"), "w+", np.float16, (count, DIM))
        for start in range(0, count, 1 << 16):
            stored[start : start + (1 << 16)] = units(min(1 << 16, count - start), start + 1)
        stored.flush()
        path.with_suffix(".partial").replace(path)
    return path


def ours(vectors: Array, weight: Array) -> Array:
    """(N, BEST) indices of labels, best first."""
    return best_labels(vectors, weight, BEST).columns


def theirs(vectors: Array, weight: Array) -> Array:
    """(N, BEST) indices of labels, in no order."""
    scores = vectors.astype(np.float32) @ weight.T
    return np.argpartition(scores, -BEST, axis=1)[:, -BEST:]


def memory_kb(field: str, path: str = "/proc/self/status") -> int:
    """`VmRSS`, `VmHWM`, or of /proc/meminfo `MemAvailable`."""
    lines = Path(path).read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def one(asked: argparse.Namespace) -> None:
    """One side's work: its seconds, rows and extra MB as JSON, some of its answers in a file."""
    vectors, weight = np.load(asked.stored), units(asked.labels, 0)
    if asked.side == THEIRS:
        bytes_of_a_row = 4 * DIM + 12 * asked.labels  # floats of the row and of its scores, argpartition's indices
        vectors = vectors[: int(0.8 * 1024 * memory_kb("MemAvailable", "/proc/meminfo") / bytes_of_a_row)]
    Path("/proc/self/clear_refs").write_text("5")  # the highest size starts anew
    before_kb, started = memory_kb("VmRSS"), time.perf_counter()
    best = (theirs if asked.side == THEIRS else ours)(vectors, weight)
    seconds, extra_mb = time.perf_counter() - started, (memory_kb("VmHWM") - before_kb) / 1024
    np.save(asked.keep, np.sort(best[:COMPARED], axis=1))
    print(json.dumps({"seconds": seconds, "rows": len(vectors), "extra_mb": extra_mb}))


def measured(side: str, stored: Path, labels: int, work: Path) -> tuple[dict[str, float], Array]:
    """What a fresh process of one side says."""
    keep = work / "score.npy"
    flags = ["--side", side, "--stored", stored, "--labels", labels, "--keep", keep]
    found: dict[str, Any] = json.loads(run([sys.executable, HERE / "score.py", *flags], work).output)
    print(f"  {side}: {found}", file=sys.stderr)
    return found, np.load(keep)


def main() -> None:
    """Run both sides in turn, and save the lines."""
    options = parser(__doc__, rounds=3)
    options.add_argument("--vectors", type=int, default=1_000_000)
    options.add_argument("--labels", type=int, default=1000)
    for hidden in ("--side", "--stored", "--keep"):
        options.add_argument(hidden, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.side:
        one(asked)
        return
    facts = about(vectors=f"{asked.vectors:,} x {DIM}, fp16", labels=f"{asked.labels:,}")
    stored = write_vectors(asked.work / f"vectors-{asked.vectors}.npy", asked.vectors)
    runs: dict[str, list[dict[str, float]]] = {OURS: [], THEIRS: []}
    for _ in range(asked.rounds):
        answers = []
        for side, found in runs.items():
            figures, best = measured(side, stored, asked.labels, asked.work)
            found.append(figures)
            answers.append(best)
    same = float((answers[0] == answers[1]).all(axis=1).mean())
    times = {side: [1e6 * one["seconds"] / one["rows"] for one in found] for side, found in runs.items()}
    us, them = median(times[OURS]), median(times[THEIRS])
    extra = {side: [one["extra_mb"] for one in found] for side, found in runs.items()}
    measure = f"{asked.vectors:,} vectors x {asked.labels:,} labels, top {BEST}"
    most, theirs_mb = max(extra[OURS]), max(extra[THEIRS])
    lines = [
        Line(f"{measure}: for each vector", THEIRS, them / us, 2, 4, us, them, "µs", times=times),
        Line(f"{measure}: extra memory", THEIRS, most, 1000, None, most, theirs_mb, "MB", " MB", True, extra),
    ]
    rows = int(runs[THEIRS][-1]["rows"])
    notes = f"\nnumpy had {rows:,} of the rows. The same five labels on {same:.2%} of the first {COMPARED:,}.\n"
    print(save("score", "Stored vectors against many labels", lines, facts, asked.out, notes))


if __name__ == "__main__":
    main()
