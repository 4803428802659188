"""Rows that are not predictions, in every format."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cmprompt.errors import OutputError, UsageError
from cmprompt.writers.rows import identity_of, to_bytes, write_file, write_rows

ROWS = [{"id": "a\tb", "score": 0.5, "text": "x,y"}, {"id": "c", "score": None, "text": None}]


def test_jsonl_and_csv_hold_every_key() -> None:
    assert [json.loads(line) for line in to_bytes(ROWS, "jsonl").splitlines()] == ROWS
    assert to_bytes(ROWS, "csv").decode() == 'id,score,text\na\tb,0.5,"x,y"\nc,,\n'


def test_csv_safe_defuses_texts_and_leaves_numbers_alone() -> None:
    rows = [{"id": "=1+1", "score": -0.5, "text": "\rx"}]
    assert to_bytes(rows, "csv", csv_safe=True).decode() == "id,score,text\n'=1+1,-0.5,\"'\rx\"\n"
    assert to_bytes(rows, "csv").decode() == 'id,score,text\n=1+1,-0.5,"\rx"\n'


def test_csv_safe_defuses_the_names_of_columns() -> None:
    assert to_bytes([{"id": "a", "=1+1": "b"}], "csv", csv_safe=True) == b"id,'=1+1\na,b\n"


def test_lists_are_json_and_true_is_yes() -> None:
    rows = [{"id": "a", "flags": ["it's", "\ud83d"], "ok": True}, {"id": "b", "flags": [], "ok": False}]
    assert to_bytes(rows, "tsv").decode() == 'a\t["it\'s", "\ufffd\ufffd\ufffd"]\tyes\nb\t[]\t\n'


def test_a_header_is_the_first_line_of_json_alone(tmp_path: Path) -> None:
    write_rows(ROWS, output=str(tmp_path / "a.jsonl"), header={"model": "m"})
    write_rows(ROWS, output=str(tmp_path / "a.csv"), header={"model": "m"})
    first, *rest = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert first == {"header": {"model": "m"}} and rest == ROWS
    assert (tmp_path / "a.csv").read_bytes() == to_bytes(ROWS, "csv")


def test_tsv_and_table_show_the_columns_asked_for() -> None:
    assert to_bytes(ROWS, "tsv", ["score", "id", "absent"]).decode() == "0.5\ta\\tb\n\tc\n"
    table = to_bytes(ROWS, "table", ["id", "score"]).decode()
    assert "\\t" in table and "text" not in table


def test_parquet_keeps_types() -> None:
    table = pq.read_table(io.BytesIO(to_bytes(ROWS, "parquet")))
    assert table.to_pylist() == ROWS
    assert table.schema.field("score").type == "double"


def test_a_file_is_written_whole_and_not_over_another(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write_rows(ROWS, output=str(path))
    with pytest.raises(OutputError, match="--overwrite"):
        write_rows(ROWS, output=str(path))
    write_rows(ROWS[:1], output=str(path), overwrite=True)
    assert len(path.read_text().splitlines()) == 1
    with pytest.raises(OutputError, match="cannot write"):
        write_rows(ROWS, output=str(tmp_path / "none" / "out.csv"))
    with pytest.raises(UsageError, match="names no format"):
        write_rows(ROWS, output=str(tmp_path / "out.xyz"))
    assert [name.name for name in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_name_that_is_not_utf8_keeps_its_bytes() -> None:
    assert identity_of("caf\udce9") == {"id": "caf\ufffd", "path_b64": "Y2Fm6Q=="}


def test_a_file_that_is_replaced_keeps_its_mode_and_the_link_to_it(tmp_path: Path) -> None:
    real, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    real.write_text("")
    real.chmod(0o640)
    link.symlink_to(real)
    write_file(str(link), b"{}\n", overwrite=True)
    assert link.is_symlink() and real.read_bytes() == b"{}\n"
    assert real.stat().st_mode & 0o777 == 0o640


def test_a_new_file_has_the_mode_that_the_user_gives_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(str(tmp_path / "out.jsonl"), b"{}\n", overwrite=False)
    finally:
        os.umask(before)
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o777 == 0o640


def test_a_file_that_cannot_be_made_is_called_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / f"{'a' * 300}.jsonl"
    with pytest.raises(OutputError, match=rf"cannot write {path}: "):
        write_file(str(path), b"{}\n", overwrite=False)
