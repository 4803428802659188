"""A head on trial: how far WiSE goes, what the temperature did, what `auto` tries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from heads_data import blobs, both

from cmprompt import metrics
from cmprompt.heads.auto import kinds_for
from cmprompt.heads.fit import fit_training, training_data
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.trial import run_trial, split_rows
from cmprompt.heads.wise import wise


def test_wise_auto_is_a_step_that_held_out_folds_chose() -> None:
    features, names, prior = blobs(240)
    data = training_data(features, names, prior)
    trial = run_trial("linear", data, [(np.arange(160), np.arange(160, 240))], wise_step="auto")
    fitted = fit_training("linear", data.take(np.arange(160)))
    assert isinstance(fitted, LinearHead) and 0 <= trial.record["wise"] <= 1
    wanted = wise(prior, fitted, trial.record["wise"]).logits(features) / trial.record["temperature"]
    np.testing.assert_allclose(trial.head.logits(features), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("step", "others"), [(1.0, []), (0.5, ["image only"])])
def test_a_head_is_not_compared_with_itself(step: float, others: list[str]) -> None:
    features, names, prior = blobs(120)
    data, split = training_data(features, names, prior), (np.arange(80), np.arange(80, 120))
    trial = run_trial("linear", data, [split], wise_step=step)
    assert list(trial.answers) == ["majority class", "zero-shot", *others, "linear"]


def test_the_errors_of_calibration_are_those_with_and_without_the_temperature() -> None:
    features, names, prior = blobs(240, noise=1.2)
    trial = run_trial("linear", training_data(features, names, prior), [(np.arange(120), np.arange(120, 240))])
    logits = trial.head.logits(features)[120:]
    for when, factor in (("before", trial.record["temperature"]), ("after", 1.0)):
        ece = metrics.expected_calibration_error(metrics.softmax(factor * logits), trial.targets)
        assert trial.record[f"judged_ece_{when}"] == pytest.approx(ece, abs=1e-3)


def test_few_rows_are_judged_by_folds_and_every_row_judges_once() -> None:
    features, names, prior = blobs(60)
    data = training_data(features, names, prior)
    splits = split_rows(data, 0.2)
    assert len(splits) == 5 and sorted(np.concatenate([held for _, held in splits])) == list(range(60))
    assert all(not set(train) & set(held) for train, held in splits)


def test_auto_tries_ten_heads_on_thousands_of_pairs_and_caches_on_few() -> None:
    features, names, prior = blobs(2100)
    data = training_data(both(features.image, features.image), names, prior)
    assert len(kinds_for(data)) == 10
    few = kinds_for(data.take(np.arange(90)))
    assert {"tip-adapter", "tip-adapter-f", "proker"} <= set(few)
    assert kinds_for(replace(data, prior=None, features=features)) == ["linear", "mlp"]
