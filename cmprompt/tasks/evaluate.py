"""Heads set beside each other on one labelled set: figures, paired comparisons, the classes and pairs that go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cmprompt import metrics
from cmprompt.decisions import answered, decided, decides, figures_of, parts_of
from cmprompt.errors import UsageError
from cmprompt.heads.answers import answers
from cmprompt.heads.verdict import Row, bootstrap, intervals, paired, table_of
from cmprompt.index.exact import nearest
from cmprompt.labelled.rows import Labelled
from cmprompt.labelled.vectors import photo_groups
from cmprompt.product import on_grid
from cmprompt.rule import Rule
from cmprompt.scores import add_up, level_labels, score
from cmprompt.types import Array, Features, Head, Prediction

RETRIEVED = (1, 5, 10)


@dataclass(frozen=True)
class Contender:
    """A head, its own vectors of the rows, and the rule it decides by. `vocabulary` (V, D): where
    `scores.needs_vocabulary` says so."""

    head: Head
    features: Features
    rule: Rule = field(default_factory=Rule)
    vocabulary: Array | None = None


@dataclass(frozen=True)
class Contest:
    """N rows answered by every contender. `answers`: (N, C) probabilities over `labels`, or (N,) numbers; `target`
    (N,) class numbers, (N, C) of 0 and 1 for multi-label, or (N,) numbers.

    `decided`, where a rule may withhold an answer: (N,) class numbers, -1 for none, or for multi-label (N, C) bool.
    """

    labels: tuple[str, ...]
    target: Array
    answers: dict[str, Array]
    table: list[Row]
    decided: dict[str, Array] = field(default_factory=dict)


def contest(data: Labelled, contenders: Mapping[str, Contender], *, seed: int = 0) -> Contest:
    """Score every head on its own vectors of the same rows, and decide by its rule.

    A label that a head does not have is never its answer. Rows whose target is a rule's none-of-these are right where
    that is the answer. The usual figures take every row's best label; where a rule may withhold one, `coverage` and
    `answered` stand beside them, and for multi-label the rule decides what they count.
    Raises UsageError where `all_labels` does.
    """
    heads = [each.head for each in contenders.values()]
    rule = next(iter(contenders.values())).rule
    labels = all_labels(data, [level_labels(head.labels, rule.level)[0] for head in heads], rule)
    target = _targets(data, labels)
    found = {name: _spread(each, labels) for name, each in contenders.items()}
    table = table_of(found, target, seed=seed)
    if not any(decides(each.rule) for each in contenders.values()):
        return Contest(labels, target, found, table)
    given = {name: decided(predictions_of(data, each), labels, each.rule) for name, each in contenders.items()}
    return Contest(labels, target, found, _beside(table, figures_of(given, target, seed=seed)), given)


def predictions_of(data: Labelled, contender: Contender) -> Iterator[Prediction]:
    """What `classify` would answer to each row."""
    return answered(data.items, contender.features, contender.head, contender.rule, contender.vocabulary)


def all_labels(data: Labelled, each: Sequence[tuple[str, ...]], rule: Rule) -> tuple[str, ...]:
    """The labels of all contenders, the first one's first; none-of-these is one where rows have it as their target.

    Raises UsageError where numbers meet labels, and with the lines of rows whose label no contender has.
    """
    if data.numbers is not None:
        if any(each):
            raise UsageError("a head with labels cannot be measured on numbers; leave --task regression out")
        return ()
    if not all(each):
        raise UsageError("a head of numbers is measured with --task regression")
    labels = tuple(dict.fromkeys(label for own in each for label in own))
    if rule.none and not data.multi_label and rule.none_name in data.names and rule.none_name not in labels:
        labels = (*labels, rule.none_name)
    data.check_labels(labels)
    return labels


def _targets(data: Labelled, labels: tuple[str, ...]) -> Array:
    if data.numbers is not None:
        return data.numbers
    return data.marks(labels) if data.multi_label else data.class_numbers(labels)


def _beside(table: Sequence[Row], more: Sequence[Row]) -> list[Row]:
    """The rows of `table` with the figures of `more`, which replace those of the same name."""
    pairs = zip(table, more, strict=True)
    return [Row(a.name, {**a.figures, **b.figures}, {**a.intervals, **b.intervals}) for a, b in pairs]


def comparisons(found: Contest, *, seed: int = 0) -> Iterator[tuple[str, str, dict[str, float]]]:
    """(other, name, `verdict.paired`): is `name` better than `other`, for every contender and the first one, and the
    one before it where that is another."""
    names = list(found.answers)
    for place, name in enumerate(names[1:], 1):
        for other in dict.fromkeys((names[0], names[place - 1])):
            yield other, name, paired(found.answers[other], found.answers[name], found.target, seed=seed)


def confused_pairs(found: Contest, name: str, most: int = 10) -> list[tuple[str, str, int]]:
    """(true label, answer, how often) of the most frequent mistakes of one contender."""
    pairs = metrics.mistakes(found.answers[name].argmax(1), found.target, len(found.labels), most)
    return [(found.labels[truth], found.labels[answer], times) for truth, answer, times in pairs]


def retrieval(features: Features, *, seed: int = 0) -> list[Row]:
    """Image-text R@1/5/10 both ways, ranked as `search` ranks. Rows with the same picture are one with several texts.

    Raises UsageError where there are not both.
    """
    if features.image is None or features.text is None:
        raise UsageError(
            "retrieval needs a picture and a text in each row; name the columns by --image-col, --text-col"
        )
    here = np.flatnonzero(features.has_image & features.has_text)
    pictures = photo_groups(Features.of_images(features.image[here]))
    _, first = np.unique(pictures, return_index=True)
    images, texts = features.image[here][first], features.text[here]
    to_text, to_image = nearest(images, texts, RETRIEVED[-1]).rows, nearest(texts, images, RETRIEVED[-1]).rows
    return [
        _retrieval_row("image to text", pictures[to_text] == pictures[first][:, None], seed),
        _retrieval_row("text to image", pictures[first][to_image] == pictures[:, None], seed),
    ]


def _retrieval_row(name: str, relevant: Array, seed: int) -> Row:
    """`relevant` (Q, K) bool: which of the K best of each query are its own."""
    hits = {f"R@{k}": relevant[:, :k].any(1) for k in RETRIEVED}
    figures = {figure: float(hit.mean()) for figure, hit in hits.items()}

    def measure(counts: Array) -> dict[str, Array]:
        return {figure: counts @ hit / len(relevant) for figure, hit in hits.items()}

    return Row(name, figures, intervals(bootstrap({name: measure}, len(relevant), seed=seed)[name]))


def class_lines(found: Contest, name: str) -> Iterator[str]:
    """The per-class table of one contender, the worst class first."""
    table, given = per_class(found, name), found.decided.get(name)
    withheld = given is not None and given.ndim == 1
    width = max(map(len, found.labels))
    more = f" {'coverage':>9} {'answered':>9}" if withheld else ""
    yield f"{'label':<{width}} {'rows':>6} {'prec':>6} {'recall':>6} {'F1':>6}{more}"
    for c in np.argsort(table["f1"], kind="stable").tolist():
        if table["support"][c]:
            cells = " ".join(f"{100 * table[figure][c]:6.1f}" for figure in ("precision", "recall", "f1"))
            if given is not None and withheld:
                rows = found.target == c
                cells += "".join(f" {100 * share:9.1f}" for share in metrics.selective(given[rows], c).values())
            yield f"{found.labels[c]:<{width}} {int(table['support'][c]):6} {cells}"


def per_class(found: Contest, name: str) -> dict[str, Array]:
    """Of one contender, precision, recall, F1 and support of each label, (C,) each; as decided, under multi-label."""
    rows, truth = found.answers[name], found.target
    if truth.ndim == 2:
        return metrics.per_label(found.decided.get(name, rows >= metrics.DECIDED), truth > 0)
    return metrics.per_class(rows.argmax(1), truth, len(found.labels))


def _spread(contender: Contender, labels: tuple[str, ...]) -> Array:
    """A head's answers: numbers, or its probabilities in the columns of all `labels`."""
    head, rule = contender.head, contender.rule
    if not labels:
        return answers(head, contender.features, "regression")
    own, groups = level_labels(head.labels, rule.level)
    nothing = rule.none_name in labels and rule.none_name not in own
    rule = replace(rule, none=rule.none and nothing)  # where it is no label, its share belongs to the others
    place = {label: column for column, label in enumerate(labels)}
    columns = np.array([place[label] for label in ((*own, rule.none_name) if nothing else own)])
    words = None if contender.vocabulary is None else on_grid(contender.vocabulary)
    rows, done = np.zeros((len(contender.features), len(labels))), 0
    for part in parts_of(contender.features, head):
        probability = add_up(score(part, head, rule, words), groups, rule).probability
        rows[done : done + len(part), columns[: probability.shape[1]]] = probability
        done += len(part)
    return rows
