"""What a head answers to rows, in the form in which answers are measured."""

from __future__ import annotations

import numpy as np

from cmprompt import metrics
from cmprompt.heads.training import Task
from cmprompt.rule import Rule
from cmprompt.scores import needs_vocabulary, score
from cmprompt.types import Array, Features, Head


def answers(head: Head, features: Features, task: Task, vocabulary: Array | None = None) -> Array:
    """(N, C) float64 probabilities, softmax or, for multi-label, sigmoid; (N,) numbers for regression.

    `vocabulary` (V, D): where `wants_vocabulary` says so.
    """
    if task == "multi_label":
        return score(features, head, Rule(kind="sigmoid"), vocabulary).probability
    logits = head.logits(features)
    return logits[:, 0].astype(np.float64) if task == "regression" else metrics.softmax(logits)


def wants_vocabulary(head: Head, task: Task) -> bool:
    """Whether its probabilities are standardised against the everyday vocabulary, as `classify --multi-label` does."""
    return task == "multi_label" and needs_vocabulary(head, Rule(kind="sigmoid"))
