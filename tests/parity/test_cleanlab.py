"""Flagged labels against cleanlab's confident learning."""

from __future__ import annotations

import numpy as np
import pytest

from cmprompt.tasks.check import confidently_other


@pytest.mark.filterwarnings("ignore")  # cleanlab's own
@pytest.mark.parametrize("seed", range(5))
def test_confidently_other_is_cleanlab_s_confident_learning(seed: int) -> None:
    filters = pytest.importorskip("cleanlab.filter", reason="cleanlab is not installed")
    dice = np.random.default_rng(seed)
    target = dice.integers(0, 5, 400)
    logits = (
        dice.standard_normal((400, 5)) + 2.0 * np.eye(5)[np.where(dice.random(400) < 0.9, target, (target + 1) % 5)]
    )
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    theirs = filters.find_label_issues(target, probability, filter_by="confident_learning", n_jobs=1)
    assert np.array_equal(confidently_other(probability, target), theirs)
