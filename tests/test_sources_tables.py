"""Tables: CSV, TSV, JSON lines and Parquet."""

from __future__ import annotations

import io
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmprompt.errors import ItemError, UsageError
from cmprompt.sources import SourceOptions, read_items
from cmprompt.sources.rows import read_rows
from cmprompt.types import FileBytes, Item
from tests.conftest import draw, encode


def read(path: Path, **options: Any) -> list[Item]:
    return list(read_items([str(path)], SourceOptions(**options)))


def table(tmp_path: Path, data: str | bytes, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    (item,) = read(table(tmp_path, 'Image Path,note,Caption,label\nsub/a.jpg,n,"one, two",cat\n'))
    assert (item.id, item.text, item.target) == ("sub/a.jpg", "one, two", "cat")
    assert item.image == FileBytes(str(tmp_path / "sub/a.jpg"))
    assert item.columns == {"note": "n", "Caption": "one, two", "label": "cat"}


def test_columns_are_chosen_by_flag(tmp_path: Path) -> None:
    path = table(tmp_path, "image,left,title,words,label,price\na.jpg,b.jpg,t,w,cat,3.5\n")
    (item,) = read(path, image_col="left", text_col="words", target_col="price")
    assert (item.id, item.text, item.target) == ("b.jpg", "w", "3.5")


def test_an_unknown_column_is_said_with_the_near_misses(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--text-col: unknown column 'captoin'; did you mean caption"):
        read(table(tmp_path, "image,caption\na.jpg,x\n"), text_col="captoin")


def test_no_column_of_pictures_or_texts_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'x', 'y'; name one by --image-col"):
        read(table(tmp_path, "x,y\n1,2\n"))


@pytest.mark.parametrize(
    "data",
    [
        b'\xef\xbb\xbfimage,text\r\na.jpg,"two\r\nlines"\r\n\r\nb.jpg,x\r\n',
        'image,text\r\na.jpg,"two\r\nlines"\r\nb.jpg,x'.encode("utf-16"),
        b'image;text\na.jpg;"two\r\nlines"\nb.jpg;x\n',
    ],
)
def test_what_spreadsheets_write(tmp_path: Path, data: bytes) -> None:
    assert [(item.id, item.text) for item in read(table(tmp_path, data))] == [("a.jpg", "two\r\nlines"), ("b.jpg", "x")]


def test_bare_quotes_in_tsv_are_kept_and_quoted_cells_opened(tmp_path: Path) -> None:
    items = read(table(tmp_path, 'image\ttext\na.jpg\t"Hi" he said\nb.jpg\t"a ""b"" c"\n', "t.tsv"))
    assert [item.text for item in items] == ['"Hi" he said', 'a "b" c']


def test_a_name_that_is_not_utf8_is_kept(tmp_path: Path) -> None:
    (item,) = read(table(tmp_path, b"image,text\ncaf\xe9.jpg,caf\xe9\n"))
    assert item.id == "caf\udce9.jpg" and item.text == "caf\ufffd"


def test_half_a_surrogate_pair_in_json_is_replaced(tmp_path: Path) -> None:
    (item,) = read(
        table(tmp_path, r'{"image": "a.jpg", "text": "cut \ud83d", "label": "\ude00", "n": "\udce9\ud83d"}', "t.jsonl")
    )
    assert (item.text, item.target) == ("cut \ufffd\ufffd\ufffd", "\ufffd\ufffd\ufffd")
    assert set(item.columns["n"]) == {"\ufffd"}


def test_a_row_of_text_alone(tmp_path: Path) -> None:
    first, second = read(table(tmp_path, "image,text\n,hello\n,\n"))
    assert first.image is None and first.text == "hello" and first.id.endswith("t.csv:2")
    assert second.image is not None
    with pytest.raises(ItemError, match="line 3: neither"):
        second.image()


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        ("image,text\na.jpg,x\nb.jpg\n", "t.csv", r"line 3: 1 cells, but the header has 2"),
        ('image,text\na.jpg,"two\nlines"\nb.jpg,x,y\n', "t.csv", r"line 4: 3 cells"),
        ("image,text\na.jpg,x\nb.jpg," + "x" * 200_000 + "\n", "t.csv", r"line 3: field larger than"),
        ("image,text\na.jpg,x\nb.jpg," + "x" * 10_000_000 + "\n", "t.csv", r"line 3: longer than"),
        ("image\ttext\na.jpg\t" + "x" * 10_000_000, "t.tsv", r"line 2: longer than"),
        ('image,text\na.jpg,"never closed\n' + "b.jpg,x\n" * 50_000, "t.csv", r"line 2: field larger than"),
        ("", "t.csv", "is empty"),
        ("image,image\na,b\n", "t.csv", r"line 1: columns of the same name: 'image'"),
        ('{"image": "a.jpg"}\n{"image": \n', "t.jsonl", r"line 2: not JSON"),
        ('{"image": "a.jpg"}\n[1]\n', "t.jsonl", r"line 2: not an object"),
        ('{"image": "a.jpg", "text": "' + "x" * 200_000 + '"}\n', "t.jsonl", r"line 1: 'text' is longer"),
        ("x" * 10_000_000, "t.jsonl", r"line 1: longer than"),
        ("PAR1 but not really", "t.parquet", r"cannot read .*t\.parquet"),
    ],
)
def test_a_bad_table_names_its_line(tmp_path: Path, data: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(table(tmp_path, data, name))


def test_a_table_of_many_columns_takes_no_quadratic_time(tmp_path: Path) -> None:
    names = ",".join(f"column {number}" for number in range(30_000))
    path = table(tmp_path, f"{names}\n{names}\n")
    started = time.perf_counter()
    (row,) = read_rows(str(path))
    assert time.perf_counter() - started < 3 and len(row.cells) == 30_000


def test_a_long_cell_of_parquet_harms_no_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a.jpg", "b.jpg"], "html": ["x", "x" * 200_000]}), tmp_path / "t.parquet")
    assert [len(item.columns["html"]) for item in read(tmp_path / "t.parquet")] == [1, 200_000]


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such table"):
        read(tmp_path / "gone.csv")


def test_json_lines(tmp_path: Path) -> None:
    rows = [{"image": "a.jpg", "captions": ["one", "two"], "label": 3}, {"image": "b.jpg", "text": None, "label": 0.5}]
    items = read(table(tmp_path, "\n".join(map(json.dumps, rows)) + "\n\n", "t.jsonl"))
    assert [(item.id, item.text, item.target) for item in items] == [("a.jpg", "one", "3"), ("b.jpg", None, "0.5")]


def test_a_column_that_the_first_line_of_json_lacks_is_found_later(tmp_path: Path) -> None:
    rows = [{"title": "a caption"}, {"image": "cat.png", "text": "t", "title": "a cat"}, {"title": "b", "label": "x"}]
    items = read(table(tmp_path, "\n".join(map(json.dumps, rows)), "t.jsonl"))
    assert [item.text for item in items] == ["a caption", "a cat", "b"]  # the column that is chosen stays
    assert [item.image is None for item in items] == [True, False, True] and items[1].id == "cat.png"
    assert [item.target for item in items] == [None, None, "x"]


def test_a_line_of_json_may_lack_the_column_of_a_flag(tmp_path: Path) -> None:
    path = table(tmp_path, '{"pic": "a.jpg", "text": "a"}\n{"text": "b", "url": "u"}\n', "t.jsonl")
    first, second = read(path, image_col="pic")
    assert first.id == "a.jpg" and second.image is None and second.text == "b"


def test_parquet_of_pictures_in_the_hugging_face_way(tmp_path: Path) -> None:
    data = encode(draw("red"))
    rows = [{"bytes": data, "path": "x.png"}, {"bytes": data, "path": None}, {"bytes": None, "path": "y.png"}]
    pq.write_table(pa.table({"image": rows, "text": ["a", "b", "c"]}), tmp_path / "t.parquet")
    inside, nameless, beside = read(tmp_path / "t.parquet")
    assert inside.id == "x.png" and nameless.id == f"{tmp_path}/t.parquet:2" and beside.id == "y.png"
    assert inside.image is not None and inside.image() == data and nameless.image is not None
    assert nameless.image() == data and beside.image == FileBytes(str(tmp_path / "y.png"))
    assert inside.columns == {"text": "a"}


def test_cells_that_are_no_text_are_spelled_as_json(tmp_path: Path) -> None:
    row = {"image": "a.jpg", "label": True, "n": None, "size": {"w": 1, "é": None}, "boxes": [[1, 2], [3]], "x": 1.5}
    (item,) = read(table(tmp_path, json.dumps(row), "t.jsonl"))
    assert item.target == "true" and item.columns == {
        "label": "true", "n": "", "size": '{"w": 1, "é": null}', "boxes": "[1, 2] | [3]", "x": "1.5",
    }  # fmt: skip


def test_a_target_is_what_stands_between_blanks(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,label\na.png, cat\nb.png,cat \nc.png,  \n")
    assert [item.target for item in read_items([str(tmp_path / "t.csv")])] == ["cat", "cat", None]


def test_numbers_that_are_none_are_empty_cells(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"image": "a.png", "label": NaN}\n{"image": "b.png", "label": 2.5}\n')
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "label": [float("nan"), 2.5]}), tmp_path / "t.parquet")
    for name in ("t.jsonl", "t.parquet"):
        assert [item.target for item in read_items([str(tmp_path / name)])] == [None, "2.5"]


