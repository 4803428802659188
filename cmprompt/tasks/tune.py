"""Prompts and thresholds chosen on labelled rows. One half of the rows chooses, the other half judges."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cmprompt import metrics
from cmprompt.errors import UsageError
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.training import split_folds
from cmprompt.labelled.rows import Labelled
from cmprompt.labelled.vectors import photo_groups
from cmprompt.labels import LabelSet
from cmprompt.openset import DEFAULT_Z
from cmprompt.prompts import PromptSet, expand
from cmprompt.rule import Rule, Threshold
from cmprompt.scores import score
from cmprompt.types import Array, Features, Head

MOST_TEMPLATES = 30  # picks; a template that is picked twice weighs twice
SLACK_Z = 0.1  # below the last score that is right, where no score lies further below


def halves(data: Labelled, features: Features, *, seed: int = 0) -> tuple[Array, Array]:
    """(choosing rows, judging rows), each class in both, no photo in both. Raises UsageError where all show one."""
    numbers = {name: number for number, name in enumerate(sorted(set(data.targets)))}
    strata = np.array([numbers[target] for target in data.targets])
    chosen, judged = split_folds(strata, photo_groups(features), 2, seed)[0]
    if not len(chosen) or not len(judged):
        raise UsageError(f"{data.source}: every row has the same picture; one half must choose and another judge")
    return chosen, judged


def single_templates(labels: LabelSet, sets: Sequence[PromptSet]) -> list[PromptSet]:
    """Every template of `sets` once, as a set of its own, all filled in the same way: one set will hold those picked.

    Raises UsageError where a label brings whole descriptions, which no template can change, or nothing can be chosen.
    """
    if labels.verbatim:
        raise UsageError(f"label {sorted(labels.verbatim)[0]!r} has descriptions, which take no template; give phrases")
    verbatim = all(each.verbatim for each in sets) or len({each.language for each in sets}) > 1
    found = {text: replace(each, templates=(text,), verbatim=verbatim) for each in sets for text in each.templates}
    if len(found) < 2:
        raise UsageError("one template leaves nothing to choose; name larger sets, like --prompts openai-imagenet")
    return list(found.values())


def texts_of_each(labels: LabelSet, singles: Sequence[PromptSet]) -> list[dict[str, tuple[str, ...]]]:
    """{label: texts} of each template."""
    return [expand(labels, [single]) for single in singles]


def weigh(heads: Sequence[LinearHead], features: Features, target: Array) -> list[int]:
    """How often each of T zero-shot heads, one for each template, is picked (0: not at all).

    Ensemble selection with replacement (Caruana et al., ICML 2004) on cross entropy: from nothing, the template that
    helps most is added again and again, and the best ensemble on the way is kept. `target` (N,) class numbers.
    """
    assert features.image is not None
    weights = np.stack([head.weight for head in heads])  # (T, C, D) unit rows
    cosines = np.stack([features.image @ weight.T for weight in weights])  # (T, N, C)
    overlaps = np.einsum("scd,tcd->stc", weights, weights)  # (T, T, C)
    rows, counts = np.arange(len(target)), np.zeros(len(heads), int)
    best, kept, bias = np.inf, counts.copy(), heads[0].bias
    for _ in range(MOST_TEMPLATES):
        together, shared = np.tensordot(counts, cosines, 1), np.tensordot(counts, overlaps, 1)  # (N, C), (T, C)
        length = np.tensordot(counts, shared, 1)  # (C,) squared, of the sum so far
        lengths = np.sqrt(np.maximum(length + 2 * shared + 1, 1e-6))  # (T, C), with one template more
        losses = [
            _loss((together + cosines[t]) / lengths[t], heads[0].scale, bias, rows, target) for t in range(len(heads))
        ]
        counts[int(np.argmin(losses))] += 1
        if min(losses) < best:
            best, kept = min(losses), counts.copy()
    found: list[int] = (kept // np.gcd.reduce(kept)).tolist()  # the same weights in the fewest picks
    return found


def tuned_set(singles: Sequence[PromptSet], counts: Sequence[int]) -> PromptSet:
    """The chosen templates, the heaviest first, each as often as it weighs."""
    order = sorted((place for place, count in enumerate(counts) if count), key=lambda place: -counts[place])
    templates = tuple(text for place in order for text in singles[place].templates * counts[place])
    return replace(singles[0], name="tuned", templates=templates, description="", source="")


def set_as_toml(tuned: PromptSet, source: str) -> str:
    """A template file for --prompts."""
    lines = "".join(f"  {json.dumps(text, ensure_ascii=False)},\n" for text in tuned.templates)
    about = {"name": tuned.name, "description": "Picked and weighed on labelled rows", "language": tuned.language}
    head = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in {**about, "source": source}.items()]
    return "\n".join([*head, f"adjust = {'false' if tuned.verbatim else 'true'}", f"templates = [\n{lines}]", ""])


def z_scores(head: Head, features: Features, vocabulary: Array, multi_label: bool) -> Array:
    """(N, C) how far each label stands out; of one-of-N the winner alone, -inf elsewhere."""
    rule = Rule(kind="sigmoid" if multi_label else "softmax", threshold=Threshold("z", DEFAULT_Z))
    found = score(features, head, rule, vocabulary)
    assert found.z is not None
    if multi_label:
        return found.z
    winner = found.probability.argmax(1)[:, None] == np.arange(found.z.shape[1])
    return np.where(winner, found.z, -np.inf)


def one_threshold(z: Array, relevant: Array) -> float:
    """The one limit for all labels with the best macro F1; (N, C) scores, (N, C) bool."""
    limits = np.unique(np.percentile(z[np.isfinite(z)], np.arange(0, 100)))
    return float(max(limits, key=lambda limit: metrics.multi_label_f1(z >= limit, relevant)["f1"]))


def thresholds(z: Array, relevant: Array) -> list[float]:
    """C limits, each with the best F1 of its label; `DEFAULT_Z` for a label that no row has."""
    columns = range(z.shape[1])
    return [best_threshold(z[:, c], relevant[:, c]) if relevant[:, c].any() else DEFAULT_Z for c in columns]


def best_threshold(scores: Array, relevant: Array) -> float:
    """The limit with the best F1: halfway between the last score it lets in and the next. (N,), (N,) bool."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    f1 = 2 * np.cumsum(relevant[order]) / (np.arange(1, len(order) + 1) + relevant.sum())
    following = np.append(ranked[1:], -np.inf)
    f1[~(np.isfinite(ranked) & (ranked > following))] = -1  # equal scores go in together, -inf never
    best = int(f1.argmax())
    if f1[best] <= 0:
        return DEFAULT_Z
    return float((ranked[best] + following[best]) / 2 if np.isfinite(following[best]) else ranked[best] - SLACK_Z)


def labels_as_json(labels: LabelSet, limits: Sequence[float]) -> str:
    """A label file for --labels: every label's phrases, or its descriptions, and its threshold."""
    found = {
        label: {"prompts" if label in labels.verbatim else "phrases": list(texts), "threshold": f"z:{limit:.4g}"}
        for (label, texts), limit in zip(labels.phrases.items(), limits, strict=True)
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _loss(cosines: Array, scale: float, bias: Array | None, rows: Array, target: Array) -> float:
    """Mean cross entropy of (N, C) cosines."""
    logits = scale * cosines if bias is None else scale * cosines + bias
    top = logits.max(1)
    return float(np.mean(np.log(np.exp(logits - top[:, None]).sum(1)) + top - logits[rows, target]))
