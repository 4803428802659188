"""How `evaluate` sets prompts and heads beside each other: the lines of its table, and what is said below it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, cast

from cmprompt.cli.measuring import IMAGE, Evaluation
from cmprompt.cli.texts import warn_of_texts
from cmprompt.errors import UsageError

if TYPE_CHECKING:
    from cmprompt.heads.zero_shot import Pool
    from cmprompt.rule import Rule
    from cmprompt.store import Store
    from cmprompt.tasks.evaluate import Contender, Contest
    from cmprompt.types import Array, Encoder, Head

Heads = Mapping[str, tuple["Head", "Encoder"]]
MakeRule = Callable[..., "Rule"]  # `Rule.parse` with what the flags say; it takes label_thresholds


@dataclass(frozen=True)
class Entrant:
    """A line of the table before anything is embedded: a fitted `head`, or the texts of one."""

    encoder: Encoder
    rule: Rule
    head: Head | None = None
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """Those that it can answer."""
        from cmprompt.scores import level_labels

        return level_labels(self.head.labels if self.head else tuple(self.texts), self.rule.level)[0]

    def contender(self, asked: Evaluation) -> Contender:
        """The same with its vectors."""
        from cmprompt.heads.zero_shot import zero_shot
        from cmprompt.openset import vocabulary_vectors
        from cmprompt.scores import needs_vocabulary
        from cmprompt.tasks.evaluate import Contender

        features = asked.vectors(self.encoder, self.head.needs if self.head else IMAGE)
        pool = cast("Pool", asked.words.pool)
        head = self.head or zero_shot(self.encoder, self.texts, pool=pool, store=asked.store)
        words = vocabulary_vectors(self.encoder, asked.store) if needs_vocabulary(head, self.rule) else None
        return Contender(head, features, self.rule, words)


def lines(
    asked: Evaluation,
    heads: Heads,
    compared: str | None,
    make_rule: MakeRule,
    predictions: str | None = None,
    csv_safe: bool = False,
) -> Iterator[str]:
    """The table, the comparisons, the last contender's labels; its answers go to the file `predictions`."""
    from cmprompt.report.figures import table_lines
    from cmprompt.report.measured import of_contest
    from cmprompt.tasks.evaluate import comparisons, contest

    rule = make_rule()
    entrants = {**prompted(asked, heads, compared, make_rule), **fitted(heads, rule)}
    asked = asked if rule.level is None else replace(asked, data=asked.data.at_level(rule.level))
    names = asked.translated(check(asked, entrants))
    contenders = {name: each.contender(asked) for name, each in entrants.items()}
    found = contest(asked.data, contenders, seed=asked.seed)
    if predictions:
        write_answers(predictions, asked, contenders, names, csv_safe)
    shown = replace(found, labels=tuple(names.get(label, label) for label in found.labels))
    gaps = list(comparisons(found, seed=asked.seed))
    task = "classification" if found.labels else "regression"
    if asked.output:
        asked.write_figures(task, found.table, **of_contest(shown, gaps))
    yield from table_lines(found.table)
    for other, name, gap in gaps:
        yield gap_line(other, name, gap, found.target)
    yield from label_lines(shown)
    if asked.words.describe:
        name = [name for name, each in entrants.items() if each.texts][-1]
        yield ""
        yield f"{name}, the descriptions that won:"
        yield from description_lines(found, name, entrants[name], contenders[name], asked.store)


def prompted(asked: Evaluation, heads: Heads, compared: str | None, make_rule: MakeRule) -> dict[str, Entrant]:
    """The lines that prompts make, by the first head's model where there is one; none beside heads alone."""
    if asked.data.numbers is not None or (heads and not asked.words.named and compared is None):
        return {}
    rule = make_rule()
    encoder = next(iter(heads.values()))[1] if heads else asked.encoder()
    names = [name for name in asked.data.names if not (rule.none and name == rule.none_name)]
    found = {}
    for line, sets in prompt_choices(compared, asked.words.prompts).items():
        words = replace(asked.words, prompts=sets)
        labels, texts = words.texts(names, minimum=1 if rule.one_will_do else 2, say=asked.say)
        warn_of_texts(encoder, texts, asked.say)
        found[line] = Entrant(encoder, make_rule(label_thresholds=labels.thresholds), texts=texts)
    return found


