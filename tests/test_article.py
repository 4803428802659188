"""The article's network: VGG16's last convolution, averaged, beside a learned word embedding, one plane on both.

Its weights are seeded random ones here and its pictures small: what is shown is that it trains, is kept and answers.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from labelled_photos import write_pictures, write_table
from safetensors.numpy import load_file

from cmprompt.cli.app import run
from cmprompt.heads.io import load_head, read_settings
from cmprompt.heads.network import NetworkHead

NETWORK = ["--image-encoder", "timm:vgg16/random/32px", "--text-encoder", "embedding", "--head", "concat"]
NEW_ROWS = [("images/red-1.png", "an unheard brick"), ("images/blue-1.png", "?!"), ("images/green-1.png", "")]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour stands in the picture only, shape in the text only; the label is both."""
    folder = tmp_path_factory.mktemp("article")
    rows = []
    for number, (image, colour) in enumerate(write_pictures(folder, each=16)):
        shape = ("ball", "brick")[number // 3 % 2]
        rows.append((image, f"a {shape} on the table", f"{colour} {shape}"))
    write_table(folder / "data.csv", rows[:30], ("image", "text", "label"))
    write_table(folder / "judges.csv", rows[30:], ("image", "text", "label"))
    write_table(folder / "new.csv", NEW_ROWS, ("image", "text"))
    return folder


def finetune(tables: Path, output: str, *more: str) -> int:
    where = ["--val", str(tables / "judges.csv"), "--store", str(tables / "store"), "-o", str(tables / output), "-q"]
    return run(["finetune", str(tables / "data.csv"), *NETWORK, *where, *more])


@pytest.fixture(scope="module")
def head(tables: Path) -> Path:
    assert finetune(tables, "frozen.head") == 0
    return tables / "frozen.head"


def test_it_is_one_plane_on_raw_features_and_the_words_of_the_training_texts(head: Path) -> None:
    shapes = {name: array.shape for name, array in load_file(head / "head.safetensors").items()}
    assert shapes["params.out.weight"] == (6, 1024) and "params.image.weight" not in shapes
    assert load_file(head / "text.safetensors")["table.weight"].shape == (2 + 6, 512)
    assert set(read_settings(head)["towers"]["text"]["vocabulary"]) == {"a", "ball", "brick", "on", "table", "the"}


def test_it_scores_new_tables_with_unknown_words_and_without_text(head: Path, tables: Path, capsys) -> None:
    assert run(["evaluate", str(tables / "judges.csv"), "--head", str(head), "--no-store", "-q"]) == 0
    assert float(capsys.readouterr().out.splitlines()[1].split()[1]) > 80
    assert run(["classify", str(tables / "new.csv"), "--head", str(head), "--no-store", "-q", "--format", "tsv"]) == 0
    answers = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
    assert answers[0] == "red brick" and answers[1].startswith("blue") and answers[2].startswith("green")


def test_two_runs_with_one_seed_are_the_same_bytes(tables: Path) -> None:
    for name in ("a.head", "b.head"):
        smaller = ["--image-encoder", "timm:test_resnet/random/32px", "--unfreeze", "image", "--force"]
        assert finetune(tables, name, *smaller) == 0
    for part in ("head", "text", "image"):
        first, second = (tables / name / f"{part}.safetensors" for name in ("a.head", "b.head"))
        assert first.read_bytes() == second.read_bytes()


def test_its_image_tower_is_trained_kept_and_used(head: Path, tables: Path, capsys) -> None:
    assert finetune(tables, "whole.head", "--unfreeze", "image") == 0
    tower = load_file(tables / "whole.head/image.safetensors")
    assert tower["trunk.features.28.weight"].shape == (512, 512, 3, 3)
    frozen, whole = load_head(head), load_head(tables / "whole.head")
    assert isinstance(whole, NetworkHead) and whole.model_id != frozen.model_id
    capsys.readouterr()
    assert run(["evaluate", str(tables / "judges.csv"), "--head", str(tables / "whole.head"), "--no-store", "-q"]) == 0
    assert float(capsys.readouterr().out.splitlines()[1].split()[1]) > 80


def test_a_damaged_tower_is_refused(head: Path, tables: Path, capsys) -> None:
    tower = tables / "frozen.head/text.safetensors"
    kept = tower.read_bytes()
    tower.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    assert run(["classify", str(tables / "new.csv"), "--head", str(head), "--no-store"]) == 3
    assert "text.safetensors" in capsys.readouterr().err
    tower.write_bytes(kept)
