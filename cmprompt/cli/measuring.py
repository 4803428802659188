"""What the tasks of `evaluate` share, and the two that are short: retrieval and alignment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmprompt.cli import fitting, road
from cmprompt.cli.texts import warn_of_texts
from cmprompt.errors import UsageError

if TYPE_CHECKING:
    from cmprompt.cli.details import Details
    from cmprompt.cli.notices import Say
    from cmprompt.heads.verdict import Row
    from cmprompt.labelled.rows import Labelled
    from cmprompt.labels import LabelSet
    from cmprompt.store import Store
    from cmprompt.types import Encoder, Features, Head

OpenEncoder = Callable[[str], "Encoder"]
IMAGE = frozenset({"image"})


@dataclass(frozen=True)
class Words:
    """The flags that say which labels there are, and in what texts."""

    labels: Sequence[str] | None = None
    label: Sequence[str] | None = None
    pool: str = "mean"
    prompts: Sequence[str] | None = None
    template: Sequence[str] | None = None
    language: str = "auto"
    question: str | None = None
    describe: str | None = None

    @property
    def named(self) -> bool:
        """Whether they name labels; where they do not, the rows' own are meant."""
        return bool(self.labels or self.label or self.question or self.describe)

    def texts(
        self, names: Sequence[str], *, minimum: int = 2, say: Say | None = None
    ) -> tuple[LabelSet, dict[str, tuple[str, ...]]]:
        """The labels, `names` where they name none, and the texts of each. Raises UsageError."""
        if not self.named and len(names) == 1 < minimum:
            raise UsageError(
                f"the rows have one label only, {names[0]!r}, which every image would get; "
                "name more by --labels, or ask whether it fits with --none or --multi-label"
            )
        return fitting.texts_of(
            names, self.labels, self.label, self.prompts, self.template, self.language, self.describe, self.question,
            say, minimum=minimum,
        )  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """The labelled rows, the words, and what every task is told beside them."""

    data: Labelled
    words: Words
    model: str
    open_encoder: OpenEncoder
    store: Store | None
    say: Say
    details: Details
    seed: int = 0
    translations: str | None = None
    overwrite: bool = False
    output: str | None = None
    _vectors: dict[tuple[int, frozenset[str]], Features] = field(default_factory=dict)

    def encoder(self) -> Encoder:
        """The model that --model names."""
        return self.open_encoder(self.model)

    def vectors(self, encoder: Encoder, needs: frozenset[str] = IMAGE) -> Features:
        """Those of every row, once for each encoder. Raises UsageError that names the lines which failed."""
        from cmprompt.labelled.vectors import embed_labelled

        key = id(encoder), needs
        if key not in self._vectors:
            road.calibrate_on(encoder, self.data.items)
            self.details.run(encoder, self.store)
            self._vectors[key] = embed_labelled(self.data, encoder, self.store, needs)
        return self._vectors[key]

    def write_figures(self, task: str, table: Sequence[Row], **more: Any) -> None:
        """The figures as JSON, where -o names a file. Raises OutputError."""
        from cmprompt import __version__
        from cmprompt.report.measured import as_json
        from cmprompt.writers.rows import write_file

        if self.output is None:
            return
        about = {"cmprompt": __version__, "source": self.data.source, "task": task, "rows": len(self.data.items)}
        write_file(self.output, as_json(about, table, more).encode(), overwrite=self.overwrite)
        self.say(f"wrote {self.output}")

    def translated(self, labels: Sequence[str]) -> dict[str, str]:
        """What --translate-labels calls each label; nothing without it. Raises UsageError where it leaves one out."""
        from cmprompt.labels.translation import read_translations

        return read_translations(self.translations, labels) if self.translations else {}


def read_heads(directories: Sequence[str], model: str, open_encoder: OpenEncoder) -> dict[str, tuple[Head, Encoder]]:
    """Each head by the name of its directory, with its own model or, where it is named, `model`.

    Raises ModelError, before any image is read, where a head was fitted on another model.
    """
    from cmprompt.heads.io import check_model, load_head, model_of

    opened: dict[str, Encoder] = {}
    found: dict[str, tuple[Head, Encoder]] = {}
    for directory in directories:
        head = load_head(directory)
        wanted = model if model != "auto" else model_of(directory)
        encoder = opened.get(wanted) or open_encoder(wanted)
        opened[wanted] = encoder
        check_model(head, encoder, directory)
        name = Path(directory).name
        found[directory if name in found else name] = head, encoder
    return found


