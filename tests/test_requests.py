"""`classify --stdin-jsonl`: one process that answers each line before the next is asked for."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, FakeEncoder

from cmprompt.cli.app import run
from cmprompt.sources import SourceOptions, read_items


def read(*lines: bytes) -> list[Any]:
    return list(read_items([], SourceOptions(requests=True, stdin=io.BytesIO(b"\n".join(lines)))))


def test_a_line_is_an_item(colours: Path) -> None:
    named, numbered = read(
        json.dumps({"path": f"{colours}/red.png"}).encode(), b"",
        json.dumps({"path": f"{colours}/blue.png", "id": 7, "text": "sea"}).encode(),
    )  # fmt: skip
    assert (named.id, named.text, numbered.id, numbered.text) == (f"{colours}/red.png", None, "7", "sea")
    assert named.image() == (colours / "red.png").read_bytes()


@pytest.mark.parametrize("line", [b"photo.jpg", b"[1]", b"{}", b'{"path": 3}', b"\xff"])
def test_a_line_that_makes_no_sense_has_an_answer_too(line: bytes) -> None:
    (item,) = read(line)
    with pytest.raises(Exception, match="line 1"):
        item.image()


@pytest.mark.parametrize("more", [["photo.jpg"], ["--format", "tsv"], ["-o", "out.jsonl"]])
def test_what_does_not_go_with_it(monkeypatch: pytest.MonkeyPatch, fake_encoder: FakeEncoder, more: list[str]) -> None:
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    assert run(["classify", "--stdin-jsonl", "--labels", "red,blue", *more]) == 2


def test_each_request_is_answered_before_the_next(cli: Cli, colours: Path) -> None:
    import subprocess

    arguments = ("classify", "--stdin-jsonl", "--labels", "red,blue", "--no-store", "--quiet")
    with cli.start(*arguments, stdin=subprocess.PIPE) as worker:
        assert worker.stdin and worker.stdout
        for name in ("red.png", "nowhere.png", "blue.png"):
            worker.stdin.write(json.dumps({"path": str(colours / name)}).encode() + b"\n")
            worker.stdin.flush()
            answer = json.loads(worker.stdout.readline())
            assert (Path(answer["id"]).name, answer["status"]) == (name, "missing" if "no" in name else "ok")
        worker.stdin.close()
        assert worker.wait(120) == 1
