"""`cmprompt index` and `cmprompt search` as commands, on pictures of one colour and an encoder that sees it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeEncoder, draw
from labelled_photos import write_table
from PIL import Image

from cmprompt.cli.app import run
from cmprompt.index.duplicates import groups
from cmprompt.types import Array


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, fake_encoder: FakeEncoder, tmp_path: Path) -> None:
    """The commands use the fake encoder and a cache of their own."""
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    monkeypatch.setattr("cmprompt.store.default_store_dir", lambda: tmp_path / "store")


def hits(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["search", *map(str, arguments), "--format", "jsonl", "-q"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def names(found: list[dict[str, Any]]) -> list[str]:
    return [Path(row["id"]).stem for row in found]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A table of four pictures and three texts."""
    for name in ("red", "green", "blue"):
        draw(name).save(tmp_path / f"{name}.png")
    draw((200, 0, 0)).save(tmp_path / "dark.png")
    rows = [(f"{name}.png", f"a {name} thing") for name in ("red", "green", "blue")]
    return write_table(tmp_path / "pairs.csv", [*rows, ("dark.png", "a red thing")], ("image", "text"))


def test_words_find_the_picture(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "build", str(colours), "-q"]) == 0
    found = hits(capsys, "something green")
    assert names(found)[0] == "green" and len(found) == 3
    assert [row["rank"] for row in found] == [1, 2, 3]
    assert found[0]["score"] > found[1]["score"] >= found[2]["score"]


def test_text_beside_a_picture_less_another_text(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "build", str(colours), "-q"]) == 0
    both = hits(capsys, "blue", "--like", colours / "red.png", "--minus", "red", "--minus", "red")
    assert names(both)[0] == "blue"
    assert names(hits(capsys, "--like", colours / "red.png", "--top-k", "1")) == ["red"]


def test_texts_that_are_cut_are_said(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "red " * 100
    with pairs.open("a") as file:
        file.write(f"dark.png,{long}\ndark.png,{long}and blue\n")
    for asked in (f"index build {pairs}", f"check {pairs} --no-store"):
        assert run(asked.split()) == 0
        assert "2 texts are cut, since this model reads 77 tokens; the first: 'red red" in capsys.readouterr().err
    assert run(["search", "a", "--minus", long]) == 0
    assert "1 text is cut" in capsys.readouterr().err


def test_texts_in_a_script_that_the_model_does_not_know_are_said(
    pairs: Path, fake_encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(type(fake_encoder), "fallback_share", lambda self, texts: 1.0)
    with pairs.open("a", encoding="utf-8") as file:
        file.write("dark.png,一只 猫\n")
    for asked in (f"index build {pairs}", f"check {pairs} --no-store"):
        assert run(asked.split()) == 0
        said = capsys.readouterr().err
        assert said.count("does not know the script of '一只': 100% of the tokens") == 1 and "--translate" not in said


def test_texts_of_a_table_are_found_by_a_picture(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "build", str(pairs), "-q"]) == 0
    found = hits(capsys, "--like", pairs.parent / "dark.png", "--in", "texts")
    assert found[0]["text"] == "a red thing"
    assert len(found) == 3  # a text that two rows share is one


def test_update_finds_new_changed_and_deleted_files(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "build", str(colours), "-q"]) == 0
    draw("yellow").save(colours / "new.png")
    draw("purple").save(colours / "red.png")
    os.utime(colours / "red.png", ns=(0, time.time_ns() - 10**10))
    (colours / "blue.png").unlink()
    capsys.readouterr()
    assert run(["index", "update"]) == 0
    assert "1 new, 1 changed, 1 deleted, 1 as before" in capsys.readouterr().err
    assert sorted(names(hits(capsys, "red"))) == ["green", "new", "red"]


def test_a_collection_is_listed_verified_and_dropped(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "build", str(colours), "--name", "trips", "-q"]) == 0
    assert run(["index", "list", "--format", "jsonl"]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["name"], row["images"], row["texts"], row["index"]) == ("trips", 3, 0, "exact")
    assert run(["index", "verify"]) == 0
    assert capsys.readouterr().out == "trips: 3 images, 0 texts, ok\n"
    assert run(["index", "drop", "trips"]) == 0
    assert run(["search", "red"]) == 2
    assert "index build" in capsys.readouterr().err


