"""`--stdin-jsonl`: one process that answers each line before the next is asked for."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, FakeEncoder

from cmprompt.cli.app import run
from cmprompt.errors import ItemError
from cmprompt.sources import SourceOptions, read_items
from cmprompt.sources.requests import MAX_LINE_BYTES


def read(*lines: bytes) -> list[Any]:
    return list(read_items([], SourceOptions(requests=True, stdin=io.BytesIO(b"\n".join(lines)))))


def test_a_line_is_an_item(colours: Path) -> None:
    named, numbered = read(
        json.dumps({"path": f"{colours}/red.png"}).encode(), b"",
        json.dumps({"path": f"{colours}/blue.png", "id": 7, "text": "sea"}).encode(),
    )  # fmt: skip
    assert (named.id, named.text, numbered.id, numbered.text) == (f"{colours}/red.png", None, "7", "sea")
    assert named.image() == (colours / "red.png").read_bytes()


@pytest.mark.parametrize("line", [b"photo.jpg", b"[1]", b"{}", b'{"path": 3}', b"\xff", b"[" * 500_000])
def test_a_line_that_makes_no_sense_has_an_answer_too(line: bytes) -> None:
    (item,) = read(line)
    with pytest.raises(Exception, match="line 1"):
        item.image()


def test_a_line_that_is_too_long_has_one_answer(colours: Path) -> None:
    request = json.dumps({"path": f"{colours}/red.png", "id": "red"}).encode()
    first, long, last, end = read(request.ljust(MAX_LINE_BYTES), b" " * (5 * MAX_LINE_BYTES), request, b"x" * (2 << 20))
    assert [item.id for item in (first, long, last, end)] == ["red", "line 2", "red", "line 4"]
    for item in (long, end):
        with pytest.raises(ItemError, match="is over 1 MB") as caught:
            item.image()
        assert caught.value.status == "too_large"


@pytest.mark.parametrize("more", [["photo.jpg"], ["--format", "tsv"], ["-o", "out.jsonl"]])
def test_what_does_not_go_with_it(monkeypatch: pytest.MonkeyPatch, fake_encoder: FakeEncoder, more: list[str]) -> None:
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    assert run(["classify", "--stdin-jsonl", "--labels", "red,blue", *more]) == 2


@pytest.mark.parametrize("command", ["embed", "index build"])
@pytest.mark.parametrize("more", [["photo.jpg"], ["--files-from", "list"], ["--dry-run"]])
def test_what_does_not_go_with_it_elsewhere(
    monkeypatch: pytest.MonkeyPatch, fake_encoder: FakeEncoder, command: str, more: list[str]
) -> None:
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    assert run([*command.split(), "--stdin-jsonl", *more]) == 2


def feed(monkeypatch: pytest.MonkeyPatch, *requests: dict[str, str]) -> None:
    """Put requests on standard input."""
    lines = b"".join(json.dumps(request).encode() + b"\n" for request in requests)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))


def test_embed_answers_with_vectors(
    colours: Path, fake_encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    red = f"{colours}/red.png"
    feed(monkeypatch, {"path": red, "id": "1"}, {"path": red, "text": "red"}, {"path": "/nowhere.png"})
    assert run(["embed", "--stdin-jsonl", "--no-store"]) == 1
    first, second, third = map(json.loads, capfdbinary.readouterr().out.splitlines())
    assert (first["id"], first["status"], len(first["vector"])) == ("1", "ok", 8)
    assert "text_vector" not in first and "flags" not in first
    assert second["vector"] == first["vector"] and len(second["text_vector"]) == 8
    assert third == {"id": "/nowhere.png", "status": "missing", "error": "No such file or directory"}


def test_index_keeps_what_is_asked_and_cannot_ask_again(
    colours: Path, fake_encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    store = ["--store", str(tmp_path / "store")]
    feed(monkeypatch, {"path": f"{colours}/red.png", "text": "sunset"}, {"path": f"{colours}/blue.png", "id": "sea"})
    assert run(["index", "build", "--stdin-jsonl", "--name", "inbox", *store]) == 0
    answers = list(map(json.loads, capfdbinary.readouterr().out.splitlines()))
    assert [(answer["id"], answer["status"]) for answer in answers] == [(f"{colours}/red.png", "ok"), ("sea", "ok")]
    assert run(["search", "blue", *store, "--format", "jsonl", "--top-k", "1"]) == 0
    assert json.loads(capfdbinary.readouterr().out)["id"] == "sea"
    assert run(["index", "update", *store]) == 2
    assert b"requests on standard input" in capfdbinary.readouterr().err


def test_who_stops_a_collection_of_requests_is_told_that_nothing_is_kept(
    colours: Path, fake_encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any, tmp_path: Path
) -> None:
    class Stopped(io.BytesIO):
        def readline(self, size: int | None = -1) -> bytes:
            line = super().readline(size)
            if not line:
                signal.raise_signal(signal.SIGTERM)
            return line

    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    request = json.dumps({"path": f"{colours}/red.png"}).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Stopped(request + b"\n")))
    assert run(["index", "build", "--stdin-jsonl", "--name", "inbox", "--store", str(tmp_path / "store")]) == 143
    answered, said = capfdbinary.readouterr()
    assert json.loads(answered)["status"] == "ok" and b"nothing is kept in 'inbox'" in said


def test_half_a_surrogate_pair_in_a_request_is_kept_as_what_can_be_written(
    colours: Path, fake_encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    store = ["--store", str(tmp_path / "store")]
    feed(monkeypatch, {"path": f"{colours}/red.png", "id": "cut \ud83d", "text": "red \ud83d"})
    assert run(["index", "build", "--stdin-jsonl", *store]) == 0
    assert json.loads(capfdbinary.readouterr().out)["id"].startswith("cut \ufffd")
    assert run(["search", "red", "--in", "texts", *store, "--format", "jsonl"]) == 0
    assert json.loads(capfdbinary.readouterr().out)["text"].startswith("red \ufffd")


@pytest.mark.parametrize(
    "arguments",
    [
        ("classify", "--stdin-jsonl", "--labels", "red,blue", "--no-store", "--quiet"),
        ("embed", "--stdin-jsonl", "--no-store", "--quiet"),
        ("index", "build", "--stdin-jsonl", "--name", "answered", "--quiet"),
    ],
    ids=["classify", "embed", "index"],
)
def test_each_request_is_answered_before_the_next(cli: Cli, colours: Path, arguments: tuple[str, ...]) -> None:
    import subprocess

    with cli.start(*arguments, stdin=subprocess.PIPE) as worker:
        assert worker.stdin and worker.stdout
        for name in ("red.png", "nowhere.png", "blue.png"):
            worker.stdin.write(json.dumps({"path": str(colours / name)}).encode() + b"\n")
            worker.stdin.flush()
            answer = json.loads(worker.stdout.readline())
            assert (Path(answer["id"]).name, answer["status"]) == (name, "missing" if "no" in name else "ok")
        worker.stdin.close()
        assert worker.wait(120) == 1
