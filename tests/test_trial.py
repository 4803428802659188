"""A head on trial: how far WiSE goes, what the temperature did, what `auto` tries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from heads_data import blobs, both, halves

from cmprompt import metrics
from cmprompt.cli.fitting import rows_line
from cmprompt.errors import UsageError
from cmprompt.heads.auto import kinds_for
from cmprompt.heads.calibrate import LIMITS, cooled, temperature_of
from cmprompt.heads.fit import fit, fit_training, training_data
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.training import split_part
from cmprompt.heads.trial import run_trial, split_rows
from cmprompt.heads.wise import wise
from cmprompt.types import Features


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
    assert len(kinds_for(data)) == 10 and "linear-text" in kinds_for(data)
    few = kinds_for(data.take(np.arange(90)))
    assert {"tip-adapter", "tip-adapter-f", "proker"} <= set(few)
    assert kinds_for(replace(data, prior=None, features=features)) == ["linear", "mlp"]


def test_auto_takes_the_texts_alone_where_the_pictures_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmprompt.heads.auto.kinds_for", lambda data: ["linear", "linear-text"])
    features, names, prior = blobs(120)
    noise = np.random.default_rng(5).normal(size=features.image.shape).astype(np.float32)
    data = training_data(both(noise / np.linalg.norm(noise, axis=1, keepdims=True), features.image), names, prior)
    trial = run_trial("auto", data, [(np.arange(80), np.arange(80, 120))])
    assert trial.record["kind"] == "linear-text" and trial.head.needs == {"text"}
    assert list(trial.answers) == ["majority class", "zero-shot", "image only", "auto"]


@pytest.mark.parametrize("part", [0.2, 0.3, 0.35, 0.4, 0.5])
def test_the_part_that_judges_is_the_one_that_was_asked_for(part: float) -> None:
    features, names, prior = blobs(900)
    ((train, held),) = split_rows(training_data(features, names, prior), part)
    assert abs(len(held) - 900 * part) <= 1 and len(train) + len(held) == 900
    assert np.ptp(np.unique(names[held], return_counts=True)[1]) <= 1


def test_every_class_that_can_be_is_on_both_sides_and_no_photo_is() -> None:
    dice = np.random.default_rng(0)
    strata = np.concatenate([np.repeat([0, 1], 300), [2] * 4, [3] * 3, [4, 4], [5]])
    groups = np.arange(len(strata))
    groups[600:602] = 600  # two of class 2 are one photo
    for seed in range(20):
        order = dice.permutation(len(strata))
        train, held = split_part(strata[order], groups[order], 0.2, seed)
        assert set(strata[order][held]) == {0, 1, 2, 3, 4} and set(strata[order][train]) == {0, 1, 2, 3, 4, 5}
        assert not set(groups[order][train]) & set(groups[order][held])


def test_one_photo_alone_cannot_be_split() -> None:
    with pytest.raises(UsageError, match="--val"):
        split_part(np.zeros(4, int), np.zeros(4, int), 0.2, 0)
    features, names, prior = blobs(9)
    data = training_data(features, names, prior, groups=np.zeros(9, int))
    assert data.folds() == []
    with pytest.raises(UsageError, match="--val"):
        split_rows(data, 0.2)


@pytest.mark.parametrize(("kind", "chose"), [("linear", 80), ("mlp", 80), ("auto", 80)])
def test_a_trial_says_how_many_rows_trained_chose_and_judged(
    kind: str, chose: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmprompt.heads.auto.kinds_for", lambda data: ["linear"])
    features, names, prior = blobs(120)
    options = {"hidden": 8, "epochs": 2, "least_steps": 0} if kind == "mlp" else {}
    split = (np.arange(80), np.arange(80, 120))
    record = run_trial(kind, training_data(features, names, prior), [split], options=options).record
    assert rows_line(record) == f"trained on 80 rows, of which {chose} chose the settings; judged on 40 others"


def test_a_fit_measures_its_own_temperature_whatever_that_of_the_head_it_starts_from() -> None:
    features, names, prior = blobs(240, noise=1.2)
    split, errors = (np.arange(160), np.arange(160, 240)), []
    for temperature in (1.0, 8.0):
        data = training_data(features, names, cooled(prior, temperature))
        record = run_trial("linear", data, [split], before="before").record
        errors.append(record["judged_ece_after"])
    assert abs(errors[0] - errors[1]) < 0.04


@pytest.mark.parametrize("kind", ["linear", "gda", "tip-adapter", "auto"])
def test_a_calibrated_fit_is_the_head_of_a_trial(kind: str) -> None:
    features, names, prior = blobs(240, noise=1.2)
    trial = run_trial(kind, training_data(features, names, prior), [(np.arange(160), np.arange(160, 240))])
    alone = fit(kind, Features.of_images(features.image[:160]), names[:160], prior, calibrated=True)
    np.testing.assert_array_equal(alone.logits(features), trial.head.logits(features))


def test_rows_that_hold_no_mistake_or_no_skill_do_not_make_all_scores_one_or_equal() -> None:
    target = np.arange(40) % 2
    right = 0.5 * np.eye(2)[target]
    given = metrics.softmax(right / temperature_of(right, target))[np.arange(40), target]
    np.testing.assert_allclose(given, 41 / 42, atol=1e-5)  # as Platt (1999) counts 40 of 40
    assert temperature_of(20 * right, target) == 1  # surer than 41 of 42 already: left as it is
    assert temperature_of(-right, target) == LIMITS[1]


def test_a_fusion_of_very_few_rows_is_its_best_plane_and_all_of_them_choose_its_temperature() -> None:
    features, names = halves(18)
    data = training_data(features, names, labels=sorted(set(names)), model_id="m")
    trial = run_trial("concat", data, [(np.arange(18), np.arange(18))])
    assert trial.record["epochs"] == 0
    assert trial.record["chose_on"] == 18 and "temperature" in trial.record
