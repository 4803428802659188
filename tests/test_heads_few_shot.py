"""The few-label heads on real CLIP vectors, and their formulas by hand."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from heads_data import blobs
from scipy.special import softmax

from cmprompt.errors import UsageError
from cmprompt.heads.fit import fit, training_data
from cmprompt.heads.gda import gaussian_plane
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.probe import text_start
from cmprompt.heads.proker import kernel_head
from cmprompt.heads.stata import adapt, to_shares
from cmprompt.heads.tip_adapter import cache
from cmprompt.heads.wise import wise
from cmprompt.types import Array, Features

SEEDS = range(4)


def test_tip_adapter_is_its_formula() -> None:
    features, names, prior = blobs(12)
    head = replace(cache(training_data(features, names, prior)), alpha=2.0, beta=3.0)
    x, keys = features.image, features.image
    values = np.array(head.labels)[None, :] == names[:, None]
    wanted = 10 * x @ prior.weight.T + 2.0 * np.exp(-3.0 * (1 - x @ keys.T)) @ values
    np.testing.assert_allclose(head.logits(features), wanted, rtol=1e-4, atol=1e-4)


def test_proker_is_its_formula() -> None:
    features, names, prior = blobs(12)
    x = features.image.astype(np.float64)
    kernel = np.exp(-2.0 * (1 - x @ x.T))
    one_hot = (np.array(prior.labels)[None, :] == names[:, None]).astype(float)
    text = x @ prior.weight.T
    wanted = text + kernel @ np.linalg.inv(kernel / 0.5 + np.eye(12)) @ (one_hot - text)
    head = kernel_head(training_data(features, names, prior), 0.5, 2.0)
    np.testing.assert_allclose(head.logits(features) / prior.scale, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["gda", "tip-adapter", "tip-adapter-f"])
def test_the_bias_of_the_head_that_a_fit_starts_from_stays(kind: str) -> None:
    features, names, prior = blobs(30)
    head = fit(kind, features, names, replace(prior, bias=np.array([0, 50, 0], np.float32)))
    assert np.all(head.logits(features).argmax(1) == 1)


def test_where_the_kernel_corrects_nothing_the_bias_stays() -> None:
    features, names, prior = blobs(30)
    prior = replace(prior, bias=np.array([0, 5, 0], np.float32))
    head = kernel_head(training_data(features, names, prior), 1e-9, 2.0)
    np.testing.assert_allclose(head.logits(features), prior.logits(features), atol=1e-4)


def test_gda_finds_the_plane_between_two_gaussians() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([1.0, 0.1])
    rows = np.concatenate([rng.normal(size=(500, 2)) * spread + [0.3, 0.2], rng.normal(size=(500, 2)) * spread])
    names = ["a"] * 500 + ["b"] * 500
    data = training_data(Features.of_images(rows.astype(np.float32)), names, model_id="m")
    weight, _ = gaussian_plane(data)
    assert abs(weight[0, 1] - weight[1, 1]) > 5 * abs(weight[0, 0] - weight[1, 0])  # the narrow axis tells more


def test_the_closed_form_start_is_lp_plus_plus() -> None:
    features, names, prior = blobs(12)
    target = np.array([prior.labels.index(name) for name in names])
    own = np.mean(np.sum(features.image * prior.weight[target], 1))
    sums = np.stack([features.image[target == c].sum(0) for c in range(3)])
    wanted = prior.scale * (prior.weight + sums / (250 * own))
    np.testing.assert_allclose(text_start(training_data(features, names, prior)), wanted, rtol=1e-4, atol=1e-5)


def test_wise_is_a_straight_line_in_the_logits() -> None:
    features, names, prior = blobs()
    after = fit("linear", features, names, prior, strength=10.0)
    assert isinstance(after, LinearHead)
    wanted = 0.7 * prior.logits(features) + 0.3 * after.logits(features)
    np.testing.assert_allclose(wise(prior, after, 0.3).logits(features), wanted, atol=1e-4)
    with pytest.raises(UsageError, match="same labels"):
        wise(replace(prior, model_id="other"), after)


def test_shares_that_are_known_are_met() -> None:
    features, _, prior = blobs(300, noise=2.0)
    shares = np.array([0.6, 0.3, 0.1])
    logits = to_shares(prior, features.image, shares).logits(features)
    found = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose((found / found.sum(1, keepdims=True)).mean(0), shares, atol=0.01)


def test_stata_is_its_formula() -> None:
    features, _, prior = blobs(300, noise=2.0)
    prior = replace(prior, bias=np.array([0, 0.5, 0], np.float32))
    x, text = features.image.astype(np.float64), prior.weight.astype(np.float64)
    belongs = softmax(10 * x @ text.T + prior.bias, axis=1)
    means = anchors = text + x.mean(0) - belongs.mean(0) @ text
    for _ in range(10):
        spread = (belongs[:, :, None] * (x[:, None] - means) ** 2).sum(1).mean(0)
        density = -0.5 * ((x[:, None] - means) ** 2 / spread).sum(2)
        belongs = softmax(10 * x @ text.T + prior.bias + 0.01 * density, axis=1)
        counts = belongs.sum(0)[:, None]
        means = (belongs.T @ x + 10 * anchors) / (counts + 10)
    spread = (belongs[:, :, None] * (x[:, None] - means) ** 2).sum(1).mean(0)
    head = adapt(prior, features.image)
    np.testing.assert_allclose(head.weight, text + 0.01 * means / spread / 10, atol=1e-6)
    np.testing.assert_allclose(head.bias, prior.bias - 0.005 * (means**2 / spread).sum(1), atol=1e-6)


@pytest.mark.parametrize("shares", [None, np.array([0.6, 0.3, 0.1])], ids=["stata", "otter"])
def test_many_images_are_adapted_to_in_blocks(shares: Array | None, monkeypatch: pytest.MonkeyPatch) -> None:
    features, _, prior = blobs(20_000, dim=64, noise=2.0)

    def adapted() -> LinearHead:
        return adapt(prior, features.image) if shares is None else to_shares(prior, features.image, shares, rounds=9)

    whole = adapted()
    monkeypatch.setattr("cmprompt.heads.stata.CELLS_AT_ONCE", 1 << 16)
    tracemalloc.start()
    parts = adapted()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < features.image.nbytes
    np.testing.assert_allclose(parts.weight, whole.weight, atol=1e-6)
    np.testing.assert_allclose(parts.bias, whole.bias, atol=1e-6)


def test_adapting_needs_no_balance() -> None:
    """Only one of three classes is present; a method that wants all of them would hand its images out."""
    features, names, prior = blobs(600, noise=1.0)
    rows = features.image[names == "bread"]
    before = prior.logits(Features.of_images(rows)).argmax(1)
    after = adapt(prior, rows).logits(Features.of_images(rows)).argmax(1)
    assert np.mean(after == 1) >= np.mean(before == 1) - 0.01


@pytest.fixture(scope="module")
def replay(data_dir: Path) -> tuple[Array, Array, LinearHead]:
    """Real vectors of 500 CIFAR-10 images, their classes, and the zero-shot head of the class names."""
    folder = data_dir / "clip-vitb32-replay"
    images, texts = np.load(folder / "cifar10-test-first500.npz"), np.load(folder / "text-embeddings.npz")
    words = [{"automobile": "car", "ship": "boat"}.get(name, name) for name in images["names"].tolist()]
    place = texts["names"].tolist()
    rows = np.stack([texts["a_name"][place.index(word)] for word in words]).astype(np.float32)
    weight = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return images["image_embeddings"], images["labels"].astype(int), LinearHead(weight, tuple(words), "clip", 100.0)


@pytest.mark.parametrize("kind", ["linear", "tip-adapter", "gda", "proker"])
@pytest.mark.parametrize("shots", [1, 4, 16])
def test_no_head_from_text_is_worse_than_zero_shot(
    kind: str, shots: int, replay: tuple[Array, Array, LinearHead]
) -> None:
    gains = [_right(kind, shots, seed, replay) for seed in SEEDS]
    assert np.mean(gains) >= (0.3 if shots == 16 else -0.3)


def test_a_cold_head_is_worse_than_zero_shot_at_four_shots(replay: tuple[Array, Array, LinearHead]) -> None:
    assert np.mean([_right("cold", 4, seed, replay) for seed in SEEDS]) < -2


def _right(kind: str, shots: int, seed: int, replay: tuple[Array, Array, LinearHead]) -> float:
    """Points above zero-shot on the images that the draw left."""
    x, y, prior = replay
    order = np.random.default_rng(seed).permutation(len(y))
    rows = np.concatenate([order[y[order] == c][:shots] for c in range(10)])
    left = np.setdiff1d(order, rows)
    names = np.array(prior.labels)[y]
    text = {"model_id": "clip", "labels": prior.labels} if kind == "cold" else {"prior": prior}
    head = fit("linear" if kind == "cold" else kind, Features.of_images(x[rows]), names[rows], seed=seed, **text)
    unseen = Features.of_images(x[left])
    right = [np.mean(h.logits(unseen).argmax(1) == y[left]) for h in (head, prior)]
    return float(100 * (right[0] - right[1]))
