"""Questions about pictures: answers as labels, their statements as texts, scored like any label.

A yes states something (`statements.affirmed`); a no is not put into words, since these models do not understand a
negation: it is none-of-these, the statement standing out among everyday words no more than those do (`openset`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from cmprompt.errors import UsageError
from cmprompt.heads.zero_shot import Pool, zero_shot_heads
from cmprompt.labels import LabelSet, load_labels
from cmprompt.openset import vocabulary_vectors
from cmprompt.predict import predict
from cmprompt.product import Grid, on_grid
from cmprompt.prompts import STATEMENT, PromptSet, asks, choose_sets, expand, with_question
from cmprompt.prompts.statements import affirmed, is_yes_no
from cmprompt.rule import Rule
from cmprompt.scores import needs_vocabulary
from cmprompt.sources.names import is_table_name
from cmprompt.sources.rows import read_rows
from cmprompt.types import Embedded, Encoder, Features, Head, Item, Prediction

if TYPE_CHECKING:
    from cmprompt.embed import Stats
    from cmprompt.store import Store

QUESTION_COLUMN, CHOICES_COLUMN = "question", "choices"
YES, NO = "yes", "no"
HEADS_KEPT = 1024

Key = tuple[str, str]  # a question and its choices, as a row has them


@dataclass(frozen=True)
class Asked:
    """A question as a classifier: its answers and, for each, its texts. `yes_no`: one text, which fits or does not."""

    labels: LabelSet
    texts: dict[str, tuple[str, ...]]
    yes_no: bool = False

    def rule(self, rule: Rule) -> Rule:
        """How it is decided: none-of-these, for a yes or a no, is the no."""
        return replace(rule, none=True, none_name=NO) if self.yes_no else rule


def question_sets(
    names: Sequence[str] | None = None, templates: Sequence[str] | None = None, language: str = "auto"
) -> list[PromptSet]:
    """The sets that --prompts and --template name, else `question`, which is in English.

    Raises UsageError where one answers no question, or where `question` is to be in another language.
    """
    if not (names or templates) and language not in ("auto", "en"):
        raise UsageError(
            f"--language {language}: questions are put into statements in English only; ask in English and report by"
            " --translate-labels, or give a --template with {question} and {}"
        )
    sets = choose_sets(names or [] if templates else names or ["question"], templates or [], LabelSet({}))
    if bad := next((each for each in sets if not asks(each)), None):
        raise UsageError(f"prompt set {bad.name!r} has no {{question}} or {{statement}}; leave it out, or add one")
    return sets


def ask(question: str, answers: LabelSet, sets: Sequence[PromptSet]) -> Asked:
    """Put the answers into the statements of `question`; none, or yes and no, answer what asks for a yes or a no.

    Raises UsageError where a yes or no question cannot be turned, or any other has fewer than two answers.
    """
    if "{}" in question:
        raise UsageError(f"question {question!r} holds {{}}; write it as one would ask it")
    if is_yes_no(question) and set(answers.phrases) <= {YES, NO}:
        return _asked_yes_no(question, sets)
    if len(answers) < 2:
        raise UsageError(f"question {question!r} needs answers to choose from; give two, by --labels or in `choices`")
    return Asked(answers, expand(answers, [with_question(each, question) for each in sets]))


def _asked_yes_no(question: str, sets: Sequence[PromptSet]) -> Asked:
    stated = affirmed(question)
    if stated is None:
        raise UsageError(f'question {question!r} has no known form; ask "is there a ...?", or give answers by --labels')
    filled = [text for each in sets for text in with_question(each, question, stated).templates if "{}" not in text]
    if not filled:
        raise UsageError(f"a yes or no question needs a template with {STATEMENT}; leave --prompts out")
    labels = LabelSet({YES: tuple(filled)}, verbatim=frozenset({YES}))
    return Asked(labels, expand(labels, []), yes_no=True)


def hold_questions(inputs: Sequence[str]) -> bool:
    """Whether the inputs are tables with a column of questions."""
    return bool(inputs) and all(is_table_name(name) and _asks_in_rows(name) for name in inputs)


def _asks_in_rows(path: str) -> bool:
    first = next(read_rows(path), None)
    return first is not None and QUESTION_COLUMN in first.cells


@dataclass
class RowQuestions:
    """Stands where a head does, for rows that bring their own `question` and `choices` (split at | or commas).

    Rows without choices of their own choose from the common `choices`, where there are some.
    """

    encoder: Encoder
    sets: Sequence[PromptSet]
    pool: Pool = "mean"
    store: Store | None = None
    labels: tuple[str, ...] = ()
    choices: LabelSet = field(default_factory=lambda: LabelSet({}))
    stats: Stats | None = None
    needs: ClassVar[frozenset[str]] = frozenset({"image"})
    _known: dict[Key, tuple[Head, Asked] | str] = field(default_factory=dict)  # or why it cannot be answered
    _vocabulary: Grid | None = None

    def answer(self, embedded: Iterable[Embedded], rule: Rule) -> Iterator[Prediction]:
        """One prediction for each row, in order; a row without a question or choices fails as `unsupported`."""
        for batch in embedded:
            keys = [_key(item) for item in batch.items]
            self._learn([key for key, outcome in zip(keys, batch.outcomes, strict=True) if outcome.status == "ok"])
            for place, key in enumerate(keys):
                yield replace(self._decide(_only(batch, place), key, rule), question=key[0])

    def _learn(self, keys: Sequence[Key]) -> None:
        """Make the heads of the questions that are new together: the texts of one are few for the model."""
        if len(self._known.keys() | keys) > HEADS_KEPT:
            self._known = {key: self._known[key] for key in keys if key in self._known}
        asked: dict[Key, Asked] = {}
        for key in dict.fromkeys(keys):
            if key not in self._known:
                try:
                    asked[key] = self._ask(*key)
                except UsageError as error:
                    self._known[key] = str(error)
        if asked:
            texts = [each.texts for each in asked.values()]
            heads = zero_shot_heads(self.encoder, texts, pool=self.pool, store=self.store, stats=self.stats)
            self._known |= zip(asked, zip(heads, asked.values(), strict=True), strict=True)

    def _ask(self, question: str, choices: str) -> Asked:
        if not question:
            raise UsageError("no question in this row")
        return ask(question, choices_of(choices) or self.choices, self.sets)

    def _decide(self, row: Embedded, key: Key, rule: Rule) -> Prediction:
        (item,), (outcome,) = row.items, row.outcomes
        if outcome.status != "ok":
            return Prediction(item, outcome.status, outcome.error, outcome.flags)
        known = self._known[key]
        if isinstance(known, str):
            return Prediction(item, "unsupported", known)
        head, asked = known
        rule = asked.rule(rule)
        (found,) = predict([row], head, rule, vocabulary=self._words() if needs_vocabulary(head, rule) else None)
        return found

    def _words(self) -> Grid:
        if self._vocabulary is None:
            self._vocabulary = on_grid(vocabulary_vectors(self.encoder, self.store))
        return self._vocabulary


def _key(item: Item) -> Key:
    return item.columns.get(QUESTION_COLUMN, "").strip(), item.columns.get(CHOICES_COLUMN, "")


def _only(batch: Embedded, place: int) -> Embedded:
    """One row of a batch."""
    assert batch.features.image is not None
    row = Features.of_images(batch.features.image[place : place + 1])
    return Embedded((batch.items[place],), (batch.outcomes[place],), row)


def choices_of(cell: str) -> LabelSet:
    """`a | b` or `a,b` -> labels. Raises UsageError for an empty or repeated one."""
    parts = cell.split("|" if "|" in cell else ",") if cell.strip() else []
    return load_labels([], [part.strip() for part in parts], minimum=0)
