"""The approximate index beside a collection."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from test_collections import about, batch
from test_index import unit_rows

from cmprompt.errors import StoreError, UsageError
from cmprompt.index.building import build
from cmprompt.index.collections import Collection
from cmprompt.index.recall import recall
from cmprompt.types import Array

pytest.importorskip("lancedb", reason="the extra [index] is not installed")


def indexed(store: Path, rows: Array, texts: list[str] | None = None) -> Collection:
    name = about(dim=rows.shape[1], ann=True)
    build(store, name, [batch([f"{i}" for i in range(len(rows))], rows, texts)])
    return Collection(store, "trips")


def test_scores_are_exact_and_the_best_are_found(tmp_path: Path) -> None:
    rows = unit_rows(5000, 16)
    found = indexed(tmp_path, rows)
    exact = found.nearest("images", rows[:5], 10)
    near = found.nearest("images", 3 * rows[:5], 10, approximate=True)
    assert np.array_equal(near.rows, exact.rows)
    assert np.allclose(near.scores, 3 * exact.scores, atol=1e-12)


def test_few_rows_need_no_partitions(tmp_path: Path) -> None:
    found = indexed(tmp_path, np.eye(4, dtype=np.float32))
    near = found.nearest("images", np.array([[0.1, 0.3, 0.2, 0.0]], np.float32), 9, approximate=True)
    assert near.rows.tolist() == [[1, 2, 0, 3]]


def test_recall_asks_with_the_other_kind(tmp_path: Path) -> None:
    rows = unit_rows(300, 8)
    assert recall(indexed(tmp_path, rows), "images", k=3, queries=20).asked == "images"
    found = recall(indexed(tmp_path, rows, [f"text {i}" for i in range(300)]), "images", k=3, queries=20)
    assert (found.asked, found.share, found.k, found.queries) == ("texts", 1.0, 3, 20)


def test_building_again_without_it_leaves_none(tmp_path: Path) -> None:
    rows = np.eye(4, dtype=np.float32)
    indexed(tmp_path, rows)
    build(tmp_path, about(), [batch(["a"], rows[:1])])
    with pytest.raises(UsageError, match="index build --ann"):
        Collection(tmp_path, "trips").nearest("images", rows[:1], 1, approximate=True)
    assert not list((tmp_path / "collections" / "trips").glob("*.lance"))


def test_damage_says_what_to_do(tmp_path: Path) -> None:
    found = indexed(tmp_path, np.eye(4, dtype=np.float32))
    shutil.rmtree(found.folder / "images.lance")
    with pytest.raises(StoreError, match="build the collection again"):
        found.nearest("images", np.ones((1, 4), np.float32), 1, approximate=True)


def test_one_that_another_took_the_place_of_is_answered_exactly(tmp_path: Path) -> None:
    rows = unit_rows(30, 8)
    found = indexed(tmp_path, rows[:20])
    for others in (rows, rows[:5]):
        indexed(tmp_path, others[::-1])
        near = found.nearest("images", rows[:3], 10, approximate=True)
        assert np.array_equal(near.rows, found.nearest("images", rows[:3], 10).rows)
