"""From flags to the texts of the labels, and what the model will not read of texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from cmprompt.errors import UsageError, counted

if TYPE_CHECKING:
    from cmprompt.cli.notices import Say
    from cmprompt.labels import LabelSet
    from cmprompt.tasks.questions import Asked
    from cmprompt.types import Embedded, Encoder


def read_prompts(
    labels: Sequence[str] | None,
    label: Sequence[str] | None,
    prompts: Sequence[str] | None,
    template: Sequence[str] | None,
    language: str,
    *,
    minimum: int = 2,
    describe: str | None = None,
    say: Say | None = None,
) -> tuple[LabelSet, dict[str, tuple[str, ...]]]:
    """The labels and, for each, its texts; `say` is told where there is no template in their letters.

    Raises UsageError where fewer than `minimum` labels are named.
    """
    from cmprompt.labels import describe as described
    from cmprompt.labels import load_labels
    from cmprompt.prompts import PLAIN_SET, choose_sets, expand

    if not labels and not label and not describe:
        raise UsageError("no labels; give --labels cat,dog, --labels @FILE, or --labels @everyday to tag")
    label_set = load_labels(labels or [], label or [], minimum=minimum) if labels or label else None
    if describe:
        label_set = described(describe, label_set)
    assert label_set is not None
    sets = choose_sets(prompts or [], template or [], label_set, language=language)
    if say and not (prompts or template or label_set.verbatim) and sets[0].name == PLAIN_SET:
        say("no prompt set is written in the letters of these labels, so they stand alone; give a --template with {}")
    return label_set, expand(label_set, sets)


def read_question(
    question: str,
    labels: Sequence[str] | None,
    label: Sequence[str] | None,
    prompts: Sequence[str] | None,
    template: Sequence[str] | None,
    language: str,
) -> Asked:
    """The question with its answers. Raises UsageError where it cannot be asked."""
    from cmprompt.labels import load_labels
    from cmprompt.tasks.questions import ask, question_sets

    answers = load_labels(labels or [], label or [], minimum=0)
    return ask(question, answers, question_sets(prompts, template, language))


def warn_of_texts(encoder: Encoder, prompts: Mapping[str, Sequence[str]], say: Say) -> None:
    """Name the texts that the model will not read to their end, or at all; the libraries do not say a word."""
    from cmprompt.prompts.scripts import unread

    texts = [text for own in prompts.values() for text in own]
    if found := unread(texts, encoder):
        say(f"{_script_line(*found)}, or score English labels and report by --translate-labels")
    if cut := cut_texts(encoder, texts):
        say(_cut_line(encoder, len(cut), cut[0]))


def warn_of_row_texts(encoder: Encoder, embedded: Iterable[Embedded], say: Say) -> Iterator[Embedded]:
    """`embedded`; behind its last batch, which texts of its rows the model has not read to their end, or at all."""
    from cmprompt.prompts.scripts import unread

    count, first, strange = 0, "", None
    for batch in embedded:
        texts = [item.text for item in batch.items if item.text]
        cut = cut_texts(encoder, texts)
        first = first or next(iter(cut), "")
        count += len(cut)
        strange = strange or unread(texts, encoder)
        yield batch
    if strange:
        say(_script_line(*strange))
    if count:
        say(_cut_line(encoder, count, first))


def cut_texts(encoder: Encoder, texts: Sequence[str]) -> list[str]:
    """Those that are longer than the model reads."""
    room = encoder.context_length - 2  # a token is a byte or more, so shorter texts need no counting
    long = [text for text in texts if len(text.encode("utf-8", "replace")) > room]
    counts = encoder.count_tokens(long) if long else []
    return [text for text, count in zip(long, counts, strict=True) if count > encoder.context_length]


def _script_line(word: str, share: float) -> str:
    return (
        f"this model does not know the script of {word!r}: {share:.0%} of the tokens of such words are bytes or"
        " lone letters; take a multilingual model"
    )


def _cut_line(encoder: Encoder, count: int, first: str) -> str:
    what = f"{counted(count, 'text')} {'is' if count == 1 else 'are'} cut"
    return f"{what}, since this model reads {encoder.context_length} tokens; the first: {first!r}"


def set_names(
    labels: LabelSet,
    prompts: Sequence[str] | None,
    template: Sequence[str] | None,
    language: str,
    *,
    asks: bool = False,
) -> list[str]:
    """The prompt sets in use, those of a question where one `asks`; none where each label brings its own texts."""
    from cmprompt.prompts import choose_sets
    from cmprompt.tasks.questions import question_sets

    if asks:
        return [each.name for each in question_sets(prompts, template)]
    if labels.verbatim >= labels.phrases.keys():
        return []
    return [each.name for each in choose_sets(prompts or [], template or [], labels, language=language)]
