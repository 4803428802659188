"""An image tower that is trained with its head: it moves, what it learned is kept, and it is found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import FakeEncoder
from labelled_photos import write_pictures, write_table

from cmprompt.cli.app import run
from cmprompt.encoders import load_encoder
from cmprompt.errors import UsageError
from cmprompt.heads.fit import fit
from cmprompt.heads.io import read_settings, read_towers
from cmprompt.heads.tuned import Tuned, encode_pictures
from cmprompt.heads.unfreeze import Schedule
from cmprompt.types import Features, FileBytes, Item


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data")
    write_table(place / "data.csv", write_pictures(place))
    return place


def test_the_tower_moves_and_held_out_rows_choose_the_epoch(model: str, folder: Path) -> None:
    rows = [line.split(",") for line in (folder / "data.csv").read_text().splitlines()[1:]]
    items = [Item(image, FileBytes(str(folder / image))) for image, _ in rows]
    encoder = load_encoder(model, "cpu", "fp32")
    before, record = encode_pictures(items, encoder), {}
    schedule = Schedule(epochs=2, tower_rate=1e-3)
    head = fit(
        "linear", Features.of_images(before), [label for _, label in rows], encoder=encoder, items=items,
        unfreeze=True, schedule=schedule, record=record,
    )  # fmt: skip
    assert isinstance(head, Tuned) and head.model_id == head.encoder.model_id != encoder.model_id
    losses = [point["held_out_loss"] for point in record["tower_curve"]]
    assert len(losses) == 3 and min(losses) < losses[0]
    assert np.abs(encode_pictures(items, head.encoder) - before).max() > 1e-3


def test_a_head_brings_its_tower_along(model: str, folder: Path, tmp_path: Path, capsys) -> None:
    where = ["--store", str(tmp_path / "store"), "-q"]
    flags = ["--model", model, "--unfreeze", "image", "--force", "-o", str(tmp_path / "t.head")]
    assert run(["finetune", str(folder / "data.csv"), *flags, *where]) == 0
    assert set(read_settings(tmp_path / "t.head")["towers"]) == {"image"}
    page = (tmp_path / "t.head/report.html").read_text()
    curve = page.partition("Learning curve of the image tower")[2].partition("</svg>")[0]
    axes, *lines = [line.count(",") for line in curve.split("points=")[1:]]
    assert axes == 3 and lines == [5, 6]  # loss, held-out loss from before
    base, towers = read_towers(tmp_path / "t.head")
    assert base == model and "transformer.resblocks.0.attn.in_proj_weight" in towers[0].weights
    capsys.readouterr()
    picture = str(folder / "images/blue-3.png")
    assert run(["classify", picture, "--head", str(tmp_path / "t.head"), *where]) == 0
    assert capsys.readouterr().out.split("\t")[1] == "blue"
    assert run(["classify", picture, "--head", str(tmp_path / "t.head"), "--model", model, *where]) == 3


@pytest.mark.parametrize("kind", ["gda", "tip-adapter", "attention", "auto"])
def test_kinds_that_are_not_trained_by_steps_are_refused(kind: str) -> None:
    items = [Item(str(number), lambda: b"") for number in range(4)]
    features = Features.of_images(np.eye(4, 8, dtype=np.float32))
    with pytest.raises(UsageError, match=f"does not go with --head {kind}"):
        fit(kind, features, ["a", "b"] * 2, encoder=FakeEncoder(), items=items, unfreeze=True)


def test_an_encoder_without_a_tower_is_refused() -> None:
    items = [Item(str(number), lambda: b"") for number in range(4)]
    features = Features.of_images(np.eye(4, 8, dtype=np.float32))
    with pytest.raises(UsageError, match="nothing to train"):
        fit("linear", features, ["a", "b"] * 2, encoder=FakeEncoder(), items=items, unfreeze=True)
