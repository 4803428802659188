"""Tar and zip archives of pictures by the WebDataset convention."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tracemalloc
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from cmprompt.errors import ItemError, UsageError
from cmprompt.sources import SourceOptions, read_items
from cmprompt.types import Item
from tests.conftest import draw, encode

PNG = encode(draw("red"))


def write(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def read(path: Path) -> list[Item]:
    return list(read_items([str(path)]))


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.zip"])
def test_pictures_with_what_stands_beside_them(tmp_path: Path, name: str) -> None:
    facts = {"captions": ["one", "two"], "label": 4}
    path = write(tmp_path / name, {
        "d/1.png": PNG, "d/1.json": json.dumps(facts).encode(), "d/2.txt": b"hello\n", "d/2.cls": b"dog",
        "d/2.png": PNG, "d/3.png": PNG,
    })  # fmt: skip
    items = read(path)
    assert [item.id for item in items] == [f"{path}::d/{i}.png" for i in (1, 2, 3)]
    assert [(item.text, item.target) for item in items] == [("one", "4"), ("hello", "dog"), (None, None)]
    assert items[0].columns == {"captions": '["one", "two"]', "label": "4"}
    assert all(item.image is not None and item.image() == PNG for item in items)


def test_flags_name_the_fields_of_a_sample(tmp_path: Path) -> None:
    facts = json.dumps({"category": "t-shirt", "desc": "a shirt", "label": 9, "tags": ["a", "b"]}).encode()
    members = {
        "1.png": PNG,
        "2.json": facts,
        "2.png": PNG,
        "2.txt": b"words",
        "2.cls": b"4",
        "3.png": PNG,
        "3.cls": b"5",
    }
    path = str(write(tmp_path / "a.tar", members))

    def seen(**options: Any) -> list[tuple[str | None, str | float | None]]:
        return [(item.text, item.target) for item in read_items([path], SourceOptions(**options))]

    assert seen(target_col="category", text_col="desc") == [(None, None), ("a shirt", "t-shirt"), (None, None)]
    assert seen(target_col="cls", text_col="txt") == [(None, None), ("words", "4"), (None, "5")]
    assert seen(target_col="tags")[1] == ("words", "a | b")
    usual = {"target_col": "category", "text_col": "gone"}
    assert seen(usual_columns=usual) == [(None, None), ("words", "t-shirt"), (None, None)]


@pytest.mark.parametrize("flag", ["text_col", "target_col"])
def test_a_field_that_no_sample_of_a_shard_has_is_said_at_its_end(flag: str, tmp_path: Path) -> None:
    facts, more = (json.dumps(fields).encode() for fields in ({"category": "hat", "label": 9}, {"late": "x"}))
    members = {"1.json": facts, "1.png": PNG, "2.png": PNG, "2.cls": b"1", "3.json": more, "3.png": PNG}
    shard, bare = str(write(tmp_path / "a.tar", members)), str(write(tmp_path / "b.tar", {"1.png": PNG}))
    with pytest.raises(UsageError, match=f"--{flag[:-4]}-col: unknown field 'nonsense'; known: category, cls, label"):
        list(read_items([shard], SourceOptions(**{flag: "nonsense"})))
    with pytest.raises(UsageError, match="no picture has a field 'nonsense' beside it, nor any"):
        list(read_items([bare], SourceOptions(**{flag: "nonsense"})))
    found = [getattr(item, flag[:-4]) for item in read_items([shard], SourceOptions(**{flag: "late"}))]
    assert found == [None, None, "x"]


def test_a_plain_archive_of_photos(tmp_path: Path) -> None:
    skipped: list[str] = []
    members = {
        "./a.png": PNG,
        "b/IMG.1.png": PNG,
        "b/IMG.2.png": PNG,
        "README": b"",
        "__MACOSX/._a.png": b"",
        "n.pdf": b"",
    }
    path = write(tmp_path / "a.zip", members)
    items = list(read_items([str(path)], SourceOptions(skipped=skipped.append)))
    assert [item.id.split("::")[1] for item in items] == ["./a.png", "b/IMG.1.png", "b/IMG.2.png"]
    assert len(skipped) == 3


def test_side_files_that_make_no_sense_are_passed_over(tmp_path: Path) -> None:
    (item,) = read(write(tmp_path / "a.tar", {"1.png": PNG, "1.json": b"{not json", "1.txt": b"caf\xe9"}))
    assert item.text == "caf\ufffd" and item.columns == {}


@pytest.mark.parametrize("all_files", [False, True])
def test_a_caption_or_label_that_is_lost_is_counted(tmp_path: Path, all_files: bool) -> None:
    skipped: list[str] = []
    members = {"1.png": PNG, "1.txt": b"x" * ((1 << 20) + 1), "1.caption": b"red", "1.cls": b" " * (2 << 20)}
    path = write(tmp_path / "a.zip", members)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("1.caption", "blue")
    (item,) = read_items([str(path)], SourceOptions(skipped=skipped.append, all_files=all_files))
    assert (item.text, item.target) == ("red", None)
    assert skipped == [f"{path}::1.txt", f"{path}::1.cls", f"{path}::1.caption"]


def test_a_label_that_the_archive_cuts_off_is_counted(tmp_path: Path) -> None:
    skipped: list[str] = []
    path = write(tmp_path / "a.tar", {"1.png": PNG, "1.cls": b"red" * 500})
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"redred") + 600])
    item, *_ = read_items([str(path)], SourceOptions(skipped=skipped.append))
    assert item.target is None and skipped == [f"{path}::1.cls"]


def test_half_a_surrogate_pair_beside_a_picture_is_replaced(tmp_path: Path) -> None:
    facts = rb'{"caption": "cut \ud83d", "label": "\ude00", "words": ["\ud83d"]}'
    (item,) = read(write(tmp_path / "a.tar", {"1.png": PNG, "1.json": facts}))
    half = "\ufffd\ufffd\ufffd"
    assert (item.text, item.target, item.columns["words"]) == (f"cut {half}", half, f'["{half}"]')


def test_one_key_with_many_pictures_does_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmprompt.sources.shards._MAX_SAMPLE_BYTES", 1_000_000)
    path = write(tmp_path / "a.tar", {f"IMG.{i}.png": bytes(200_000) for i in range(40)})
    tracemalloc.start()
    assert [len(item.image() or b"") for item in read_items([str(path)]) if item.image] == [200_000] * 40
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000


def test_pictures_of_a_tar_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", {f"{i}.png": bytes([i]) * 200_000 for i in range(40)})
    tracemalloc.start()
    items = read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    last, first = items[-1].image, items[0].image
    assert last is not None and last() == bytes([39]) * 200_000
    assert first is not None and first() == bytes(200_000)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        first()


def test_a_tar_that_was_touched_or_grew_is_read_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", {"1.png": PNG, "2.png": PNG})
    items = read(path)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    with tarfile.open(path, "a") as archive:
        archive.addfile(tarfile.TarInfo("3.png"), io.BytesIO())
    assert [item.image() for item in items if item.image] == [PNG, PNG]


def test_a_picture_of_a_tar_that_is_another_by_now_is_not_taken_for_it(tmp_path: Path) -> None:
    item, _ = read(write(tmp_path / "a.tar", {"1.png": PNG, "2.png": PNG}))
    write(tmp_path / "a.tar", {"2.png": PNG, "3.png": bytes(20_000)})
    assert item.image is not None
    with pytest.raises(ItemError, match="the archive has changed"):
        item.image()


def test_a_picture_that_a_tar_cuts_off_is_truncated(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", {"1.png": bytes(40_000)})
    path.write_bytes(path.read_bytes()[:20_000])
    item, _ = read(path)
    assert item.image is not None
    with pytest.raises(ItemError, match="the archive ends within this member") as caught:
        item.image()
    assert caught.value.status == "truncated"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_pictures_with_long_names_are_found_behind_all_their_headers(tmp_path: Path, form: int) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as tar:
        for data in (PNG, b"other"):
            info = tarfile.TarInfo(f"{'long/' * 50}{len(data)}.png")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert [item.image and item.image() for item in read(tmp_path / "a.tar")] == [PNG, b"other"]


def test_members_are_not_remembered(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", {f"{i:06}.png": b"x" for i in range(600)})
    items = read_items([str(path)])
    next(islice(items, 100, 100), None)
    tracemalloc.start()
    assert sum(1 for _ in items) == 500
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000


def test_shards_by_number(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"s-{i:03}.tar", {f"{i}.png": PNG})
    items = read_items([str(tmp_path / "s-{000..002}.tar")])
    assert [item.id.split("::")[1] for item in items] == ["0.png", "1.png", "2.png"]


def test_a_missing_shard_is_one_failed_item(tmp_path: Path) -> None:
    (item,) = read(tmp_path / "gone.tar")
    assert item.image is not None
    with pytest.raises(FileNotFoundError):
        item.image()


def test_the_captions_of_a_real_shard(data_dir: Path) -> None:
    items = list(read_items([str(data_dir / "flickr8k" / "val.tar")], SourceOptions(limit=5)))
    assert all(item.text and len(json.loads(item.columns["captions"])) == 5 for item in items)
