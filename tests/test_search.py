"""Queries, duplicates and contact sheets."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import FakeEncoder
from PIL import Image

from cmprompt.errors import ItemError, UsageError
from cmprompt.index.collections import Entry
from cmprompt.index.duplicates import cosines_to_first, groups
from cmprompt.index.query import query_vector
from cmprompt.index.sheet import thumbnail, to_html, to_png


def test_a_query_is_a_signed_sum_of_unit_vectors(colours: Path, fake_encoder: FakeEncoder) -> None:
    vector = query_vector(fake_encoder, None, texts=["red"], like=[str(colours / "blue.png")], minus=["green"])
    red, green = fake_encoder.encode_texts(["red", "green"])
    pixels = np.zeros((1, 3, 8, 8), np.uint8)
    pixels[:, 2] = 255
    total = red + fake_encoder.encode_images(pixels)[0] - green
    assert np.allclose(vector, total / np.linalg.norm(total), atol=1e-3)


def test_a_query_needs_something(fake_encoder: FakeEncoder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to look for"):
        query_vector(fake_encoder, None, minus=["red"])
    with pytest.raises(UsageError, match="cancels out"):
        query_vector(fake_encoder, None, texts=["red"], minus=["red"])
    with pytest.raises(ItemError, match=r"none\.png"):
        query_vector(fake_encoder, None, like=[str(tmp_path / "none.png")])


def test_no_cosine_of_halves_is_above_one() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 64))
    halves = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16).repeat(2, axis=0)
    assert groups(halves, 1.0) == [[2 * row, 2 * row + 1] for row in range(50)]
    cosines = np.concatenate([cosines_to_first(halves[row : row + 2]) for row in range(0, 100, 2)])
    assert np.abs(cosines - 1).max() < 1e-6


def test_duplicates_are_joined_by_chains() -> None:
    angles = np.array([0.0, 1.5, 0.1, 0.2, 1.55, 3.0])
    matrix = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float16)
    assert groups(matrix, 0.99) == [[0, 2, 3], [1, 4]]
    assert groups(matrix, 0.99999) == []
    assert groups(np.ones((2100, 1), np.float16), 0.99) == [list(range(2100))]


def test_a_sheet_shows_pictures_and_says_what_is_gone(colours: Path) -> None:
    entries = [Entry("red", path=str(colours / "red.png")), Entry("gone", path=str(colours / "gone.png"))]
    sheet = np.asarray(Image.open(io.BytesIO(to_png(entries, [0.5, 0.25]))))
    assert (sheet == (255, 0, 0)).all(2).sum() > 32 * 24 - 1
    assert sheet.shape[2] == 3


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert np.unique(np.asarray(thumbnail(Entry("pipe", path=str(tmp_path / "pipe.png"))))).tolist() == [225]


@pytest.mark.parametrize("name", ["caf\udce9", "cut \ud83d"])
def test_a_sheet_shows_names_that_are_not_utf8(name: str, colours: Path) -> None:
    entries = [Entry(name, path=str(colours / "red.png")), Entry("b", text=name)]
    assert to_png(entries, [1.0, 0.5])
    assert to_html(entries, [1.0, 0.5], name).decode().count("\ufffd") >= 5


def test_markup_in_names_stays_text(colours: Path) -> None:
    nasty = '<script>alert(1)</script>"onload="x'
    page = to_html([Entry(nasty, path=str(colours / "red.png")), Entry("b", text=nasty)], [1.0, 0.5], nasty).decode()
    assert "<script>" not in page
    assert '"onload="' not in page
    assert "default-src 'none'" in page and "color-scheme:light dark" in page
