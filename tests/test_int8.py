"""`--precision int8`: calibrated once on the user's own images, close to fp32, refused where it cannot be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from labelled_photos import write_pictures, write_table
from PIL import Image
from small_models import SMALL, save_model

from cmprompt import load_encoder
from cmprompt.cli.app import run
from cmprompt.encoders.quantized import quantize
from cmprompt.encoders.weights import cache_dir
from cmprompt.errors import OutputError, UsageError
from cmprompt.types import Array, Encoder

pytestmark = [
    pytest.mark.skipif(find_spec("nncf") is None, reason="the extra int8 is not installed"),
    pytest.mark.filterwarnings("ignore"),  # NNCF's own: it is newer or older than what it imports
]
CALIBRATE = """
import json, sys
import numpy as np
from cmprompt import load_encoder

said = []
encoder = load_encoder(f"local-dir:{sys.argv[1]}", "cpu", "int8", notices=said.append)
encoder.calibrate(np.random.default_rng(int(sys.argv[2])).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8))
print(json.dumps([encoder.store_key, said]))
"""


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache with nothing in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_pictures(tmp_path, each=10)
    return tmp_path / "images"


def encoder(precision: str, notices: Callable[[str], None] = print) -> Encoder:
    return load_encoder("tiny", "cpu", precision, notices=notices)


def embedded(photos: Path, out: Path, *more: str) -> Array:
    status = run(["embed", str(photos), "--model", "tiny", "--device", "cpu", "-o", str(out), *more])
    assert status == 0
    rows: Array = np.load(out)
    return rows


def test_it_is_calibrated_once_and_close_to_fp32(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = embedded(photos, tmp_path / "int8.npy", "--precision", "int8")
    said = capsys.readouterr().err
    assert "calibrated on 20 of your images; on 10 others" in said and "cosine of 0.9" in said
    again = embedded(photos, tmp_path / "again.npy", "--precision", "int8", "--no-store")
    assert "calibrated" not in capsys.readouterr().err and np.array_equal(small, again)
    exact = embedded(photos, tmp_path / "fp32.npy", "--precision", "fp32")
    cosines = (small * exact).sum(axis=1)
    assert cosines.mean() > 0.97 and 0.85 < cosines.min() < 1 - 1e-6  # close, and not the same


@pytest.mark.parametrize("command", ["index build {photos} --name c", "check {table}", "prompts ablate {table}"])
def test_other_commands_calibrate_it_too(
    photos: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(str(path), path.stem.split("-")[0]) for path in sorted(photos.iterdir())]
    table = write_table(tmp_path / "own.csv", rows)
    line = [*command.format(photos=photos, table=table).split(), "--model", "tiny", "--device", "cpu"]
    assert run([*line, "--precision", "int8"]) == 0
    assert "calibrated on 20 of your images" in capsys.readouterr().err


def test_what_is_kept_holds_whole_numbers(photos: Path, tmp_path: Path) -> None:
    embedded(photos, tmp_path / "v.npy", "--precision", "int8")
    (folder,) = (path for path in (cache_dir() / "exports").iterdir() if (path / "int8").is_dir())
    assert (folder / "int8/images.bin").stat().st_size < 0.35 * (folder / "images.bin").stat().st_size
    assert 'element_type="i8"' in (folder / "int8/images.xml").read_text()


def test_the_store_tells_calibrations_apart(photos: Path, tmp_path: Path) -> None:
    embedded(photos, tmp_path / "v.npy", "--precision", "int8")
    first = encoder("int8").store_key
    assert "/int8-" in first and first == encoder("int8").store_key != encoder("fp32").store_key
    other = encoder("int8")
    (folder,) = (cache_dir() / "exports").glob("*/int8")
    shutil.rmtree(folder)
    other.calibrate(np.random.default_rng(0).integers(0, 256, (20, 3, 96, 96), np.uint8))  # type: ignore[attr-defined]
    assert other.store_key == encoder("int8").store_key != first


def test_processes_that_start_at_once_share_one_calibration(tmp_path: Path) -> None:
    model = str(save_model(tmp_path / "model", SMALL))
    commands = [[sys.executable, "-c", CALIBRATE, model, str(seed)] for seed in range(4)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    told = [json.loads(process.communicate(timeout=300)[0]) for process in processes]
    assert "/int8-" in told[0][0] and len({key for key, _ in told}) == 1
    assert sum("calibrated on" in line for _, said in told for line in said) == 1


def test_texts_are_those_of_the_fast_path(photos: Path, tmp_path: Path) -> None:
    embedded(photos, tmp_path / "v.npy", "--precision", "int8")
    texts = ["a cat", "a photo of a dog"]
    assert np.array_equal(encoder("int8").encode_texts(texts), encoder("auto").encode_texts(texts))


def test_nothing_to_calibrate_on_is_refused(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="has not seen any of your images yet"):
        _ = encoder("int8").store_key
    few = tmp_path / "few"
    few.mkdir()
    for number in range(3):
        Image.new("RGB", (40, 40), (80 * number, 0, 0)).save(few / f"{number}.png")
    for inputs in ([str(few)], ["-"]):
        assert run(["embed", *inputs, "--model", "tiny", "--precision", "int8", "-o", str(tmp_path / "v.npy")]) == 2
    said = capsys.readouterr().err
    assert "3 are too few" in said and "name a folder or a table" in said


def test_a_damaged_one_is_made_again(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = embedded(photos, tmp_path / "v.npy", "--precision", "int8", "--no-store")
    (path,) = (cache_dir() / "exports").glob("*/int8/images.bin")
    path.write_bytes(path.read_bytes()[:-100])
    capsys.readouterr()
    again = embedded(photos, tmp_path / "w.npy", "--precision", "int8", "--no-store")
    assert "calibrated" in capsys.readouterr().err and np.allclose(rows, again, atol=1e-3)


def test_no_usage_statistics_are_sent(photos: Path, tmp_path: Path) -> None:
    command = ["embed", str(photos), "--model", "tiny", "--precision", "int8", "-o", str(tmp_path / "v.npy")]
    script = (
        f"import sys; from cmprompt.cli.app import run; run({command})\n"
        "print('nncf' in sys.modules, sys.modules['openvino_telemetry'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True None\n"


@pytest.mark.parametrize("command", ["evaluate", "finetune", "adapt"])
def test_heads_are_fitted_and_measured_by_it_too(
    command: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"images/{path.name}", path.name.partition("-")[0]) for path in sorted(photos.iterdir())]
    table, head = write_table(tmp_path / "t.csv", rows), ["-o", str(tmp_path / "h")]
    more = {"evaluate": [], "finetune": [*head, "--force"], "adapt": [*head, "--labels", "red,green,blue"]}[command]
    assert run([command, str(table), "--model", "tiny", "--device", "cpu", "--precision", "int8", *more]) == 0
    assert "calibrated on 20 of your images; on 10 others" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "exports").write_text("a file")
    with pytest.raises(OutputError, match="exports"):
        quantize(tmp_path / "exports" / "images.xml", np.zeros((9, 3, 8, 8), np.uint8), print)
