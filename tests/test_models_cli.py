"""`cmprompt models` and `cmprompt doctor`, through the program's own entry."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_models import SMALL, save_model

from cmprompt import load_encoder, zoo
from cmprompt.cli.app import run
from cmprompt.errors import UnknownModel
from cmprompt.hub import write_manifest
from cmprompt.hub.download import Hub


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("small"), SMALL)


def table(text: str) -> dict[str, list[str]]:
    """Lines of tab-separated cells, by the first cell."""
    return {line.split("\t")[0]: line.split("\t")[1:] for line in text.splitlines()}


def test_list_states_licence_and_accuracy(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list"]) == 0
    rows = table(capsys.readouterr().out)
    assert rows["ViT-B-32-256"][1] == "72.8" and "MIT" in rows["ViT-B-32-256"]
    assert "tiny" in rows and "non-commercial" in rows["MobileCLIP2-S0"][6]


def test_info_of_a_known_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "info", "vit-b-32-256"]) == 0
    facts = table(capsys.readouterr().out)
    assert facts["licence"] == ["MIT"] and facts["here"][0].startswith("no")


def test_info_of_a_folder(capsys: pytest.CaptureFixture[str], small: Path) -> None:
    assert run(["models", "info", f"local-dir:{small}"]) == 0
    facts = table(capsys.readouterr().out)
    assert facts["vector"] == ["16"] and facts["preprocess"] == ["32 px, shortest, bicubic"]
    assert len(facts["sha256"][0]) == 64


@pytest.mark.parametrize(
    ("arguments", "status"), [(["info", "ViT-B32"], 2), (["pull", "ViT-B32"], 2), (["verify", "ViT-B-32"], 3)]
)
def test_an_unknown_name_has_status_2_and_an_absent_model_3(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int
) -> None:
    assert run(["models", *arguments]) == status
    assert "ViT-B-32" in capsys.readouterr().err


def test_the_bundled_model_needs_no_pull(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["models", "pull", "tiny"]) == 0
    assert capsys.readouterr().err == "cmprompt: tiny is bundled with cmprompt; there is nothing to pull\n"
    assert run(["models", "pull", "tiny", "--to", str(tmp_path / "tiny")]) == 2


def test_verify_reads_the_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", SMALL)
    write_manifest(folder, "mine")
    assert run(["models", "verify", str(folder)]) == 0
    with open(folder / "open_clip_config.json", "a") as file:
        file.write(" ")
    assert run(["models", "verify", str(folder)]) == 3
    assert "damaged\t" + str(folder / "open_clip_config.json") in capsys.readouterr().out


def test_convert_says_where_it_wrote(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "model.bin")
    assert run(["models", "convert", str(tmp_path / "model.bin")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "model.safetensors")


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A name of open_clip's whose architecture is the small one, published as a pickle only."""
    import open_clip
    from open_clip import pretrained

    (tmp_path / "Small-8.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(tmp_path / "Small-8.json")
    table = {**pretrained._PRETRAINED, "Small-8": {"mine": pretrained._pcfg(url="https://example.org/small.pt")}}
    monkeypatch.setattr(pretrained, "_PRETRAINED", table)
    monkeypatch.setattr(zoo, "architectures", lambda: ("Small-8",))
    monkeypatch.setattr(Hub, "check_online", lambda *_: None)
    return "Small-8/mine"


def test_what_is_no_checkpoint_is_refused_in_our_own_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.bin").write_bytes(b"no checkpoint")
    assert run(["models", "convert", str(tmp_path / "model.bin")]) == 3
    said = capsys.readouterr().err
    assert "it is no checkpoint, holds more than tensors, or is damaged" in said and "orch" not in said


def test_a_pickled_model_is_converted_and_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small: Path, registered: str
) -> None:
    assert run(["models", "pull", registered]) == 3
    err = capsys.readouterr().err
    assert "https://example.org/small.pt" in err and "models convert FILE --as Small-8/mine" in err
    torch.save(load_file(small / "open_clip_model.safetensors"), tmp_path / "small.pt")
    assert run(["models", "convert", str(tmp_path / "small.pt"), "--as", registered]) == 0
    rows = [load_encoder(name, device="cpu").encode_texts(["a cat"]) for name in (registered, f"local-dir:{small}")]
    np.testing.assert_array_equal(*rows)
    assert run(["models", "verify", registered]) == 0
    assert "ok\t" in capsys.readouterr().out
    assert run(["models", "convert", str(tmp_path / "small.pt"), "--as", registered]) == 4
    assert "here already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("mine", "mine is a folder; name the model in it local-dir:mine"),
        ("mine/rn50.bin", "mine/rn50.bin is a pickle, .*: cmprompt models convert mine/rn50.bin"),
        ("mine/rn50.pt", "models convert mine/rn50.pt"),
        ("mine/rn50.safetensors", "open_clip_config.json beside it and name its folder: local-dir:mine"),
        ("mine/nothing.pt", "unknown model 'mine/nothing.pt'"),
        ("", "unknown model ''"),
    ],
)
def test_a_path_in_the_place_of_a_name_is_told_what_to_do(
    name: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    for ending in ("bin", "pt", "safetensors"):
        Path(f"mine/rn50.{ending}").touch()
    with pytest.raises(UnknownModel, match=advice):
        load_encoder(name)


def test_another_model_s_weights_are_not_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, registered: str
) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "model.bin")
    assert run(["models", "convert", str(tmp_path / "model.bin"), "--as", registered]) == 3
    wrong = f"{tmp_path / 'model.bin'} is not Small-8/mine: it holds the tensors of another architecture"
    assert capsys.readouterr().err == f"cmprompt: {wrong}\n"
    assert not list((tmp_path / "cache").rglob("Small-8*"))


def test_doctor_says_what_would_run(capsys: pytest.CaptureFixture[str], small: Path) -> None:
    assert run(["doctor", "--model", f"local-dir:{small}", "--device", "cpu", "--precision", "bf16"]) == 0
    out = capsys.readouterr().out
    assert version("torch") in out and "bf16/" in out and "32 px, shortest, bicubic" in out


def test_doctor_downloads_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--model", "ViT-L-14"]) == 0
    assert "ViT-L-14 would be downloaded first" in capsys.readouterr().out