def prompt_choices(compared: str | None, prompts: Sequence[str] | None) -> dict[str, Sequence[str] | None]:
    """The lines of the table that prompts make: `zero-shot`, or each set compared and all of them together."""
    if compared is None:
        return {"zero-shot": prompts}
    names = [name.strip() for name in compared.split(",") if name.strip()]
    if len(names) < 2:
        raise UsageError(f"--compare-prompts {compared}: name two template sets or more, like photo,plain")
    return {**{name: [name] for name in names}, "together": names}


def fitted(heads: Heads, rule: Rule) -> dict[str, Entrant]:
    """The lines of fitted heads. Raises UsageError for a rule that one of them cannot follow."""
    from cmprompt.scores import needs_vocabulary

    for head, _ in heads.values():
        needs_vocabulary(head, rule)
    return {name: Entrant(encoder, rule, head) for name, (head, encoder) in heads.items()}


def check(asked: Evaluation, entrants: Mapping[str, Entrant]) -> tuple[str, ...]:
    """The labels of all of them, for --translate-labels.

    Raises UsageError where there are none to measure, and with the lines of rows whose label no entrant knows.
    """
    from cmprompt.tasks.evaluate import all_labels

    if not entrants:
        raise UsageError("numbers have no prompts; name a fitted head with --head DIR")
    rule = next(iter(entrants.values())).rule
    labels = all_labels(asked.data, [each.labels for each in entrants.values()], rule)
    return tuple(label for label in labels if not (rule.none and label == rule.none_name))


def gap_line(other: str, name: str, gap: Mapping[str, float], target: Array) -> str:
    """One line: is this contender better than the other?"""
    numbers, many = target.dtype.kind == "f" and target.ndim == 1, target.ndim == 2
    figure, size = ("RMSE", 1.0) if numbers else ("mAP" if many else "balanced accuracy", 100.0)
    ends = f"{size * gap['low']:+.4g} to {size * gap['high']:+.4g}"
    word = "better" if gap["low"] > 0 else "worse" if gap["high"] < 0 else "not told apart"
    middle = size * gap["difference"]
    return f"{name} against {other}: {figure} {middle:+.4g} ({ends}), ahead in {gap['ahead']:.1%} of the draws: {word}"


def label_lines(found: Contest) -> Iterator[str]:
    """Of the last contender, how each label fares, and which are taken for which."""
    from cmprompt.tasks.evaluate import class_lines, confused_pairs

    name = list(found.answers)[-1]
    if not found.labels:
        return
    yield ""
    yield f"{name}, the worst label first:"
    yield from class_lines(found, name)
    if found.target.ndim == 1 and (pairs := confused_pairs(found, name)):
        yield ""
        yield "most confused:"
        for truth, answer, times in pairs:
            yield f"{times:5} {truth} taken for {answer}"


def description_lines(
    found: Contest, name: str, entrant: Entrant, contender: Contender, store: Store | None
) -> Iterator[str]:
    """For each label that a contender gave, how often each of its texts was the nearest to the picture."""
    from cmprompt.embed import embed_texts
    from cmprompt.labels.descriptors import Descriptors, tally

    assert contender.features.image is not None
    texts = [text for own in entrant.texts.values() for text in own]
    known = Descriptors.of(entrant.texts, embed_texts(texts, entrant.encoder, store), entrant.rule.level)
    answers = [found.labels[c] for c in found.answers[name].argmax(1)]
    for label, text, times in tally(answers, contender.features.image, known):
        yield f"{times:5} {label}: {text}"


def write_answers(
    path: str, asked: Evaluation, contenders: Mapping[str, Contender], names: Mapping[str, str], csv_safe: bool
) -> None:
    """The last contender's answer to every row, with the table's own columns."""
    from cmprompt.labels.translation import translated
    from cmprompt.runs import OutputOptions, open_output
    from cmprompt.tasks.evaluate import predictions_of
    from cmprompt.writers import choose_format

    name, contender = list(contenders.items())[-1]
    about = {"contender": name, "source": asked.data.source, "rule": asdict(contender.rule)}
    form = choose_format(None, path, terminal=False)
    options = OutputOptions(form, keep_columns=True, csv_safe=csv_safe)
    with open_output(path, about, options, overwrite=asked.overwrite, argv=sys.argv[1:]) as out:
        for prediction in translated(predictions_of(asked.data, contender), names):
            out.write(prediction)
