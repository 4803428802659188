"""None of these: the scale, its class under softmax, and the figures on real CLIP vectors."""

from __future__ import annotations

from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pytest
from conftest import FakeEncoder
from scipy.special import softmax
from sklearn.metrics import roc_auc_score
from test_predict import batches, by_cosines, rows, text_head

from cmprompt.errors import UsageError
from cmprompt.openset import DEFAULT_Z, moments, standardise, vocabulary_vectors
from cmprompt.predict import predict
from cmprompt.rule import Rule
from cmprompt.scores import needs_vocabulary
from cmprompt.types import Array


def test_moments_are_the_mean_and_deviation_of_the_cosines() -> None:
    images, words = rows(20), rows(300, seed=3)
    cosines = images @ words.T
    mean, deviation = moments(images, words)
    np.testing.assert_allclose(mean, cosines.mean(1), atol=1e-6)
    np.testing.assert_allclose(deviation, cosines.std(1), atol=1e-6)


def test_z_does_not_change_with_shift_and_scale() -> None:
    cosines, mean, deviation = rows(4), np.full(4, 0.2), np.full(4, 0.05)
    moved = standardise(3 * cosines + 1, 3 * mean + 1, 3 * deviation)
    np.testing.assert_allclose(moved, standardise(cosines, mean, deviation), atol=1e-5)


@pytest.mark.parametrize(("best", "label"), [(0.41, "dog"), (0.39, "none of these")])
def test_none_wins_just_below_the_default_z(best: float, label: str) -> None:
    assert DEFAULT_Z == 2.0  # m = 0.2, s = 0.1
    assert by_cosines([0.1, best, 0.0], Rule(none=True)).label == label
    assert by_cosines([0.1, best, 0.0], Rule()).label == "dog"


@pytest.mark.parametrize(("best", "label"), [(0.36, "dog"), (0.34, "other")])
def test_none_takes_the_thresholds_z(best: float, label: str) -> None:
    rule = Rule.parse(none=True, threshold="z:1.5", none_name="other")
    assert by_cosines([0.1, best, 0.0], rule).label == label


