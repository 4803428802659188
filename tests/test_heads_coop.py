"""CoOp through a small text tower."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from heads_data import blobs, unit
from small_models import SMALL, save_model

from cmprompt.encoders import load_encoder, towers
from cmprompt.errors import UsageError
from cmprompt.heads.fit import fit
from cmprompt.heads.linear import LinearHead
from cmprompt.types import Encoder, Features

LABELS = ("cat", "dog", "big horse")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(f"local-dir:{save_model(tmp_path_factory.mktemp('m') / 'small', SMALL)}", "cpu", "fp32")


def prior_of(encoder: Encoder, words: str) -> LinearHead:
    weight = encoder.encode_texts([f"{words} {label}." for label in LABELS])
    return LinearHead(weight, LABELS, encoder.model_id, 10.0)


def test_an_untrained_phrase_is_the_prompt_itself(encoder: Encoder) -> None:
    features, names = some_rows(encoder)
    prior = prior_of(encoder, "a photo of a")
    head = fit("coop", features, names, prior, encoder, phrase="a photo of a", epochs=0)
    np.testing.assert_allclose(head.weight, prior.weight, atol=1e-5)


def test_training_lowers_the_loss_and_leaves_the_tower_alone(encoder: Encoder) -> None:
    features, names = some_rows(encoder)
    prior = prior_of(encoder, "a photo of a")
    before = encoder.encode_texts(["a photo of a cat."])
    losses = []
    for epochs in (0, 30):
        head = fit("coop", features, names, prior, encoder, words=4, epochs=epochs)
        logits = head.logits(features).astype(np.float64)
        own = logits[np.arange(len(names)), [LABELS.index(name) for name in names]]
        losses.append(np.mean(np.log(np.exp(logits).sum(1)) - own))
    assert losses[1] < losses[0]
    np.testing.assert_array_equal(encoder.encode_texts(["a photo of a cat."]), before)


def test_one_seed_gives_one_prompt(encoder: Encoder) -> None:
    features, names = some_rows(encoder)
    heads = [fit("coop", features, names, prior_of(encoder, "a"), encoder, epochs=2, seed=4) for _ in range(2)]
    assert heads[0].weight.tobytes() == heads[1].weight.tobytes()


def test_leaving_out_the_padding_changes_nothing(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    (features, names), prior = some_rows(encoder), prior_of(encoder, "a")
    lengths: list[int] = []
    heads = []
    run = towers.read_words
    monkeypatch.setattr(towers, "read_words", lambda model, x: (lengths.append(x.shape[1]), run(model, x))[1])
    for trims in (True, False):
        monkeypatch.setattr(towers, "is_trimmable", lambda config, trims=trims: trims)
        heads.append(fit("coop", features, names, prior, encoder, words=4, epochs=3).weight)
    assert set(lengths) == {encoder.count_tokens(["x x x x big horse."])[0]} and lengths[0] < encoder.context_length
    np.testing.assert_allclose(heads[0], heads[1], atol=1e-5)


def test_an_encoder_without_a_text_tower_is_refused() -> None:
    features, names, prior = blobs()
    with pytest.raises(UsageError, match="text tower"):
        fit("coop", features, names, replace(prior))


def some_rows(encoder: Encoder) -> tuple[Features, np.ndarray]:
    """Rows near the texts of their labels."""
    target = np.arange(60) % 3
    text = encoder.encode_texts([f"{label}" for label in LABELS])
    rows = unit(text[target] + 0.1 * np.random.default_rng(0).normal(size=(60, text.shape[1])))
    return Features.of_images(rows), np.array(LABELS)[target]
