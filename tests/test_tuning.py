"""Prompts and thresholds chosen on labelled rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from heads_data import blobs, unit
from labelled_photos import write_model, write_pictures, write_table

from cmprompt.cli.app import run
from cmprompt.errors import UsageError
from cmprompt.heads.linear import LinearHead
from cmprompt.labelled.rows import Labelled
from cmprompt.labels import load_labels
from cmprompt.prompts import PromptSet, expand, load_prompt_set
from cmprompt.tasks.tune import (
    best_threshold,
    halves,
    labels_as_json,
    set_as_toml,
    single_templates,
    thresholds,
    tuned_set,
    weigh,
)
from cmprompt.types import Features, Item


def test_the_template_that_tells_the_labels_apart_is_picked() -> None:
    features, names, prior = blobs()
    target = np.array([prior.labels.index(name) for name in names])
    noise = unit(np.random.default_rng(3).normal(size=prior.weight.shape))
    heads = [LinearHead(weight, prior.labels, "fake", 10.0) for weight in (noise, prior.weight, -prior.weight)]
    counts = weigh(heads, features, target)
    assert counts[1] > 2 * (counts[0] + counts[2])


def test_two_halves_of_the_truth_are_weighed_together() -> None:
    x = np.eye(4, dtype=np.float32)
    halves = [x * [1, 1, 0.01, 0.01], x * [0.01, 0.01, 1, 1]]
    heads = [LinearHead(unit(half + 0.3), tuple("abcd"), "fake", 10.0) for half in halves]
    assert min(weigh(heads, Features.of_images(x), np.arange(4))) > 0


def test_weights_are_told_in_the_fewest_picks() -> None:
    x = np.eye(4, 16, dtype=np.float32)
    target = np.arange(4)
    dice = np.random.default_rng(0)
    for noise in dice.normal(size=(8, 4, 16)):
        good = unit(x + 0.3 * noise)
        heads = [LinearHead(weight, tuple("abcd"), "fake", 100.0) for weight in (good, -good)]
        assert weigh(heads, Features.of_images(x), target) == [1, 0]


def test_a_weight_is_how_often_a_template_stands_in_the_file(tmp_path: Path) -> None:
    labels = load_labels(["apple,dog"])
    singles = single_templates(labels, [PromptSet("s", ("a photo of a {}.", "a {}", "{}"))])
    tuned = tuned_set(singles, [1, 0, 3])
    (tmp_path / "t.toml").write_text(set_as_toml(tuned, "here"), "utf-8")
    texts = expand(labels, [load_prompt_set(str(tmp_path / "t.toml"))])
    assert texts["apple"] == ("apple",) * 3 + ("a photo of an apple.",)


def test_descriptions_and_single_templates_leave_nothing_to_choose(tmp_path: Path) -> None:
    (tmp_path / "l.json").write_text('{"cat": ["a furry cat"], "dog": ["a dog"]}')
    with pytest.raises(UsageError, match="descriptions"):
        single_templates(load_labels([f"@{tmp_path}/l.json"]), [PromptSet("s", ("a {}", "{}"))])
    with pytest.raises(UsageError, match="nothing to choose"):
        single_templates(load_labels(["cat,dog"]), [PromptSet("s", ("a {}",))])


def test_the_threshold_lies_halfway_between_right_and_wrong() -> None:
    scores, relevant = np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, True, False, False])
    assert best_threshold(scores, relevant) == 1.5
    assert best_threshold(np.array([1.0, 1.0, 0.0]), np.array([True, False, True])) < 0
    never = np.array([2.5, -np.inf, -np.inf])
    assert 2 < best_threshold(never, np.array([True, True, False])) < 2.5


def test_every_label_has_a_threshold_of_its_own() -> None:
    z = np.array([[3.0, 0.5], [2.9, 0.1], [1.0, 0.4], [0.9, 0.0]])
    truth = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], bool)
    assert thresholds(z, truth) == pytest.approx([1.95, 0.25])
    assert thresholds(z, np.zeros_like(truth)) == [2.0, 2.0]


def test_a_label_file_brings_phrases_and_thresholds_back(tmp_path: Path) -> None:
    labels = load_labels(["cat", "animal/dog"])
    (tmp_path / "l.json").write_text(labels_as_json(labels, [1.25, -0.5]))
    back = load_labels([f"@{tmp_path}/l.json"])
    assert back.phrases == labels.phrases and back.thresholds == {"cat": "z:1.25", "animal/dog": "z:-0.5"}


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A table of coloured pictures, and the flags that read it."""
    folder = tmp_path_factory.mktemp("data")
    table = write_table(folder / "data.csv", write_pictures(folder))
    return [str(table), "--model", write_model(folder / "model"), "--store", str(folder / "store")]


def test_tuned_prompts_are_a_set(where: list[str], tmp_path: Path, capsys) -> None:
    out = str(tmp_path / "t.toml")
    assert run(["evaluate", *where, "--tune-prompts", "--prompts", "photo", "-o", out]) == 0
    lines = capsys.readouterr().out.splitlines()
    judged = next(place for place, line in enumerate(lines) if line == "chosen by 30 rows, judged on 30 others:")
    assert [line.split()[0] for line in lines[judged + 2 : judged + 5]] == ["untuned", "tuned", "tuned"]
    assert run(["evaluate", *where, "--prompts", out]) == 0
    assert run(["evaluate", *where, "--tune-prompts", "-o", out]) == 4


def test_tuned_thresholds_are_a_label_file(where: list[str], tmp_path: Path, capsys) -> None:
    out = str(tmp_path / "t.json")
    assert run(["evaluate", *where, "--tune-thresholds", "-o", out]) == 0
    assert "each its own" in capsys.readouterr().out
    assert set(json.loads(Path(out).read_text())) == {"red", "green", "blue"}
    picture = str(Path(where[0]).parent / "images/red-0.png")
    assert run(["classify", picture, "--labels", f"@{out}", *where[1:]]) == 0
    assert run(["evaluate", *where, "--tune-thresholds", "--tune-prompts"]) == 2


def test_one_picture_cannot_choose_and_judge() -> None:
    data = Labelled("one.csv", tuple(Item(str(n), None, None, "ab"[n % 2]) for n in range(4)))
    with pytest.raises(UsageError, match=r"one\.csv: every row has the same picture"):
        halves(data, Features.of_images(np.ones((4, 8), np.float32)))
