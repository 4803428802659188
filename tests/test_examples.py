"""The samples are there, readable, and labelled."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PIL import Image

from cmprompt.errors import OutputError
from cmprompt.examples import write_examples
from cmprompt.labels import describe, load_labels
from cmprompt.labels.translation import read_translations
from cmprompt.sources.video import Sampling, read_video
from cmprompt.tasks.questions import ask, choices_of, question_sets


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_row_names_a_picture_that_opens(tmp_path: Path) -> None:
    write_examples(tmp_path)
    for row in rows(tmp_path / "photos.csv") + rows(tmp_path / "pairs.csv"):
        with Image.open(tmp_path / row["image"]) as picture:
            picture.load()
        assert row["text"] and row["label"]


def test_a_dozen_real_photos(tmp_path: Path) -> None:
    write_examples(tmp_path)
    assert len(list((tmp_path / "photos").iterdir())) >= 12


def test_a_drawn_street_has_its_things_in_their_places(tmp_path: Path) -> None:
    write_examples(tmp_path)
    with Image.open(tmp_path / "bus.png") as picture:
        red, green, blue = picture.convert("RGB").getpixel((360, 260))  # type: ignore[misc]
        assert red > 200 > green > 150 > blue  # the yellow of the bus
        red, green, blue = picture.convert("RGB").getpixel((50, 200))  # type: ignore[misc]
        assert green > red and green > blue  # the tree


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first = {path: path.read_bytes() for path in write_examples(tmp_path)}
    assert first == {path: path.read_bytes() for path in write_examples(tmp_path)}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_examples(tmp_path / "file")


def test_label_files_and_questions_are_what_they_are_for(tmp_path: Path) -> None:
    write_examples(tmp_path)
    labels = load_labels([f"@{tmp_path / 'labels.txt'}"])
    assert len(read_translations(str(tmp_path / "chinese.txt"), list(labels.phrases))) == len(labels)
    assert describe(str(tmp_path / "kinds.json")).verbatim >= {"animal/cat/tabby"}
    for row in rows(tmp_path / "questions.csv"):
        assert ask(row["question"], choices_of(row["choices"]), question_sets()).texts
    assert {row["label"] for row in rows(tmp_path / "posts.csv")} == {"positive", "negative"}


def test_the_clip_lasts_six_seconds(tmp_path: Path) -> None:
    pytest.importorskip("av")
    write_examples(tmp_path)
    frames = read_video(str(tmp_path / "clip.mp4"), Sampling(fps=1))
    assert [frame.time_s for frame in frames] == [0, 1, 2, 3, 4, 5]
