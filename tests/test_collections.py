"""Named collections: built, replaced, read, damaged, dropped."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from cmprompt.errors import OutputError, StoreError, UsageError
from cmprompt.index import exact
from cmprompt.index.building import Changes, build
from cmprompt.index.collections import About, Collection, Entry, about_of, drop, names, only_name
from cmprompt.types import Array, Embedded, Features, Item, Outcome


def about(name: str = "trips", dim: int = 4, ann: bool = False) -> About:
    return About(name, "tiny", "tiny@1", dim, "float16", ("photos",), ann=ann)


def batch(ids: list[str], vectors: Array, texts: list[str] | None = None, failed: int | None = None) -> Embedded:
    items = tuple(Item(id, None, texts[place] if texts else None) for place, id in enumerate(ids))
    outcomes = tuple(Outcome("missing", "gone") if place == failed else Outcome() for place in range(len(ids)))
    has_image = np.arange(len(ids)) != (-1 if failed is None else failed)
    has_text = np.full(len(ids), texts is not None)
    return Embedded(items, outcomes, Features(vectors, vectors if texts else None, has_image, has_text))


EYE = np.eye(4, dtype=np.float32)


def test_rows_come_back_in_order_without_the_failed(tmp_path: Path) -> None:
    build(tmp_path, about(), [batch(["a", "b"], EYE[:2]), batch(["c", "d"], EYE[2:], failed=0)])
    found = Collection(tmp_path, "trips")
    assert np.array_equal(found.matrix("images"), EYE[[0, 1, 3]].astype(np.float16))
    assert found.entries("images", [2, 0]) == [Entry("d"), Entry("a")]
    assert (found.about.images, found.about.texts) == (3, 0)
    assert found.matrix("texts").shape == (0, 4)
    assert not found.damaged()


@pytest.mark.parametrize("threads", [None, 3])
def test_a_search_takes_a_thread_for_each_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int | None
) -> None:
    build(tmp_path, about(), [batch(["a", "b", "c", "d"], EYE)])
    parts: list[tuple[int, int]] = []

    def search(queries: Array, matrix: Array, k: int, first: int, last: int) -> list[tuple[Array, Array]]:
        parts.append((first, last))
        return _search(queries, matrix, k, first, last)

    _search = exact._search
    monkeypatch.setattr(exact, "_search", search)
    monkeypatch.setattr(exact, "cores", lambda: 4)
    found = Collection(tmp_path, "trips").nearest("images", EYE[1:2], 2, threads=threads)
    assert found.rows.tolist() == [[1, 0]]
    assert sorted(parts) == ([(0, 1), (1, 2), (2, 3), (3, 4)] if threads is None else [(0, 1), (1, 2), (2, 4)])


def test_a_text_that_rows_share_is_kept_once(tmp_path: Path) -> None:
    build(tmp_path, about(), [batch(["a", "b", "c"], EYE[:3], ["one", "two", "one"])])
    found = Collection(tmp_path, "trips")
    assert found.entries("texts", [0, 1]) == [Entry("a", text="one"), Entry("b", text="two")]
    assert found.about.texts == 2


def test_a_picture_with_several_texts_is_kept_once(tmp_path: Path) -> None:
    rows = batch(["a", "b", "a"], EYE[[0, 1, 0]], ["one", "two", "three"])
    assert build(tmp_path, about(), [rows]) == Changes(new=5, changed=0, deleted=0, same=0)
    found = Collection(tmp_path, "trips")
    assert found.entries("images", [0, 1]) == [Entry("a"), Entry("b")]
    assert (found.about.images, found.about.texts) == (2, 3)
    assert build(tmp_path, about(), [rows]) == Changes(new=0, changed=0, deleted=0, same=5)


def test_frames_of_one_clip_are_all_kept(tmp_path: Path) -> None:
    frames = batch(["a", "a"], EYE[[0, 0]])
    items = tuple(replace(item, time_s=float(second)) for second, item in enumerate(frames.items))
    build(tmp_path, about(), [replace(frames, items=items)])
    assert Collection(tmp_path, "trips").about.images == 2


def test_building_again_says_what_changed(tmp_path: Path) -> None:
    assert build(tmp_path, about(), [batch(["a", "b", "c"], EYE[:3])]) == Changes(new=3, changed=0, deleted=0, same=0)
    again = build(tmp_path, about(), [batch(["a", "b", "d"], EYE[[0, 3, 2]])])
    assert again == Changes(new=1, changed=1, deleted=1, same=1)
    assert Collection(tmp_path, "trips").entries("images", [2]) == [Entry("d")]


def test_a_build_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    build(tmp_path, about(), [batch(["a"], EYE[:1])])

    def broken() -> object:
        yield batch(["b"], EYE[1:2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, about(), broken())  # type: ignore[arg-type]
    assert Collection(tmp_path, "trips").entries("images", [0]) == [Entry("a")]
    assert names(tmp_path) == ["trips"]


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    build(tmp_path, about(), [batch(["caf\udce9.jpg"], EYE[:1])])
    assert Collection(tmp_path, "trips").entries("images", [0]) == [Entry("caf\udce9.jpg")]


def test_damage_is_found(tmp_path: Path) -> None:
    build(tmp_path, about(), [batch(["a", "b"], EYE[:2])])
    path = tmp_path / "collections" / "trips" / "images.vectors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert Collection(tmp_path, "trips").damaged() == {"images": 1}
    path.write_bytes(data[:-8])
    with pytest.raises(StoreError, match="build it again"):
        Collection(tmp_path, "trips").matrix("images")


def test_a_damaged_collection_can_be_built_again(tmp_path: Path) -> None:
    build(tmp_path, about(), [batch(["a"], EYE[:1])])
    (tmp_path / "collections" / "trips" / "entries.sqlite").write_bytes(b"no database" * 100)
    assert build(tmp_path, about(), [batch(["b"], EYE[1:2])]).new == 1
    assert Collection(tmp_path, "trips").entries("images", [0]) == [Entry("b")]


def test_two_builds_of_one_name_exclude_each_other(tmp_path: Path) -> None:
    def while_it_runs() -> Iterator[Embedded]:
        with pytest.raises(OutputError, match="another run"):
            build(tmp_path, about(), [])
        yield batch(["a"], EYE[:1])

    build(tmp_path, about(), while_it_runs())
    assert Collection(tmp_path, "trips").entries("images", [0]) == [Entry("a")]


def test_what_is_being_built_is_not_dropped(tmp_path: Path) -> None:
    build(tmp_path, about(), [batch(["a"], EYE[:1])])

    def while_it_runs() -> Iterator[Embedded]:
        with pytest.raises(OutputError, match="another run"):
            drop(tmp_path, "trips")
        yield batch(["b"], EYE[1:2])

    build(tmp_path, about(), while_it_runs())
    assert Collection(tmp_path, "trips").entries("images", [0]) == [Entry("b")]


def test_what_takes_its_place_changes_no_answer_of_an_open_one(tmp_path: Path) -> None:
    build(tmp_path, about(), [batch(["a", "b", "c"], EYE[:3], ["one", "two", "three"])])
    found = Collection(tmp_path, "trips")
    for replace_it in (lambda: build(tmp_path, about(), [batch(["d"], EYE[3:])]), lambda: drop(tmp_path, "trips")):
        replace_it()
        assert np.array_equal(found.matrix("texts"), EYE[:3].astype(np.float16))
        assert found.entries("images", found.nearest("images", EYE[1:2], 1).rows[0].tolist()) == [Entry("b")]
        assert len(found.fingerprints()) == 6 and not found.damaged()


def test_a_reader_meets_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    def build_one(count: int) -> None:
        rows = np.full((count, 4), count, np.float32)
        build(tmp_path, about(), [batch([f"{row} of {count}" for row in range(count)], rows)])

    def build_on() -> None:
        for count in cycle([3, 1, 2]):
            if done.is_set():
                return
            build_one(count)

    build_one(2)
    done, writer, end = threading.Event(), threading.Thread(target=build_on), time.monotonic() + 0.7
    writer.start()
    try:
        while time.monotonic() < end:
            found = Collection(tmp_path, only_name(tmp_path))
            count = found.about.images
            assert found.entries("images", range(count)) == [Entry(f"{row} of {count}") for row in range(count)]
            assert (found.matrix("images") == count).all() and not found.damaged()
            assert about_of(tmp_path, "trips").images in (1, 2, 3)
    finally:
        done.set()
        writer.join()


def test_a_build_that_was_killed_is_no_collection(tmp_path: Path) -> None:
    build(tmp_path, about(), [batch(["a"], EYE[:1])])
    (tmp_path / "collections" / "trips").rename(tmp_path / "collections" / ".trips.new")
    assert names(tmp_path) == []
    build(tmp_path, about(), [batch(["b"], EYE[1:2])])
    assert names(tmp_path) == ["trips"]


def test_a_full_disk_keeps_the_old_collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, about(), [batch(["a"], EYE[:1])])

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cmprompt.store.segments._write_all", full)
    with pytest.raises(OutputError, match=r"trips.*No space left"):
        build(tmp_path, about(), [batch(["b"], EYE[1:2])])
    assert Collection(tmp_path, "trips").entries("images", [0]) == [Entry("a")]


def test_a_folder_that_gives_nothing_replaces_nothing(tmp_path: Path) -> None:
    build(tmp_path, about(), [batch(["a"], EYE[:1])])
    with pytest.raises(UsageError, match="photos; the collection stays"):
        build(tmp_path, about(), [batch(["b"], EYE[1:2], failed=0)])
    assert Collection(tmp_path, "trips").entries("images", [0]) == [Entry("a")]


def test_which_collection_is_meant(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="index build"):
        only_name(tmp_path)
    build(tmp_path, about("trips"), [batch(["a"], EYE[:1])])
    assert only_name(tmp_path) == "trips"
    build(tmp_path, about("work"), [batch(["a"], EYE[:1])])
    with pytest.raises(UsageError, match="trips, work"):
        only_name(tmp_path)
    with pytest.raises(UsageError, match="did you mean trips"):
        Collection(tmp_path, "trisp")
    drop(tmp_path, "work")
    assert names(tmp_path) == ["trips"]
    with pytest.raises(UsageError, match="no name for a collection"):
        drop(tmp_path, "../trips")


def test_a_store_may_be_named_by_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build(Path("store"), about(), [batch(["a"], EYE[:1])])
    assert Collection(Path("store"), "trips").entries("images", [0]) == [Entry("a")]
