"""Every kind of head, fitted through the one door."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from heads_data import LABELS, answers, blobs, both, halves, matches, unit

from cmprompt.errors import UsageError
from cmprompt.heads.auto import kinds_for
from cmprompt.heads.fit import fit, training_data
from cmprompt.heads.network import NetworkHead
from cmprompt.heads.training import held_out_loss
from cmprompt.heads.trial import few_of_each
from cmprompt.metrics import softmax
from cmprompt.types import Features

ONE_OF_N = ["linear", "mlp", "tip-adapter", "tip-adapter-f", "gda", "proker"]
QUICK = {"rate": 5e-3, "epochs": 25, "least_steps": 0}
OPTIONS = {"linear": {}, "mlp": {"hidden": 32, **QUICK}}
FUSED = ["concat", "add", "hadamard", "dot", "weighted", "weighted-channels", "bilinear", "bilinear-full"]
WITH_MLP = ["concat-mlp", "add-mlp", "hadamard-mlp", "dot-mlp"]


@pytest.mark.parametrize("kind", ONE_OF_N)
def test_a_head_learns_and_keeps_its_labels_and_model(kind: str) -> None:
    features, names, prior = blobs()
    unseen, truth, _ = blobs(seed=1)
    head = fit(kind, features, names, prior, seed=3, **({"hidden": 32, **QUICK} if kind == "mlp" else {}))
    assert head.labels == LABELS and head.model_id == "fake"
    logits = head.logits(unseen)
    assert logits.shape == (90, 3) and logits.dtype == np.float32
    before = np.mean(answers(prior.logits(unseen), LABELS) == truth)
    assert np.mean(answers(logits, LABELS) == truth) > max(0.8, before - 0.05)


@pytest.mark.parametrize("kind", [*ONE_OF_N, "concat"])
def test_one_seed_gives_one_head(kind: str) -> None:
    features, names, prior = blobs()
    features = both(features.image, features.image[::-1])
    options = {"hidden": 16, "epochs": 4, "least_steps": 0} if kind in ("mlp", "concat") else {}
    first, second = (fit(kind, features, names, prior, seed=5, **options).logits(features) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("kind", [*FUSED, *WITH_MLP])
def test_a_fusion_reads_both_halves(kind: str) -> None:
    features, names = halves()
    unseen, truth = halves(seed=1)
    head = fit(kind, features, names, model_id="fake", **QUICK)
    assert np.mean(answers(head.logits(unseen), head.labels) == truth) > 0.85


def test_an_mlp_on_top_sees_what_a_plane_cannot() -> None:
    """Whether the bit in the image is the one in the text."""

    def right(kind: str) -> float:
        (features, names), (unseen, truth) = halves(), halves(seed=1)
        alike = [[str(name[0] == name[1]) for name in each] for each in (names, truth)]
        head = fit(kind, features, alike[0], model_id="fake", **QUICK)
        return float(np.mean(answers(head.logits(unseen), head.labels) == np.array(alike[1])))

    assert right("concat-mlp") > 0.9 > 0.7 > right("concat")


@pytest.mark.parametrize("kind", ["hadamard", "dot", "bilinear"])
def test_a_product_sees_whether_image_and_text_agree(kind: str) -> None:
    features, names = matches()
    unseen, truth = matches(seed=1)
    head = fit(kind, features, names, model_id="fake", **QUICK)
    assert np.mean(answers(head.logits(unseen), head.labels) == truth) > 0.75


@pytest.mark.parametrize("use", ["image", "text"])
def test_neither_side_alone_sees_whether_they_agree(use: str) -> None:
    features, names = matches()
    unseen, truth = matches(seed=1)
    head = fit("linear", features, names, model_id="fake", use=use)  # type: ignore[arg-type]
    assert 0.4 < np.mean(answers(head.logits(unseen), head.labels) == truth) < 0.6


def test_attention_finds_the_patch_that_the_words_name() -> None:
    rng = np.random.default_rng(0)
    n, dim = 600, 12
    words = unit(rng.normal(size=(n, 3, dim)))
    patches = unit(rng.normal(size=(n, 6, dim)))
    names = np.where(np.arange(n) % 2 == 0, "there", "not there")
    patches[::2, 4] = words[::2].mean(1) / np.linalg.norm(words[::2].mean(1), axis=-1, keepdims=True)
    pooled = both(unit(patches.mean(1)), unit(words.mean(1)))
    features = replace(pooled, image_tokens=patches, text_tokens=words)
    rows = np.arange(n)
    head = fit("attention", features.take(rows[:450]), names[:450], model_id="fake", rate=1e-2, least_steps=0)
    unseen = features.take(rows[450:])
    assert np.mean(answers(head.logits(unseen), head.labels) == names[450:]) > 0.7
    pooled_alone = fit("concat", pooled.take(rows[:450]), names[:450], model_id="fake", **QUICK)
    assert np.mean(answers(pooled_alone.logits(unseen), head.labels) == names[450:]) < 0.65


@pytest.mark.parametrize(("side", "has"), [("text_tokens", "has_text"), ("image_tokens", "has_image")])
def test_attention_does_not_look_at_the_tokens_of_what_is_missing(side: str, has: str) -> None:
    rng = np.random.default_rng(0)
    patches, words = unit(rng.normal(size=(40, 5, 8))), unit(rng.normal(size=(40, 3, 8)))
    features = replace(both(unit(patches.mean(1)), unit(words.mean(1))), image_tokens=patches, text_tokens=words)
    head = fit("attention", features, ["a", "b"] * 20, model_id="fake", epochs=2, least_steps=0)
    blind = replace(features, **{has: np.zeros(40, bool)})
    other = replace(blind, **{side: getattr(features, side)[::-1]})
    np.testing.assert_array_equal(head.logits(other), head.logits(blind))
    assert np.any(head.logits(blind) != head.logits(features))


def test_attention_wants_tokens() -> None:
    features, names = matches(40)
    with pytest.raises(UsageError, match="image tokens"):
        fit("attention", features, names, model_id="fake")


def test_modality_dropout_keeps_an_answer_without_text() -> None:
    features, names = halves()
    unseen, truth = halves(seed=1)
    blind = replace(unseen, text=np.zeros_like(unseen.text), has_text=np.zeros(len(unseen), bool))
    first_bit = np.array([name[0] for name in truth])

    def right(dropout: float) -> float:
        head = fit("concat", features, names, model_id="fake", modality_dropout=dropout, **QUICK)
        found = answers(head.logits(blind), head.labels)
        return float(np.mean(np.array([name[0] for name in found]) == first_bit))

    assert right(0.15) > 0.9
    assert right(0.15) >= right(0.0)


def test_a_head_of_two_modalities_answers_images_alone() -> None:
    features, names = halves()
    head = fit("weighted", features, names, model_id="fake", **QUICK)
    assert np.isfinite(head.logits(Features.of_images(features.image))).all()


def test_a_networks_row_is_the_same_bits_in_any_batch() -> None:
    features, names = halves(100)
    head = fit("concat", features, names, model_id="fake", hidden=32, epochs=3, least_steps=0)
    assert isinstance(head, NetworkHead)
    alone = np.concatenate([head.logits(features.take(np.array([i]))) for i in range(7)])
    assert alone.tobytes() == head.logits(features)[:7].tobytes()


def test_a_network_is_as_sure_as_the_rows_that_chose_its_epochs_allow() -> None:
    features, names = matches(300)
    record: dict[str, float] = {}
    head = fit("hadamard", features, names, model_id="fake", record=record, **{**QUICK, "rate": 0.1})
    assert head.temperature == record["temperature"] > 1.2  # at this rate it is too sure
    assert record["ece_after"] < record["ece_before"]


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_numbers_come_back_in_their_own_units(kind: str) -> None:
    rng = np.random.default_rng(0)
    rows = unit(rng.normal(size=(300, 8)))
    price = 400_000 + 90_000 * rows[:, 0] - 50_000 * rows[:, 1]
    head = fit(kind, Features.of_images(rows[:200]), price[:200], model_id="fake", task="regression", **OPTIONS[kind])
    found = head.logits(Features.of_images(rows[200:]))[:, 0]
    assert head.labels == ()
    assert np.abs(found - price[200:]).mean() < 0.3 * np.abs(price[200:] - price.mean()).mean()


def test_huber_shrugs_off_a_mistyped_target() -> None:
    rng = np.random.default_rng(0)
    rows = unit(rng.normal(size=(200, 4)))
    truth = rows[:, 0].copy()
    wrong = truth.copy()
    wrong[:6] = 40.0
    error = {}
    for squared in (False, True):
        options = {"model_id": "fake", "task": "regression", "strength": 100.0, "squared": squared}
        head = fit("linear", Features.of_images(rows), wrong, **options)  # type: ignore[arg-type]
        error[squared] = np.abs(head.logits(Features.of_images(rows))[6:, 0] - truth[6:]).mean()
    assert error[False] < 0.5 * error[True]


def test_many_labels_at_once() -> None:
    rng = np.random.default_rng(0)
    rows = unit(rng.normal(size=(300, 8)))
    wanted = (rows[:, :3] > 0).astype(np.float32)
    head = fit(
        "linear", Features.of_images(rows[:200]), wanted[:200], labels=LABELS, model_id="fake", task="multi_label"
    )
    assert np.mean((head.logits(Features.of_images(rows[200:])) > 0) == wanted[200:]) > 0.9


def test_rows_of_many_labels_are_dealt_out_by_their_rarest() -> None:
    marks = np.zeros((60, 2), np.float32)
    marks[:, 0], marks[:10, 1] = 1, 1
    data = training_data(
        Features.of_images(unit(np.ones((60, 4)))), marks, labels=("common", "rare"), task="multi_label"
    )
    rare = [int(marks[held, 1].sum()) for _, held in data.folds()]
    assert rare == [2] * 5


@pytest.mark.parametrize("distinct", [1, 2, 4])
def test_rows_that_repeat_give_the_shares_of_their_labels(distinct: int) -> None:
    x = np.tile(unit(np.random.default_rng(0).normal(size=(distinct, 128))), (4000 // distinct, 1))
    wrong = np.arange(4000) // distinct % 10 == 0
    names = np.array(["yes", "no"])[(np.arange(4000) % distinct + wrong) % 2]
    head = fit("linear", Features.of_images(x), names, model_id="fake", strength=10000.0)
    found = softmax(head.logits(Features.of_images(x[:distinct])))[:, head.labels.index("yes")]
    np.testing.assert_allclose(found, [0.9, 0.1, 0.9, 0.1][:distinct], atol=0.01)


def test_balanced_weights_lift_the_rare_class() -> None:
    features, names, _ = blobs(300, noise=1.6)
    rows = np.concatenate([np.flatnonzero(names != "cheese"), np.flatnonzero(names == "cheese")[:8]])
    unseen, truth, _ = blobs(300, noise=1.6, seed=1)

    def recall(class_weight: str | None) -> float:
        weights = {"class_weight": class_weight, "model_id": "fake", "strength": 1.0}
        head = fit("linear", features.take(rows), names[rows], **weights)  # type: ignore[arg-type]
        return float(np.mean(answers(head.logits(unseen), head.labels)[truth == "cheese"] == "cheese"))

    assert recall("balanced") > recall(None) + 0.1


def test_weights_are_balanced_over_the_rows_that_are_taken() -> None:
    features, names, _ = blobs(90)
    rare = np.concatenate([np.flatnonzero(names != "cheese"), np.flatnonzero(names == "cheese")[:5]])
    data = training_data(features.take(rare), names[rare], model_id="fake", class_weight="balanced")
    np.testing.assert_allclose(data.row_weights[-5:].sum(), 65 / 3, rtol=1e-5)
    few = data.take(few_of_each(data, 5))
    np.testing.assert_array_equal(few.row_weights, 1)


def test_held_out_rows_weigh_as_their_classes_do() -> None:
    features, names, prior = blobs(30)
    data = training_data(features, names, prior, class_weight={"bread": 4})
    plain = held_out_loss(prior.logits(features), replace(data, class_weight=None))
    weights = np.where(names == "bread", 4, 1)
    np.testing.assert_allclose(held_out_loss(prior.logits(features), data), plain * weights / weights.mean(), rtol=1e-5)
    with pytest.raises(UsageError, match="closed form"):
        fit("proker", features, names, prior, class_weight="balanced")
    assert not {"gda", "tip-adapter", "proker"} & set(kinds_for(data))


def test_weights_are_of_classes_and_named_as_targets_are() -> None:
    features, _, _ = blobs(30)
    heads = [
        fit("linear", features, np.arange(30) % 3, model_id="fake", strength=1.0, class_weight=weights)
        for weights in ({0: 2.0}, {"0": 2.0})
    ]
    np.testing.assert_array_equal(heads[0].logits(features), heads[1].logits(features))
    for task, targets in (("regression", np.arange(30.0)), ("multi_label", np.eye(3)[np.arange(30) % 3])):
        with pytest.raises(UsageError, match="here a row has not one class"):
            fit("linear", features, targets, labels=LABELS, task=task, model_id="fake", class_weight="balanced")


def test_what_cannot_be_fitted_says_so() -> None:
    features, names, prior = blobs()
    with pytest.raises(UsageError, match="did you mean linear"):
        fit("liner", features, names, prior)
    for kind in ("gda", "tip-adapter", "tip-adapter-f", "proker", "coop"):
        with pytest.raises(UsageError, match=f"--head {kind} starts from text"):
            fit(kind, features, names, model_id="fake")
    with pytest.raises(UsageError, match="one label of several"):
        fit("proker", features, np.arange(90.0), prior, task="regression")
    with pytest.raises(UsageError, match="reads texts"):
        fit("linear-text", features, names, prior)
    with pytest.raises(UsageError, match="two labels"):
        fit("linear", features, ["apple"] * 90, model_id="fake")
    with pytest.raises(UsageError, match="'fish' is not among"):
        fit("linear", features, [*names[:-1], "fish"], prior)
    with pytest.raises(UsageError, match="90 rows of vectors and 3 targets"):
        fit("linear", features, ["apple"] * 3, prior)
