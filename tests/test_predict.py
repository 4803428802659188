"""Decisions: probabilities, order, thresholds, margins, hierarchies, failures; independent of the batches."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
from scipy.special import expit, softmax

from cmprompt.errors import UsageError
from cmprompt.heads.linear import LinearHead
from cmprompt.predict import predict
from cmprompt.rule import Rule, Threshold
from cmprompt.scores import best_first, needs_vocabulary
from cmprompt.types import Array, Embedded, Features, Item, Outcome, Prediction

LABELS = ("cat", "dog", "car")


def rows(n: int, dim: int = 64, seed: int = 0) -> Array:
    values = np.random.default_rng(seed).normal(size=(n, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def batches(images: Array, size: int = 100, outcomes: Sequence[Outcome] = ()) -> Iterator[Embedded]:
    outcomes = outcomes or [Outcome()] * len(images)
    for at in range(0, len(images), size):
        part = images[at : at + size]
        names = tuple(Item(f"{at + i}.jpg", None) for i in range(len(part)))
        yield Embedded(names, tuple(outcomes[at : at + size]), Features.of_images(part))


def text_head(
    labels: Sequence[str] = LABELS, weight: Array | None = None, scale: float = 20.0, bias=None
) -> LinearHead:
    weight = rows(len(labels), seed=1) if weight is None else weight
    return LinearHead(weight, tuple(labels), "m", scale, bias, text_built=True)


def by_logits(
    logits: Sequence[Sequence[float]], rule: Rule, labels: Sequence[str] = LABELS, **more
) -> list[Prediction]:
    """Predictions for literal logits: each image is its own axis of an identity head."""
    logits = np.array(logits, np.float32)  # (N, C)
    head = LinearHead(logits.T.copy(), tuple(labels), "m", 1.0)
    return list(predict(batches(np.eye(len(logits), dtype=np.float32), **more), head, rule))


def by_cosines(
    cosines: Sequence[float], rule: Rule, labels: Sequence[str] = LABELS, *, scale=10.0, bias=None, m=0.2, s=0.1
):
    """One prediction for literal cosines, against a vocabulary of mean m and deviation s."""
    head = text_head(labels, np.array(cosines, np.float32)[:, None], scale, bias)
    vocabulary = np.array([[m - s], [m + s]], np.float32)
    return next(iter(predict(batches(np.ones((1, 1), np.float32)), head, rule, vocabulary=vocabulary)))


def test_softmax_is_scipys() -> None:
    head, images = text_head(), rows(20)
    wanted = softmax(20 * images.astype(np.float64) @ head.weight.astype(np.float64).T, axis=1)
    for prediction, row in zip(predict(batches(images), head, Rule(top_k=None)), wanted, strict=True):
        order = np.argsort(-row)
        assert [label for label, _ in prediction.top] == [LABELS[i] for i in order]
        np.testing.assert_allclose([score for _, score in prediction.top], row[order], atol=1e-6)
        assert prediction.score == prediction.top[0][1]
        assert prediction.margin == pytest.approx(prediction.top[0][1] - prediction.top[1][1])


def test_the_cosine_is_the_winners() -> None:
    head, images = text_head(), rows(20)
    for prediction, row in zip(predict(batches(images), head), images @ head.weight.T, strict=True):
        assert prediction.cosine == pytest.approx(row.max(), abs=1e-6)


def test_huge_logits_do_not_overflow() -> None:
    first, second = by_logits([[1e4, -1e4, 0], [-1e4, -1e4, -1e4]], Rule())
    assert (first.label, first.score) == ("cat", 1.0)
    assert second.score == pytest.approx(1 / 3)


def test_sigmoid_takes_the_models_bias() -> None:
    head = text_head(bias=np.full(3, -4, np.float32), scale=30)
    images = rows(20)
    wanted = expit(30 * images.astype(np.float64) @ head.weight.astype(np.float64).T - 4)
    for prediction, row in zip(predict(batches(images), head, Rule("sigmoid", None)), wanted, strict=True):
        np.testing.assert_allclose(sorted(score for _, score in prediction.top), np.sort(row), atol=1e-6)
        assert set(prediction.labels) == {label for label, p in zip(LABELS, row, strict=True) if p >= 0.5}
        assert (prediction.label is None) == (row.max() < 0.5)


def test_sigmoid_without_a_bias_puts_a_half_at_two_deviations() -> None:
    prediction = by_cosines([0.4, 0.5, 0.1], Rule("sigmoid"))
    scores = dict(prediction.top)
    assert scores["cat"] == pytest.approx(0.5, abs=1e-6)
    assert scores["dog"] == pytest.approx(expit(10 * 0.1), abs=1e-6)
    assert prediction.labels[0] == "dog"


def test_multi_label_orders_the_labels_best_first() -> None:
    assert by_logits([[1.0, 3.0, -1.0]], Rule("sigmoid"))[0].labels == ("dog", "cat")


@pytest.mark.parametrize(("threshold", "label"), [("0.7", "cat"), ("0.75", None)])
def test_a_probability_threshold(threshold: str, label: str | None) -> None:
    prediction = by_logits([[2.0, 1.0, -1.0]], Rule.parse(threshold=threshold))[0]
    assert prediction.score == pytest.approx(0.705, abs=1e-3)
    assert prediction.label == label
    assert prediction.top[0][0] == "cat"


@pytest.mark.parametrize(
    ("threshold", "label"), [("z:2.4", "dog"), ("z:2.6", None), ("cos:0.44", "dog"), ("cos:0.46", None)]
)
def test_thresholds_in_z_and_cosine(threshold: str, label: str | None) -> None:
    assert by_cosines([0.3, 0.45, 0.1], Rule.parse(threshold=threshold)).label == label


def test_each_label_may_have_its_own_threshold() -> None:
    rule = Rule.parse(threshold="0.2", label_thresholds={"cat": "0.9"})
    assert [p.label for p in by_logits([[2, 0, 0], [0, 2, 0]], rule)] == [None, "dog"]
    rule = Rule.parse(multi_label=True, label_thresholds={"cat": "0.9", "dog": "0.1"})
    assert by_logits([[2.0, -2.0, 0.1]], rule)[0].labels == ("car", "dog")


@pytest.mark.parametrize(("min_margin", "label"), [(0.1, "cat"), (0.9, None)])
def test_a_margin(min_margin: float, label: str | None) -> None:
    assert by_logits([[2.0, 1.0, 0.0]], Rule.parse(min_margin=min_margin))[0].label == label


def test_a_margin_withholds_several_labels_too() -> None:
    rule = Rule.parse(multi_label=True, threshold="0.3", min_margin=0.9)
    assert (by_logits([[2.0, 1.0, 0.0]], rule)[0].label, by_logits([[2.0, 1.0, 0.0]], rule)[0].labels) == (None, ())


def test_one_label_has_no_margin() -> None:
    prediction = by_logits([[2.0]], Rule(min_margin=0.5), labels=["cat"])[0]
    assert (prediction.label, prediction.score, prediction.margin) == ("cat", 1.0, None)


def test_equal_scores_keep_the_labels_order() -> None:
    assert [label for label, _ in by_logits([[1, 2, 2]], Rule())[0].top] == ["dog", "car", "cat"]


@pytest.mark.parametrize("count", [1, 2, 5, 29, 30])
def test_best_first_is_a_stable_sort(count: int) -> None:
    scores = np.random.default_rng(0).integers(0, 5, (200, 30)) / 4
    wanted = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(best_first(scores, count), wanted)


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (None, 3), (9, 3)])
def test_top_k(top_k: int | None, count: int) -> None:
    prediction = by_logits([[1, 2, 3]], Rule(top_k=top_k))[0]
    assert len(prediction.top) == count
    assert prediction.margin is not None


TREE = ("animal/cat", "vehicle/car", "animal/dog", "food")


def test_probabilities_add_up_the_tree() -> None:
    leaves = dict(by_logits([[1.0, 1.5, 1.0, 0.0]], Rule(), labels=TREE)[0].top)
    prediction = by_logits([[1.0, 1.5, 1.0, 0.0]], Rule(level=1), labels=TREE)[0]
    assert prediction.label == "animal"
    assert prediction.score == pytest.approx(leaves["animal/cat"] + leaves["animal/dog"])
    assert [label for label, _ in prediction.top] == ["animal", "vehicle", "food"]


def test_a_branchs_cosine_is_its_best_leafs() -> None:
    prediction = by_cosines([0.3, 0.31, 0.32, 0.0], Rule(level=1), labels=TREE)
    assert (prediction.label, prediction.cosine) == ("animal", pytest.approx(0.32))
    multi = by_cosines([0.3, 0.31, 0.5, 0.0], Rule("sigmoid", level=1), labels=TREE)
    assert dict(multi.top)["animal"] == pytest.approx(expit(10 * 0.1), abs=1e-6)


def test_a_leafs_threshold_does_not_go_with_a_level_above_it() -> None:
    with pytest.raises(UsageError, match=r"'animal/cat'.*--level 1"):
        Rule.parse(level=1, label_thresholds={"food": "0.2", "animal/cat": "0.5"})
    rule = Rule.parse(level=1, label_thresholds={"food": "0.9"})
    assert [p.label for p in by_logits([[0, 0, 0, 2], [2, 0, 0, 0]], rule, labels=TREE)] == [None, "animal"]


def test_failures_and_flags_pass_through() -> None:
    outcomes = [Outcome("missing", "no such file"), Outcome(flags=("truncated", "no_text"))]
    failed, fine = by_logits([[1, 2, 3], [3, 2, 1]], Rule(), outcomes=outcomes)
    assert (failed.status, failed.error, failed.label, failed.top) == ("missing", "no such file", None, ())
    assert (fine.status, fine.label, fine.flags) == ("ok", "cat", ("truncated", "no_text"))


def test_a_batch_of_failures_needs_no_vectors() -> None:
    batch = Embedded(
        (Item("a", None),), (Outcome("missing", "gone"),), Features(None, None, np.zeros(1, bool), np.zeros(1, bool))
    )
    assert [p.status for p in predict([batch], text_head())] == ["missing"]


def test_a_batch_of_many_labels_is_scored_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    head, images, vocabulary = text_head(), rows(100), rows(30, seed=2)
    whole = list(predict(batches(images), head, Rule(none=True), vocabulary=vocabulary))
    seen: list[int] = []

    class Watched(LinearHead):
        def cosines(self, features: Features) -> Array:
            seen.append(len(features))
            return super().cosines(features)

    watched = Watched(**{field.name: getattr(head, field.name) for field in fields(head)})
    monkeypatch.setattr(sys.modules[predict.__module__], "SCORES_AT_ONCE", 7 * len(LABELS))
    parts = list(predict(batches(images), watched, Rule(none=True), vocabulary=vocabulary))
    assert max(seen) == 7 and sum(seen) == 100
    assert [replace(found, item=None) for found in parts] == [replace(found, item=None) for found in whole]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_fail_alone(bad: float) -> None:
    images = rows(3)
    images[1, 5] = bad
    vocabulary = rows(50, seed=2)
    predictions = list(predict(batches(images), text_head(), Rule(none=True), vocabulary=vocabulary))
    assert [p.status for p in predictions] == ["ok", "nan", "ok"]


@dataclass(frozen=True)
class Price:
    labels: tuple[str, ...] = ()
    model_id: str = "m"
    needs: frozenset[str] = frozenset({"image"})

    def logits(self, features: Features) -> Array:
        assert features.image is not None
        return features.image.sum(1, keepdims=True) * 100


def test_regression_gives_values() -> None:
    images = np.array([[1.0, 2.0], [np.nan, 0.0], [0.5, 0.5]], np.float32)
    outcomes = [Outcome(), Outcome(), Outcome("denied", "no")]
    assert not needs_vocabulary(Price(), Rule(none=True))  # a setting for all runs may lie idle
    first, second, third = predict(batches(images, outcomes=outcomes), Price())
    assert (first.value, first.label) == (300.0, None)
    assert (second.status, third.status) == ("nan", "denied")


@dataclass(frozen=True)
class Blas(Price):
    """A head whose matrix product rounds differently with the batch."""

    labels: tuple[str, ...] = tuple(map(str, range(100)))

    def logits(self, features: Features) -> Array:
        assert features.image is not None
        return 20 * features.image @ rows(100, 512, seed=1).T


RULES = [
    Rule(top_k=None),
    Rule(top_k=3, none=True),
    Rule("sigmoid", none=True),
    Rule(level=1),
    Rule("sigmoid", level=1, threshold=Threshold("z", 1.0)),
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [1, 3, 16, 64])
def test_batches_do_not_change_a_bit(rule: Rule, size: int) -> None:
    head = text_head([f"{i % 9}/{i}" for i in range(100)], rows(100, 512, seed=1))
    images, vocabulary = rows(130, 512), rows(300, 512, seed=2)
    whole = list(predict(batches(images, 130), head, rule, vocabulary=vocabulary))
    parts = list(predict(batches(images, size), head, rule, vocabulary=vocabulary))
    for one, other in zip(whole, parts, strict=True):
        assert (one.label, one.score, one.cosine, one.margin, one.top) == (
            other.label,
            other.score,
            other.cosine,
            other.margin,
            other.top,
        )


@pytest.mark.parametrize("size", [1, 7, 64])
def test_batches_do_not_change_a_bit_of_other_heads(size: int) -> None:
    images = rows(100, 512)
    assert [p.top for p in predict(batches(images, size), Blas())] == [p.top for p in predict(batches(images), Blas())]


@pytest.mark.parametrize("rule", [Rule(none=True), Rule.parse(threshold="z:1"), Rule.parse(threshold="cos:0.2")])
def test_a_fitted_head_has_no_cosines(rule: Rule) -> None:
    with pytest.raises(UsageError, match="fitted on examples"):
        by_logits([[1, 2, 3]], rule)
    assert by_logits([[1, 2, 3]], Rule())[0].cosine is None


@pytest.mark.parametrize("text", ["", "x", "1.5", "-0.1", "nan", "z:", "z:inf", "z:nan", "cos:2", "p:0.5", "z:1:2"])
def test_thresholds_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is none of"):
        Threshold.parse(text)


@pytest.mark.parametrize(
    "flags",
    [
        {"top_k": "0"},
        {"top_k": "many"},
        {"top_k": "²"},
        {"min_margin": 2.0},
        {"level": 0},
        {"none": True, "none_name": " "},
        {"label_thresholds": {"cat": "9"}},
    ],
)
def test_rules_that_mean_nothing_are_refused(flags: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Rule.parse(**flags)
