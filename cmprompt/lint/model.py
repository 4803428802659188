"""What a particular model makes of the texts: too long, too alike, or in a script that it does not know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cmprompt.encoders.batches import unit
from cmprompt.heads.zero_shot import means_of
from cmprompt.labels import LabelSet, everyday, label_set
from cmprompt.lint.findings import Finding
from cmprompt.prompts import PromptSet, expand, with_question
from cmprompt.prompts.scripts import unread

if TYPE_CHECKING:
    from cmprompt.types import Array, Encoder

# The distance of two labels, as a share of the usual one from a label to an everyday word. On CLIP ViT-B/32: couch and
# sofa 0.2, jacket and coat 0.25, cat and kitten 0.3, cat and dog 0.33, lion and tiger 0.5, apple and banana 0.7.
SYNONYM_SHARE = 0.3
SAME_COSINE = 0.9999
YARDSTICK_STEP = 16  # every 16th everyday word: enough to know the usual distance
BLOCK_CELLS = 1 << 22  # cosines of labels with all labels that are held at once, 16 MB


def lint_model(labels: LabelSet, sets: Sequence[PromptSet], encoder: Encoder) -> list[Finding]:
    """Check the expanded texts against this encoder; without labels, the templates around an everyday word."""
    sets = [with_question(each, "what is this?") for each in sets]
    prompts = expand(labels if len(labels) else label_set(["cat"], minimum=1), sets)
    findings = [*_too_long(prompts, encoder), *_unknown_script(prompts, encoder)]
    if len(labels) > 1:
        findings += _near_synonyms(prompts, sets, encoder)
    return findings


def _too_long(prompts: Mapping[str, Sequence[str]], encoder: Encoder) -> Iterator[Finding]:
    """The longest text of each label that has one past the model's context."""
    limit = encoder.context_length
    for label, texts in prompts.items():
        counts = encoder.count_tokens(texts)
        if over := sum(count > limit for count in counts):
            longest, tokens = max(zip(texts, counts, strict=True), key=lambda pair: pair[1])
            message = f"{longest!r} has {tokens} tokens, but this model reads {limit} and drops the rest; shorten it"
            yield Finding("error", f"label {label!r}, {over} of its {len(texts)} texts", message)


def _unknown_script(prompts: Mapping[str, Sequence[str]], encoder: Encoder) -> Iterator[Finding]:
    """A warning where most tokens of a script are bytes or lone letters."""
    if found := unread((text for texts in prompts.values() for text in texts), encoder):
        word, share = found
        message = (
            f"{share:.0%} of its tokens are bytes or lone letters: this model's tokenizer does not know the script"
        )
        yield Finding("warning", f"text {word!r}", f"{message}; take a multilingual model, or English labels")


def _near_synonyms(
    prompts: Mapping[str, Sequence[str]], sets: Sequence[PromptSet], encoder: Encoder
) -> Iterator[Finding]:
    """Pairs of labels that this model can hardly tell apart, closest first."""
    names = list(prompts)
    weight = class_vectors(prompts, encoder)  # (C, D)
    yardstick = class_vectors(expand(label_set(everyday()[::YARDSTICK_STEP]), sets), encoder)  # (E, D)
    usual = np.median(weight @ yardstick.T, axis=1)  # (C,)
    for cosine, expected, i, j in sorted(_close(weight, usual), key=lambda pair: -pair[0]):
        same = cosine > SAME_COSINE
        message = "are one to this model" if same else "are near-synonyms to this model"
        detail = f"{message}: cosine {cosine:.4f}, against {expected:.4f} with everyday words"
        yield Finding("error" if same else "warning", f"labels {names[i]!r} and {names[j]!r}", detail)


def _close(weight: Array, usual: Array) -> Iterator[tuple[float, float, int, int]]:
    """(cosine, the usual one of the two, i, j) of the pairs of rows (C, D) that are near-synonyms; i < j, in order.

    `usual` (C,) is each row's cosine with everyday words.
    """
    size = max(1, BLOCK_CELLS // len(weight))
    for start in range(0, len(weight), size):
        block = slice(start, start + size)
        cosines = weight[block] @ weight.T  # (b, C)
        expected = (usual[block, None] + usual) / 2  # (b, C)
        close = np.triu(1 - cosines <= SYNONYM_SHARE * (1 - expected), 1 + start)
        for i, j in np.argwhere(close).tolist():
            yield float(cosines[i, j]), float(expected[i, j]), start + i, j


def class_vectors(prompts: Mapping[str, Sequence[str]], encoder: Encoder) -> Array:
    """(C, D) unit rows: the normalised mean of each label's texts."""
    vectors = encoder.encode_texts([text for texts in prompts.values() for text in texts])  # (M, D)
    return unit(means_of(vectors, [len(texts) for texts in prompts.values()]))
