"""Records and the formats that carry them."""

from __future__ import annotations

import base64
import csv
import gc
import io
import json
import os
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cmprompt.errors import UsageError
from cmprompt.registry import WRITERS
from cmprompt.types import Item, Prediction
from cmprompt.writers import choose_format, make_writer, to_record
from cmprompt.writers.parquet import ROWS_PER_GROUP
from cmprompt.writers.rows import to_bytes

AWKWARD = ["a\nb.jpg", "tab\t.jpg", 'quote".jpg', "-n.jpg", "back\\slash.jpg", "\U0001f600.jpg", "cr\r.jpg", "=1+1.jpg"]
RAW = os.fsdecode(b"caf\xe9.jpg")


def good(name: str = "a.jpg", **more) -> Prediction:
    fields = {
        "label": "cat",
        "score": 0.91234567,
        "cosine": 0.3,
        "margin": 0.8,
        "top": (("cat", 0.91234567), ("dog", 0.1)),
    }
    return Prediction(Item(name, None, columns={"price": "12", "label": "tom"}), **{**fields, **more})


def bad(name: str = "b.jpg") -> Prediction:
    return Prediction(Item(name, None), "missing", f"no such file: {name}")


def written(fmt: str, *predictions: Prediction, header=None, csv_safe=False, **more: bool) -> bytes:
    stream = io.BytesIO()
    writer = make_writer(fmt, stream, header, csv_safe=csv_safe)
    for prediction in predictions:
        writer.write(to_record(prediction, **more))
    writer.close()
    return stream.getvalue()


def test_a_record_is_what_the_format_promises() -> None:
    line = written("jsonl", good()).decode()
    assert line == (
        '{"id": "a.jpg", "status": "ok", "label": "cat", "score": 0.912346, "cosine": 0.3, "margin": 0.8, '
        '"top": [["cat", 0.912346], ["dog", 0.1]]}\n'
    )


def test_a_failures_record() -> None:
    assert to_record(bad()) == {"id": "b.jpg", "status": "missing", "error": "no such file: b.jpg"}


def test_what_applies_only_sometimes_has_its_place() -> None:
    many = to_record(good(labels=("cat", "dog"), flags=("truncated",)))
    assert list(many) == ["id", "status", "label", "labels", "score", "cosine", "margin", "top", "flags"]
    assert to_record(Prediction(Item("a", None), value=1234567.8)) == {"id": "a", "status": "ok", "value": 1234570.0}
    assert to_record(good(label=None))["label"] is None


def test_columns_pass_through_and_never_hide_a_field() -> None:
    record = to_record(good(), keep_columns=True)
    assert (record["label"], record["price"], record["input_label"]) == ("cat", "12", "tom")


def test_floats_have_six_digits_and_are_never_nan() -> None:
    record = to_record(good(score=1 / 3, cosine=float("nan"), margin=1.23456789e-9))
    assert (record["score"], record["cosine"], record["margin"]) == (0.333333, None, 1.23457e-9)


@pytest.mark.parametrize("name", [*AWKWARD, RAW])
def test_names_survive_jsonl(name: str) -> None:
    for prediction in (good(name), bad(name)):
        record = json.loads(written("jsonl", prediction))
        raw = base64.b64decode(record["path_b64"]) if "path_b64" in record else record["id"].encode()
        assert raw == os.fsencode(name)
    assert ("path_b64" in record) == (name == RAW)


def test_a_name_that_is_not_utf8_stays_readable() -> None:
    assert list(to_record(good(RAW)).items())[:2] == [("id", "caf\ufffd.jpg"), ("path_b64", "Y2Fm6S5qcGc=")]


@pytest.mark.parametrize("fmt", WRITERS)
def test_every_format_takes_every_name(fmt: str) -> None:
    names = [*AWKWARD, RAW, "\ud800.jpg"]
    assert written(fmt, *map(good, names), *map(bad, names))


def unescape(cell: str) -> str:
    return re.sub(r"\\(.)", lambda m: {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}[m[1]], cell)


def test_tsv_has_five_columns_and_escapes() -> None:
    lines = written("tsv", *map(good, AWKWARD)).decode().split("\n")
    assert lines.pop() == ""
    cells = [line.split("\t") for line in lines]
    assert [unescape(row[0]) for row in cells] == AWKWARD
    assert cells[0][1:] == ["cat", "0.912346", "ok", ""]
    assert written("tsv", bad()) == b"b.jpg\t\t\tmissing\tno such file: b.jpg\n"


