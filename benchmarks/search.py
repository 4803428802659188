"""`cmprompt search` over a million stored vectors: from a cold process against the exact answer, and by LanceDB.

    python benchmarks/search.py

The vectors (512-d, fp16) come from a seeded generator, made as a model's are: photos around a centre of their own, a
thousand subjects, variation along 64 directions, a little noise. A hundred texts on the same subjects, around another
centre, ask for the recall. (Noise alone has no neighbourhoods, and no index but an exact one finds its way there.)
The searches themselves ask with a text whose vector the first run embeds and keeps.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from harness import HERE, Line, about, environment, in_turn, line_table, median, parser, save_page, table
from models import save_random

from cmprompt.encoders import load_encoder
from cmprompt.index.building import build
from cmprompt.index.collections import About, Collection
from cmprompt.index.query import query_vector
from cmprompt.index.recall import Recall, recall
from cmprompt.store import Store
from cmprompt.types import Array, Embedded, Features, Item, Outcome

DIM = 512
BATCH = 8192
SUBJECTS, DIRECTIONS, TEXTS = 1000, 64, 100
TEXT = "a red car in the snow"
FLAGS = {"exact": "--no-ann", "LanceDB": "--ann"}
MOST_S, MOST_MB, LEAST_RECALL = 1.5, 1300, 0.95
MODEL = {  # small, for what its vectors say does not matter here
    "embed_dim": DIM,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
MEASURE = """
import json, os, subprocess, sys, time
before = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
lines = process.stdout.read().decode().splitlines()
_, status, used = os.wait4(process.pid, 0)
assert status == 0, lines
took = time.perf_counter() - before, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
print(json.dumps([*took, [json.loads(line)["id"] for line in lines]]))
"""  # a process of its own: what this one holds would count as resident in a child until it starts


class World:
    """Photos and texts on the same subjects."""

    def __init__(self) -> None:
        dice = np.random.default_rng(0)
        self.photo_centre, self.text_centre = 2 * dice.standard_normal((2, DIM), dtype=np.float32)
        self.subjects = 0.7 * dice.standard_normal((SUBJECTS, DIM), dtype=np.float32)
        self.directions = dice.standard_normal((DIRECTIONS, DIM), dtype=np.float32) / np.float32(DIRECTIONS**0.5)

    def photos(self, n: int) -> Iterator[Array]:
        """N unit rows, some thousands at a time."""
        dice = np.random.default_rng(1)
        for start in range(0, n, BATCH):
            yield self._rows(self.photo_centre, min(BATCH, n - start), dice)

    def texts(self) -> Array:
        """(100, D)"""
        return self._rows(self.text_centre, TEXTS, np.random.default_rng(2))

    def _rows(self, centre: Array, n: int, dice: np.random.Generator) -> Array:
        rows = centre + self.subjects[dice.integers(0, SUBJECTS, n)]
        rows += dice.standard_normal((n, DIRECTIONS), dtype=np.float32) @ self.directions
        rows += 0.3 * dice.standard_normal((n, DIM), dtype=np.float32)
        unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def batches(world: World, n: int) -> Iterator[Embedded]:
    start = 0
    for rows in world.photos(n):
        items = tuple(Item(f"photo-{start + i:07}.jpg", None) for i in range(len(rows)))
        start += len(rows)
        yield Embedded(items, (Outcome(),) * len(rows), Features.of_images(rows))
    texts, nothing, everything = world.texts(), np.zeros(TEXTS, bool), np.ones(TEXTS, bool)
    items = tuple(Item("texts", None, f"text {i}") for i in range(TEXTS))
    yield Embedded(items, (Outcome(),) * TEXTS, Features(None, texts, nothing, everything))


def exact_answer(query: Array, world: World, n: int) -> list[str]:
    """Every vector in double precision, as the collection keeps it."""
    scores = np.concatenate(
        [rows.astype(np.float16).astype(np.float64) @ query.astype(np.float64) for rows in world.photos(n)]
    )
    return [f"photo-{row:07}.jpg" for row in np.argsort(-scores, kind="stable")[:10]]


Run = tuple[float, float, float, list[str]]


def run(store: Path, flag: str, work: Path) -> Run:
    """Seconds, seconds of processor time, MB resident and the ids of one cold process."""
    command = [sys.executable, "-m", "cmprompt", "search", TEXT, flag, "--store", str(store), "--format", "jsonl", "-q"]
    measure = [sys.executable, "-S", "-c", MEASURE, *command]
    measured = subprocess.run(measure, stdout=subprocess.PIPE, check=True, env=environment(work), cwd=HERE.parent)
    seconds, processor_s, resident_mb, ids = json.loads(measured.stdout)
    return seconds, processor_s, resident_mb, ids


def runs_of(store: Path, work: Path, rounds: int) -> dict[str, list[Run]]:
    """Every run of both, which take turns after one each that does not count: the first embeds the text."""
    runs: dict[str, list[Run]] = {name: [] for name in FLAGS}

    def seconds(name: str) -> float:
        runs[name].append(run(store, FLAGS[name], work))
        return runs[name][-1][0]

    for flag in FLAGS.values():
        run(store, flag, work)
    in_turn({name: partial(seconds, name) for name in FLAGS}, rounds)
    return runs


def line(name: str, runs: list[Run], expected: list[str]) -> list[str]:
    """One row of the table."""
    seconds = sorted(run[0] for run in runs)
    same = min(len(set(run[3]) & set(expected)) for run in runs)
    right = "the same 10" if all(run[3] == expected for run in runs) else f"{same} of 10"
    used = min(run[1] for run in runs), max(run[2] for run in runs)
    middle = seconds[len(seconds) // 2]
    return [name, *(f"{value:.2f}" for value in (seconds[0], middle, seconds[-1], used[0])), f"{used[1]:.0f}", right]


def judge(exact: list[Run], expected: list[str], found: Recall) -> list[Line]:
    """The figures that have a bound."""
    seconds, resident = [run[0] for run in exact], max(run[2] for run in exact)
    same = 100 * sum(run[3] == expected for run in exact) / len(exact)
    ratio = found.approximate_ms / found.exact_ms
    whole = "exact, cold process, text known"
    return [
        Line(
            f"{whole}: time", "the bound", median(seconds), MOST_S, None, suffix=" s", below=True, times={"": seconds}
        ),
        Line(f"{whole}: resident", "the bound", resident, MOST_MB, None, suffix=" MB", below=True),
        Line(f"{whole}: the same 10", "every product in double precision", same, 100, None, suffix=" %"),
        Line(f"LanceDB: recall@{found.k}", "exact", found.share, LEAST_RECALL, None, suffix=""),
        Line("LanceDB: latency, warm", "exact", ratio, 1, None, found.approximate_ms, found.exact_ms, "ms", below=True),
    ]


def make_collection(work: Path, world: World, n: int) -> Path:
    """The store with the collection, made where it is not there yet."""
    model, store = work / "search-model", work / f"search-store-{n}"
    if not (store / "collections" / "million").is_dir():
        save_random(model, MODEL)
        encoder = load_encoder(f"local-dir:{model}")
        about = About("million", f"local-dir:{model}", encoder.model_id, DIM, "float16", (), ann=True)
        build(Store(store).path, about, batches(world, n))
    return store


def main() -> None:
    options = parser(__doc__)
    options.add_argument("-n", type=int, default=1_000_000)
    options.add_argument("--runs", type=int, default=7)
    asked = options.parse_args()
    world, facts = World(), about(vectors=f"{asked.n:,} of {DIM} numbers", processes="cold")
    store = make_collection(asked.work, world, asked.n)
    runs = runs_of(store, asked.work, asked.runs)
    collection = Collection(store, "million")
    query = query_vector(load_encoder(collection.about.model), Store(store), texts=[TEXT])
    expected = exact_answer(query, world, asked.n)
    found = recall(collection, "images")
    names = (
        "",
        "best s",
        "median s",
        "worst s",
        "processor s",
        "resident MB",
        "against every product in double precision",
    )
    judged = judge(runs["exact"], expected, found)
    body = (
        line_table(judged)
        + "\n"
        + table(names, (line(name, measured, expected) for name, measured in runs.items()))
        + f"\nOne query in a warm process: exact {found.exact_ms:.0f} ms, LanceDB {found.approximate_ms:.1f} ms with a "
        f"recall@{found.k} of {found.share:.1%} over {found.queries} {found.asked}.\n"
    )
    data = {"lines": [asdict(line) for line in judged], "runs": runs, "recall": asdict(found)}
    print(save_page("search", "`cmprompt search`", body, data, facts, asked.out))


if __name__ == "__main__":
    main()
