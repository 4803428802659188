"""Alignment figures equal a plain reference; the drawing holds what it should."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from labelled_photos import write_model, write_pictures, write_table

from cmprompt.alignment import BLOCK, alignment, measure, modality_gap, nearest_texts, plane, uniformity
from cmprompt.alignment.plot import svg
from cmprompt.cli.app import run
from cmprompt.types import Array


def rows(n: int, seed: int, dim: int = 5) -> Array:
    x = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32) + 0.5
    unit: Array = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit


IMAGES, TEXTS, TARGET = rows(12, 0), rows(3, 1), np.array([0, 1, 2] * 4)


def test_alignment_is_the_mean_squared_distance_of_pairs() -> None:
    expected = np.mean([np.linalg.norm(IMAGES[i] - TEXTS[TARGET[i]]) ** 2 for i in range(12)])
    assert alignment(IMAGES, TEXTS[TARGET]) == pytest.approx(expected, rel=1e-6)
    assert alignment(np.eye(2), np.eye(2)) == 0


@pytest.mark.parametrize("n", [2, 12, BLOCK + 3])
def test_uniformity_is_over_all_pairs(n: int) -> None:
    x = rows(n, 2)
    distances = [np.sum((x[i].astype(float) - x[j]) ** 2) for i, j in combinations(range(min(n, 60)), 2)]
    if n <= 60:
        assert uniformity(x) == pytest.approx(np.log(np.mean(np.exp(-2 * np.array(distances)))), rel=1e-5)
    assert uniformity(np.concatenate([x, x[:0]])) < 0
    assert uniformity(np.repeat(x[:1], n, 0)) == pytest.approx(0, abs=1e-6)


def test_uniformity_of_blocks_equals_that_of_one() -> None:
    x = rows(BLOCK + 3, 2)
    gaps = ((x[:, None, :].astype(float) - x[None]) ** 2).sum(2)
    pairs = np.exp(-2 * gaps)[np.triu_indices(len(x), 1)]
    assert uniformity(x) == pytest.approx(np.log(pairs.mean()), rel=1e-6)


def test_one_text_has_no_uniformity() -> None:
    assert np.isnan(uniformity(TEXTS[:1]))


def test_the_gap_is_between_the_means() -> None:
    expected = np.sqrt(sum((IMAGES[:, d].mean() - TEXTS[:, d].mean()) ** 2 for d in range(5)))
    assert modality_gap(IMAGES, TEXTS) == pytest.approx(expected, rel=1e-6)


def test_every_class_against_its_own_text_and_the_nearest_other() -> None:
    found = measure(IMAGES, TEXTS, TARGET)
    for c in range(3):
        cosines = [IMAGES[i] @ TEXTS.T for i in range(12) if TARGET[i] == c]
        other = [max(np.delete(row, c)) for row in cosines]
        assert found.own[c] == pytest.approx(np.mean([row[c] for row in cosines]), rel=1e-5)
        assert found.other[c] == pytest.approx(np.mean(other), rel=1e-5)
        assert found.recall[c] == np.mean([row[c] > best for row, best in zip(cosines, other, strict=True)])
    assert found.support.tolist() == [4, 4, 4]


def test_a_class_without_images_has_no_figures() -> None:
    found = measure(IMAGES[:2], TEXTS, TARGET[:2])
    assert np.isnan(found.own[2]) and found.support[2] == 0 and np.isfinite(found.figures["alignment"])


def test_texts_that_lie_nearest_come_first() -> None:
    texts = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    pairs = list(nearest_texts(measure(texts, texts, np.arange(3))))
    assert [pair[:2] for pair in pairs] == [(1, 2), (0, 2), (0, 1)]
    assert pairs[0][2] == pytest.approx(0.8)


def test_the_plane_is_that_of_a_singular_value_decomposition() -> None:
    both = np.concatenate([IMAGES, TEXTS]).astype(float)
    _, sizes, axes = np.linalg.svd(both - both.mean(0), full_matrices=False)
    dots, marks = plane(IMAGES, TEXTS)
    expected = (both - both.mean(0)) @ axes[:2].T
    assert np.allclose(np.abs(np.concatenate([dots, marks])), np.abs(expected), atol=1e-6)
    assert np.allclose((np.concatenate([dots, marks]) ** 2).sum(0), sizes[:2] ** 2)


def test_the_drawing_has_a_dot_for_each_image_and_bars_for_each_class() -> None:
    drawing = ElementTree.fromstring(svg(measure(IMAGES, TEXTS, TARGET), IMAGES, TEXTS, TARGET, ["<a>", "b", "c"]))
    kinds = [element.tag.rpartition("}")[2] for element in drawing.iter()]
    assert kinds.count("circle") == 12 and kinds.count("rect") == 1 + 2 * 3
    assert "<a>" in [element.text for element in drawing.iter()]


def test_long_names_are_cut_and_the_classes_that_are_not_drawn_are_counted() -> None:
    images, texts, target = rows(30, 3), rows(30, 4), np.arange(30)
    labels = [f"{number}: {'a long name ' * 9}" for number in range(30)]
    drawing = ElementTree.fromstring(svg(measure(images, texts, target), images, texts, target, labels))
    words = [element.text or "" for element in drawing.iter() if element.tag.endswith("}text")]
    names = [word for word in words if "long" in word]
    assert len(names) == 24 and max(map(len, names)) < 30
    assert words[-1] == "and 6 labels that fit better"
    assert {element.text for element in drawing.iter() if element.tag.endswith("}title")} < set(labels)


def test_the_command_measures_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "model")
    table = write_table(tmp_path / "data.csv", write_pictures(tmp_path, each=4))
    flags = ["--model", model, "--no-store", "-q"]
    assert run(["evaluate", str(table), *flags, "--task", "alignment", "--plot", str(tmp_path / "a.svg")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("alignment ") and "modality gap" in out and "green and red" in out
    assert (tmp_path / "a.svg").read_text(encoding="utf-8").startswith("<svg")
    assert run(["evaluate", str(table), *flags, "--plot", str(tmp_path / "b.svg")]) == 2


@pytest.mark.parametrize(("name", "status"), [("a.png", 2), ("there.svg", 4)])
def test_a_drawing_that_cannot_be_written_is_refused_before_anything_is_read(
    name: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.svg").touch()
    asked = ["evaluate", "nowhere.csv", "--task", "alignment", "--plot", str(tmp_path / name)]
    assert run(asked) == status
    assert name in capsys.readouterr().err and not (tmp_path / "a.png").exists()