def test_the_descriptions_that_won_and_the_question_stand_behind_the_label() -> None:
    found = good(question="What is it?", descriptors=(("a cat's whiskers", 0.25), ("fur", 0.125)))
    assert written("tsv", found).decode().rstrip().split("\t")[5:] == [
        "What is it?", '[["a cat\'s whiskers", 0.25], ["fur", 0.125]]']  # fmt: skip
    line = written("table", found).decode()
    assert "What is it?" in line and "a cat's whiskers" in line and "fur" not in line


def test_tsv_with_several_labels_a_value_a_header_and_columns() -> None:
    assert written("tsv", good(labels=("cat", "dog"))).split(b"\t")[1] == b"cat|dog"
    assert written("tsv", Prediction(Item("a", None), value=2.5)) == b"a\t\t2.5\tok\t\n"
    text = written("tsv", good(), bad(), header={}, keep_columns=True).decode()
    assert text.splitlines()[0] == "id\tlabel\tscore\tstatus\terror\tprice\tinput_label"
    assert text.splitlines()[2].endswith("missing\tno such file: b.jpg\t\t")


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_csv_reads_back() -> None:
    rows = rows_of(written("csv", *map(good, AWKWARD), bad(), keep_columns=True))
    assert [row["id"] for row in rows] == [*AWKWARD, "b.jpg"]
    assert json.loads(rows[0]["top"]) == [["cat", 0.912346], ["dog", 0.1]]
    assert (rows[0]["price"], rows[-1]["status"], rows[-1]["price"]) == ("12", "missing", "")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_csv_safe_defuses_formulas(name: str) -> None:
    assert rows_of(written("csv", good(name), csv_safe=True))[0]["id"] == f"'{name}"
    assert rows_of(written("csv", good(name)))[0]["id"] == name


def test_csv_safe_leaves_numbers_alone() -> None:
    assert rows_of(written("csv", good(cosine=-0.5), csv_safe=True))[0]["cosine"] == "-0.5"


def test_parquet_reads_back_in_row_groups() -> None:
    n = ROWS_PER_GROUP + 5
    data = written(
        "parquet",
        *[good(f"{i}.jpg", flags=("x",)) for i in range(n - 1)],
        bad(),
        header={"model": "m"},
        keep_columns=True,
    )
    file = pq.ParquetFile(io.BytesIO(data))
    table = file.read().to_pylist()
    assert file.num_row_groups == 2
    assert json.loads(file.schema_arrow.metadata[b"cmprompt"]) == {"model": "m"}
    assert (table[7]["id"], table[7]["score"], table[7]["price"], table[7]["flags"]) == ("7.jpg", 0.912346, "12", ["x"])
    assert table[0]["top"] == [{"label": "cat", "score": 0.912346}, {"label": "dog", "score": 0.1}]
    assert (table[-1]["status"], table[-1]["score"], table[-1]["top"]) == ("missing", None, None)


def test_parquet_ends_a_row_group_where_its_lists_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmprompt.writers.parquet.ENTRIES_PER_GROUP", 100)
    many = tuple((f"label {i}", i / 10) for i in range(10))
    mixed = [bad(), *[good(f"{i}.jpg", top=many) for i in range(24)], bad(), good(top=()), bad()]
    file = pq.ParquetFile(io.BytesIO(written("parquet", *mixed)))
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert groups == [11, 10, 7]
    entries = [{"label": label, "score": score} for label, score in many]
    assert file.read().column("top").to_pylist() == [None, *[entries] * 24, None, [], None]


def test_parquet_that_is_given_up_says_nothing_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", said.append)
    with open(tmp_path / "a.parquet", "wb") as stream:
        writer = make_writer("parquet", stream)
        for _ in range(ROWS_PER_GROUP):
            writer.write(to_record(bad()))
    del writer
    gc.collect()
    assert said == []


def test_parquets_schema_does_not_depend_on_what_happened() -> None:
    schemas = {
        str(pq.read_schema(io.BytesIO(written("parquet", *p)))) for p in ([], [good()], [bad()], [good(labels=())])
    }
    assert len(schemas) == 1


def stretch(start_s: float, end_s: float) -> Prediction:
    return Prediction(Item("a.mp4", None, time_s=start_s, end_s=end_s), label="cat", score=0.5)


def test_a_timeline_has_its_seconds_wherever_the_first_clip_stands() -> None:
    mixed = [good("a.jpg"), stretch(0.0, 2.0), stretch(2.0, 3.5)]
    lines = written("tsv", *mixed, timeline=True).decode().splitlines()
    assert [line.split("\t")[5:] for line in lines] == [["", ""], ["0", "2"], ["2", "3.5"]]
    rows = rows_of(written("csv", *mixed, timeline=True))
    assert [(row["start_s"], row["end_s"]) for row in rows] == [("", ""), ("0", "2"), ("2", "3.5")]
    records = [json.loads(line) for line in written("jsonl", *mixed, timeline=True).splitlines()]
    assert [(row["start_s"], row["end_s"]) for row in records] == [(None, None), (0.0, 2.0), (2.0, 3.5)]
    assert "a.mp4 2.0-3.5 s" in written("table", *mixed, timeline=True).decode()


