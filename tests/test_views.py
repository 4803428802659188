"""Crops and flips: seeded, stored, averaged where rows are remembered, drawn where heads are trained by steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import FakeEncoder, draw, encode
from heads_data import LABELS, answers, blobs, unit
from labelled_photos import write_model, write_pictures, write_table

from cmprompt.cli.app import run
from cmprompt.errors import ItemError
from cmprompt.heads.fit import fit_training, training_data
from cmprompt.heads.tip_adapter import CacheHead
from cmprompt.images.views import random_view, views_of
from cmprompt.labelled.rows import Labelled
from cmprompt.labelled.vectors import embed_views
from cmprompt.store import Store
from cmprompt.types import Frame, Item

PREPROCESS = FakeEncoder.preprocess


def test_a_view_is_a_part_of_the_picture_or_its_mirror_image() -> None:
    ramp = np.zeros((64, 64, 3), np.uint8)
    ramp[..., 0] = np.arange(64) * 4
    slopes = []
    for seed in range(20):
        rows = random_view(Frame(ramp), PREPROCESS, np.random.default_rng(seed))[0].astype(int).mean(0)
        assert np.all(np.diff(rows) > 0) or np.all(np.diff(rows) < 0)
        slopes.append(rows[-1] - rows[0])
    assert min(slopes) < 0 < max(slopes) and len(set(np.abs(slopes))) > 10


def test_a_frame_without_pixels_has_no_view() -> None:
    with pytest.raises(ItemError, match="0 x 8 pixels"):
        random_view(Frame(np.zeros((8, 0, 3), np.uint8)), PREPROCESS, np.random.default_rng(0))


def test_views_are_the_same_for_the_same_bytes_and_seed() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    item = Item("a", lambda: Frame(noise))

    def views(seed: int) -> list[bytes]:
        return [view.image().pixels.tobytes() for view in views_of(item, PREPROCESS, 3, seed)]

    assert views(7) == views(7) and len({*views(7), *views(8)}) == 6


def test_views_are_stored_and_missing_pictures_have_none(tmp_path: Path) -> None:
    data = Labelled("", (Item("a", lambda: encode(draw("red"))), Item("b", None, "text")))
    encoder, store = FakeEncoder(), Store(tmp_path / "store")
    first = embed_views(data, encoder, store, 4, 0)
    seen = encoder.images_encoded
    assert first.shape == (2, 4, 8) and first[0].any(1).all() and not first[1].any()
    assert np.array_equal(embed_views(data, encoder, store, 4, 0), first) and encoder.images_encoded == seen


def test_a_cache_remembers_the_mean_of_the_views() -> None:
    features, names, prior = blobs(30)
    views = unit(np.random.default_rng(1).normal(size=(30, 5, 16)))
    head = fit_training("tip-adapter", replace(training_data(features, names, prior), views=views))
    assert isinstance(head, CacheHead)
    np.testing.assert_allclose(head.keys, unit(views.mean(1)), atol=1e-6)


def test_a_network_is_trained_on_the_views() -> None:
    features, names, _ = blobs(120)
    unseen, truth, _ = blobs(seed=1)
    nothing = replace(features, image=np.repeat(features.image[:1], 120, axis=0))
    data = replace(training_data(nothing, names, model_id="fake"), views=features.image[:, None])
    head = fit_training("image", data, epochs=15, least_steps=0, rate=5e-3)
    assert np.mean(answers(head.logits(unseen), LABELS) == truth) > 0.7


def test_a_table_is_augmented_from_the_command_line(tmp_path: Path, capsys) -> None:
    model = write_model(tmp_path / "model")
    table = write_table(tmp_path / "data.csv", write_pictures(tmp_path))
    photos = len(table.read_text().splitlines()) - 1
    flags = ["--model", model, "--store", str(tmp_path / "store"), "-q", "--augment", "2", "--force"]
    assert run(["finetune", str(table), "-o", str(tmp_path / "a.head"), *flags]) == 0
    assert max(key.rows for key in Store(tmp_path / "store").keys()) == 3 * photos
    assert run(["finetune", str(table), "-o", str(tmp_path / "b.head"), *flags, "--unfreeze", "image"]) == 2
    assert "leave one out" in capsys.readouterr().err