def hub_table(path: Path, about: bytes, numbers: list[int | None]) -> Path:
    """Numbered classes with what a Hugging Face data set says about them."""
    rows = pa.table({"image": ["a.png"] * len(numbers), "label": pa.array(numbers, pa.int64()), "n": numbers})
    pq.write_table(rows.replace_schema_metadata({b"huggingface": about}), path)
    return path


def test_numbered_classes_of_the_hub_have_their_names(tmp_path: Path) -> None:
    label = {"names": ["dress", "hat"], "_type": "ClassLabel"}
    features = {"image": {"_type": "Image"}, "label": label, "n": {"dtype": "int64", "_type": "Value"}, "gone": label}
    about = json.dumps({"info": {"features": features}}).encode()
    items = read(hub_table(tmp_path / "t.parquet", about, [1, 0, -1, None, 7]))
    assert [item.target for item in items] == ["hat", "dress", None, None, "7"]
    assert items[0].columns == {"label": "hat", "n": "1"}


@pytest.mark.parametrize("about", [b"", b"[", b"[]", b'{"info": null}', b'{"info": {"features": {"label": []}}}'])
def test_what_the_hub_says_may_make_no_sense(about: bytes, tmp_path: Path) -> None:
    assert [item.target for item in read(hub_table(tmp_path / "t.parquet", about, [1, 0]))] == ["1", "0"]


