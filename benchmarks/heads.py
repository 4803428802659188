"""What each head is worth. One table for each argument, or all of them:

    python benchmarks/heads.py optimum           1  linear beside scikit-learn's LogisticRegression
    python benchmarks/heads.py few               2  few labels: real CLIP vectors, Tiny-ImageNet, clothing
    python benchmarks/heads.py fusions           3  image with text: groceries; does the caption belong to the photo?
    python benchmarks/heads.py prices            4  house prices from a photo and a line of text
    python benchmarks/heads.py missing           5  texts missing at test time
    python benchmarks/heads.py speed             7  time of linear and of auto
    python benchmarks/heads.py commands          8  finetune and evaluate on clothing; shuffled labels
    python benchmarks/heads.py adapt             9  no labels at all

Writes results/heads-NAME.md and .json. `--part 0.1` takes a tenth of rows and draws, to see that everything runs.
No choice is made on rows that judge: what is judged on `val` is fitted and tuned on `train` alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import few_labels
import fits
import fusions
from harness import Line, about, line_table, parser, save_page, table
from labelled_sets import Bench, cifar10, clothing, replay, tiny_imagenet

Page = tuple[list[str], list[Line]]
SEEN = (
    "The bundled model was trained on the photos that the last two tables draw from, so that held-out folds of them"
    " promise more than other photos keep: these tables show the heads beside each other, and judge none.\n"
)


@dataclass(frozen=True)
class Tables:
    """Every table, by the name that the command line calls it: its text, and the figures that are judged."""

    data: Path
    work: Path
    model: str
    part: float

    @cached_property
    def bench(self) -> Bench:
        return Bench.open(self.data, self.work, self.model)

    def some(self, whole: int, least: int = 1) -> int:
        return max(least, round(whole * self.part))

    def optimum(self) -> Page:
        rows, lines = fits.optimum(self.bench, self.some(2000, 200))
        return [table(("Tiny-ImageNet", "loss"), rows)], lines

    def few(self) -> Page:
        draws, fewer = self.some(10), self.some(3)
        real = few_labels.few(replay(self.data), draws)
        pages, lines = [self._shots(f"Real CLIP vectors, {draws} draws", real)], few_labels.judged(real)
        for name, train, judges in (
            ("Clothing", clothing(self.data, "train"), clothing(self.data, "validation")),
            ("Tiny-ImageNet", tiny_imagenet(self.data, "train-0", 8000), tiny_imagenet(self.data, "val", 2000)),
        ):
            found = few_labels.few(self.bench.labelled(train), fewer, self.bench.labelled(judges))
            pages.append(self._shots(f"{name}, {self.model}, judged on its own val, {fewer} draws", found))
        return [*pages, SEEN], lines

    def _shots(self, title: str, found: dict[str, list[float]]) -> str:
        names = ("head", *(f"{shots} shots" for shots in few_labels.SHOTS))
        rows = ([name, *(f"{cell:.1f}" for cell in cells)] for name, cells in found.items())
        return f"## {title}\n\n{table(names, rows)}"

    def fusions(self) -> Page:
        rows, lines = fusions.groceries(self.bench)
        pairs, more = fusions.matches(self.bench, self.some(6000, 300))
        first = table(("groceries, 81 classes", "accuracy on val"), rows)
        return [first, table(("match or no match, Flickr8k", "accuracy"), pairs)], lines + more

    def prices(self) -> Page:
        rows, lines = fusions.prices(self.bench)
        return [table(("houses, 5 folds", "R2", "MAE", "RMSE", "Spearman"), rows)], lines

    def missing(self) -> Page:
        rows, lines = fusions.missing(self.bench, self.some(5))
        return [table(("concat, groceries", "every text", "30 % of texts missing", "difference"), rows)], lines

    def speed(self) -> Page:
        rows, lines = fits.linear_speed(self.some(50_000))
        tried, more = fits.auto_speed(self.some(5000))
        pages = [table(("fit", "time", "validation accuracy"), rows), table(("fit", "time", "chosen"), tried)]
        return pages, lines + more

    def commands(self) -> Page:
        return ["```\n" + "\n".join(fits.commands(self.bench, self.work, self.model)) + "\n```\n"], []

    def adapt(self) -> Page:
        names, draws = ("images", "how many at most", "zero-shot", "adapted", "difference"), self.some(20)
        pages = [f"## Real CLIP vectors\n\n{table(names, few_labels.unlabelled(replay(self.data), draws))}"]
        vectors = self.bench.labelled(cifar10(self.data, self.some(2000, 600)))
        return [*pages, f"## CIFAR-10, {self.model}\n\n{table(names, few_labels.unlabelled(vectors, draws))}"], []


NAMES = ("optimum", "few", "fusions", "prices", "missing", "speed", "commands", "adapt")


def write(tables: Tables, name: str, out: Path, title: str) -> None:
    """One page of results."""
    make: Callable[[], Page] = getattr(tables, name)
    facts = about(model=tables.model, part=f"{tables.part:g}")
    pages, lines = make()
    body = "\n".join([*pages, *([line_table(lines)] if lines else [])])
    judged = [{**asdict(line), "reached": line.reached} for line in lines]
    print(save_page(f"heads-{name}", title, body, {"pages": pages, "lines": judged}, facts, out), flush=True)


def arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default all")
    made.add_argument("--model", default="tiny", help="what makes the vectors; default %(default)s")
    made.add_argument("--part", type=float, default=1.0, help="the part of rows and draws; default %(default)s")
    given = made.parse_args()
    if strange := set(given.names) - set(NAMES):
        made.error(f"no table {', '.join(sorted(strange))}; choose from {', '.join(NAMES)}")
    return given


def main() -> None:
    given = arguments()
    given.work.mkdir(parents=True, exist_ok=True)
    tables = Tables(given.data, given.work, given.model, given.part)
    for name in given.names or NAMES:
        write(tables, name, given.out, f"Heads: {name}")


if __name__ == "__main__":
    main()
