"""Pairs that do not belong together, and wrong labels."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cmprompt.encoders import load_encoder
from cmprompt.errors import UsageError
from cmprompt.labelled.rows import Labelled
from cmprompt.labelled.vectors import embed_labelled
from cmprompt.sources import SourceOptions, read_items
from cmprompt.tasks.check import (
    SHUFFLES,
    check_labels,
    check_pairs,
    confidently_other,
    flag_mismatched,
    mismatched_share,
)
from cmprompt.types import Array


def unit(rows: Array) -> Array:
    scaled: Array = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def paired_rows(n: int, seed: int = 0, noise: float = 0.7) -> tuple[Array, Array]:
    """Images and texts that share a signal, each kind around a centre of its own, as CLIP's are."""
    dice = np.random.default_rng(seed)
    signal, (left, right) = dice.standard_normal((n, 32)), 2 * dice.standard_normal((2, 32))
    images = signal + noise * dice.standard_normal((n, 32)) + left
    return unit(images), unit(signal + noise * dice.standard_normal((n, 32)) + right)


def test_rank_and_best_other_text_are_those_of_a_full_table() -> None:
    images, texts = paired_rows(40)
    found = check_pairs(images, texts, range(40), range(40))
    table = images @ texts.T
    own = np.diag(table).copy()
    np.fill_diagonal(table, -np.inf)
    assert np.array_equal(found.rank, 1 + (table > own[:, None]).sum(1))
    assert np.array_equal(found.best, table.argmax(1))
    assert np.allclose(found.cosine, own, atol=1e-6)


def test_other_texts_of_the_same_image_are_no_rivals() -> None:
    images, texts = np.eye(2, dtype=np.float32), unit(np.array([[1, 0.1], [1, 0.2], [0.1, 1]]))
    found = check_pairs(images, texts, [0, 0, 1], [0, 1, 2])
    assert found.rank.tolist() == [1, 1, 1]
    assert found.best.tolist() == [2, 2, 1]


def test_a_text_that_rounding_sets_apart_is_no_better() -> None:
    images = np.eye(2, dtype=np.float32)
    texts = unit(np.array([[1, 0.1], [1, 0.1 - 1e-5], [0.1, 1]]))
    assert check_pairs(images, texts, [0, 1], [0, 2]).rank.tolist() == [1, 1]
    assert check_pairs(images, texts, [0, 1], [2, 0]).rank.tolist() == [3, 2]


def test_a_picture_on_many_rows_is_checked_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmprompt.tasks.check.BLOCK_CELLS", 1 << 14)
    images, texts = paired_rows(2000)

    def peak(count: int) -> int:
        tracemalloc.start()
        found = check_pairs(images[:2], texts[:count], [0] * (count - 1) + [1], range(count))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.best.tolist() == [count - 1] * (count - 1) + [int((texts[: count - 1] @ images[1]).argmax())]
        return most

    assert peak(2000) < 6 * peak(400)


def test_shuffled_pairs_are_scored_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    images, texts = (unit(np.random.default_rng(seed).standard_normal((1000, 128))) for seed in (0, 1))
    whole = check_pairs(images, texts, range(1000), range(1000))
    monkeypatch.setattr("cmprompt.tasks.check.BLOCK_CELLS", 1 << 16)
    tracemalloc.start()
    parts = check_pairs(images, texts, range(1000), range(1000))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(parts.p_value, whole.p_value) and np.array_equal(parts.cosine, whole.cosine)
    assert most < SHUFFLES * images.nbytes / 2  # the vectors of all shuffled pairs take twice that for each side


def test_a_table_of_one_text_has_no_other() -> None:
    found = check_pairs(np.eye(2, dtype=np.float32), np.ones((1, 2), np.float32), [0, 1], [0, 0])
    assert found.best.tolist() == [-1, -1]
    assert np.isnan(found.best_cosine).all()
    assert not found.flagged.any()


def test_swapped_texts_are_flagged_at_about_the_stated_rate() -> None:
    images, texts = paired_rows(1500)
    own = np.arange(1500)
    own[:150] = np.roll(own[:150], 1)
    found = check_pairs(images, texts, range(1500), own, fdr=0.2)
    wrong = np.arange(1500) < 150
    assert roc_auc_score(wrong, found.p_value) > 0.95
    assert 0.07 < (found.mismatched_share or 0) < 0.14
    assert wrong[found.flagged].mean() > 0.65
    assert wrong[found.flagged].sum() > 75


def test_matched_pairs_are_left_in_peace() -> None:
    images, texts = paired_rows(500, noise=0.2)
    assert not check_pairs(images, texts, range(500), range(500)).flagged.any()


