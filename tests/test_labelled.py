"""Labelled rows: what is wrong with them is found before anything is embedded, and named by its lines."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from labelled_photos import write_table

from cmprompt.cli.app import run
from cmprompt.errors import UsageError
from cmprompt.labelled import columns_of, contents_line, read_labelled
from cmprompt.labelled.rows import Labelled
from cmprompt.labelled.vectors import join_features
from cmprompt.sources import SourceOptions
from cmprompt.types import Embedded, Features, Item, Outcome

RED, GREEN, BLUE = (f"images/{colour}-0.png" for colour in ("red", "green", "blue"))


def written(table: Path, *rows: tuple[str, ...], header: tuple[str, ...] = ("image", "label")) -> str:
    return str(write_table(table.parent / "case.csv", list(rows), header))


def test_the_order_of_several_labels_says_nothing(table: Path) -> None:
    source = written(table, (RED, "a | b"), (RED, "b;a"), (BLUE, "c"))
    assert read_labelled(source, multi_label=True).label_sets == [("a", "b"), ("b", "a"), ("c",)]
    with pytest.raises(UsageError, match=r"line 2 .*line 3"):
        read_labelled(written(table, (RED, "a | b"), (RED, "a"), (BLUE, "c")), multi_label=True)
    with pytest.raises(UsageError, match="one picture has the labels"):
        read_labelled(source)


def test_retrieval_needs_a_row_with_both_sides(table: Path) -> None:
    with pytest.raises(UsageError, match="no row has a picture and a text"):
        read_labelled(str(table), task="retrieval")
    source = written(table, (RED, "a red thing"), (BLUE, ""), header=("image", "text"))
    assert len(read_labelled(source, task="retrieval").items) == 2


def test_what_was_read_is_said(table: Path) -> None:
    red, blue, bare = Item("r", None, target="red"), Item("b", None, target="blue"), Item("c", None)
    options, folder = SourceOptions(), str(table.parent)
    assert contents_line(read_labelled(str(table)), options).endswith("image = column 'image', target = column 'label'")
    assert contents_line(Labelled(folder, (red, blue, red)), options) == f"{folder}: 2 class folders"
    assert contents_line(Labelled("val.tar", (red, blue, red)), options) == "val.tar: 3 rows of 2 labels"
    assert contents_line(Labelled("val.tar", (bare,)), options) == "val.tar: 1 row"
    assert columns_of("val.tar", SourceOptions(target_col="breed")) == {"target_col": "breed"}


@pytest.mark.parametrize("command", ["evaluate", "finetune", "check", "prompts ablate"])
def test_folders_have_no_columns(command: str, model: str, table: Path, tmp_path: Path, capsys) -> None:
    output = [] if command == "evaluate" else ["-o", str(tmp_path / "o.jsonl")]
    flags = ["--image-col", "picture", "--target-col", "label", "--model", model, "--no-store", *output]
    assert run([*command.split(), str(table.parent), *flags]) == 2
    says = "a folder has no columns, its class folders are the labels; leave --image-col, --target-col out"
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "finetune", "check"])
def test_splits_are_no_labels(command: str, model: str, table: Path, tmp_path: Path, capsys) -> None:
    data = tmp_path / "data"
    for name in ("Train/red", "validation/red", ".cache"):
        (data / name).mkdir(parents=True)
        (data / name / "a.png").write_bytes((table.parent / RED).read_bytes())
    output = [] if command == "evaluate" else ["-o", str(tmp_path / "o.jsonl")]
    assert run([command, str(data), "--model", model, "--no-store", *output]) == 2
    says = f"holds splits (Train, validation), not classes; name one, such as {data / 'Train'}; finetune takes another"
    assert says in capsys.readouterr().err


def test_classes_may_be_called_as_splits_are(table: Path, tmp_path: Path) -> None:
    for name in ("test", "train"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "a.png").write_bytes((table.parent / RED).read_bytes())
    assert read_labelled(str(tmp_path / "data")).names == ["test", "train"]
    (tmp_path / "data" / "car" / "old").mkdir(parents=True)
    assert read_labelled(str(tmp_path / "data")).names == ["test", "train"]


def test_a_shard_has_no_column_of_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()
    with pytest.raises(UsageError, match="a shard's pictures are files; leave --image-col out"):
        read_labelled(str(tmp_path / "a.tar"), SourceOptions(image_col="picture"))


def test_only_what_trains_needs_two_labels_or_two_numbers(table: Path) -> None:
    for task, cell in (("classification", "red"), ("regression", "3")):
        source = written(table, (RED, cell), (BLUE, cell))
        assert len(read_labelled(source, task=task).items) == 2
        with pytest.raises(UsageError, match="every row has the"):
            read_labelled(source, task=task, to_train=True)


def test_a_comma_stands_between_thousands_alone(table: Path) -> None:
    cells = ("1,234,567.5", " -12,000", "3.5", "1e3")
    numbers = read_labelled(written(table, *((RED, cell) for cell in cells)), task="regression").numbers
    assert numbers is not None and numbers.tolist() == [1234567.5, -12000, 3.5, 1000]


@pytest.mark.parametrize("cell", ["3,5", "0,500", "1.234,5", "1,23,456", "12,345,67", ",5"])
def test_a_decimal_comma_is_no_number(cell: str, table: Path) -> None:
    with pytest.raises(UsageError, match=r"1 row whose target is no number: line 3 .*; write numbers like 1,234\.5"):
        read_labelled(written(table, (RED, "2.5"), (BLUE, cell)), task="regression")


def test_labels_are_cut_to_a_level_before_they_are_compared(table: Path) -> None:
    source = written(table, (RED, "warm/red"), (RED, "warm/pink"), (BLUE, "cold/blue"))
    assert read_labelled(source, level=1).names == ["cold", "warm"]
    with pytest.raises(UsageError, match="at least two labels"):
        read_labelled(written(table, (RED, "a/b"), (BLUE, "a/c")), level=1, to_train=True)
    many = read_labelled(written(table, (RED, "a/b | a/c | d"), (BLUE, "d/e")), multi_label=True, level=1)
    assert many.label_sets == [("a", "d"), ("d",)]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_one_label_or_number_is_enough_to_evaluate(task: str, model: str, table: Path, tmp_path: Path, capsys) -> None:
    """Numbers by a head that was fitted to several, one label by the text of several."""
    store = ["--store", str(tmp_path / "store"), "-q"]
    flags = ["--labels", "red,green,blue", "--model", model]
    if task == "regression":
        rows = [(f"images/{c}-{n}.png", str(n)) for n in range(9) for c in ("red", "blue")]
        fitted = ["--task", task, "--model", model, "-o", str(tmp_path / "h"), "--force"]
        assert run(["finetune", written(table, *rows), *fitted, *store]) == 0
        flags = ["--head", str(tmp_path / "h"), "--task", task]
    cell = "red" if task == "classification" else "3"
    capsys.readouterr()
    assert run(["evaluate", written(table, (RED, cell), ("images/red-1.png", cell)), *flags, *store]) == 0
    assert "nan" not in capsys.readouterr().out.splitlines()[1].split("±")[0]  # R2 of one number is none


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_one_label_or_number_is_enough_to_judge_by(task: str, model: str, table: Path, tmp_path: Path) -> None:
    cells = {"red": "1", "green": "2", "blue": "3"}
    rows = [tuple(line.split(",")) for line in table.read_text().splitlines()[1:]]
    named = [(image, cells[colour] if task == "regression" else colour) for image, colour in rows]
    judges = write_table(table.parent / "judges.csv", [row for row in named if "red" in row[0]][-3:])
    flags = ["--val", str(judges), "--task", task, "--model", model, "--force", "-q", "--no-store"]
    source = str(write_table(table.parent / "named.csv", named[:45]))
    assert run(["finetune", source, *flags, "-o", str(tmp_path / "h")]) == 0


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be embedded."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was embedded")

    module = import_module("cmprompt.embed")  # the package's own name `embed` is a function
    for name in ("embed", "embed_texts"):
        monkeypatch.setattr(module, name, refuse)


GOOD = [(RED, "a ball", "red"), (BLUE, "a ball", "blue"), (GREEN, "a brick", "green")]


@pytest.mark.parametrize(
    ("rows", "flags", "says"),
    [
        ([("", "", "red")], [], "1 row with neither a picture nor a text: line 5"),
        ([("https://x.org/a.png", "a ball", "red")], [], "line 5 (https://x.org/a.png); addresses are not fetched"),
        ([("", "a ball", "red")], ["--head", "linear"], "1 row without a picture, all that this head reads: line 5"),
        ([("images/red-1.png", "", "red")], ["--use", "text"], "without a text, all that this head reads: line 5"),
        ([], ["--labels", "red,green"], "line 3 (images/blue-0.png); name them with --labels"),
        ([], ["--class-weight", "rde=2"], "did you mean red"),
        ([], ["--val", "JUDGES"], "('pink'): line 2 (images/red-1.png)"),
        ([], ["--val", "JUDGES", "--image-encoder", "classic", "--text-encoder", "classic"], "('pink'): line 2"),
        ([], ["--labels", "red,green", "--image-encoder", "classic", "--text-encoder", "classic"], "('blue'): line 3"),
    ],
    ids=["empty", "address", "no-picture", "no-text", "labels", "weight", "judges", "judges-pair", "labels-pair"],
)
def test_what_is_wrong_is_said_before_anything_is_embedded(
    rows, flags: list[str], says: str, unread: None, model: str, table: Path, tmp_path: Path, capsys
) -> None:
    judges = write_table(
        table.parent / "judges.csv", [("images/red-1.png", "a ball", "pink")], ("image", "text", "label")
    )
    source = written(table, *GOOD, *rows, header=("image", "text", "label"))
    flags = [str(judges) if flag == "JUDGES" else flag for flag in flags]
    assert run(["finetune", source, *flags, "--model", model, "--no-store", "-o", str(tmp_path / "h")]) == 2
    assert says in capsys.readouterr().err


def test_labels_without_rows_are_named_where_a_head_learns_from_rows_alone(
    model: str, table: Path, tmp_path: Path, capsys
) -> None:
    flags = ["--labels", "red,green,blue,pink", "--model", model, "--force", "--store", str(tmp_path / "store")]
    assert run(["finetune", str(table), *flags, "-o", str(tmp_path / "a"), "--head", "mlp"]) == 0
    assert "1 labels have no rows in" in capsys.readouterr().err
    assert run(["finetune", str(table), *flags, "-o", str(tmp_path / "b")]) == 0
    assert "have no rows" not in capsys.readouterr().err


def test_rows_are_counted_once_however_many_batches_they_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[Features] = []
    monkeypatch.setattr(Features, "__len__", lambda self: counted.append(self) or len(self.has_image))
    items = tuple(Item(str(n), None) for n in range(300))
    row, failed = Features.of_images(np.ones((1, 2), np.float32)), Outcome("missing", "gone")
    batches = [Embedded((item,), (Outcome(),), row) for item in items]
    assert join_features(Labelled("here", items), batches).image.shape == (300, 2)
    assert len(counted) <= 2 * len(items)
    batches[200] = Embedded((items[200],), (failed,), row)
    with pytest.raises(UsageError, match=r"here: 1 row cannot be read \(gone\): 200$"):
        join_features(Labelled("here", items), batches)