@pytest.mark.parametrize("multi_label", [False, True], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize(
    ("cosines", "label"),
    [
        ([0.36, 0.1, 0.0], "cat"),  # reaches its own z of 1.5, though not the default
        ([0.34, 0.1, 0.0], "none of these"),
        ([0.1, 0.46, 0.0], "none of these"),  # reaches the default, though not its own z of 3
        ([0.1, 0.51, 0.0], "dog"),
        ([0.1, 0.1, 0.39], "none of these"),  # has none of its own
        ([0.36, 0.45, 0.0], None),  # the best falls short of its own, another does not
    ],
)
def test_none_goes_by_each_labels_own_z(cosines: list[float], label: str | None, multi_label: bool) -> None:
    rule = Rule.parse(multi_label=multi_label, none=True, label_thresholds={"cat": "z:1.5", "dog": "z:3"})
    assert by_cosines(cosines, rule).label == label


def test_none_is_a_class_among_the_others() -> None:
    prediction = by_cosines([0.1, 0.3, 0.0], Rule(none=True))
    wanted = softmax([1.0, 3.0, 0.0, 4.0])
    assert dict(prediction.top) == pytest.approx(dict(zip(("cat", "dog", "car", "none of these"), wanted, strict=True)))
    assert prediction.score == pytest.approx(wanted[3])
    assert prediction.cosine == pytest.approx(0.3)


def test_none_with_a_bias_and_with_one_label() -> None:
    assert by_cosines([0.39], Rule(none=True), ["cat"], bias=np.full(1, -9, np.float32)).label == "none of these"
    assert by_cosines([0.41], Rule(none=True), ["cat"], bias=np.full(1, -9, np.float32)).label == "cat"


def test_none_of_these_names_no_labels_however_low_their_threshold() -> None:
    prediction = by_cosines([0.1, 0.39, 0.0], Rule.parse(multi_label=True, none=True, threshold="0.05"))
    assert (prediction.label, prediction.labels) == ("none of these", ())


@pytest.mark.parametrize(("best", "label", "labels"), [(0.41, "dog", ("dog",)), (0.39, "none of these", ())])
def test_none_among_many_labels(best: float, label: str, labels: tuple[str, ...]) -> None:
    prediction = by_cosines([0.1, best, 0.0], Rule("sigmoid", none=True))
    assert (prediction.label, prediction.labels) == (label, labels)


def test_the_vocabulary_is_asked_for_only_where_it_serves() -> None:
    plain, biased = text_head(), text_head(bias=np.zeros(3, np.float32))
    assert not needs_vocabulary(plain, Rule.parse(threshold="0.5"))
    assert needs_vocabulary(plain, Rule.parse(threshold="z:1"))
    assert needs_vocabulary(plain, Rule("sigmoid"))
    assert not needs_vocabulary(biased, Rule("sigmoid"))
    with pytest.raises(UsageError, match="vocabulary"):
        next(iter(predict(batches(rows(1)), plain, Rule(none=True))))


def test_the_vocabulary_is_everyday_words_in_a_template(fake_encoder: FakeEncoder) -> None:
    words = vocabulary_vectors(fake_encoder)
    assert len(words) > 900
    np.testing.assert_allclose(np.linalg.norm(words, axis=1), 1, atol=1e-3)


CIFAR = ("airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "boat", "truck")


@pytest.fixture(scope="module")
def clip(data_dir: Path) -> dict[str, Array]:
    """Real CLIP ViT-B/32 vectors: 500 images, their classes, ten labels and 1,616 words as "a NAME"."""
    images = np.load(data_dir / "clip-vitb32-replay" / "cifar10-test-first500.npz")
    texts = np.load(data_dir / "clip-vitb32-replay" / "text-embeddings.npz")
    words = texts["a_name"].astype(np.float32)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    names = list(texts["names"])
    labels = words[[names.index(name) for name in CIFAR]]
    return {"images": images["image_embeddings"], "y": images["labels"], "labels": labels, "words": words}


@pytest.mark.parametrize(("count", "wanted"), [(2, 0.97), (5, 0.945)])
def test_auroc_on_real_vectors(clip: dict[str, Array], count: int, wanted: float) -> None:
    mean, deviation = moments(clip["images"], clip["words"])
    z = standardise(clip["images"] @ clip["labels"].T, mean, deviation)  # (500, 10)
    found = []
    for subset in islice(combinations(range(10), count), 0, None, 5):
        known = np.isin(clip["y"], subset)
        found.append(roc_auc_score(known, z[:, subset].max(1)))
    assert np.mean(found) > wanted


def test_a_car_is_no_cat_on_real_vectors(clip: dict[str, Array]) -> None:
    pets = [3, 5]
    head = text_head(["cat", "dog"], clip["labels"][pets], 100.0)
    open_set = list(predict(batches(clip["images"], 64), head, Rule(none=True), vocabulary=clip["words"]))
    closed = list(predict(batches(clip["images"], 64), head, Rule()))
    vehicles, animals = np.isin(clip["y"], [0, 1, 8, 9]), np.isin(clip["y"], pets)
    none = np.array([p.label == "none of these" for p in open_set])
    assert none[vehicles].mean() > 0.98
    assert none[animals].mean() < 0.2
    assert np.mean([p.score > 0.6 for p in np.array(closed, object)[vehicles]]) > 0.5  # how sure the closed set is


def test_none_goes_by_z_under_a_hierarchy_too() -> None:
    """Many leaves just below the limit add up to more than none of these; each of them is still too far."""
    leaves = [f"animal/{i}" for i in range(10)]
    prediction = by_cosines([0.39] * 10, Rule(none=True, level=1), leaves)
    assert prediction.label == "none of these"
    assert prediction.score == pytest.approx(softmax([3.9] * 10 + [4.0])[-1])
    assert by_cosines([0.39] * 9 + [0.41], Rule(none=True, level=1), leaves).label == "animal"
