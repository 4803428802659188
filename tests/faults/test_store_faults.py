"""Damage, full disks, killed writers: what the store promises then."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import FakeEncoder, draw, encode

from cmprompt.embed import embed
from cmprompt.errors import OutputError, StoreError
from cmprompt.store import Store, upkeep
from cmprompt.types import FileBytes, Item

WRITER = """
import hashlib, sys, time
import numpy as np
from cmprompt.store import Store
path, seed, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
store, numbers, end, n = Store(path), np.random.default_rng(seed), time.monotonic() + seconds, 0
while time.monotonic() < end:
    rows = numbers.normal(size=(7, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[0] = 32 ** -0.5
    own = [hashlib.sha256(rows[i].astype(np.float16).tobytes()).digest() for i in range(7)]
    store.put("k", own, rows)
    print(" ".join(sha.hex() for sha in own), flush=True)
    n += 1
"""


def filled(path: Path, count: int = 100) -> list[bytes]:
    """A store of rows whose hashes are those of their bytes."""
    rows = np.random.default_rng(0).normal(size=(count, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    hashes = [hashlib.sha256(row.astype(np.float16).tobytes()).digest() for row in rows]
    store = Store(path)
    store.put("k", hashes, rows)
    store.close()
    return hashes


def segment_of(path: Path) -> Path:
    (file,) = (path / "segments").iterdir()
    return file


def photos(count: int) -> list[Item]:
    return [Item(str(i), lambda i=i: encode(draw((i, 90, 7), (8, 8)))) for i in range(count)]


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.nightly)])
def test_four_writers_one_killed_lose_no_acknowledged_row_and_keep_none_twice(tmp_path: Path, seconds: int) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "s"), str(seed), str(seconds)], stdout=subprocess.PIPE
        )
        for seed in range(4)
    ]
    timer = threading.Timer(seconds / 2, lambda: writers[1].send_signal(signal.SIGKILL))
    timer.start()
    outputs = [writer.communicate()[0].decode() for writer in writers]
    timer.join()
    assert [writer.returncode for writer in writers] == [0, -signal.SIGKILL, 0, 0]
    acknowledged = {bytes.fromhex(sha) for text in outputs for line in text.splitlines(True) if line.endswith("\n")
                    for sha in line.split()}  # fmt: skip
    hashes, rows = Store(tmp_path / "s").matrix("k")
    assert acknowledged <= set(hashes) and len(set(hashes)) == len(hashes) > 100
    assert all(hashlib.sha256(row.tobytes()).digest() == sha for sha, row in zip(hashes, rows, strict=True))


def test_a_catalogue_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    hashes, notices = filled(tmp_path), list[str]()
    for ending in ("", "-wal", "-shm"):
        (tmp_path / f"catalogue.sqlite{ending}").unlink(missing_ok=True)
    (tmp_path / "catalogue.sqlite").write_bytes(b"not a database at all" * 100)
    store = Store(tmp_path, notices.append)
    assert not store.lookup("k", hashes).found.any()
    (aside,) = tmp_path.glob("aside-*")
    assert (aside / "catalogue.sqlite").exists() and (aside / "segments").exists() and "set aside" in notices[0]


def test_a_catalogue_damaged_inside_is_set_aside_when_that_is_met(tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    store = Store(tmp_path)
    before = [batch.features.image for batch in embed(photos(60), fake_encoder, store)]
    store.close()
    with open(tmp_path / "catalogue.sqlite", "r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    assert size > 3 * 4096
    notices: list[str] = []
    after = [batch.features.image for batch in embed(photos(60), fake_encoder, Store(tmp_path, notices.append))]
    assert np.array_equal(np.concatenate(before), np.concatenate(after))  # type: ignore[arg-type]
    assert notices and Store(tmp_path).catalogue.db.execute("PRAGMA quick_check").fetchone() == ("ok",)


@pytest.mark.parametrize("damage", ["cut", "gone", "other magic", "empty"])
def test_a_damaged_segment_is_set_aside_and_rebuilt(tmp_path: Path, damage: str) -> None:
    hashes, notices = filled(tmp_path), list[str]()
    segment = segment_of(tmp_path)
    data = segment.read_bytes()
    match damage:
        case "cut":
            segment.write_bytes(data[: len(data) // 2])
        case "gone":
            segment.unlink()
        case "other magic":
            segment.write_bytes(b"GARBAGE!" + data[8:])
        case "empty":
            segment.write_bytes(b"")
    store = Store(tmp_path, notices.append)
    assert not store.lookup("k", hashes).found.any() and "rebuilt" in notices[0]
    rows = np.full((100, 32), 32**-0.5, np.float32)
    store.put("k", hashes, rows)
    assert np.array_equal(Store(tmp_path).lookup("k", hashes).vectors, rows.astype(np.float16))


def test_one_flipped_bit_costs_one_vector(tmp_path: Path) -> None:
    hashes, notices = filled(tmp_path), list[str]()
    data = bytearray(segment_of(tmp_path).read_bytes())
    data[64 + 5 * 64 + 10] ^= 1
    segment_of(tmp_path).write_bytes(data)
    found = Store(tmp_path, notices.append).lookup("k", hashes).found
    assert np.flatnonzero(~found).tolist() == [5] and "1 damaged" in notices[0]
    assert [(n, bad) for _, n, bad in upkeep.verify(Store(tmp_path))] == [(99, 0)]


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="newer cmprompt"):
        Store(tmp_path)
    assert not list(tmp_path.glob("aside-*"))


def test_bytes_that_a_killed_writer_left_are_overwritten(tmp_path: Path) -> None:
    hashes = filled(tmp_path)
    with open(segment_of(tmp_path), "ab") as file:
        file.write(b"\x7f" * 1000)
    store, rows = Store(tmp_path), np.full((1, 32), 32**-0.5, np.float32)
    store.put("k", [b"n" * 32], rows)
    assert store.lookup("k", hashes).found.all()
    assert np.array_equal(store.lookup("k", [b"n" * 32]).vectors, rows.astype(np.float16))


FULL_DISK = """
import resource, signal, sys
import numpy as np
from cmprompt.errors import OutputError
from cmprompt.store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
store = Store(sys.argv[1])
rows = np.full((500, 64), 0.125, np.float32)
done = 0
try:
    for block in range(20):
        store.put("k", [f"{block}/{i}".encode().ljust(32) for i in range(500)], rows)
        done += 500
except OutputError as error:
    print(done, error.exit_status, error)
"""


def test_a_store_that_cannot_grow_says_so_and_stays_sound(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    done, status, message = (
        subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, check=True)
        .stdout.decode()
        .split(" ", 2)
    )
    assert status == "4" and str(tmp_path) in message
    assert len(Store(tmp_path).matrix("k")[0]) == int(done) > 0
    assert all(bad == 0 for _, _, bad in upkeep.verify(Store(tmp_path)))


def test_a_full_disk_under_the_store_ends_the_run_and_a_second_goes_on(
    tmp_path: Path, fake_encoder: FakeEncoder
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.name == "nt"
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True).returncode
    ):
        pytest.skip("mounting a small disk needs root")
    try:
        (disk / "ballast").write_bytes(b"x" * (7 << 20))
        fake_encoder.dim = 4096
        items = [Item(str(i), lambda i=i: encode(draw((i % 256, i // 256, 0), (4, 4)))) for i in range(400)]
        with pytest.raises(OutputError, match=str(disk)):
            list(embed(items, fake_encoder, Store(disk / "s")))
        (disk / "ballast").unlink()
        assert sum(len(batch.items) for batch in embed(items, fake_encoder, Store(disk / "s"))) == 400
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_deleted_store_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    filled(tmp_path / "s")
    store = Store(tmp_path / "s")
    for path in (tmp_path / "s" / "segments").iterdir():
        path.unlink()
    (tmp_path / "s" / "segments").rmdir()
    with pytest.raises(StoreError, match=str(tmp_path)):
        store.put("new", [b"1" * 32], np.ones((1, 1), np.float32))


def test_a_file_rewritten_with_the_same_size_and_time_is_scored_anew(tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    path = tmp_path / "a.ppm"
    results = []
    for colour in ("red", "blue"):
        path.write_bytes(encode(draw(colour, (4, 4)), "PPM"))
        os.utime(path, (1_600_000_000, 1_600_000_000))
        (batch,) = embed([Item("a", FileBytes(str(path)))], fake_encoder, Store(tmp_path / "s"))
        assert batch.features.image is not None
        results.append(int(batch.features.image[0].argmax()))
    assert results == [0, 2]


def test_a_writer_waits_for_another(tmp_path: Path) -> None:
    filled(tmp_path)
    holder, waited = Store(tmp_path), Store(tmp_path)
    with holder.catalogue.transaction():
        thread = threading.Thread(target=waited.put, args=("k", [b"w" * 32], np.full((1, 32), 32**-0.5, np.float32)))
        thread.start()
        time.sleep(0.3)
        assert thread.is_alive()
    thread.join(10)
    assert holder.lookup("k", [b"w" * 32]).found.all()


@pytest.mark.skipif(os.name == "nt", reason="Windows moves no folder that is in use")
def test_a_running_process_follows_a_store_that_was_moved_or_removed(tmp_path: Path) -> None:
    running, more = Store(tmp_path / "s"), np.full((40, 32), 32**-0.5, np.float32)
    hashes = [b"%d".ljust(32) % i for i in range(40)]
    running.put("k", hashes[:3], more[:3])
    (tmp_path / "s").rename(tmp_path / "moved")
    others = filled(tmp_path / "s")
    running.put("k", hashes, more)
    assert running.lookup("k", [*others, *hashes]).found.all()
    assert [(n, bad) for _, n, bad in upkeep.verify(Store(tmp_path / "s"))] == [(140, 0)]
    assert Store(tmp_path / "moved").lookup("k", hashes).found.sum() == 3
    shutil.rmtree(tmp_path / "s")
    running.put("k", hashes, more)
    assert Store(tmp_path / "s").lookup("k", [*others, *hashes]).found.sum() == 40


FORKED = """
import os, sys
import numpy as np
from cmprompt.store import Store
rows = np.full((3, 32), 32**-0.5, np.float32)
store, (wait, go) = Store(sys.argv[1]), os.pipe()
store.put("k", [b"%d".ljust(32) % i for i in range(3)], rows)
child = os.fork()
if not child:
    os.read(wait, 1)
    store.put("k", [b"%d".ljust(32) % i for i in range(3, 6)], rows)
    os._exit(0)
store.close()
os.write(go, b".")
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_what_a_fork_keeps_outlives_its_parent(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FORKED, str(tmp_path)], check=True)
    assert Store(tmp_path).lookup("k", [b"%d".ljust(32) % i for i in range(6)]).found.all()
