"""`cmprompt embed` and the files it writes, read back with the libraries they are for."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import FakeEncoder
from safetensors import safe_open
from safetensors.numpy import load_file

from cmprompt.cli.app import run
from cmprompt.embed import embed
from cmprompt.errors import OutputError, UsageError
from cmprompt.sources import read_items
from cmprompt.types import Array, Encoder
from cmprompt.vector_files import vector_file

ABOUT = {"model": "fake"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, fake_encoder: FakeEncoder, tmp_path: Path) -> None:
    """The commands use the fake encoder and a cache of their own."""
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    monkeypatch.setattr("cmprompt.store.default_store_dir", lambda: tmp_path / "store")


def write(path: Path, inputs: list[str], encoder: Encoder) -> Array:
    """Write `inputs` to `path`; the rows as embed gives them."""
    rows = []
    with vector_file(str(path), encoder.dim, ABOUT) as out:
        for batch in embed(read_items(inputs), encoder):
            out.write(batch)
            rows.append(batch.features.image)
    return np.concatenate(rows)  # type: ignore[arg-type]


def test_npy(tmp_path: Path, colours: Path, fake_encoder: FakeEncoder) -> None:
    rows = write(tmp_path / "v.npy", [str(colours), "/nowhere.jpg"], fake_encoder)
    read = np.load(tmp_path / "v.npy", mmap_mode="r")
    assert read.dtype == np.float32 and np.array_equal(read[:3], rows[:3]) and np.isnan(read[3]).all()
    ids = [json.loads(line) for line in (tmp_path / "v.npy.ids.jsonl").read_text().splitlines()]
    assert [Path(record["id"]).stem for record in ids] == ["blue", "green", "red", "nowhere"]
    assert ids[3] == {"id": "/nowhere.jpg", "status": "missing", "error": "No such file or directory"}


def test_safetensors(tmp_path: Path, colours: Path, fake_encoder: FakeEncoder) -> None:
    rows = write(tmp_path / "v.safetensors", [str(colours)], fake_encoder)
    with safe_open(tmp_path / "v.safetensors", "numpy") as file:
        assert np.array_equal(file.get_tensor("image"), rows) and file.metadata() == ABOUT


def test_parquet(tmp_path: Path, colours: Path, fake_encoder: FakeEncoder) -> None:
    rows = write(tmp_path / "v.parquet", [str(colours), "/nowhere.jpg"], fake_encoder)
    table = pq.read_table(tmp_path / "v.parquet")
    vectors = table["vector"].to_pylist()
    assert vectors[3] is None and np.array_equal(np.array(vectors[:3], np.float32), rows[:3])
    assert table["status"].to_pylist() == ["ok", "ok", "ok", "missing"]
    assert table.schema.metadata[b"model"] == b"fake"


def test_the_row_groups_of_parquet_are_large(
    tmp_path: Path, colours: Path, fake_encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmprompt.vector_files.ROWS_PER_GROUP", 5)
    (batch,) = embed(read_items([str(colours)]), fake_encoder)
    with vector_file(str(tmp_path / "v.parquet"), fake_encoder.dim, ABOUT) as out:
        for _ in range(5):
            out.write(batch)
    groups = pq.ParquetFile(tmp_path / "v.parquet")
    rows = [groups.read_row_group(group)["vector"].to_pylist() for group in range(groups.num_row_groups)]
    assert [len(group) for group in rows] == [6, 6, 3] and np.array_equal(rows[1][3:], batch.features.image)


def test_no_input_makes_an_empty_file(tmp_path: Path) -> None:
    paths = [tmp_path / f"v.{ending}" for ending in ("npy", "parquet", "safetensors")]
    for path in paths:
        with vector_file(str(path), 8, ABOUT):
            pass
    assert np.load(paths[0]).shape == (0, 8) and pq.read_table(paths[1]).num_rows == 0
    assert load_file(paths[2])["image"].shape == (0, 8)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "v.npy").write_text("old")
    with pytest.raises(RuntimeError), vector_file(str(tmp_path / "v.npy"), 8, ABOUT, overwrite=True):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["v.npy"] and (tmp_path / "v.npy").read_text() == "old"


def test_parquet_that_is_given_up_says_nothing_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", said.append)
    with suppress(RuntimeError), vector_file(str(tmp_path / "v.parquet"), 8, ABOUT):
        raise RuntimeError
    gc.collect()
    assert said == [] and list(tmp_path.iterdir()) == []


def test_an_existing_file_and_a_busy_one_are_refused(tmp_path: Path) -> None:
    with vector_file(str(tmp_path / "v.npy"), 8, ABOUT), pytest.raises(OutputError, match="another run"):
        with vector_file(str(tmp_path / "v.npy"), 8, ABOUT):
            pass
    with pytest.raises(OutputError, match="--overwrite"), vector_file(str(tmp_path / "v.npy"), 8, ABOUT):
        pass


def test_ids_that_are_there_are_kept(tmp_path: Path) -> None:
    ids = tmp_path / "v.npy.ids.jsonl"
    ids.write_text("old")
    with pytest.raises(OutputError, match=r"ids\.jsonl is there .*--overwrite"):
        with vector_file(str(tmp_path / "v.npy"), 8, ABOUT):
            pass
    assert ids.read_text() == "old" and list(tmp_path.iterdir()) == [ids]
    with vector_file(str(tmp_path / "v.npy"), 8, ABOUT, overwrite=True):
        pass
    assert ids.read_text() == ""


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_written_through(tmp_path: Path, there: bool) -> None:
    real, link = tmp_path / "real" / "v.bin", tmp_path / "link.npy"
    real.parent.mkdir()
    link.symlink_to(real)
    if there:
        real.write_text("old")
        with pytest.raises(OutputError, match="--overwrite"), vector_file(str(link), 8, ABOUT):
            pass
    with vector_file(str(link), 8, ABOUT, overwrite=there):
        pass
    assert link.is_symlink() and np.load(real).shape == (0, 8)
    assert sorted(path.name for path in real.parent.iterdir()) == ["v.bin", "v.bin.ids.jsonl"]


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"did you mean \.npy"), vector_file(str(tmp_path / "v.pkl"), 8, ABOUT):
        pass


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="none"), vector_file(str(tmp_path / "none" / "v.npy"), 8, ABOUT):
        pass


def test_the_command(tmp_path: Path, colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "v.npy")
    assert run(["embed", str(colours), "-o", out, "--timings"]) == 0
    assert "3 inputs, 0 stored" in capsys.readouterr().err
    assert run(["embed", str(colours), "/nowhere.jpg", "-o", out, "--overwrite", "--timings"]) == 1
    assert "4 inputs, 3 stored" in capsys.readouterr().err
    assert np.load(out).shape == (4, 8)
    assert run(["embed", str(colours), "-o", out]) == 4
    assert run(["embed", str(colours)]) == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cmprompt")]


class SlowTexts(FakeEncoder):
    def encode_texts(self, texts: Sequence[str]) -> Array:
        time.sleep(0.5)
        return super().encode_texts(texts)


def test_the_slowest_stage_may_come_before_the_first_image(
    tmp_path: Path, colours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*args: object, **options: object) -> Encoder:
        time.sleep(0.5)
        return FakeEncoder()

    monkeypatch.setattr("cmprompt.encoders.load_encoder", load)
    assert run(["embed", str(colours), "-o", str(tmp_path / "v.npy"), "--timings"]) == 0
    assert "slowest: start" in capsys.readouterr().err
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: SlowTexts())
    assert run(["classify", str(colours), "--labels", "red,blue", "--timings"]) == 0
    assert "slowest: texts" in capsys.readouterr().err


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "notes.txt").write_text("no picture")
    assert run(["embed", str(folder), "-o", str(tmp_path / "v.npy")]) == 0
    assert f"no images in {folder}; 1 other files skipped" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(tmp_path: Path, colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["embed", str(colours), "-o", str(tmp_path / "v.npy"), "--dry-run"]) == 0
    assert capsys.readouterr().out.count("input\t") == 3 and not (tmp_path / "v.npy").exists()


@pytest.fixture
def pairs(colours: Path) -> Path:
    """A table of two pictures, one with a text, and a text alone."""
    table = colours / "pairs.csv"
    table.write_text("image,caption,label\nred.png,a red thing,warm\nblue.png,,cold\n,something green,\n")
    return table


COLUMNS = ("--text-col", "caption", "--target-col", "label")


def test_texts_and_targets_go_into_parquet(tmp_path: Path, pairs: Path, fake_encoder: FakeEncoder) -> None:
    out = tmp_path / "v.parquet"
    assert run(["embed", str(pairs), *COLUMNS, "-o", str(out)]) == 0
    table = pq.read_table(out)
    assert table["target"].to_pylist() == ["warm", "cold", None]
    images, texts = table["vector"].to_pylist(), table["text_vector"].to_pylist()
    assert [row is None for row in images] == [False, False, True]
    assert [row is None for row in texts] == [False, True, False]
    expected = fake_encoder.encode_texts(["a red thing", "something green"])
    assert np.allclose([texts[0], texts[2]], expected, atol=1e-3)
    assert run(["embed", str(pairs), "-o", str(out), "--overwrite"]) == 1  # the last row has no image
    assert {"text_vector", "target"}.isdisjoint(pq.read_table(out).column_names)


def test_texts_and_targets_go_into_safetensors(tmp_path: Path, pairs: Path, fake_encoder: FakeEncoder) -> None:
    out = tmp_path / "v.safetensors"
    assert run(["embed", str(pairs), *COLUMNS, "-o", str(out)]) == 0
    tensors = load_file(out)
    assert tensors["image"].shape == tensors["text"].shape == (3, 8)
    assert np.isnan(tensors["text"][1]).all() and np.isnan(tensors["image"][2]).all()
    assert np.allclose(tensors["text"][0], fake_encoder.encode_texts(["a red thing"])[0], atol=1e-3)
    ids = [json.loads(line) for line in (tmp_path / "v.safetensors.ids.jsonl").read_text().splitlines()]
    assert [record.get("target") for record in ids] == ["warm", "cold", None]


def test_an_array_has_no_place_for_texts(tmp_path: Path, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["embed", str(pairs), "--text-col", "caption", "-o", str(tmp_path / "v.npy")]) == 2
    assert "name a .parquet or .safetensors" in capsys.readouterr().err


def test_the_targets_of_a_folder_are_its_class_folders(tmp_path: Path, colours: Path) -> None:
    (tmp_path / "data").mkdir()
    colours.rename(tmp_path / "data" / "plain")
    assert run(["embed", str(tmp_path / "data"), "--target-col", "label", "-o", str(tmp_path / "v.parquet"), "-q"]) == 0
    assert set(pq.read_table(tmp_path / "v.parquet")["target"].to_pylist()) == {"plain"}