def test_bytes_of_parquet_are_text(tmp_path: Path) -> None:
    rows = {"image": ["a.jpg"], "label": ["chat é".encode()], "raw": [{"b": b"\xff"}], "on": [datetime(2024, 5, 1)]}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    (item,) = read(tmp_path / "t.parquet")
    assert item.columns == {"label": "chat é", "raw": '{"b": "\ufffd"}', "on": "2024-05-01 00:00:00"}


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl"])
def test_columns_that_nobody_asks_for_are_not_made_text(name: str, tmp_path: Path) -> None:
    rows = [{"image": f"{i}.jpg", "label": "x", "vector": [1 / 3 + i] * 512} for i in range(100)]
    if name == "t.jsonl":
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    started_s = time.process_time()
    items = read(tmp_path / name)
    read_s = time.process_time() - started_s
    assert {item.columns["vector"] for item in items} == {" | ".join([str(1 / 3 + i)] * 512) for i in range(100)}
    assert read_s < time.process_time() - started_s - read_s


@pytest.mark.parametrize("length", [-1, 2])
def test_vectors_of_parquet_are_spelled_like_any_list(length: int, tmp_path: Path) -> None:
    vectors = pa.array([[0.1, 2.0], None, [None, float("nan")]], pa.list_(pa.float32(), length))
    pq.write_table(pa.table({"image": ["a.jpg"] * 3, "v": vectors, "label": vectors}), tmp_path / "t.parquet")
    items = read(tmp_path / "t.parquet", text_col="v")
    assert [item.columns["v"] for item in items] == ["0.10000000149011612 | 2.0", "", " | "]
    assert [item.target for item in items] == ["0.10000000149011612 | 2.0", None, "|"]
    assert [(item.text, item.captions) for item in items] == [
        ("0.10000000149011612", ("0.10000000149011612", "2.0")), (None, ()), (None, ())
    ]  # fmt: skip


def test_cells_that_python_has_no_value_for_are_text(tmp_path: Path) -> None:
    names = pa.array([b"caf\xe9.jpg", b"b.jpg"]).view(pa.string())
    far = pa.array([10**7, None], pa.int32()).view(pa.date32())
    pq.write_table(pa.table({"image": names, "taken": far, "n": [1, 2]}), tmp_path / "t.parquet")
    first, second = read(tmp_path / "t.parquet")
    assert first.image == FileBytes(f"{tmp_path}/caf\udce9.jpg") and second.id == "b.jpg"
    assert (first.columns, second.columns) == ({"taken": "29349-01-26", "n": "1"}, {"taken": "", "n": "2"})


def test_a_column_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    tags = pa.ListArray.from_arrays([0, 1], pa.array([b"\xff"]).view(pa.string()))
    pq.write_table(pa.table({"image": ["a.jpg"], "tags": tags}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=r"t\.parquet' after row 0: column 'tags': 'utf-8' codec"):
        read(tmp_path / "t.parquet")


def test_parquet_of_bytes_and_of_paths(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"abc"], "label": [7]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"path": ["a.jpg"], "score": [0.25]}), tmp_path / "p.parquet")
    (bytes_item,), (path_item,) = read(tmp_path / "b.parquet"), read(tmp_path / "p.parquet")
    assert bytes_item.image is not None and bytes_item.image() == b"abc" and bytes_item.target == "7"
    assert path_item.id == "a.jpg" and path_item.target == "0.25"


def test_parquet_rows_stream(tmp_path: Path) -> None:
    picture = io.BytesIO(bytes(100_000)).getvalue()
    with pq.ParquetWriter(tmp_path / "t.parquet", pa.schema([("image", pa.binary())])) as writer:
        for _ in range(40):
            writer.write_table(pa.table({"image": [picture] * 50}))
    before = pa.total_allocated_bytes()
    peak = 0
    for _ in read_items([str(tmp_path / "t.parquet")]):
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 60_000_000  # of 200 MB


def test_data_sets_are_read(data_dir: Path) -> None:
    for name, target in (("grocery/val.csv", "fine"), ("houses/train.csv", "price")):
        items = read(data_dir / name, target_col=target, limit=3)
        assert all(item.image is not None and item.image() and item.text and item.target for item in items)