def test_uniform_p_values_are_all_mismatched_and_tiny_ones_are_none() -> None:
    uniform = (np.arange(1000) + 0.5) / 1000
    assert mismatched_share(uniform) == pytest.approx(1.0, abs=0.01)
    assert mismatched_share(uniform * 0.04) == 0.0


@pytest.mark.parametrize("fdr", [0.05, 0.1, 0.3])
def test_of_normal_scores_as_many_are_fine_as_is_stated(fdr: float) -> None:
    dice = np.random.default_rng(0)
    score = np.concatenate([dice.normal(3, 1, 18_000), dice.normal(0, 1, 2000)])
    flagged, rate = flag_mismatched(score, 0.1, fdr)
    assert rate == pytest.approx(fdr, abs=0.01)
    assert np.mean(np.flatnonzero(flagged) < 18_000) == pytest.approx(fdr, abs=0.04)
    assert score[flagged].max() < score[~flagged].min()


def test_normal_scores_without_a_mismatched_one_are_left_in_peace() -> None:
    score = np.random.default_rng(0).normal(3, 1, 20_000)
    assert flag_mismatched(score, 0.0, 0.1)[0].sum() <= 3


@pytest.mark.parametrize(("swapped", "most_fine"), [(0.1, 0.35), (0.2, 0.3)])
def test_swapped_captions_of_real_photos_are_found(data_dir: Path, swapped: float, most_fine: float) -> None:
    encoder = load_encoder("tiny", "cpu", "fp32")
    items = list(read_items([str(data_dir / "flickr8k" / "val.tar")], SourceOptions(limit=400)))
    x = embed_labelled(Labelled("flickr8k", tuple(items)), encoder, None, frozenset({"image", "text"}))
    assert x.image is not None and x.text is not None
    own, count = np.arange(len(items)), int(swapped * len(items))
    own[:count] = np.roll(own[:count], 1)
    found = check_pairs(x.image, x.text, range(len(items)), own)
    assert count / 3 < found.flagged.sum() < 1.3 * count
    assert np.mean(np.flatnonzero(found.flagged) >= count) < most_fine
    untouched = check_pairs(x.image, x.text, range(len(items)), range(len(items)))
    assert untouched.flagged.sum() < 0.02 * len(items)


def test_confident_learning_on_a_literal_table() -> None:
    probability = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
    target = np.array([0, 0, 1, 1, 1])  # means of the given labels: 0.85 and 0.583
    assert confidently_other(probability, target).tolist() == [False, False, False, False, True]


def test_the_one_label_of_another_class_is_flagged() -> None:
    images = unit(np.eye(2)[np.arange(40) % 2] + 0.1 * np.random.default_rng(0).standard_normal((40, 2)))
    target = np.arange(40) % 2
    target[7] = 0
    found = check_labels(images, target, 2)
    assert np.flatnonzero(found.flagged).tolist() == [7] and found.suggested[7] == 1


def test_a_class_with_a_single_picture_is_not_judged() -> None:
    images, _ = paired_rows(21)
    found = check_labels(images, np.array([0] * 10 + [1] * 10 + [2]), 3)
    assert np.isnan(found.confidence[20])
    assert not found.flagged[20]
    with pytest.raises(UsageError, match="two pictures"):
        check_labels(images, np.arange(21), 21)
    with pytest.raises(UsageError, match="two pictures"):
        check_labels(images, np.array([0] * 19 + [1, 1]), 2, groups=np.array([*range(19), 19, 19]))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wrong_labels_among_real_vectors_stand_out(data_dir: Path, seed: int) -> None:
    data = np.load(data_dir / "clip-vitb32-replay" / "cifar10-test-first500.npz", allow_pickle=True)
    target, dice = data["labels"].astype(int), np.random.default_rng(seed)
    wrong = dice.choice(len(target), len(target) // 20, replace=False)
    target[wrong] = (target[wrong] + dice.integers(1, 10, len(wrong))) % 10
    found = check_labels(data["image_embeddings"].astype(np.float32), target, 10)
    is_wrong = np.isin(np.arange(len(target)), wrong)
    assert roc_auc_score(is_wrong, -found.confidence) >= 0.95
    assert is_wrong[found.flagged].mean() > 0.7
    assert found.flagged[wrong].mean() > 0.6


def test_a_model_that_cannot_tell_flags_nothing() -> None:
    images, texts = paired_rows(400, noise=20.0)
    found = check_pairs(images, texts, range(400), range(400), fdr=0.5)
    assert (found.mismatched_share or 0) > 0.4
    assert not found.flagged.any()
    assert found.fdr is None
