"""Files, folders, globs and lists."""

from __future__ import annotations

import io
import os
import tracemalloc
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from cmprompt.errors import ItemError, UsageError
from cmprompt.sources import SourceOptions, read_items
from cmprompt.sources.names import is_image_name
from cmprompt.types import FileBytes


def ids(*inputs: object, **options: Any) -> list[str]:
    return [item.id for item in read_items([str(one) for one in inputs], SourceOptions(**options))]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.jpg", "a.PNG", "notes.txt", "c/d/e.webp", "c/f.jpeg", "c/.hidden.jpg", ".secret/g.jpg", "c2/h.tif"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_is_walked_in_order(tree: Path) -> None:
    assert ids(".") == ["./a.PNG", "./b.jpg", "./c/d/e.webp", "./c/f.jpeg", "./c2/h.tif"]
    assert ids("c/") == ["c/d/e.webp", "c/f.jpeg"]


def test_other_files_are_counted_not_taken(tree: Path) -> None:
    skipped: list[str] = []
    ids(".", skipped=skipped.append)
    assert skipped == ["./notes.txt"]
    assert "./notes.txt" in ids(".", all_files=True)


def test_a_named_path_is_always_an_item(tree: Path) -> None:
    assert ids("notes.txt", "gone.jpg", "b.jpg", "b.jpg", "c/.hidden.jpg") == [
        "notes.txt", "gone.jpg", "b.jpg", "b.jpg", "c/.hidden.jpg"
    ]  # fmt: skip


def test_files_are_known_by_their_path(tree: Path) -> None:
    (item,) = read_items(["b.jpg"])
    assert item.image == FileBytes("b.jpg") and item.image() == b""


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["b.jpg"]),
        ("c/*.jpeg", ["c/f.jpeg"]),
        ("**/*.webp", ["c/d/e.webp"]),
        ("c/**/f.*", ["c/f.jpeg"]),
        ("**", ["a.PNG", "b.jpg", "c/d/e.webp", "c/f.jpeg", "c2/h.tif"]),
        ("c?/*", ["c2/h.tif"]),
        ("[ab].*", ["a.PNG", "b.jpg"]),
        ("c*", ["c/d/e.webp", "c/f.jpeg", "c2/h.tif"]),
        ("c/.h*", ["c/.hidden.jpg"]),
        ("c{1..3}/h.tif", ["c1/h.tif", "c2/h.tif", "c3/h.tif"]),
        ("*.{jpg,PNG}", ["b.jpg", "a.PNG"]),
        ("c{/f.*,{2,3}/h.tif}", ["c/f.jpeg", "c2/h.tif", "c3/h.tif"]),
        ("*.gif", ["*.gif"]),
    ],
)
def test_globs(tree: Path, pattern: str, expected: list[str]) -> None:
    assert ids(pattern) == expected
    assert ids(tree / pattern) == [str(tree / path) for path in expected]


def test_an_ignore_file_is_heeded_as_git_would(tree: Path) -> None:
    (tree / ".gitignore").write_text("*.jpg\n!c/keep.jpg\nc2/\n# nothing\n")
    (tree / "c" / ".gitignore").write_text("/f.jpeg\n!d/\n")
    for name in ("c/keep.jpg", "c/other.jpg", "c/d/f.jpeg"):
        (tree / name).touch()
    assert ids(".") == ["./a.PNG", "./c/d/e.webp", "./c/d/f.jpeg", "./c/keep.jpg"]
    assert ids("c2") == ["c2/h.tif"]


@pytest.mark.parametrize("line", ["!", "\\", "foo\\", "[z-a]", "[[:x", "[[x]", "[a&&b]", "[a--b]"])
def test_an_odd_line_of_an_ignore_file_is_passed_over(tree: Path, line: str) -> None:
    (tree / ".gitignore").write_text(f"*.PNG\n{line}\n/b.jpg\n")
    assert ids(".") == ["./c/d/e.webp", "./c/f.jpeg", "./c2/h.tif"]


