"""`cmprompt finetune`: a head that helps is written, one that does not is refused, a bad table is named by line."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from labelled_photos import write_table

from cmprompt.cli.app import run
from cmprompt.heads.io import load_head, read_settings, save_head
from cmprompt.heads.linear import LinearHead


@pytest.fixture
def fit(model: str, table: Path, tmp_path: Path):
    def call(*arguments: object, source: Path = table, output: str = "out.head") -> int:
        where = ["--model", model, "--store", tmp_path.parent / "store", "-o", tmp_path / output]
        return run(["finetune", *map(str, [source, *where, *arguments])])

    return call


def test_a_head_that_helps_is_written_with_its_table(fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit() == 0
    shown, said = capsys.readouterr()
    assert [line.split()[0] for line in shown.splitlines()[1:4]] == ["majority", "zero-shot", "linear"]
    assert "image = column 'image', target = column 'label'" in said and said.endswith("out.head PHOTOS\n")
    record = read_settings(tmp_path / "out.head")["record"]
    assert record["forced"] is False and record["model"].startswith("local-dir:/")
    assert load_head(tmp_path / "out.head").labels == ("blue", "green", "red")
    page = (tmp_path / "out.head/report.html").read_text()
    assert "default-src 'none'" in page and "<script" not in page and "Confusion" in page
    report = json.loads((tmp_path / "out.head/report.json").read_text())
    assert np.array(report["confusion"]).shape == (3, 3)


def test_classify_uses_it_with_its_own_model(fit, table: Path, tmp_path: Path, capsys) -> None:
    assert fit("-q") == 0
    capsys.readouterr()
    picture, store = table.parent / "images/red-3.png", tmp_path.parent / "store"
    assert run(["classify", str(picture), "--head", str(tmp_path / "out.head"), "--store", str(store)]) == 0
    assert capsys.readouterr().out.split("\t")[1] == "red"


def test_a_head_finds_its_model_from_python_too(fit, table: Path, tmp_path: Path) -> None:
    from cmprompt import PromptClassifier

    assert fit() == 0
    pictures = [str(table.parent / f"images/{colour}-3.png") for colour in ("red", "blue")]
    found = PromptClassifier(head=tmp_path / "out.head", store=False).predict(pictures)
    assert found.tolist() == ["red", "blue"]


def test_two_runs_with_one_seed_give_the_same_head(fit, tmp_path: Path) -> None:
    for name in ("a.head", "b.head"):
        assert fit("--seed", 3, output=name) == 0
    first, second = ((tmp_path / name / "head.safetensors").read_bytes() for name in ("a.head", "b.head"))
    assert first == second


def test_shuffled_labels_are_refused_and_leave_nothing(fit, table: Path, tmp_path: Path, capsys) -> None:
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    shuffled = np.random.default_rng(1).permutation([label for _, label in rows])
    source = table.parent / "shuffled.csv"
    write_table(source, [(image, label) for (image, _), label in zip(rows, shuffled, strict=True)])
    assert fit(source=source) == 5
    assert "--force" in capsys.readouterr().err
    assert not (tmp_path / "out.head").exists()
    assert fit("--force", source=source) == 0
    assert read_settings(tmp_path / "out.head")["record"]["forced"] is True


def test_auto_that_picks_linear_is_not_compared_with_itself(fit, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmprompt.heads.auto.kinds_for", lambda data: ["linear"])
    assert fit("--head", "auto") == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines if line[0] != " "]
    assert names[:4] == ["tried", "majority", "zero-shot", "auto"] and "image only" not in lines[-1]


def test_an_existing_head_stays_without_overwrite(fit, capsys) -> None:
    assert fit("-q") == 0
    assert fit("-q") == 4
    assert "--overwrite" in capsys.readouterr().err
    assert fit("-q", "--overwrite") == 0


def test_class_folders_are_a_table_too_and_give_the_head_their_name(model: str, table: Path, tmp_path: Path) -> None:
    for line in table.read_text().splitlines()[1:]:
        image, label = line.split(",")
        place = tmp_path / "folders" / label / Path(image).name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((table.parent / image).read_bytes())
    assert run(["finetune", f"{tmp_path}/folders/", "--model", model, "--no-store"]) == 0
    assert load_head(tmp_path / "folders.head").labels == ("blue", "green", "red")


def test_image_and_text_are_fused(fit, table: Path, tmp_path: Path, capsys) -> None:
    """Shape stands in the text only, colour in the picture only."""
    rows = []
    for number, line in enumerate(table.read_text().splitlines()[1:]):
        image, colour = line.split(",")
        shape = ("ball", "brick")[number // 3 % 2]
        rows.append((image, f"a {shape}", f"{colour} {shape}"))
    source = write_table(table.parent / "pairs.csv", rows[:36], ("image", "text", "label"))
    judges = write_table(table.parent / "judges.csv", rows[36:], ("image", "text", "label"))
    assert fit("--val", judges, source=source) == 0
    names = [line[:14].strip() for line in capsys.readouterr().out.splitlines()[1:6]]
    assert names == ["majority class", "zero-shot", "image only", "text only", "concat"]
    assert load_head(tmp_path / "out.head").needs == {"image", "text"}


def test_a_head_reads_the_columns_that_it_was_fitted_on(fit, table: Path, tmp_path: Path, capsys) -> None:
    header = ("image", "text", "said", "label", "answer")
    lines = [line.split(",") for line in table.read_text().splitlines()[1:]]
    rows = [(image, "nothing", colour, "thing", colour) for image, colour in lines]
    source = write_table(table.parent / "columns.csv", rows, header)
    assert fit("--text-col", "said", "--target-col", "answer", "--use", "text", "--force", source=source) == 0
    assert capsys.readouterr().err.endswith("out.head TABLE\n")  # pictures alone would have no text
    where = ["--head", str(tmp_path / "out.head"), "--store", str(tmp_path.parent / "store")]
    assert run(["classify", str(source), *where, "--format", "jsonl"]) == 0
    shown, said = capsys.readouterr()
    assert "text = column 'said'" in said
    answers = [json.loads(line)["label"] for line in shown.splitlines()]
    assert answers == [colour for _, colour in lines]
    assert run(["evaluate", str(source), *where]) == 0
    said = capsys.readouterr().err
    assert "target = column 'answer'" in said and "was fitted on rows of" in said
    assert run(["evaluate", str(source), *where, "--text-col", "text"]) == 0
    assert "text = column 'text'" in capsys.readouterr().err


def test_a_picture_that_judges_is_not_trained_on(fit, table: Path, tmp_path: Path, capsys) -> None:
    rows = [tuple(line.split(",")) for line in table.read_text().splitlines()[1:]]
    judges = write_table(table.parent / "shared.csv", rows[45:])
    assert fit("--val", judges) == 0
    assert "left out 15 rows" in capsys.readouterr().out
    assert read_settings(tmp_path / "out.head")["record"]["fit"]["trained_on"] == 45
    assert fit("--val", table, output="none.head") == 2
    assert "nothing is left" in capsys.readouterr().err


@pytest.mark.parametrize("use", [[], ["--use", "text"]], ids=["no pictures", "pictures unread"])
def test_a_text_that_judges_is_not_trained_on(fit, table: Path, tmp_path: Path, capsys, use: list[str]) -> None:
    pictures = [line.split(",") for line in table.read_text().splitlines()[1:]]
    rows = [(image, f"a {colour} thing, number {n}", colour) for n, (image, colour) in enumerate(pictures)]
    own, header = (rows, ("image", "text", "label")) if use else ([row[1:] for row in rows], ("text", "label"))
    source, judges = (
        write_table(table.parent / name, part, header) for name, part in (("all.csv", own), ("part.csv", own[45:]))
    )
    assert fit(*use, "--force", "--val", judges, source=source) == 0
    assert read_settings(tmp_path / "out.head")["record"]["fit"]["trained_on"] == 45
    assert fit(*use, "--val", source, source=source, output="none.head") == 2
    assert "every picture or text of the table is also in the one" in capsys.readouterr().err


def test_numbers(fit, table: Path, tmp_path: Path, capsys) -> None:
    values = {"red": 100.0, "green": 200.0, "blue": 300.0}
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    source = write_table(
        table.parent / "numbers.csv",
        [(image, str(1e5 * values[colour] + i % 5)) for i, (image, colour) in enumerate(rows)],
        ("image", "price"),
    )
    assert fit("--task", "regression", source=source) == 0
    head, *lines = capsys.readouterr().out.splitlines()[:3]
    assert head.split() == ["MAE", "RMSE", "R2", "Spearman"]
    assert {len(line) for line in lines} == {len(head)}
    assert load_head(tmp_path / "out.head").labels == ()
    fit("--labels", "1,2", source=source, output="other.head")
    assert "labels are numbers" not in capsys.readouterr().err  # so few of them could be names
    amounts = write_table(
        table.parent / "amounts.csv", [(image, str(100.5 + i)) for i, (image, _) in enumerate(rows)], ("image", "price")
    )
    fit("--labels", "1,2", source=amounts, output="other.head")
    assert "--task regression learns them as such" in capsys.readouterr().err


def test_figures_that_one_row_does_not_have_are_null(fit, table: Path, tmp_path: Path) -> None:
    rows = [(line.split(",")[0], str(i % 7)) for i, line in enumerate(table.read_text().splitlines()[1:])]
    source, judge = (
        write_table(table.parent / name, part, ("image", "price"))
        for name, part in (("most.csv", rows[1:]), ("one.csv", rows[:1]))
    )
    assert fit("--task", "regression", "--val", judge, "--force", "-q", source=source) == 0
    for name in ("head.json", "report.json"):
        said = json.loads((tmp_path / "out.head" / name).read_text(), parse_constant=pytest.fail)
        assert said.get("record", said)["metrics"][0]["figures"]["r2"] is None


def test_an_encoder_of_what_no_row_has_is_refused(fit, capsys) -> None:
    assert fit("--text-encoder", "embedding") == 2
    assert "no row has a text for --text-encoder embedding" in capsys.readouterr().err


def test_many_labels(fit, table: Path, tmp_path: Path, capsys) -> None:
    cells = {"red": "warm | plain", "green": "plain", "blue": "cold"}
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    source = write_table(table.parent / "many.csv", [(image, cells[colour]) for image, colour in rows])
    assert fit("--multi-label", source=source) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["mAP", "label", "zero-shot", "linear"]
    assert load_head(tmp_path / "out.head").labels == ("cold", "plain", "warm")
    report = json.loads((tmp_path / "out.head/report.json").read_text())
    assert min(report["per_class"]["average_precision"]) > 0.9
    where = ["--head", str(tmp_path / "out.head"), "--store", str(tmp_path.parent / "store"), "--format", "jsonl"]
    assert run(["classify", str(table.parent / "images/red-3.png"), *where]) == 0
    assert set(json.loads(capsys.readouterr().out)["labels"]) == {"warm", "plain"}
    assert run(["evaluate", str(source), *where[:4]]) == 0
    assert capsys.readouterr().out.split()[0] == "mAP"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image,label\na.png,x\n", "line 2 (a.png)"),
        ("image,label\n{0},red\n{1}\n", "line 3"),
        ("image,label\n{0},red\n{1},red\n", "at least two labels"),
        ("image,label\n{0},red\n{1},blue\n{0},blue\n", "line 2 ({0}), line 4 ({0})"),
        ("image,label\n{0},red\n{1},\n", "line 3 ({1})"),
        ("image,label\n{0},red\n{1}," + "x" * 10_000_000 + "\n", "line 3"),
        ("image,label\n", "no rows"),
        ("picture_of,label\n{0},red\n", "--image-col"),
    ],
    ids=["missing-image", "ragged", "one-class", "two-labels", "no-target", "huge-cell", "no-rows", "no-column"],
)
def test_a_bad_table_is_named_by_its_lines(text: str, says: str, fit, table: Path, tmp_path: Path, capsys) -> None:
    source = table.parent / "bad.csv"
    pictures = ("images/red-0.png", "images/blue-1.png")
    source.write_text(text.replace("{0}", pictures[0]).replace("{1}", pictures[1]))
    assert fit(source=source) == 2
    said = capsys.readouterr().err
    assert says.format(*pictures) in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_bom_and_crlf_are_read(fit, table: Path) -> None:
    source = table.parent / "windows.csv"
    source.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n").replace(b"\r\r", b"\r"))
    assert fit(source=source) == 0


def test_a_picture_that_cannot_be_read_is_named(fit, table: Path, capsys) -> None:
    (table.parent / "images/broken.png").write_bytes(b"no picture")
    source = table.parent / "broken.csv"
    source.write_text(table.read_text() + "images/broken.png,red\n")
    assert fit(source=source) == 2
    assert "line 62 (images/broken.png)" in capsys.readouterr().err


@pytest.mark.parametrize(("step", "words"), [("auto", "zero-shot to the fitted head"), ("0.5", "C as in scikit-learn")])
def test_the_report_names_the_settings_that_were_tried(fit, tmp_path: Path, step: str, words: str) -> None:
    assert fit("--wise", step, "--force") == 0
    page = (tmp_path / "out.head/report.html").read_text("utf-8")
    assert words in page[page.index("<h2>Settings tried") :].partition("</h2>")[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--head", "liner"], "did you mean linear"),
        (["--use", "sound"], "image"),
        (["--val", "0.9"], "0.5"),
        (["--val", "nowhere.csv"], "nowhere.csv"),
        (["--wise", "2"], "from 0 to 1"),
        (["--use", "text"], "--text-col"),
        (["--wise", "auto", "--head", "mlp"], "use linear"),
        (["--class-weight", "red=-1"], "above 0"),
        (["--class-weight", "red=1e308,blue=1e308"], "from 1e-06 to 1e+06"),
        (["--head", "mlp", "--seed", str(2**64)], "a whole number from 0 to"),
        (["--class-weight", "rde=2"], "did you mean red"),
        (["--class-weight", "balanced", "--head", "gda"], "closed form"),
        (["--multi-label", "--shots", "4"], "not one class"),
        (["--loss", "cubed"], "huber"),
        (["--loss", "huber"], "for numbers"),
        (["--augment", "2", "--head", "coop"], "does not go with --head coop"),
    ],
    ids=[
        "kind",
        "use",
        "part",
        "file",
        "wise",
        "no-text",
        "wise-mlp",
        "weight",
        "weight-huge",
        "seed-huge",
        "weight-label",
        "weight-gda",
        "shots",
        "loss",
        "loss-of-labels",
        "augment-coop",
    ],
)
def test_flags_that_make_no_sense(arguments: list[str], says: str, fit, capsys) -> None:
    assert fit(*arguments) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--labels", "a,b"], "--labels"),
        (["--label", "a"], "--label"),
        (["--prompts", "nope", "--template", "bad"], "--prompts, --template"),
        (["--language", "xx"], "--language"),
        (["--pool", "zzz"], "--pool"),
    ],
)
def test_numbers_have_no_labels_and_no_prompts(arguments: list[str], named: str, fit, capsys) -> None:
    assert fit("--task", "regression", *arguments, source=Path("nowhere.csv")) == 2
    assert f"--task regression makes no use of {named};" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--use", "text"], ["--image-encoder", "classic"]], ids=["texts", "own-encoder"])
def test_prompts_of_a_fit_that_starts_from_none_are_refused(arguments, fit, table: Path, monkeypatch, capsys) -> None:
    rows = [(*line.split(","), line.split(",")[1]) for line in table.read_text().splitlines()[1:]]
    source = write_table(table.parent / "named.csv", rows, ("image", "label", "text"))
    assert fit(*arguments, "--labels", "red,green,blue", "--prompts", "photo", "--pool", "scores", source=source) == 2
    assert "a fit that starts from no zero-shot head makes no use of --pool, --prompts;" in capsys.readouterr().err
    monkeypatch.setenv("CMPROMPT_PROMPTS", "photo")
    assert fit(*arguments, "--labels", "red,green,blue", "--pool", "mean", "--force", source=source) == 0


def test_a_new_label_is_added_without_forgetting_the_old(fit, table: Path, tmp_path: Path, capsys) -> None:
    rows = [tuple(line.split(",")) for line in table.read_text().splitlines()[1:]]
    two = write_table(table.parent / "two.csv", [row for row in rows if row[1] != "blue"])
    more = write_table(table.parent / "more.csv", [row for row in rows if row[1] != "red"])
    assert fit(source=two, output="two.head") == 0
    capsys.readouterr()
    assert fit("--from", tmp_path / "two.head", source=more) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("before")
    assert load_head(tmp_path / "out.head").labels == ("green", "red", "blue")
    old = next(i for i, line in enumerate(lines) if line.startswith("on the old data"))
    assert float(lines[old + 3].split()[1]) >= 90


def test_columns_are_those_of_the_table_where_a_folder_judges(fit, table: Path, tmp_path: Path, monkeypatch, capsys):
    rows = [tuple(line.split(",")) for line in table.read_text().splitlines()[1:]]
    named = write_table(table.parent / "named.csv", rows[::2], ("image", "colour"))
    for image, colour in rows[1::2]:
        place = tmp_path / "classes" / colour / Path(image).name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((table.parent / image).read_bytes())
    assert fit("--target-col", "colour", "--val", tmp_path / "classes", source=named, output="val.head") == 0
    assert fit("--target-col", "colour", source=tmp_path / "classes") == 2
    assert "a folder has no columns" in capsys.readouterr().err
    monkeypatch.setenv("CMPROMPT_TARGET_COL", "colour")
    assert fit(source=tmp_path / "classes", output="set.head") == 0


@pytest.fixture
def two(fit, table: Path, tmp_path: Path, capsys) -> Path:
    """A head of two colours; its table lies beside that of all."""
    rows = [tuple(line.split(",")) for line in table.read_text().splitlines()[1:]]
    source = write_table(table.parent / "two.csv", [row for row in rows if row[1] != "blue"])
    assert fit(source=source, output="two.head") == 0
    capsys.readouterr()
    return tmp_path / "two.head"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--head", "mlp"], "--from takes linear"),
        (["--use", "text"], "leave --use text out"),
        (["--task", "regression"], "leave --task regression out"),
        (["--image-encoder", "classic"], "leave --image-encoder"),
    ],
    ids=["kind", "text", "numbers", "encoder"],
)
def test_what_would_ignore_the_old_head_is_refused(arguments, says: str, fit, two: Path, table: Path, capsys) -> None:
    rows = [(line.split(",")[0], str(number)) for number, line in enumerate(table.read_text().splitlines()[1:])]
    assert fit("--from", two, *arguments, source=write_table(table.parent / "counted.csv", rows)) == 2
    assert says in capsys.readouterr().err


def test_texts_beside_the_images_do_not_hide_the_old_head(fit, two: Path, table: Path, tmp_path: Path, capsys) -> None:
    rows = [(*line.split(","), "a text") for line in table.read_text().splitlines()[1:]]
    assert fit("--from", two, source=write_table(table.parent / "texts.csv", rows, ("image", "label", "text"))) == 0
    assert read_settings(tmp_path / "out.head")["record"]["kind"] == "linear"
    assert "on the old data" in capsys.readouterr().out


def test_an_old_table_that_is_gone_costs_a_notice(fit, two: Path, table: Path, tmp_path: Path, capsys) -> None:
    (table.parent / "two.csv").write_text("image,label\ngone.png,red\ngone.png,green\n")
    assert fit("--from", two) == 0
    shown, said = capsys.readouterr()
    assert "on the old data" not in shown and "gone.png" in said
    assert load_head(tmp_path / "out.head").labels == ("green", "red", "blue")


def test_a_head_whose_record_was_edited_costs_a_notice(fit, two: Path, capsys) -> None:
    settings = read_settings(two)
    settings["record"]["source"] = {"colour_col": "hue"}
    (two / "head.json").write_text(json.dumps(settings))
    assert fit("--from", two) == 0
    shown, said = capsys.readouterr()
    assert "on the old data" not in shown and "cannot train again" in said and "colour_col" in said


def test_no_fit_goes_on_from_numbers_or_to_labels_of_two_encoders(fit, table: Path, tmp_path: Path, capsys) -> None:
    head = LinearHead(np.ones((1, 16), np.float32), (), "m")
    save_head(head, tmp_path / "numbers.head", {"model": "tiny"})
    assert fit("--from", tmp_path / "numbers.head") == 2
    assert "with labels" in capsys.readouterr().err
    pair = ["--head", "linear", "--image-encoder", "classic", "--force"]
    assert fit(*pair, output="pair.head") == 0
    more = write_table(table.parent / "pink.csv", [("images/red-0.png", "pink"), ("images/red-1.png", "blue")])
    assert run(["finetune", str(more), "--from", str(tmp_path / "pair.head"), "--no-store"]) == 2
    assert "cannot be compared" in capsys.readouterr().err


def test_a_level_of_the_labels_is_fitted_and_its_texts_are_gathered(fit, table: Path, tmp_path: Path, capsys) -> None:
    names = {"red": "warm/red", "green": "cold/green", "blue": "cold/blue"}
    rows = [tuple(line.split(",")) for line in table.read_text().splitlines()[1:]]
    source = write_table(table.parent / "levels.csv", [(image, names[colour]) for image, colour in rows])
    assert fit("--level", 1, "--labels", ",".join(names.values()), source=source) == 0
    assert load_head(tmp_path / "out.head").labels == ("warm", "cold")
    record = read_settings(tmp_path / "out.head")["record"]
    assert record["level"] == 1
    capsys.readouterr()
    assert fit("--from", tmp_path / "out.head", "--level", 1, "--force", source=source, output="next.head") == 0
    assert "on the old data" in capsys.readouterr().out
    assert fit("--level", 1, "--labels", "a/b,a/c", source=source, output="none.head") == 2
    assert "leaves one label, 'a'" in capsys.readouterr().err


def test_names_that_are_not_utf_8_are_saved_as_they_are(model: str, table: Path, tmp_path: Path, capsys) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    dice, colours = np.random.default_rng(0), ("red", "green", "blue")
    for number, line in enumerate(table.read_text().splitlines()[1:]):
        image, colour = line.split(",")
        colour = colour if dice.random() > 0.3 else colours[number % 2]  # so that there are mistakes to show
        os.makedirs(f"{folder}/{colour}", exist_ok=True)
        with open(os.path.join(os.fsencode(f"{folder}/{colour}"), b"caf\xe9%d.jpg" % number), "wb") as file:
            file.write((table.parent / image).read_bytes())
    where = ["--model", model, "--no-store", "-q", "--force"]
    assert run(["finetune", folder, *where, "-o", str(tmp_path / "a.head")]) == 0
    assert read_settings(tmp_path / "a.head")["record"]["table"] == folder
    assert json.loads((tmp_path / "a.head/report.json").read_text("utf-8"))["table"] == folder
    page = (tmp_path / "a.head/report.html").read_text("utf-8")
    assert "caf\ufffd</td>" in page and "/caf\ufffd" in page and ".jpg</figcaption>" in page
    capsys.readouterr()
    assert run(["finetune", folder, *where, "--from", str(tmp_path / "a.head"), "-o", str(tmp_path / "b.head")]) == 0
    assert "caf\ufffd:" in capsys.readouterr().out
    assert run(["adapt", folder, *where[:-1], "--labels", "red,blue", "-o", str(tmp_path / "c.head")]) == 0
    assert read_settings(tmp_path / "c.head")["record"]["adapted_to"] == [folder]


def test_markup_in_labels_and_names_is_escaped_in_the_report(fit, table: Path, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    rows = [tuple(line.split(",")) for line in table.read_text().splitlines()[1:]]
    dice = np.random.default_rng(0)
    for number, (image, label) in enumerate(rows):
        copy = table.parent / "images" / f"<b>{number}.png"
        copy.write_bytes((table.parent / image).read_bytes())
        wrong = dice.random() < 0.3  # so that there are mistakes to show
        rows[number] = (f"images/<b>{number}.png", evil if (label == "red") != wrong else "other")
    assert fit("--force", source=write_table(table.parent / "evil.csv", rows)) == 0
    page = (tmp_path / "out.head/report.html").read_text()
    assert evil not in page and "<b>" not in page
    assert "&lt;img src=x" in page and "data:image/jpeg" in page


def test_a_level_of_numbers_is_refused(fit, table: Path, capsys) -> None:
    source = write_table(table.parent / "prices.csv", [(f"images/red-{n}.png", str(n)) for n in range(4)])
    assert fit("--level", 1, "--task", "regression", source=source) == 2
    assert "--level 1 cuts labels" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_head_is_kept_though_nobody_can_read_the_table(
    fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    full = open("/dev/full", "w")
    monkeypatch.setattr("sys.stdout", full)
    with suppress(OSError):  # of the table; closing fails too
        fit()
    monkeypatch.undo()
    with suppress(OSError):
        full.close()
    assert load_head(tmp_path / "out.head").labels == ("blue", "green", "red")
