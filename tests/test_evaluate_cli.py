"""`cmprompt evaluate` and `cmprompt adapt` on coloured pictures and a small model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_photos import write_table
from PIL import Image
from sklearn.metrics import confusion_matrix, recall_score

from cmprompt.cli.app import run
from cmprompt.heads.io import load_head, save_head
from cmprompt.heads.linear import LinearHead


@pytest.fixture(scope="module")
def fitted(model: str, table: Path) -> Path:
    head = table.parent / "fitted.head"
    assert run(["finetune", str(table), "--model", model, "-o", str(head), "--store", str(table.parent / "s")]) == 0
    return head


def evaluate(table: Path, *arguments: object) -> int:
    return run(["evaluate", *map(str, [table, "--store", table.parent / "s", *arguments])])


def test_a_head_stands_beside_zero_shot(table: Path, fitted: Path, capsys) -> None:
    assert evaluate(table, "--head", fitted, "--labels", "red,green,blue") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["zero-shot", "fitted.head"]
    assert lines[3].startswith("fitted.head against zero-shot") and lines[3].endswith("better")


def test_a_head_of_another_model_is_refused_before_any_image(table: Path, fitted: Path, tmp_path: Path, capsys) -> None:
    from small_models import SMALL, save_model

    other = save_model(tmp_path / "other", {**SMALL, "embed_dim": 24})
    (table.parent / "gone.csv").write_text("image,label\nnowhere.png,red\n")
    arguments = ["--head", str(fitted), "--model", f"local-dir:{other}"]
    assert evaluate(table.parent / "gone.csv", *arguments) == 3
    assert run(["classify", "nowhere.png", *arguments]) == 3
    assert "was fitted on" in capsys.readouterr().err


def test_template_sets_beside_their_ensemble(table: Path, model: str, capsys) -> None:
    assert evaluate(table, "--model", model, "--compare-prompts", "photo,plain") == 0
    lines = capsys.readouterr().out.splitlines()[1:7]
    assert [line.split()[0] for line in lines[:3]] == ["photo", "plain", "together"]
    pairs = [line.split(":")[0] for line in lines[3:]]
    assert pairs == ["plain against photo", "together against photo", "together against plain"]


def test_predictions_hold_every_row_and_its_columns(table: Path, fitted: Path, tmp_path: Path, capsys) -> None:
    assert evaluate(table, "--head", fitted, "--predictions", tmp_path / "p.jsonl") == 0
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert len(rows) == 60
    right = [row["label"] == Path(row["id"]).name.split("-")[0] for row in rows]
    shown = float(capsys.readouterr().out.splitlines()[1].split()[1])
    assert round(100 * np.mean(right), 1) == shown


def test_the_figures_are_json_for_other_programs(table: Path, fitted: Path, tmp_path: Path, capsys) -> None:
    out, answers = tmp_path / "f.json", tmp_path / "p.jsonl"
    words = ["--head", fitted, "--labels", "red,green,blue", "-o", out, "--predictions", answers]
    assert evaluate(table, *words) == 0
    printed = capsys.readouterr().out.splitlines()
    found, rows = json.loads(out.read_text()), [json.loads(line) for line in answers.read_text().splitlines()]
    truth, given = [Path(row["id"]).name.split("-")[0] for row in rows], [row["label"] for row in rows]
    labels = found["labels"]
    assert found["confusion"]["fitted.head"] == confusion_matrix(truth, given, labels=labels).tolist()
    recall = recall_score(truth, given, labels=labels, average=None)
    np.testing.assert_allclose(found["per_class"]["fitted.head"]["recall"], recall)
    assert [line["name"] for line in found["table"]] == ["zero-shot", "fitted.head"]
    assert [f"{100 * line['figures']['accuracy']:.1f}" for line in found["table"]] == [
        line.split()[1] for line in printed[1:3]
    ]
    assert found["comparisons"][0]["against"] == "zero-shot" and found["rows"] == 60
    assert evaluate(table, "--head", fitted, "-o", out) == 4
    assert evaluate(table, "--head", fitted, "-o", tmp_path / "f.csv") == 2
    assert "name a .json file" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["retrieval", "alignment"])
def test_every_task_writes_its_figures(task: str, table: Path, model: str, tmp_path: Path, capsys) -> None:
    lines = [line.split(",") for line in table.read_text().splitlines()[1:]]
    texts = write_table(table.parent / "texts.csv", [(*row, row[1]) for row in lines], ("image", "label", "text"))
    assert evaluate(texts, "--model", model, "--task", task, "-o", tmp_path / "f.json") == 0
    found = json.loads((tmp_path / "f.json").read_text())
    names = ["image to text", "text to image"] if task == "retrieval" else ["alignment"]
    assert found["task"] == task and [line["name"] for line in found["table"]] == names
    assert all(isinstance(value, float) for line in found["table"] for value in line["figures"].values())


def test_a_label_that_no_head_has_is_named(table: Path, fitted: Path, tmp_path: Path, capsys) -> None:
    other = table.parent / "other.csv"
    other.write_text("image,label\nimages/red-0.png,red\nimages/red-1.png,pink\n")
    assert evaluate(other, "--head", fitted) == 2
    assert "'pink'" in (said := capsys.readouterr().err) and "line 3" in said


def test_a_label_that_nothing_knows_is_named_before_anything_is_read(table: Path, model: str, capsys) -> None:
    (table.parent / "images" / "no-picture.png").write_text("text")
    rows = [("images/no-picture.png", "red"), ("images/red-1.png", "pink"), ("images/red-2.png", "green")]
    other = write_table(table.parent / "unknown.csv", rows)
    for flags in ([], ["--task", "alignment"], ["--tune-thresholds"]):
        assert evaluate(other, "--model", model, "--labels", "red,green", *flags) == 2
        assert "'pink'): line 3" in capsys.readouterr().err
    assert evaluate(other, "--model", model, "--labels", "red,green,pink") == 2
    assert "cannot be read" in capsys.readouterr().err
    (table.parent / "images" / "no-picture.png").unlink()


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("how", ["file", "threshold", "margin", "none"])
def test_answers_are_withheld_as_classify_does(how: str, table: Path, model: str, tmp_path: Path, capsys) -> None:
    classify = ["classify", str(table), "--store", str(table.parent / "s"), "--model", model, "--top-k", "2", "-o"]
    assert run([*classify, str(tmp_path / "free.jsonl"), "--labels", "red,green,blue"]) == 0
    score, margin = (
        float(np.median([row[n] for row in records(tmp_path / "free.jsonl")])) for n in ("score", "margin")
    )
    limits = {label: {"phrases": [label], "threshold": str(score)} for label in ("red", "green", "blue")}
    (tmp_path / "l.json").write_text(json.dumps(limits))
    flags = {
        "file": ["--labels", f"@{tmp_path}/l.json"],
        "threshold": ["--labels", "red,green,blue", "--threshold", str(score)],
        "margin": ["--labels", "red,green,blue", "--min-margin", str(margin)],
        "none": ["--labels", f"@{tmp_path}/l.json", "--none", "--none-name", "else"],
    }[how]
    assert evaluate(table, *flags, "--model", model, "--top-k", "2", "--predictions", tmp_path / "p.jsonl") == 0
    titles, shown = capsys.readouterr().out.splitlines()[:2]
    assert run([*classify, str(tmp_path / "c.jsonl"), *flags]) == 0
    measured, classified = records(tmp_path / "p.jsonl"), records(tmp_path / "c.jsonl")
    assert [{name: row[name] for name in one} for row, one in zip(measured, classified, strict=True)] == classified
    given = [Path(row["id"]).name.startswith(row["label"]) for row in classified if row["label"] in limits]
    assert titles.split()[-2:] == ["coverage", "answered"] and len(given) < 60
    figures = [cell for cell in shown.split() if "±" not in cell]
    assert figures[-2:] == [f"{100 * len(given) / 60:.1f}", f"{100 * np.mean(given):.1f}" if given else "nan"]


def test_a_fitted_head_has_no_z(table: Path, fitted: Path, capsys) -> None:
    assert evaluate(table.parent / "data.csv", "--head", fitted, "--threshold", "z:1") == 2
    assert "has no cosines" in capsys.readouterr().err
    assert evaluate(table, "--head", fitted, "--threshold", "0.9") == 0
    assert "coverage" in capsys.readouterr().out.splitlines()[0]


def test_labels_are_measured_at_a_level(table: Path, model: str, tmp_path: Path, capsys) -> None:
    places = {"red": "warm/red", "green": "cold/green", "blue": "cold/blue/dark"}
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    other = write_table(table.parent / "places.csv", [(path, places[name]) for path, name in rows])
    flags = ["--model", model, "--level", "1", "--predictions", tmp_path / "p.jsonl"]
    assert evaluate(other, *flags, "--labels", "warm/red,cold/green,cold/blue") == 0
    shown = capsys.readouterr().out
    assert sorted(line.split()[:2] for line in shown.splitlines()[5:7]) == [["cold", "40"], ["warm", "20"]]
    answers = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    right = np.mean([row["label"] == places[Path(row["id"]).name.split("-")[0]].split("/")[0] for row in answers])
    assert float(shown.splitlines()[1].split()[1]) == round(100 * right, 1)
    assert evaluate(other, "--model", model, "--labels", "warm/red,cold/green,cold/blue") == 2
    assert "'cold/blue/dark'" in capsys.readouterr().err


def test_one_label_is_enough_where_it_may_not_fit(table: Path, model: str, capsys) -> None:
    reds = [line for line in table.read_text().splitlines() if "blue" not in line and "green" not in line]
    one = table.parent / "reds.csv"
    one.write_text("\n".join(reds))
    for flags in (["--none"], ["--multi-label"], ["--threshold", "cos:0.1"], ["--threshold", "z:1"]):
        for named in ([], ["--labels", "red"]):
            assert evaluate(one, "--model", model, *named, *flags) == 0
    capsys.readouterr()
    assert evaluate(one, "--model", model, "--threshold", "0.5") == 2
    assert "the rows have one label only, 'red'" in capsys.readouterr().err
    assert evaluate(one, "--model", model, "--labels", "red") == 2
    assert "--labels 'red': one label only" in capsys.readouterr().err


def test_retrieval_counts_both_ways(table: Path, model: str, capsys) -> None:
    rows = [(line.split(",")[0], f"text {n}") for n, line in enumerate(table.read_text().splitlines()[1:11])]
    pairs = write_table(table.parent / "pairs.csv", rows, ("image", "caption"))
    assert evaluate(pairs, "--model", model, "--task", "retrieval") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["R@1", "R@5", "R@10"]
    assert [line.split()[-2] for line in lines[1:]] == ["100.0", "100.0"]  # ten candidates: all within ten


def test_numbers_need_a_head(table: Path, model: str, capsys) -> None:
    prices = write_table(table.parent / "prices.csv", [("images/red-0.png", "3"), ("images/red-1.png", "4")])
    assert evaluate(prices, "--model", model, "--task", "regression") == 2
    assert "--head" in capsys.readouterr().err


def test_numbers_are_measured_by_their_error(table: Path, model: str, tmp_path: Path, capsys) -> None:
    values = {"red": 100, "green": 200, "blue": 300}
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    prices = write_table(table.parent / "some.csv", [(i, str(values[c])) for i, c in rows], ("image", "price"))
    head, flags = tmp_path / "p.head", ["--task", "regression", "--store", str(table.parent / "s")]
    squared = ["--loss", "squared", "--model", model, "-o", str(head)]
    assert run(["finetune", str(prices), *flags, *squared]) == 0
    assert "<circle" in (head / "report.html").read_text()
    capsys.readouterr()
    assert run(["evaluate", str(prices), *flags, "--head", str(head)]) == 0
    head_line, line = capsys.readouterr().out.splitlines()[:2]
    assert head_line.split() == ["MAE", "RMSE", "R2", "Spearman"]
    assert float(line.split()[1]) < 30


def test_adapt_writes_a_frozen_head(table: Path, model: str, tmp_path: Path, capsys) -> None:
    where = ["--model", model, "--store", str(table.parent / "s"), "-o", str(tmp_path / "a.head")]
    assert run(["adapt", str(table.parent / "images"), "--labels", "red,green,blue", *where]) == 0
    shown = capsys.readouterr()
    assert [line.split("\t")[0] for line in shown.out.splitlines()] == ["red", "green", "blue"]
    assert "60 images are few" in shown.err
    together = run(["classify", str(table.parent / "images"), "--head", str(tmp_path / "a.head"), *where[2:4]])
    many = dict(line.split("\t")[:2] for line in capsys.readouterr().out.splitlines())
    picture = str(table.parent / "images/green-7.png")
    alone = run(["classify", picture, "--head", str(tmp_path / "a.head"), *where[2:4]])
    assert together == alone == 0
    assert capsys.readouterr().out.split("\t")[1] == many[picture]


def test_adapt_to_known_shares(table: Path, model: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "shares.csv").write_text("red,1\ngreen,1\nblue,2\n")
    where = ["--model", model, "--store", str(table.parent / "s"), "-o", str(tmp_path / "a.head")]
    labels = ["--labels", "red,green,blue", "--prior", str(tmp_path / "shares.csv")]
    assert run(["adapt", str(table.parent / "images"), *labels, *where]) == 0
    (tmp_path / "shares.csv").write_text("red,1\npink,1\n")
    assert run(["adapt", str(table.parent / "images"), *labels, *where, "--overwrite"]) == 2
    assert "--prior" in capsys.readouterr().err


def test_adapt_counts_what_failed(model: str, tmp_path: Path, capsys) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "a.png")
    where = ["--model", model, "--no-store", "-o", str(tmp_path / "a.head"), "--labels", "red,blue"]
    assert run(["adapt", str(tmp_path / "a.png"), str(tmp_path / "no.png"), *where]) == 1
    assert load_head(tmp_path / "a.head").labels == ("red", "blue")
    assert run(["adapt", str(tmp_path / "no.png"), *where, "--overwrite"]) == 1
    assert "no image to adapt to" in capsys.readouterr().err


def test_a_head_that_is_no_head(table: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "x.pt").write_bytes(b"x")
    assert evaluate(table, "--head", tmp_path / "x.pt") == 3
    head = LinearHead(np.eye(2, 16, dtype=np.float32), ("a", "b"), "another-model")
    save_head(head, tmp_path / "h", {"model": "tiny"})
    assert evaluate(table, "--head", tmp_path / "h") == 3
    assert "Traceback" not in capsys.readouterr().err


def test_descriptions_that_won_and_labels_in_another_language(table: Path, model: str, tmp_path: Path, capsys) -> None:
    words = {"red": ["a red wall", "a red flag"], "green": ["a green field"], "blue": ["a blue sky"]}
    (tmp_path / "d.json").write_text(json.dumps(words))
    (tmp_path / "fr.txt").write_text("red: rouge\ngreen: vert\nblue: bleu\n")
    flags = ["--describe", tmp_path / "d.json", "--translate-labels", tmp_path / "fr.txt"]
    assert evaluate(table, "--model", model, *flags) == 0
    shown, won = capsys.readouterr().out.split("zero-shot, the descriptions that won:\n")
    assert "rouge" in shown and "red" not in shown
    assert sum(int(line.split()[0]) for line in won.splitlines()) == 60


def test_labels_may_be_answers_to_a_question(table: Path, model: str, capsys) -> None:
    assert evaluate(table, "--model", model, "--question", "What color is the wall?") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("zero-shot")
    assert evaluate(table, "--model", model, "--question", "Is it red?", "--labels", "yes,no") == 2


def test_answers_that_have_nowhere_to_go_stop_the_run_before_anything_is_read(
    table: Path, fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.jsonl").write_text("mine")
    assert evaluate(table, "--head", fitted, "--predictions", tmp_path / "p.jsonl") == 4
    shown = capsys.readouterr()
    assert not shown.out and "p.jsonl is there already" in shown.err
    assert (tmp_path / "p.jsonl").read_text() == "mine"


def test_numbered_classes_are_named_by_a_file(table: Path, model: str, tmp_path: Path, capsys) -> None:
    numbers = {"red": "0", "green": "1", "blue": "2"}
    rows = [(f"images/{colour}-{n}.png", number) for n in range(3) for colour, number in numbers.items()]
    numbered = str(write_table(table.parent / "numbered.csv", rows))
    flags = ["--model", model, "--no-store"]
    (tmp_path / "words.txt").write_text("red\ngreen\nblue\n")
    (tmp_path / "numbers.txt").write_text("0: red\n1: green\n2: blue\n")
    says = "a file for --labels @FILE with lines such as `0: dress` names them"
    assert run(["evaluate", numbered, *flags]) == 0
    assert f"all 3 labels are numbers; {says}" in capsys.readouterr().err
    assert run(["evaluate", numbered, *flags, "--labels", f"@{tmp_path / 'words.txt'}"]) == 2
    assert capsys.readouterr().err.endswith(f"; {says}\n")
    assert run(["evaluate", numbered, *flags, "--labels", f"@{tmp_path / 'numbers.txt'}"]) == 0
    captured = capsys.readouterr()
    assert "are numbers" not in captured.err
    assert run(["evaluate", str(table), *flags, "--labels", "red,green,blue"]) == 0
    assert run(["evaluate", numbered, *flags, "--labels", "0,1"]) == 2
    assert says not in capsys.readouterr().err