@pytest.mark.parametrize("line", ["*a" * 12 + "*b", "/**/?" * 12 + "/**/b", "*a*a*b\n" * 100_000])
def test_a_line_that_could_take_for_ever_is_passed_over(tree: Path, line: str) -> None:
    long = os.path.join(*"a" * 50, f"{'a' * 240}.jpg")
    (tree / long).parent.mkdir(parents=True)
    (tree / long).touch()
    (tree / ".gitignore").write_text(f"**/c/**/*.w*p*\n{line}\n/b.jpg\n")
    assert ids(".") == [f"./{long}", "./a.PNG", "./c/f.jpeg", "./c2/h.tif"]


def test_stars_of_comments_are_no_patterns(tree: Path) -> None:
    (tree / ".gitignore").write_text("# *** a section ***\n" * 30 + "*.P*N*G\n/b.jpg\n")
    assert "./a.PNG" not in ids(".")


def test_class_folders_are_targets(tree: Path) -> None:
    targets = {item.id: item.target for item in read_items(["."], SourceOptions(class_folders=True))}
    assert targets["./c/d/e.webp"] == "c" and targets["./c2/h.tif"] == "c2" and targets["./b.jpg"] is None


def test_lists_name_files_one_a_line(tree: Path) -> None:
    (tree / "list").write_bytes(b"b.jpg\r\n\nc/f.jpeg\n gone.jpg")
    assert ids(files_from="list") == ["b.jpg", "c/f.jpeg", " gone.jpg"]
    assert ids("-", "a.PNG", stdin=io.BytesIO(b"b.jpg\n")) == ["b.jpg", "a.PNG"]


def test_a_list_may_begin_with_a_byte_order_mark(tree: Path) -> None:
    mark = b"\xef\xbb\xbf"
    assert ids("-", stdin=io.BytesIO(mark + b"b.jpg\r\n" + mark + b"c.jpg")) == ["b.jpg", "\ufeffc.jpg"]
    assert ids("-", stdin=io.BytesIO(mark + b"b.jpg\0"), null_separated=True) == ["\ufeffb.jpg"]


def test_a_folder_in_a_list_is_one_failed_item(tree: Path) -> None:
    (item,) = read_items(["-"], SourceOptions(stdin=io.BytesIO(b"c\n")))
    assert item.image is not None
    with pytest.raises(IsADirectoryError):
        item.image()


def test_a_slow_list_is_not_held_back(tree: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"b.jpg\nc/f.j")
    with open(reader, "rb") as stream:
        items = read_items(["-"], SourceOptions(stdin=stream))
        assert next(items).id == "b.jpg"
        os.write(writer, b"peg\n")
        os.close(writer)
        assert [item.id for item in items] == ["c/f.jpeg"]


def test_what_is_no_list_is_said(tree: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the list 'nowhere'"):
        ids(files_from="nowhere")
    (tree / "binary").write_bytes(bytes(200_000).replace(b"\0", b"x"))
    with pytest.raises(UsageError, match="not a list of paths"):
        ids(files_from="binary")


def test_an_address_is_not_fetched() -> None:
    (item,) = read_items(["https://example.org/a.jpg"])
    assert item.image is not None
    with pytest.raises(ItemError, match="not fetched"):
        item.image()


def test_the_limit_stops_the_reading(tree: Path) -> None:
    assert ids(".", limit=2) == ["./a.PNG", "./b.jpg"] and ids(".", limit=0) == []


@pytest.mark.parametrize("name", ["a.jpg", "A.JPEG", "b.heic", "c.tga", "d.psd", "e.svg", "f.jp2", "g.eps", "h.avif"])
def test_picture_names(name: str) -> None:
    assert is_image_name(name)


@pytest.mark.parametrize("name", ["a.pdf", "b.ps", "c.mpg", "d.h5", "e.txt", "f", "g.jpg.gz", "h.mp4", "i.bufr"])
def test_names_of_other_things(name: str) -> None:
    assert not is_image_name(name)


class Endless(io.RawIOBase):
    """A list without an end."""

    def __init__(self) -> None:
        self.numbers = count()

    def read(self, size: int = -1) -> bytes:
        return b"".join(b"folder/photo-%09d.jpg\n" % number for number in islice(self.numbers, 1000))


def test_memory_does_not_grow_with_the_count() -> None:
    items = read_items(["-"], SourceOptions(stdin=Endless()))  # type: ignore[arg-type]
    next(islice(items, 5_000, 5_000), None)
    tracemalloc.start()
    assert sum(1 for _ in islice(items, 15_000)) == 15_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
