"""The head built from text: the three pools against open_clip and against their definitions."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from conftest import FakeEncoder

from cmprompt.errors import UsageError
from cmprompt.heads.zero_shot import zero_shot
from cmprompt.product import product
from cmprompt.types import Array, Features

PROMPTS = {"red": ("a red thing", "something red"), "blue": ("a blue thing",), "warm": ("red", "sunlight", "a fire")}


def unit(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def images(n: int = 5, dim: int = 8) -> Array:
    return unit(np.random.default_rng(0).normal(size=(n, dim))).astype(np.float32)


def test_mean_equals_open_clip(fake_encoder: FakeEncoder) -> None:
    import torch
    from open_clip import build_zero_shot_classifier

    class Model:
        def encode_text(self, texts: Sequence[str], normalize: bool) -> torch.Tensor:
            return torch.from_numpy(fake_encoder.encode_texts(texts))

    class Tokens(list[str]):
        def to(self, device: object) -> Tokens:
            return self

    fake_encoder.exact = True
    templates = (lambda name: f"a photo of a {name}.", lambda name: f"the {name}!")
    theirs = build_zero_shot_classifier(Model(), Tokens, ["red", "blue", "cat"], templates, device="cpu")
    ours = zero_shot(fake_encoder, {c: [t(c) for t in templates] for c in ("red", "blue", "cat")})
    np.testing.assert_allclose(ours.weight, theirs.numpy().T, atol=1e-6)


def test_scores_is_the_mean_of_similarities(fake_encoder: FakeEncoder) -> None:
    fake_encoder.exact = True
    head = zero_shot(fake_encoder, PROMPTS, pool="scores")
    wanted = [(images() @ fake_encoder.encode_texts(texts).T).mean(1) for texts in PROMPTS.values()]
    np.testing.assert_allclose(head.cosines(Features.of_images(images())).T, wanted, atol=1e-6)


def test_max_is_the_best_text(fake_encoder: FakeEncoder) -> None:
    fake_encoder.exact = True
    head = zero_shot(fake_encoder, PROMPTS, pool="max")
    wanted = [(images() @ fake_encoder.encode_texts(texts).T).max(1) for texts in PROMPTS.values()]
    np.testing.assert_allclose(head.cosines(Features.of_images(images())).T, wanted, atol=1e-6)


def test_one_text_for_each_label_makes_the_pools_one(fake_encoder: FakeEncoder) -> None:
    single = {"red": ("red",), "blue": ("blue",)}
    logits = [
        zero_shot(fake_encoder, single, pool=p).logits(Features.of_images(images())) for p in ("mean", "scores", "max")
    ]
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-5)
    np.testing.assert_allclose(logits[2], logits[0], atol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_scale_and_bias_are_the_models(fake_encoder: FakeEncoder, pool: str) -> None:
    fake_encoder.logit_bias = -3.0
    head = zero_shot(fake_encoder, PROMPTS, pool=pool)
    features = Features.of_images(images())
    np.testing.assert_allclose(head.logits(features), 10 * head.cosines(features) - 3, atol=1e-5)
    assert head.labels == ("red", "blue", "warm")
    assert head.model_id == "fake"


class ManyTexts(FakeEncoder):
    """A vector of 128 numbers for each text, by its number."""

    dim = 128

    def encode_texts(self, texts: Sequence[str]) -> Array:
        self.texts_encoded += len(texts)
        numbers = np.array([int(text.rpartition(" ")[2]) for text in texts])
        return unit(np.cos(np.outer(numbers + 1, np.arange(1, 129)))).astype(np.float32)


@pytest.mark.parametrize("pool", ["mean", "scores", "max"])
def test_the_texts_of_many_labels_are_pooled_in_blocks(pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = {f"{n}": [f"text {n * 7 + t}" for t in range(1 + n % 7)] for n in range(90)}
    prompts["many"] = [f"text {n}" for n in range(1000, 1080)]
    whole = zero_shot(ManyTexts(), prompts, pool=pool)
    monkeypatch.setattr("cmprompt.heads.zero_shot.TEXTS_AT_ONCE", 50)
    parts = zero_shot(encoder := ManyTexts(), prompts, pool=pool)
    rows = "texts" if pool == "max" else "weight"
    assert getattr(parts, rows).tobytes() == getattr(whole, rows).tobytes()
    assert encoder.texts_encoded == sum(map(len, prompts.values()))


def test_a_head_of_many_labels_takes_little_more_than_its_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmprompt.heads.zero_shot.TEXTS_AT_ONCE", 256)
    prompts = {f"{n}": [f"text {n * 9 + t}" for t in range(9)] for n in range(2000)}
    tracemalloc.start()
    zero_shot(ManyTexts(), prompts)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * 128 * 9 * 2000 / 2  # half of all texts' vectors


@pytest.mark.parametrize(
    ("prompts", "pool", "message"),
    [
        ({}, "mean", "no labels"),
        ({"a": ()}, "mean", "'a'"),
        ({"a": "text"}, "mean", "'a'"),
        ({"a": ["x"]}, "men", "mean"),
    ],
)
def test_nonsense_is_refused(fake_encoder: FakeEncoder, prompts: object, pool: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        zero_shot(fake_encoder, prompts, pool=pool)


def test_product_is_a_dot_product() -> None:
    x, weight = images(50, 512), np.random.default_rng(1).normal(size=(7, 512)) * 10.0 ** np.arange(-3, 4)[:, None]
    exact = x.astype(np.float64) @ weight.T
    lengths = np.linalg.norm(weight, axis=1)
    assert np.abs((product(x, weight) - exact) / lengths).max() < 1e-7


def test_product_has_the_same_bits_in_any_batch() -> None:
    x, weight = images(257, 512), images(100, 512)
    whole = product(x, weight)
    for size in (1, 3, 64, 100):
        parts = [product(x[at : at + size], weight) for at in range(0, len(x), size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert product(x[:, ::-1], weight[:, ::-1]).tobytes() == whole.tobytes()  # in any order of summation


def test_product_keeps_nan_to_its_row() -> None:
    x = images(3)
    x[1, 0] = np.nan
    x[2, 0] = np.inf
    result = product(x, images(2))
    assert np.isfinite(result[0]).all()
    assert not np.isfinite(result[1:]).any()


def test_product_of_nothing() -> None:
    assert product(np.zeros((0, 8)), images(2)).shape == (0, 2)
    assert not product(np.zeros((2, 8)), images(2)).any()
