"""How `classify` comes to its answers: labels and texts from the flags, what judges, what is said beside a label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from cmprompt.cli.heads import read_head
from cmprompt.cli.texts import read_prompts, read_question
from cmprompt.errors import UsageError, unknown

if TYPE_CHECKING:
    from cmprompt.cli.notices import Say
    from cmprompt.embed import Stats
    from cmprompt.heads.zero_shot import Pool
    from cmprompt.labels import LabelSet
    from cmprompt.labels.descriptors import Decide
    from cmprompt.prompts import PromptSet
    from cmprompt.rule import Rule
    from cmprompt.store import Store
    from cmprompt.tasks.questions import Asked, RowQuestions
    from cmprompt.types import Embedded, Encoder, Head, Prediction


@dataclass(frozen=True)
class Wanted:
    """What is to be told apart: labels with their texts, a fitted `head`, or questions that the rows bring (`sets`),
    with `labels` to choose from where a row brings no choices."""

    labels: LabelSet
    texts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    head: Head | None = None
    asked: Asked | None = None
    sets: tuple[PromptSet, ...] = ()
    described: bool = False

    def rule(self, rule: Rule) -> Rule:
        """`rule`, as a question may change it."""
        return self.asked.rule(rule) if self.asked else rule

    def judge(self, encoder: Encoder, pool: str, store: Store | None, stats: Stats) -> Head | RowQuestions:
        """What answers: the fitted head, the texts' own, or one for each question. `stats` counts texts."""
        from cmprompt.heads.zero_shot import zero_shot
        from cmprompt.tasks.questions import RowQuestions

        if self.sets:
            return RowQuestions(encoder, self.sets, cast("Pool", pool), store, choices=self.labels, stats=stats)
        return self.head or zero_shot(encoder, self.texts, pool=cast("Pool", pool), store=store, stats=stats)

    def options(self) -> dict[str, Any]:
        """For the run's header: what changes the records and stands nowhere else in it."""
        choices = {"choices": self.labels.phrases} if self.sets and self.labels else {}
        return {"described": self.described, "question_templates": [each.templates for each in self.sets], **choices}


def wanted(
    sources: Sequence[str],
    head: str | None,
    labels: Sequence[str] | None,
    label: Sequence[str] | None,
    prompts: Sequence[str] | None,
    template: Sequence[str] | None,
    language: str,
    *,
    question: str | None = None,
    describe: str | None = None,
    minimum: int = 2,
    say: Say | None = None,
) -> Wanted:
    """Raises UsageError for flags that do not go together, or say nothing."""
    from cmprompt.labels import LabelSet, load_labels
    from cmprompt.tasks.questions import hold_questions, question_sets

    if head and (question or describe):
        raise UsageError("--head brings its own labels; leave --question and --describe out")
    if question and describe:
        raise UsageError("--question and --describe exclude each other; a question's answers have its own texts")
    if head:
        return Wanted(LabelSet({}), head=read_head(head, labels, label))
    if question:
        asked = read_question(question, labels, label, prompts, template, language)
        return Wanted(asked.labels, asked.texts, asked=asked)
    if not describe and hold_questions(sources):
        choices = load_labels(labels or [], label or []) if labels or label else LabelSet({})
        return Wanted(choices, sets=tuple(question_sets(prompts, template, language)))
    chosen, texts = read_prompts(
        labels, label, prompts, template, language, minimum=minimum, describe=describe, say=say
    )
    return Wanted(chosen, texts, described=describe is not None)


def check_pool(pool: str, chosen: Wanted) -> None:
    """Raises UsageError where texts are to be pooled in a way that is not known."""
    from cmprompt.heads.zero_shot import POOLS

    if chosen.head is None and pool not in POOLS:
        raise UsageError(unknown("pool", pool, POOLS))


def translations(path: str | None, chosen: Wanted, level: int | None) -> dict[str, str]:
    """What --translate-labels says of the labels that are shown; of all, where rows bring their answers."""
    from cmprompt.labels.translation import read_translations
    from cmprompt.scores import level_labels
    from cmprompt.tasks.questions import NO

    if path is None:
        return {}
    if chosen.sets:
        return read_translations(path)
    no = (NO,) if chosen.asked and chosen.asked.yes_no else ()
    labels = chosen.head.labels if chosen.head else tuple(chosen.texts)
    return read_translations(path, (*level_labels(labels, level)[0], *no))


def decider(
    judge: Head | RowQuestions,
    chosen: Wanted,
    rule: Rule,
    encoder: Encoder,
    store: Store | None,
    names: Mapping[str, str],
) -> Decide:
    """From vectors to predictions, with descriptions and translations where they are asked for.

    Raises UsageError where `rule` cannot tell the labels that are shown apart.
    """
    from cmprompt.embed import embed_texts
    from cmprompt.labels.descriptors import Descriptors, with_descriptors
    from cmprompt.labels.translation import translated
    from cmprompt.openset import vocabulary_vectors
    from cmprompt.predict import predict
    from cmprompt.scores import level_labels, needs_vocabulary
    from cmprompt.tasks.questions import RowQuestions

    labels = tuple(chosen.labels.phrases) if chosen.sets else judge.labels
    rule.check_labels([names.get(label, label) for label in level_labels(labels, rule.level)[0]])
    if isinstance(judge, RowQuestions):
        return lambda rows: translated(judge.answer(rows, rule), names)
    vocabulary = vocabulary_vectors(encoder, store) if needs_vocabulary(judge, rule) else None
    known = None
    if chosen.described:
        texts = [text for own in chosen.texts.values() for text in own]
        known = Descriptors.of(chosen.texts, embed_texts(texts, encoder, store), rule.level)

    def plain(rows: Iterable[Embedded]) -> Iterator[Prediction]:
        return predict(rows, judge, rule, vocabulary=vocabulary)

    def worded(rows: Iterable[Embedded]) -> Iterator[Prediction]:
        found = with_descriptors(rows, plain, known) if known else plain(rows)
        return translated(found, names) if names else found

    return worded
