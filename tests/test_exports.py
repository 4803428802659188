"""`store prune` and `store info` on exported models: those of weights that are nowhere known go, and the idle ones."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from small_models import SMALL, save_model

from cmprompt.cli.app import run
from cmprompt.encoders import load_encoder
from cmprompt.encoders.export import exports_dir
from cmprompt.encoders.exports import every_export

DAY_S = 86_400


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the export of one model, and the model beside it."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        model = save_model(home / "model", SMALL)
        assert "openvino" in load_encoder(f"local-dir:{model}", device="cpu", precision="fp32").store_key
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the cache, in use; the model stays where it was made."""
    shutil.copytree(made / "cache", tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


def test_an_export_whose_weights_are_there_stays(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["store", "prune", "--unused", "30"]) == 0
    assert "0 exported models" in capsys.readouterr().out and len(every_export()) == 1


def test_info_counts_them(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (exports_dir() / "0123.lock").touch()  # of one that is being made
    assert run(["store", "info"]) == 0
    out = capsys.readouterr().out
    assert f"# {exports_dir()}: " in out and "kB, 1 exported model\n" in out


def test_one_of_weights_that_are_gone_is_dropped(
    made: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (export,) = every_export()
    moved = made.with_name(f"{made.name}-moved")
    made.rename(moved)
    try:
        assert run(["store", "prune"]) == 0
    finally:
        moved.rename(made)
    assert f"kB came free in {exports_dir()}: 1 exported model\n" in capsys.readouterr().out
    assert not export.folder.exists()


def test_one_of_weights_that_changed_is_dropped(home: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(home / "model", model)
    (folder,) = (each.folder for each in every_export())
    text = (folder / "export.json").read_text()
    (folder / "export.json").write_text(text.replace(str(home / "model"), str(model)))
    assert run(["store", "prune"]) == 0 and folder.exists()
    save_model(model, {**SMALL, "embed_dim": 8})
    assert run(["store", "prune"]) == 0 and not folder.exists()


def test_one_that_no_run_has_used_for_so_long_is_dropped(home: Path) -> None:
    (export,) = every_export()
    old = time.time() - 40 * DAY_S
    os.utime(export.folder / "export.json", (old, old))
    assert run(["store", "prune"]) == 0 and export.folder.exists()
    assert run(["store", "prune", "--unused", "30"]) == 0 and not export.folder.exists()


def test_a_run_that_uses_one_marks_it(home: Path) -> None:
    (export,) = every_export()
    old = time.time() - 40 * DAY_S
    os.utime(export.folder / "export.json", (old, old))
    assert load_encoder(f"local-dir:{home / 'model'}", device="cpu", precision="fp32").store_key
    assert run(["store", "prune", "--unused", "30"]) == 0 and export.folder.exists()


def test_what_was_left_half_made_goes_after_a_day(home: Path) -> None:
    (export,) = every_export()
    for parent in (exports_dir(), export.folder):  # a model, an int8 tower of one
        fresh, stale = parent / ".fresh", parent / ".stale"
        for folder in (fresh, stale):
            folder.mkdir()
        old = time.time() - 2 * DAY_S
        os.utime(stale, (old, old))
        assert run(["store", "prune"]) == 0
        assert fresh.exists() and not stale.exists()