def test_a_clip_that_cannot_be_opened_has_no_seconds() -> None:
    broken = Prediction(Item("a.mp4", None, time_s=0.0, end_s=0.0), "unreadable", "not a video")
    lines = written("tsv", broken, stretch(0.0, 2.0), timeline=True).decode().splitlines()
    assert [line.split("\t")[5:] for line in lines] == [["", ""], ["0", "2"]]


def test_parquet_keeps_seconds_as_numbers_and_a_tables_own_column_of_that_name() -> None:
    photo = Prediction(Item("a.jpg", None, columns={"start_s": "noon"}), label="cat")
    table = pq.read_table(io.BytesIO(written("parquet", photo, stretch(2, 3.5), keep_columns=True, timeline=True)))
    assert {str(table.schema.field(name).type) for name in ("start_s", "end_s")} == {"double"}
    assert table.column("end_s").to_pylist() == [None, 3.5]
    assert table.column("input_start_s").to_pylist() == ["noon", None]


def test_jsonl_header_is_the_first_line() -> None:
    first, second = written("jsonl", good(), header={"model": "m"}).splitlines()
    assert json.loads(first) == {"header": {"model": "m"}}
    assert json.loads(second)["id"] == "a.jpg"


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_a_table_keeps_to_its_width(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    from rich.cells import cell_len

    monkeypatch.setenv("COLUMNS", columns)
    many = tuple((f"label {i}", 0.1) for i in range(20))
    lines = written("table", good("folder/" * 20 + "写真.jpg", top=many), bad("x" * 300)).decode().splitlines()
    assert len(lines) == 2
    assert max(map(cell_len, lines)) <= int(columns)


@pytest.mark.parametrize("columns", ["", "abc", "-5", "0", "7", "²", "9" * 5000])
def test_what_is_no_width_leaves_a_table_at_eighty_cells(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    wanted = written("table", good()), to_bytes([{"id": "a.jpg", "text": "x" * 99}], "table")
    monkeypatch.setenv("COLUMNS", columns)
    assert (written("table", good()), to_bytes([{"id": "a.jpg", "text": "x" * 99}], "table")) == wanted
    stream = Terminal()
    make_writer("table", stream).write(to_record(good()))
    assert b"cat" in stream.getvalue()


def test_a_table_shows_the_end_of_a_long_path_and_the_bar() -> None:
    text = written("table", good("folder/" * 20 + "photo.jpg", score=0.5)).decode()
    assert "photo.jpg  cat" in text
    assert "50.0% █████ " in text


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch, no_color: str) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = Terminal()
    make_writer("table", stream).write(to_record(good()))
    assert (b"\x1b[32m" in stream.getvalue()) == (not no_color)
    assert b"\x1b" not in written("table", good())


def test_a_table_lets_no_name_move_the_cursor() -> None:
    assert b"\x1b" not in written("table", good("\x1b[2Jx.jpg", label="\x1b[31mred"))


@pytest.mark.parametrize(
    "label", ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u86cb\u7cd5\u3000\u8336", "a\u00a0la"]
)
def test_a_table_shows_the_joiners_and_spaces_of_other_scripts_as_they_are(label: str) -> None:
    assert label in written("table", good(label=label)).decode()
    assert "\\u202e" in written("table", good(label="\u202e" + label)).decode()  # which turns the line around


@pytest.mark.parametrize(
    ("asked", "output", "terminal", "wanted"),
    [
        (None, None, True, "table"),
        (None, None, False, "tsv"),
        ("jsonl", "a.csv", True, "jsonl"),
        (None, "a.b/c.PARQUET", True, "parquet"),
        (None, "a.ndjson", False, "jsonl"),
    ],
)
def test_the_format_is_chosen(asked: str | None, output: str | None, terminal: bool, wanted: str) -> None:
    assert choose_format(asked, output, terminal=terminal) == wanted


@pytest.mark.parametrize(("asked", "output"), [("jsnl", None), (None, "labels"), (None, "a.xls")])
def test_a_format_nobody_knows_is_refused(asked: str | None, output: str | None) -> None:
    with pytest.raises(UsageError, match="jsonl"):
        choose_format(asked, output, terminal=False)