def test_without_the_extra_an_indexed_collection_is_searched_exactly(
    colours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lancedb", reason="the extra [index] is not installed")
    assert run(["index", "build", str(colours), "--ann", "-q"]) == 0
    assert run(["index", "verify"]) == 0
    assert "recall@3 100.0%" in capsys.readouterr().out
    monkeypatch.setattr("cmprompt.index.lancedb.find_spec", lambda name: None)
    assert names(hits(capsys, "green"))[0] == "green"
    assert run(["search", "green", "--ann"]) == 2
    assert run(["index", "update"]) == 2
    assert "cmprompt[index]" in capsys.readouterr().err


def test_damage_has_the_status_of_a_store_that_cannot_be_used(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["index", "build", str(colours), "-q"]) == 0
    path = tmp_path / "store" / "collections" / "default" / "images.vectors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    assert run(["index", "verify"]) == 3
    assert "1 of the images are damaged" in capsys.readouterr().out
    path.unlink()
    assert run(["search", "red"]) == 3


def test_damaged_collections_are_named_beside_the_sound_ones(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        assert run(["index", "build", str(colours), "--name", name, "-q"]) == 0
    (tmp_path / "store" / "collections" / "b" / "about.json").write_text("{")
    capsys.readouterr()
    assert run(["index", "list", "--format", "jsonl", "-q"]) == 3
    shown = capsys.readouterr()
    assert [json.loads(line)["name"] for line in shown.out.splitlines()] == ["a", "c"]
    assert shown.err.startswith("cmprompt: the collection 'b' is damaged (") and shown.err.count("\n") == 1
    for name in ("a", "c"):
        assert run(["index", "drop", name]) == 0
    assert run(["index", "list"]) == 3
    assert "there is no collection yet" not in capsys.readouterr().err


def test_duplicates_are_grouped(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw("red", (50, 50)).save(colours / "red again.png")
    assert run(["index", "build", str(colours), "-q"]) == 0
    capsys.readouterr()
    assert run(["index", "duplicates", "--threshold", "0.999", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(row["group"], Path(row["id"]).stem) for row in rows] == [("1", "red again"), ("1", "red")]


def test_who_compares_many_images_is_told_so(
    colours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["index", "build", str(colours), "--name", "c", "-q"]) == 0
    for many, told in ((3, True), (4, False)):
        monkeypatch.setattr("cmprompt.cli.index.MANY", many)
        assert run(["index", "duplicates", "--name", "c"]) == 0
        assert ("comparing each of 3 images with all others" in capsys.readouterr().err) == told


def test_duplicates_are_named_as_they_were_when_compared(
    colours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw("red").save(colours / "red again.png")
    assert run(["index", "build", str(colours), "-q"]) == 0

    def updated(matrix: Array, threshold: float) -> list[list[int]]:
        draw("purple").save(colours / "a.png")
        assert run(["index", "update", "-q"]) == 0
        return groups(matrix, threshold)

    monkeypatch.setattr("cmprompt.index.duplicates.groups", updated)
    capsys.readouterr()
    assert run(["index", "duplicates", "--format", "csv"]) == 0
    found = csv.DictReader(capsys.readouterr().out.splitlines())
    assert [Path(row["id"]).stem for row in found] == ["red again", "red"]


def test_a_store_that_cannot_be_written_is_searched(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["index", "build", str(colours), "-q"]) == 0
    (tmp_path / "store" / "open.lock").unlink(missing_ok=True)
    (tmp_path / "store" / "open.lock").mkdir()  # as on a disk that is mounted to be read
    for store in ([], ["--store", str(tmp_path / "store")]):
        for arguments in (["list"], ["verify"], ["duplicates"]):
            assert run(["index", *arguments, *store]) == 0
        assert "kept" not in capsys.readouterr().err
        assert run(["search", "green", "--format", "jsonl", *store]) == 0
        shown = capsys.readouterr()
        assert names(list(map(json.loads, shown.out.splitlines())))[0] == "green"
        assert "nothing is kept between runs" in shown.err
    assert run(["search", "green", "--store", ""]) == 2


def test_looking_makes_no_store(tmp_path: Path) -> None:
    for arguments in ("index list", "index verify", "index duplicates", "index drop trips", "search red"):
        run([*arguments.split(), "--store", str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()


def test_contact_sheets(colours: Path, tmp_path: Path) -> None:
    assert run(["index", "build", str(colours), "-q"]) == 0
    for name in ("hits.png", "hits.html"):
        assert run(["search", "red", "-o", str(tmp_path / name)]) == 0
    sheet = np.asarray(Image.open(tmp_path / "hits.png").convert("RGB"))
    assert all((sheet == colour).all(2).any() for colour in ((255, 0, 0), (0, 128, 0), (0, 0, 255)))
    assert (tmp_path / "hits.html").read_text().count("<img") == 3
    assert run(["search", "red", "-o", str(tmp_path / "hits.png")]) == 4


def test_a_page_of_hits_is_offered_where_an_ending_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", "red", "-o", "hits.xyz"]) == 2
    assert "name a file that ends in .png or .html, or add --format, one of table, tsv" in capsys.readouterr().err


def test_what_fails_is_named_and_the_rest_is_kept(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (colours / "broken.png").write_text("no picture")
    assert run(["index", "build", str(colours), "-q"]) == 1
    assert len(hits(capsys, "red")) == 3
    assert run(["index", "update"]) == 1
    said = capsys.readouterr().err
    assert "broken.png: unreadable" in said and "0 deleted, 3 as before, 1 failed\n" in said


def test_names_that_are_not_utf8(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = shutil.copy(colours / "red.png", tmp_path / os.fsdecode(b"caf\xe9.png"))
    assert run(["index", "build", str(picture), "-q"]) == 0
    assert run(["index", "list", "--format", "jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"].endswith("caf\ufffd.png")
    assert run(["index", "update"]) == 0
    assert "1 as before" in capsys.readouterr().err
    assert run(["search", "--like", str(picture), "-o", str(tmp_path / "hits.html")]) == 0
    assert "caf\ufffd.png</title>" in (tmp_path / "hits.html").read_text(encoding="utf-8")


def test_the_precision_of_the_build_is_kept(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_encoder: FakeEncoder
) -> None:
    asked = []

    def load(model: str, device: str, precision: str, **options: object) -> FakeEncoder:
        asked.append(precision)
        return fake_encoder

    monkeypatch.setattr("cmprompt.encoders.load_encoder", load)
    assert run(["index", "build", str(colours), "--precision", "fp32", "-q"]) == 0
    assert run(["index", "update", "-q"]) == run(["search", "red", "-q"]) == 0
    assert run(["index", "update", "--precision", "bf16", "-q"]) == run(["search", "red", "-q"]) == 0
    assert asked == ["fp32", "fp32", "fp32", "bf16", "bf16"]
    path = tmp_path / "store" / "collections" / "default" / "about.json"  # as it was before precisions were kept
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "precision"}))
    assert run(["search", "red", "-q"]) == 0
    assert asked[-1] == "auto"


def test_a_list_is_read_again_from_anywhere(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(colours)
    (tmp_path / "list").write_bytes(b"red.png\0blue.png\0")
    assert run(["index", "build", "--files-from", "../list", "-0", "-q"]) == 0
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list").write_bytes(b"red.png\0green.png\0")
    assert run(["index", "update"]) == 0
    assert "1 new, 0 changed, 1 deleted, 1 as before" in capsys.readouterr().err
    assert sorted(names(hits(capsys, "red"))) == ["green", "red"]
    (tmp_path / "list").write_bytes(b"")
    assert run(["index", "update"]) == 2
    assert "/list; the collection stays" in capsys.readouterr().err


def test_a_dry_run_says_what_would_be_read(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "build", str(colours), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "model\tfake" and lines[-1] == f"input\t{colours / 'red.png'}"
    assert run(["search", "red"]) == 2


def test_flags_that_make_no_sense(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "build", "-"]) == run(["index", "build", "--files-from", "-"]) == 2
    assert run(["index", "build", str(colours), "-q"]) == 0
    for arguments in (
        ["search"],
        ["search", "  "],
        ["search", "", "--like", str(colours / "red.png")],
        ["search", "a", "--minus", " "],
        ["search", "a", "--in", "image"],
        ["search", "a", "--top-k", "0"],
        ["search", "a", "--top-k", "²"],
        ["search", "a", "--ann"],
    ):
        capsys.readouterr()
        assert run(arguments) == 2
        assert capsys.readouterr().err.startswith("cmprompt: ")
    assert run(["search", "a", "--in", "texts"]) == 2
