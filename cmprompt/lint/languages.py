"""Do the same labels in two languages mean the same to a model? Measured on their text vectors alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from cmprompt.labels import LabelSet, label_set
from cmprompt.lint.findings import Finding
from cmprompt.lint.model import class_vectors
from cmprompt.prompts import OTHER, PLAIN_SET, PromptSet, choose_sets, expand, language_of, load_prompt_set

if TYPE_CHECKING:
    from cmprompt.types import Array, Encoder


def lint_languages(labels: LabelSet, names: Mapping[str, str], encoder: Encoder) -> Iterator[Finding]:
    """How many labels lie nearest to their own translation, and a warning for each that does not.

    Each side is put into the photo templates of its own script; where neither script names a language that has some,
    as Latin letters do not, both stand alone.
    """
    there = label_set([names[label] for label in labels.phrases], minimum=1)
    alone = {language_of(labels), language_of(there)} <= {"en", OTHER}
    sides = [class_vectors(expand(side, _sets(side, alone)), encoder) for side in (labels, there)]
    cosines = sides[0] @ sides[1].T  # (C, C) labels by translations
    yield _summary(cosines)
    translations = list(there.phrases)
    for i, label in enumerate(labels.phrases):
        if (j := int(cosines[i].argmax())) != i:
            message = f"lies nearer to {translations[j]!r} than to its translation {translations[i]!r}"
            figures = f"cosine {cosines[i, j]:.4f} against {cosines[i, i]:.4f}"
            yield Finding("warning", f"label {label!r}", f"{message}: {figures}")


def _sets(labels: LabelSet, alone: bool) -> list[PromptSet]:
    return [load_prompt_set(PLAIN_SET)] if alone else choose_sets([], [], labels)


def _summary(cosines: Array) -> Finding:
    count = len(cosines)
    agree = int((cosines.argmax(1) == np.arange(count)).sum())
    own = float(np.trace(cosines)) / count
    others = (float(cosines.sum()) - own * count) / max(1, count * (count - 1))
    figures = f"mean cosine {own:.4f} to it, {others:.4f} to the others"
    return Finding("note", "translations", f"{agree} of {count} labels lie nearest to their own: {figures}")
