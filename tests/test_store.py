"""The store: what goes in comes out, under its own key, once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from cmprompt.errors import StoreError
from cmprompt.store import DAY_S, Identity, Store, identify, open_store, upkeep
from cmprompt.store.catalogue import _on_network
from cmprompt.store.segments import TOUCHED_BYTES, Segment
from cmprompt.types import Array


def rows(count: int, dim: int = 8, seed: int = 0) -> tuple[list[bytes], Array]:
    """`count` hashes and unit rows."""
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    hashes = [hashlib.sha256(f"{seed}/{i}".encode()).digest() for i in range(count)]
    return hashes, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def filled(path: Path, count: int = 100, key: str = "k") -> Store:
    store = Store(path)
    store.put(key, *rows(count))
    return store


def put_at(monkeypatch: pytest.MonkeyPatch, days_ago: float, store: Store, key: str, count: int, seed: int) -> None:
    """Keep rows as if that had been so many days ago."""
    import time

    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr("cmprompt.store.time.time", lambda: now - days_ago * DAY_S)
        store.put(key, *rows(count, seed=seed))


def test_rows_come_back_as_float16(tmp_path: Path) -> None:
    hashes, vectors = rows(100)
    filled(tmp_path)
    found, back, flags = Store(tmp_path).lookup("k", [*hashes[::-1], b"?" * 32])
    assert found.tolist() == [True] * 100 + [False]
    assert np.array_equal(back[:100][::-1], vectors.astype(np.float16).astype(np.float32))
    assert not back[100].any() and set(flags) == {()}


def test_float32_is_kept_where_asked_and_not_mixed(tmp_path: Path) -> None:
    hashes, vectors = rows(10)
    store = Store(tmp_path)
    store.put("exact", hashes, vectors, dtype="float32")
    assert np.array_equal(store.lookup("exact", hashes).vectors, vectors)
    with pytest.raises(StoreError, match="8 x float32"):
        store.put("exact", *rows(3, seed=1))


def test_an_unknown_key_finds_nothing(tmp_path: Path) -> None:
    found, vectors, _ = filled(tmp_path).lookup("another model", rows(5)[0])
    assert not found.any() and vectors.shape == (5, 0)


def test_what_is_here_stays_and_comes_once(tmp_path: Path) -> None:
    hashes, vectors = rows(6)
    store = Store(tmp_path)
    store.put("k", [*hashes[:3], hashes[0]], vectors[[0, 1, 2, 3]])
    store.put("k", hashes, vectors[::-1])
    assert store.matrix("k")[0] == hashes
    assert np.array_equal(store.matrix("k")[1][:3], vectors[:3].astype(np.float16))


def test_flags_stay_with_their_row(tmp_path: Path) -> None:
    hashes, vectors = rows(3)
    Store(tmp_path).put("k", hashes, vectors, [(), ("truncated", "first_frame"), ()])
    assert Store(tmp_path).lookup("k", hashes).flags == [(), ("truncated", "first_frame"), ()]


def test_more_hashes_than_one_query_holds(tmp_path: Path) -> None:
    hashes, vectors = rows(5000)
    Store(tmp_path).put("k", hashes, vectors)
    assert Store(tmp_path).lookup("k", hashes).found.all()


def test_a_matrix_is_mapped_and_in_order(tmp_path: Path) -> None:
    store = filled(tmp_path, 50)
    store.put("k", *rows(50, seed=1))
    hashes, matrix = store.matrix("k")
    assert hashes == rows(50)[0] + rows(50, seed=1)[0]
    assert matrix.dtype == np.float16 and isinstance(matrix.base, np.memmap | np.ndarray) and not matrix.flags.owndata
    assert store.matrix("nothing")[1].shape == (0, 0)


def test_a_long_pass_lets_go_of_mapped_pages(tmp_path: Path) -> None:
    hashes, vectors = rows(40, dim=4096)
    store = Store(tmp_path)
    store.put("wide", hashes, vectors)
    for _ in range(TOUCHED_BYTES // (40 * 4096 * 2) + 1):
        store.lookup("wide", hashes)
    assert store.segment(store.keys()[0])._map is None
    assert store.lookup("wide", hashes).found.all()


def test_an_unchanged_file_is_known_and_a_changed_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmprompt.store.SETTLED_NS", 0)
    file, store = tmp_path / "a", Store(tmp_path / "s")
    file.write_text("one")
    before = identify(str(file))
    store.put("k", *rows(1))
    store.remember_files([before], rows(1)[0])
    assert np.array_equal(store.lookup_files("k", [before, None]).vectors[0], store.lookup("k", rows(1)[0]).vectors[0])
    assert store.lookup_files("k", [before, None]).found.tolist() == [True, False]
    file.write_text("two")
    os.utime(file, ns=(0, 0))
    assert not store.lookup_files("k", [identify(str(file))]).found.any()


def test_a_file_younger_than_two_seconds_is_neither_remembered_nor_believed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    now = identify(str(tmp_path / "a"))
    assert not now.settled
    store = filled(tmp_path / "s", 1)
    store.remember_files([now], rows(1)[0])
    settled = Identity(now.path, now.stamp, True)
    assert not store.lookup_files("k", [settled]).found.any()
    store.remember_files([settled], rows(1)[0])
    assert store.lookup_files("k", [now, settled]).found.tolist() == [False, True]


def test_a_name_that_is_not_utf8_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmprompt.store.SETTLED_NS", 0)
    name = os.path.join(os.fsencode(tmp_path), b"\xff\xfe.jpg")
    with open(name, "wb"):
        pass
    file, store = identify(os.fsdecode(name)), filled(tmp_path / "s", 1)
    store.remember_files([file], rows(1)[0])
    assert store.lookup_files("k", [file]).found.all()


def test_relative_paths_are_told_apart_by_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").touch()
    monkeypatch.chdir(tmp_path)
    assert identify("a") == identify(str(tmp_path / "a"))


def test_pruning_by_age_keeps_the_young(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    put_at(monkeypatch, 40, store, "k", 30, seed=1)
    put_at(monkeypatch, 1, store, "k", 20, seed=2)
    upkeep.prune(store, older_than_days=30)
    assert store.matrix("k")[0] == rows(20, seed=2)[0]
    assert np.array_equal(store.lookup("k", rows(20, seed=2)[0]).vectors, rows(20, seed=2)[1].astype(np.float16))


def test_pruning_by_use_drops_whole_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    put_at(monkeypatch, 100, store, "old", 30, seed=1)
    put_at(monkeypatch, 100, store, "in use", 30, seed=1)
    store.lookup("in use", rows(1, seed=1)[0])
    upkeep.prune(store, unused_days=90)
    assert [key.store_key for key in store.keys()] == ["in use"]
    assert len(list((tmp_path / "segments").iterdir())) == 1


def test_pruning_by_size_drops_the_least_used_and_then_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    put_at(monkeypatch, 9, store, "old", 100, seed=1)
    put_at(monkeypatch, 5, store, "new", 60, seed=2)
    put_at(monkeypatch, 4, store, "new", 40, seed=3)
    assert upkeep.prune(store, max_bytes=50 * 8 * 2) >= 150 * 8 * 2
    assert [(key.store_key, key.rows) for key in store.keys()] == [("new", 50)]
    assert store.matrix("new")[0] == rows(60, seed=2)[0][50:] + rows(40, seed=3)[0]


def test_another_process_reads_and_writes_on_after_pruning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = Store(tmp_path), Store(tmp_path)
    put_at(monkeypatch, 40, store, "k", 30, seed=1)
    put_at(monkeypatch, 0, store, "k", 30, seed=2)
    assert other.lookup("k", rows(30, seed=2)[0]).found.all()
    upkeep.prune(store, older_than_days=30)
    assert other.lookup("k", rows(30, seed=2)[0]).found.all()
    other.put("k", *rows(5, seed=3))
    assert store.lookup("k", rows(5, seed=3)[0]).found.all()


def test_others_write_while_pruning_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmprompt.store.catalogue.BUSY_TIMEOUT_S", 0.1)
    monkeypatch.setattr("cmprompt.store.upkeep.BLOCK", 40)
    store, other, added = Store(tmp_path), Store(tmp_path), list[int]()
    put_at(monkeypatch, 40, store, "k", 30, seed=1)
    store.put("k", *rows(100, seed=2))
    write = Segment.write

    def write_and_let_others(segment: Segment, first_row: int, vectors: Array) -> None:
        write(segment, first_row, vectors)
        if "-1.float" in segment.path.name and len(added) < 2:
            added.append(len(added))
            other.put("k", *rows(10, seed=3 + added[-1]))
            other.forget(other.keys()[0], rows(5, seed=2)[0])

    monkeypatch.setattr(Segment, "write", write_and_let_others)
    upkeep.prune(store, older_than_days=30)
    assert added == [0, 1] and [(key.generation, key.rows) for key in store.keys()] == [(1, 120)]
    assert store.matrix("k")[0] == rows(100, seed=2)[0][5:] + rows(10, seed=3)[0] + rows(10, seed=4)[0]
    for seed, count, here in ((2, 100, 95), (3, 10, 10), (4, 10, 10)):
        found = other.lookup("k", rows(count, seed=seed)[0])
        assert found.found.sum() == here
        assert np.array_equal(found.vectors[-here:], rows(count, seed=seed)[1][-here:].astype(np.float16))


def test_a_key_that_is_cleared_while_pruning_copies_it_stays_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = Store(tmp_path), Store(tmp_path)
    put_at(monkeypatch, 40, store, "k", 30, seed=1)
    store.put("k", *rows(30, seed=2))
    read = Segment.read

    def read_and_clear(segment: Segment, places: Array) -> Array:
        taken = read(segment, places)
        upkeep.clear(other)
        return taken

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "read", read_and_clear)
        upkeep.prune(store, older_than_days=30)
    assert store.keys() == [] and not list((tmp_path / "segments").iterdir())


def test_pruning_forgets_files_whose_content_went(tmp_path: Path) -> None:
    store = filled(tmp_path, 2)
    files = [Identity(b"/a", b"1", True), Identity(b"/b", b"2", True)]
    store.remember_files(files, [rows(1)[0][0], b"gone" * 8])
    upkeep.prune(store)
    assert store.lookup_files("k", files).found.tolist() == [True, False]
    assert upkeep.summary(store).files == 1


def test_a_cleared_store_is_empty_and_goes_on(tmp_path: Path) -> None:
    store, other = filled(tmp_path), Store(tmp_path)
    upkeep.clear(store)
    assert not other.lookup("k", rows(100)[0]).found.any()
    assert not list((tmp_path / "segments").iterdir())
    other.put("k", *rows(3))
    assert store.lookup("k", rows(3)[0]).found.all()


def test_a_sound_store_verifies(tmp_path: Path) -> None:
    store = filled(tmp_path, 9000)
    assert [(key.store_key, n, bad) for key, n, bad in upkeep.verify(store)] == [("k", 9000, 0)]


def test_a_row_that_is_no_unit_vector_fails_verification(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("k", rows(3)[0], np.array([[1, 0], [0, 0], [np.nan, 0]], np.float32))
    assert [(n, bad) for _, n, bad in upkeep.verify(store)] == [(3, 2)]
    assert store.lookup("k", rows(3)[0]).found.tolist() == [True, False, False]


def test_a_summary_counts(tmp_path: Path) -> None:
    found = upkeep.summary(filled(tmp_path, 70))
    assert [(key.store_key, key.dim, count) for key, count in found.keys] == [("k", 8, 70)]
    assert found.files == 0 and found.aside == [] and found.size > 70 * 16


def test_a_store_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/store"):
        open_store(str(tmp_path / "file" / "store"))


def test_without_a_usable_cache_a_run_goes_on_with_a_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("cmprompt.store.default_store_dir", lambda: tmp_path / "file" / "store")
    notices: list[str] = []
    assert open_store(None, notices.append) is None
    assert "nothing is kept" in notices[0]


def test_a_local_disk_is_not_taken_for_a_network(tmp_path: Path) -> None:
    assert not _on_network(tmp_path)
    store = filled(tmp_path)
    assert store.catalogue.db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


@pytest.mark.parametrize(
    ("mount", "is_network"),
    [("ext4 /", False), ("tmpfs /home", False), ("nfs4 /home", True), ("gpfs /home", True), ("virtiofs /home", True),
     ("nfs /home/my\\040share", True), ("nfs /home/other", False)],
)  # fmt: skip
def test_mounts_tell_which_disks_are_local(mount: str, is_network: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, point = mount.split(" ")
    table = f"/dev/root / ext4 rw 0 0\nserver {point} {kind} rw 0 0\n"
    monkeypatch.setattr("cmprompt.store.catalogue.Path.read_text", lambda path, **options: table)
    assert _on_network(Path("/home/my share/cache")) == is_network


def test_on_a_network_file_system_the_journal_is_a_rollback_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmprompt.store.catalogue._on_network", lambda path: True)
    store = filled(tmp_path)
    assert store.catalogue.db.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
    assert Store(tmp_path).lookup("k", rows(100)[0]).found.all()
