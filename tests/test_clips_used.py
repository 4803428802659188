"""Clips where pictures are: vectors for other tools, labelled tables, adapting, looking for something like one."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import FakeEncoder, draw
from PIL import Image
from test_video import BLUE, RED, write_clip

from cmprompt import PromptClassifier
from cmprompt.cli.app import run
from cmprompt.heads.zero_shot import zero_shot
from cmprompt.index.query import query_vector
from cmprompt.labelled import read_labelled
from cmprompt.labelled.vectors import embed_labelled
from cmprompt.report import _thumbnail
from cmprompt.sources import read_items
from cmprompt.tasks.adapt import adapt_to

pytest.importorskip("av", reason="the extra [video] is not installed")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Class folders, each with a clip and a picture."""
    for name, colour in {"red": RED, "blue": BLUE}.items():
        (tmp_path / "films" / name).mkdir(parents=True)
        write_clip(tmp_path / "films" / name / "a.mp4", [colour] * 25)
        draw(colour).save(tmp_path / "films" / name / "b.png")
    return tmp_path / "films"


def test_embed_writes_one_row_a_clip(
    clips: Path, fake_encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    assert run(["embed", str(clips), "-o", str(tmp_path / "v.npy"), "--fps", "5", "--no-store", "-q"]) == 0
    ids = [json.loads(line)["id"] for line in (tmp_path / "v.npy.ids.jsonl").read_text().splitlines()]
    assert [Path(id).name for id in ids] == ["a.mp4", "b.png"] * 2
    rows = np.load(tmp_path / "v.npy")
    assert np.allclose(rows[0], rows[1], atol=0.03) and np.allclose(rows[2], rows[3], atol=0.03)


def test_a_timeline_of_a_mixed_folder_keeps_its_seconds(
    tmp_path: Path, fake_encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    draw(RED).save(tmp_path / "a.png")
    write_clip(tmp_path / "b.mp4", [RED] * 20 + [BLUE] * 20)
    asked = ["--labels", "red,blue", "--timeline", "--fps", "5", "--format", "tsv", "--no-store", "-q"]
    assert run(["classify", str(tmp_path), *asked]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(row[1], *row[5:]) for row in rows] == [("red", "", ""), ("red", "0", "2"), ("blue", "2", "4")]


def test_a_labelled_folder_of_clips_has_a_row_each(clips: Path, fake_encoder: FakeEncoder) -> None:
    data = read_labelled(str(clips))
    assert data.targets == ["blue", "blue", "red", "red"]
    features = embed_labelled(data, fake_encoder, None, frozenset({"image"}))
    assert features.image is not None and features.image[:, :3].argmax(1).tolist() == [2, 2, 0, 0]


def test_adapting_counts_clips_not_frames(clips: Path, fake_encoder: FakeEncoder) -> None:
    head = zero_shot(fake_encoder, {"red": ("red",), "blue": ("blue",)})
    items = read_items([str(clips / "red" / "a.mp4"), str(clips / "blue" / "a.mp4"), str(clips / "red" / "b.png")])
    done = adapt_to(items, fake_encoder, head)  # type: ignore[arg-type]
    assert (done.images, done.failed) == (3, 0)


def test_templates_are_measured_on_clips_too(
    clips: Path, fake_encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    (clips / "red" / "b.png").unlink()
    asked = ["--template", "a {} thing", "--template", "{}", "--format", "jsonl", "--no-store"]
    assert run(["prompts", "ablate", str(clips), *asked]) == 0
    shown = capsys.readouterr()
    assert "3 pictures; a template is measured by their labels" in shown.err
    assert {json.loads(line)["alone"] for line in shown.out.splitlines()} == {1.0}


def test_search_answers_with_the_second(
    tmp_path: Path, fake_encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    clip, store = write_clip(tmp_path / "a.mp4", [RED] * 30 + [BLUE] * 25), str(tmp_path / "store")
    assert run(["index", "build", clip, "--store", store, "-q"]) == 0
    assert run(["search", "blue", "--store", store, "--format", "jsonl", "--top-k", "1"]) == 0
    (hit,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert hit["id"] == clip and hit["time_s"] >= 3.0
    assert run(["search", "blue", "--store", store, "-o", str(tmp_path / "hits.png"), "--top-k", "1"]) == 0
    sheet = np.asarray(Image.open(io.BytesIO((tmp_path / "hits.png").read_bytes())))
    assert (np.abs(sheet.astype(int) - BLUE).max(2) < 12).sum() > 1000


def test_duplicates_have_their_seconds(
    clips: Path, fake_encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    store = str(clips.parent / "store")
    assert run(["index", "build", str(clips / "red"), "--frames", "2", "--store", store, "-q"]) == 0
    assert run(["index", "duplicates", "--store", store, "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(Path(row["id"]).name, row.get("time_s")) for row in rows] == [
        ("a.mp4", 0.6),
        ("a.mp4", 1.8),
        ("b.png", None),
    ]


def test_like_a_clip(clips: Path, fake_encoder: FakeEncoder) -> None:
    like = query_vector(fake_encoder, None, like=[str(clips / "red" / "a.mp4")])
    assert like[:3].argmax() == 0


def test_a_report_shows_a_frame(clips: Path) -> None:
    (clip,) = read_items([str(clips / "red" / "a.mp4")])
    assert _thumbnail(clip).startswith("<img")


def test_the_class_reads_clips(clips: Path, fake_encoder: FakeEncoder) -> None:
    made = PromptClassifier(["red", "blue"], model=fake_encoder, prompts="{}", store=False)
    given = [clips / "red" / "a.mp4", clips / "blue" / "a.mp4", clips / "red" / "b.png"]
    assert made.predict(given).tolist() == ["red", "blue", "red"]


@pytest.mark.parametrize("command", ["classify", "embed", "index build"])
def test_requests_want_no_seconds_of_clips(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["--labels", "a,b"] if command == "classify" else []
    asked = [*command.split(), "--stdin-jsonl", "--frames", "2", *labels]
    assert run(asked) == 2
    assert "--stdin-jsonl makes no use of --frames; clips want a run without it" in capsys.readouterr().err
