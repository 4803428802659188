"""What is wrong, or likely to disappoint, in prompts and labels: an error or a warning for each finding.

These checks are of the wording alone and need no model; `lint_model` asks an encoder about the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cmprompt.errors import UsageError
from cmprompt.labels import load_labels
from cmprompt.lint.findings import Finding
from cmprompt.lint.labels import lint_labels, mixed_languages
from cmprompt.lint.templates import lint_prompts
from cmprompt.prompts import choose_sets

if TYPE_CHECKING:
    from cmprompt.types import Encoder


def lint(
    prompts: Sequence[str],
    labels: Sequence[str] = (),
    literal: Sequence[str] = (),
    *,
    encoder: Encoder | None = None,
    language: str = "auto",
    translations: str | None = None,
) -> list[Finding]:
    """Check prompt sets or files, the labels of --labels and --label, and, given an encoder, the texts they make.

    `translations`: a file of the labels in another language, which should mean the same to the encoder.
    """
    findings = [finding for name in prompts for finding in lint_prompts(name)]
    try:
        label_set = load_labels(labels, literal, minimum=0)
        sets = choose_sets(
            [] if any(each.severity == "error" for each in findings) else prompts, [], label_set, language=language
        )
    except UsageError as error:
        return [*findings, Finding("error", "labels", str(error))]
    languages = {"en", language, *(each.language for each in sets)}
    findings += [*lint_labels(label_set, languages), *mixed_languages(label_set, sets)]
    if encoder is not None:
        from cmprompt.lint.model import lint_model

        findings += lint_model(label_set, sets, encoder)
    if encoder is not None and translations is not None:
        from cmprompt.labels.translation import read_translations
        from cmprompt.lint.languages import lint_languages

        findings += lint_languages(label_set, read_translations(translations, list(label_set.phrases)), encoder)
    return findings