def seen_before(directories: Sequence[str], table: str) -> Iterator[str]:
    """A notice for each head that was fitted on this very table."""
    from cmprompt.heads.io import table_of

    for directory in directories:
        fitted_on = table_of(directory)
        if fitted_on and os.path.realpath(fitted_on) == os.path.realpath(table):
            yield f"{directory} was fitted on rows of {table}: what is measured on them says too much for it"


def retrieval_lines(asked: Evaluation) -> Iterator[str]:
    """R@1, R@5 and R@10, both ways."""
    from cmprompt.report.figures import table_lines
    from cmprompt.tasks.evaluate import retrieval

    features = asked.vectors(asked.encoder(), frozenset({"image", "text"}))
    table = retrieval(features, seed=asked.seed)
    asked.write_figures("retrieval", table)
    yield from table_lines(table)


def check_figures(output: str, overwrite: bool) -> None:
    """Raises UsageError where the ending promises another format, OutputError where the file is there already."""
    advice = "the figures are JSON; name a .json file, and --predictions FILE for the answers"
    _check_ending(f"-o {output}", output, ".json", advice, overwrite)


def check_plot(plot: str, overwrite: bool) -> None:
    """Raises UsageError where the ending promises another format, OutputError where the file is there already."""
    _check_ending(f"--plot {plot}", plot, ".svg", "the drawing is SVG; name a .svg file", overwrite)


def _check_ending(typed: str, path: str, ending: str, advice: str, overwrite: bool) -> None:
    from cmprompt.writers.rows import check_file

    if not path.lower().endswith(ending):
        raise UsageError(f"{typed}: {advice}")
    check_file(path, overwrite)


def alignment_lines(asked: Evaluation, plot: str | None) -> Iterator[str]:
    """Figures, the classes that fit worst, the texts that lie nearest; the picture in `plot`."""
    import numpy as np

    from cmprompt.alignment import measure, nearest_texts
    from cmprompt.alignment.plot import svg
    from cmprompt.encoders.batches import unit
    from cmprompt.heads.verdict import Row
    from cmprompt.writers.rows import write_file

    _, prompts = asked.words.texts(asked.data.names, say=asked.say)
    target = asked.data.class_numbers(tuple(prompts))
    names = asked.translated(tuple(prompts))
    encoder = asked.encoder()
    warn_of_texts(encoder, prompts, asked.say)
    features = asked.vectors(encoder)
    text = fitting.start_head(encoder, prompts, asked.words.pool, asked.store)
    labels = tuple(names.get(label, label) for label in text.labels)
    texts = unit(text.weight)
    assert features.image is not None
    found = measure(features.image, texts, target)
    own = {"labels": labels, "support": found.support, "own": found.own, "other": found.other, "recall": found.recall}
    asked.write_figures("alignment", [Row("alignment", dict(found.figures), {})], per_class=own)
    for name, value in found.figures.items():
        yield f"{name:<33} {value:8.4f}"
    width = max(map(len, labels))
    yield ""
    yield f"{'label':<{width}} {'rows':>6} {'own':>8} {'other':>8} {'nearest':>8}"
    for c in np.argsort(found.own - found.other, kind="stable").tolist():
        if found.support[c]:
            cells = f"{found.support[c]:6} {found.own[c]:8.4f} {found.other[c]:8.4f} {100 * found.recall[c]:7.1f}%"
            yield f"{labels[c]:<{width}} {cells}"
    yield ""
    yield "texts that lie nearest to each other:"
    yield from (f"{cosine:8.4f} {labels[a]} and {labels[b]}" for a, b, cosine in nearest_texts(found))
    if plot is not None:
        drawing = svg(found, features.image, texts, target, labels)
        write_file(plot, drawing.encode(), overwrite=asked.overwrite)
