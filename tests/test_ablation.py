"""What a template contributes, where the answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import FakeEncoder
from labelled_photos import write_model, write_pictures, write_table

from cmprompt.cli.app import run
from cmprompt.errors import UsageError
from cmprompt.heads.zero_shot import zero_shot
from cmprompt.labels import label_set
from cmprompt.prompts import expand, inline_set, load_prompt_set
from cmprompt.tasks.ablate import ablate, single_sets, template_vectors

GOOD = np.array([[1.0, 0.0], [0.0, 1.0]])
BAD = np.array([[0.0, 1.0], [1.0, 0.0]])
IMAGES = np.array([[1.0, 0.1], [0.1, 1.0], [0.9, 0.2], [0.2, 0.9]]) / 1.1
TARGET = np.array([0, 1, 0, 1])


def test_a_template_that_misleads_contributes_less_than_nothing() -> None:
    rows = list(ablate(IMAGES, np.stack([BAD, 0.9 * GOOD]), ["bad", "good"], scale=10.0, target=TARGET))
    assert [row["template"] for row in rows] == ["good", "bad", "all together"]
    assert [row["alone"] for row in rows] == [1.0, 0.0, 0.0]
    assert [row["without"] for row in rows[:2]] == [0.0, 1.0]
    assert [row["contribution"] for row in rows[:2]] == [0.0, -1.0]


def test_without_labels_the_ensemble_is_the_measure() -> None:
    rows = list(ablate(IMAGES, np.stack([GOOD, BAD, GOOD]), ["good", "bad", "same"], scale=10.0))
    assert {row["template"]: row["alone"] for row in rows} == {"good": 1, "same": 1, "bad": 0, "all together": 1}
    worth = {row["template"]: row["contribution"] for row in rows}
    assert worth["good"] == worth["same"] > 0 > worth["bad"]


def test_the_mean_over_templates_is_the_zero_shot_head(fake_encoder: FakeEncoder) -> None:
    labels = label_set({"red": {"phrases": ["red", "a red thing"]}, "blue": {"phrases": ["blue"]}})
    vectors = template_vectors(labels, single_sets([load_prompt_set("photo")]), fake_encoder)
    mean = vectors.mean(0)
    head = zero_shot(fake_encoder, expand(labels, [load_prompt_set("photo")]))
    assert vectors.shape == (7, 2, 8)
    assert np.allclose(mean / np.linalg.norm(mean, axis=1, keepdims=True), head.weight, atol=1e-6)  # type: ignore[union-attr]


def test_what_cannot_be_compared(fake_encoder: FakeEncoder) -> None:
    with pytest.raises(UsageError, match="one template only"):
        single_sets([inline_set(["a {}"])])
    described = label_set({"red": ["a red thing"], "blue": ["a blue thing"]})
    with pytest.raises(UsageError, match="'blue' has descriptions of its own"):
        template_vectors(described, single_sets([load_prompt_set("photo")]), fake_encoder)


def test_a_labelled_table_and_a_folder_without_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "model")
    table = write_table(tmp_path / "data.csv", write_pictures(tmp_path, each=4))
    flags = ["--model", model, "--store", str(tmp_path / "store")]
    assert run(["prompts", "ablate", str(table), *flags]) == 0
    shown = capsys.readouterr()
    assert "12 pictures; a template is measured by their labels" in shown.err
    assert [line.count("\t") for line in shown.out.splitlines()] == [3] * 8
    assert run(["prompts", "ablate", str(tmp_path / "images"), *flags, "--labels", "red,blue"]) == 0
    shown = capsys.readouterr()
    assert "measured by its agreement with all together: none of them has such a label" in shown.err
    assert shown.out.splitlines()[-1].startswith("1\t") and "all together" in shown.out.splitlines()[-1]


def test_pictures_without_one_of_the_labels_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_pictures(tmp_path, each=4)
    flags = ["--model", write_model(tmp_path / "model"), "--no-store"]
    table = write_table(tmp_path / "d.csv", [(rows[0][0], ""), *rows[1:]])
    assert run(["prompts", "ablate", str(table), *flags]) == 0
    shown = capsys.readouterr()
    assert "left out: 1 picture without one of the labels" in shown.err
    assert "11 pictures; a template is measured by their labels" in shown.err
    assert run(["prompts", "ablate", str(write_table(tmp_path / "e.csv", rows[1:])), *flags]) == 0
    assert capsys.readouterr().out == shown.out


def test_pictures_that_cannot_be_read_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "d.csv", [*write_pictures(tmp_path, each=1), ("gone.png", "red")])
    flags = ["--model", write_model(tmp_path / "model"), "--no-store"]
    assert run(["prompts", "ablate", str(table), *flags]) == 1
    assert "left out: 1 picture that cannot be read" in capsys.readouterr().err
    assert run(["prompts", "ablate", str(tmp_path / "nope"), "--labels", "red,blue", *flags]) == 2
    assert f"{tmp_path}/nope: no picture can be read (" in capsys.readouterr().err
