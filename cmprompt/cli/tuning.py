"""What `evaluate --tune-prompts` and `--tune-thresholds` do: half of the rows chooses, the other half judges."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cmprompt.errors import UsageError

if TYPE_CHECKING:
    from cmprompt.cli.measuring import Evaluation
    from cmprompt.labelled.rows import Labelled
    from cmprompt.labels import LabelSet
    from cmprompt.prompts import PromptSet
    from cmprompt.store import Store
    from cmprompt.types import Encoder, Features


@dataclass(frozen=True)
class Tuning:
    """Labelled rows with their vectors, and the prompts to begin with."""

    data: Labelled
    features: Features
    encoder: Encoder
    labels: LabelSet
    sets: Sequence[PromptSet]
    store: Store | None
    seed: int


def output_of(output: str | None, table: str, prompts: bool, thresholds: bool, overwrite: bool) -> Path:
    """Where the result goes. Raises UsageError for both at once, OutputError where something is there."""
    from cmprompt.writers.rows import check_file

    if prompts and thresholds:
        raise UsageError("--tune-prompts and --tune-thresholds each write a file; run one after the other")
    stem = str(Path(table).with_suffix("")) if os.path.isfile(table) else table.rstrip("/")
    path = Path(output or f"{stem}{'.prompts.toml' if prompts else '.labels.json'}")
    check_file(str(path), overwrite)
    return path


def how_to_use(path: Path, prompts: bool) -> str:
    """The flags that take the file."""
    return f"--labels ... --prompts {path}" if prompts else f"--labels @{path}"


def lines(asked: Evaluation, path: Path, prompts: bool) -> Iterator[str]:
    """Tune the prompts or the thresholds, write them to `path`, and say what came of it."""
    from cmprompt.prompts import choose_sets

    words = replace(asked.words, question=None, describe=None)
    labels, _ = words.texts(asked.data.names)
    asked.data.check_labels(labels.phrases)
    sets = choose_sets(words.prompts or [], words.template or [], labels, language=words.language)
    encoder = asked.encoder()
    what = Tuning(asked.data, asked.vectors(encoder), encoder, labels, sets, asked.store, asked.seed)
    yield from (tune_prompts if prompts else tune_thresholds)(what, path)
    asked.say(f"wrote {path}; use it with: cmprompt classify PHOTOS {how_to_use(path, prompts)}")


def tune_prompts(tuning: Tuning, path: Path) -> Iterator[str]:
    """Pick and weigh templates, write the set, and give the lines to show."""
    from cmprompt.cli import contests, fitting
    from cmprompt.prompts import expand
    from cmprompt.report.figures import table_lines
    from cmprompt.tasks import tune as library
    from cmprompt.tasks.evaluate import Contender, comparisons, contest
    from cmprompt.writers.rows import write_file

    singles = library.single_templates(tuning.labels, tuning.sets)
    texts = library.texts_of_each(tuning.labels, singles)
    heads = [fitting.start_head(tuning.encoder, each, "mean", tuning.store) for each in texts]
    choosing, judging = library.halves(tuning.data, tuning.features, seed=tuning.seed)
    target = tuning.data.class_numbers(heads[0].labels)
    counts = library.weigh(heads, tuning.features.take(choosing), target[choosing])
    tuned = library.tuned_set(singles, counts)
    before, after = (
        fitting.start_head(tuning.encoder, expand(tuning.labels, sets), "mean", tuning.store)
        for sets in (tuning.sets, [tuned])
    )
    judges, rows = tuning.data.take(judging), tuning.features.take(judging)
    found = contest(judges, {"untuned": Contender(before, rows), "tuned": Contender(after, rows)}, seed=tuning.seed)
    text = library.set_as_toml(tuned, f"cmprompt evaluate {tuning.data.source} --tune-prompts")
    write_file(str(path), text.encode(), overwrite=True)  # what was there has been asked about
    for single, count in sorted(zip(singles, counts, strict=True), key=lambda pair: -pair[1]):
        if count:
            yield f"{count:3} x {single.templates[0]}"
    yield f"chosen by {len(choosing)} rows, judged on {len(judging)} others:"
    yield from table_lines(found.table)
    for other, name, gap in comparisons(found, seed=tuning.seed):
        yield contests.gap_line(other, name, gap, found.target)


def tune_thresholds(tuning: Tuning, path: Path) -> Iterator[str]:
    """Find a threshold for each label, write the label file, and give the lines to show."""
    import numpy as np

    from cmprompt import metrics
    from cmprompt.cli import fitting
    from cmprompt.openset import DEFAULT_Z, vocabulary_vectors
    from cmprompt.prompts import expand
    from cmprompt.tasks import tune as library
    from cmprompt.writers.rows import write_file

    head = fitting.start_head(tuning.encoder, expand(tuning.labels, tuning.sets), "mean", tuning.store)
    words = vocabulary_vectors(tuning.encoder, tuning.store)
    z = library.z_scores(head, tuning.features, words, tuning.data.multi_label)
    truth = tuning.data.marks(head.labels) > 0
    choosing, judging = library.halves(tuning.data, tuning.features, seed=tuning.seed)
    one = library.one_threshold(z[choosing], truth[choosing])
    own = library.thresholds(z[choosing], truth[choosing])
    write_file(str(path), library.labels_as_json(tuning.labels, own).encode(), overwrite=True)
    yield from (f"z:{limit:<8.4g} {label}" for label, limit in zip(head.labels, own, strict=True))
    yield f"chosen by {len(choosing)} rows, judged on {len(judging)} others:"
    yield f"{'':<22} {'prec':>6} {'recall':>6} {'F1':>6}"
    for name, limit in (("z 2 for all", DEFAULT_Z), (f"z {one:.3g} for all, tuned", one), ("each its own", own)):
        figures = metrics.multi_label_f1(z[judging] >= np.asarray(limit), truth[judging])
        yield f"{name:<22} " + " ".join(f"{100 * figures[figure]:6.1f}" for figure in ("precision", "recall", "f1"))
