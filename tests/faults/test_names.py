"""Names of every kind, links, loops, devices and permissions: the walk ends, and each file is read once."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cmprompt.errors import ItemError
from cmprompt.sources import SourceOptions, read_items
from tests.conftest import draw, encode

NAMES = [
    b"new\nline.png", b"tab\tbed.png", b"quo'te\".png", b"-rf.png", b"\xf0\x9f\x90\xb1.png", b"not \xff\xfe utf-8.png",
    b" space .png", b"star*[a].png", b"{1..3}.png", b"back\\slash.png", b"=1+1.png", b"carriage\rreturn.png",
]  # fmt: skip


def ids(*inputs: object, **options: Any) -> list[str]:
    return [item.id for item in read_items([str(one) for one in inputs], SourceOptions(**options))]


def below(root: Path, **options: Any) -> list[str]:
    return [os.path.relpath(id, root) for id in ids(root, **options)]


@pytest.fixture
def odd_names(tmp_path: Path) -> Iterator[Path]:
    for name in NAMES:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(encode(draw("red")))
    yield tmp_path


def test_odd_names_are_walked_and_read(odd_names: Path) -> None:
    items = list(read_items([str(odd_names)]))
    assert sorted(os.fsencode(os.path.basename(item.id)) for item in items) == sorted(NAMES)
    assert all(item.image is not None and item.image() for item in items)


def test_odd_names_round_trip_through_a_null_separated_list(odd_names: Path) -> None:
    paths = [os.path.join(os.fsencode(odd_names), name) for name in NAMES]
    items = list(read_items(["-"], SourceOptions(null_separated=True, stdin=io.BytesIO(b"\0".join(paths) + b"\0"))))
    assert [os.fsencode(item.id) for item in items] == paths
    assert all(item.image is not None and item.image() for item in items)


def test_a_name_that_looks_like_a_pattern_is_taken_as_it_is(odd_names: Path) -> None:
    for name in ("star*[a].png", "{1..3}.png"):
        assert ids(odd_names / name) == [str(odd_names / name)]


def test_loops_and_links_to_the_parent_end(tmp_path: Path) -> None:
    (tmp_path / "root" / "a").mkdir(parents=True)
    draw().save(tmp_path / "root" / "a" / "1.png")
    draw().save(tmp_path / "beside.png")
    (tmp_path / "root" / "a" / "self").symlink_to(".")
    (tmp_path / "root" / "a" / "root").symlink_to("../..")
    (tmp_path / "root" / "b").symlink_to("a")
    (tmp_path / "root" / "up").symlink_to("..")
    (tmp_path / "root" / "slash").symlink_to("/")
    (tmp_path / "root" / "again.png").symlink_to("a/1.png")
    assert below(tmp_path / "root") == ["a/1.png"]


def test_links_that_lead_elsewhere_are_followed_once(tmp_path: Path) -> None:
    for folder in ("root", "elsewhere/deep"):
        (tmp_path / folder).mkdir(parents=True)
    draw().save(tmp_path / "elsewhere" / "deep" / "1.png")
    draw().save(tmp_path / "blob", "PNG")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "one").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "two").symlink_to(tmp_path / "elsewhere" / "deep")
    (tmp_path / "root" / "named.png").symlink_to(tmp_path / "blob")
    assert below(tmp_path / "root") == ["named.png", "one/deep/1.png"]


def test_links_to_what_is_left_out_are_followed(tmp_path: Path) -> None:
    for name in ("data/1.png", ".cache/2.png", "seen/3.png", "more/deep/4.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        draw().save(tmp_path / name)
    (tmp_path / ".gitignore").write_text("data/\nmore/\nunwanted*\n")
    targets = {"a.png": "data/1.png", "b.png": ".cache/2.png", "c.png": "seen/3.png", "d": "more"}
    for name, target in targets.items():
        (tmp_path / name).symlink_to(target)
        (tmp_path / f"unwanted-{name}").symlink_to(target)
    (tmp_path / "more" / "up").symlink_to("..")
    (tmp_path / "more" / "self").symlink_to(".")
    skipped: list[str] = []
    assert below(tmp_path, skipped=skipped.append) == ["a.png", "b.png", "d/deep/4.png", "seen/3.png"]
    names = sorted(os.path.basename(path) for path in skipped)
    assert names == ["data", "more", "unwanted-a.png", "unwanted-b.png", "unwanted-d"]


def test_a_link_to_nowhere_and_one_to_itself_are_records(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "self.png").symlink_to("self.png")
    gone, itself = read_items([str(tmp_path)])
    assert gone.image is not None and itself.image is not None
    with pytest.raises(FileNotFoundError):
        gone.image()
    with pytest.raises(OSError):
        itself.image()


def test_three_hundred_levels(tmp_path: Path) -> None:
    deepest = tmp_path
    for _ in range(300):
        deepest = deepest / "level"
        os.mkdir(deepest)
    draw().save(deepest / "1.png")
    assert below(tmp_path) == ["level/" * 300 + "1.png"]
    assert ids(tmp_path / "**" / "*.png") == [str(deepest / "1.png")]


@pytest.fixture
def specials(tmp_path: Path) -> Iterator[Path]:
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.getcwd()
        os.chdir(tmp_path)  # a socket's path may be no longer than 108 bytes
        server.bind("socket.png")
        os.chdir(folder)
        (tmp_path / "zero.png").symlink_to("/dev/zero")
        draw().save(tmp_path / "real.png")
        yield tmp_path


def test_only_regular_files_are_walked(specials: Path) -> None:
    skipped: list[str] = []
    assert below(specials, skipped=skipped.append) == ["real.png"]
    assert sorted(os.path.basename(path) for path in skipped) == ["pipe.png", "socket.png", "zero.png"]


@pytest.mark.parametrize("name", ["pipe.png", "socket.png", "zero.png"])
def test_a_named_device_is_a_record_and_never_blocks(specials: Path, name: str) -> None:
    (item,) = read_items([str(specials / name)])
    assert item.image is not None
    with pytest.raises(ItemError, match="not a regular file") as caught:
        item.image()
    assert caught.value.status == "unsupported"


@pytest.mark.parametrize("name", ["pipe.tar", "pipe.tgz", "pipe.zip"])
def test_a_pipe_named_as_an_archive_is_a_record_and_never_blocks(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    (item,) = read_items([str(tmp_path / name)])
    assert item.image is not None
    with pytest.raises(ItemError, match="not a regular file"):
        item.image()


def test_a_pipe_that_replaces_a_file_does_not_block(tmp_path: Path) -> None:
    draw().save(tmp_path / "a.png")
    (item,) = read_items([str(tmp_path)])
    (tmp_path / "a.png").unlink()
    os.mkfifo(tmp_path / "a.png")
    raised: list[type[BaseException]] = []

    def read() -> None:
        try:
            assert item.image is not None
            item.image()
        except ItemError as error:
            raised.append(type(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert raised == [ItemError]


@pytest.mark.parametrize("name", ["a\0b.png", "half \ud83d.png"])
def test_a_name_that_no_file_can_have_is_missing(name: str) -> None:
    (item,) = read_items([name])
    assert item.image is not None
    with pytest.raises(ItemError) as caught:
        item.image()
    assert caught.value.status == "missing"


TRY_ALL = """
import json, os, sys
from cmprompt.sources import read_items
if os.geteuid() == 0:  # root may read everything
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
outcomes = []
for item in read_items([sys.argv[1]]):
    try:
        outcomes.append([os.path.basename(item.id), len(item.image()) > 0])
    except OSError as error:
        outcomes.append([os.path.basename(item.id), type(error).__name__])
print(json.dumps(outcomes))
"""


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="POSIX permissions")
def test_no_permission_is_a_record_and_the_walk_goes_on() -> None:
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder)
        photos.chmod(0o755)
        (photos / "b_locked").mkdir()
        for name in ("a.png", "b_locked/hidden.png", "c_secret.png", "d.png"):
            draw().save(photos / name)
        (photos / "c_secret.png").chmod(0)
        (photos / "b_locked").chmod(0)
        done = subprocess.run([sys.executable, "-c", TRY_ALL, folder], capture_output=True, text=True, check=True)
        (photos / "b_locked").chmod(0o755)
    denied = "PermissionError"
    assert json.loads(done.stdout) == [["a.png", True], ["b_locked", denied], ["c_secret.png", denied], ["d.png", True]]
