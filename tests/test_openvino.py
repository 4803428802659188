"""The fast back end on a processor: the same vectors as torch, exported once, and trusted only while whole."""

from __future__ import annotations

import json
import locale
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_models import SMALL, save_model

from cmprompt import load_encoder
from cmprompt.encoders.openvino import compiled_dir
from cmprompt.encoders.weights import cache_dir
from cmprompt.encoding import encode_images
from cmprompt.errors import ModelError
from cmprompt.types import Array, Encoder

WEIGHTS = "open_clip_model.safetensors"
TEXTS = ["", "a cat", "a photo of a dog in the snow", "rain over the grey harbour and a boat that leaves it for good"]

ENCODE = """
import json, sys
import numpy as np
from cmprompt import load_encoder

said = []
encoder = load_encoder(f"local-dir:{sys.argv[1]}", device="cpu", precision="fp32", notices=said.append)
pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32), dtype=np.uint8)
rows = encoder.encode_images(pixels), encoder.encode_texts(["a cat"])
print(json.dumps([encoder.store_key, said, [row.tobytes().hex() for row in rows]]))
"""
LOSE = """
import shutil, sys

def lose(event, arguments):
    if event == "open" and str(arguments[0]).endswith("export.json") and arguments[1] == "r":
        shutil.rmtree(arguments[0].parent, ignore_errors=True)

sys.addaudithook(lose)
"""
SEAL = """
import os, sys
from pathlib import Path
from cmprompt.encoders.sealed import seal, sealed

folder, names = Path(sys.argv[1]), ("a", "b", "made.json")

def fill(partial):
    for name in names[:2]:
        (partial / name).write_text(name)
    return {}

def look(event, arguments):
    if event in ("os.remove", "os.rename", "os.rmdir") and folder.exists():
        all((folder / name).exists() for name in names) or os._exit(9)

seal(folder, "made.json", fill)
sys.addaudithook(look)
seal(folder, "made.json", fill)
print(sealed(folder, "made.json") is not None, sorted(path.name for path in folder.parent.iterdir()))
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture
def pixels() -> Array:
    return np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with nothing in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(folder: Path, notices: Callable[[str], None] = print, **options: object) -> Encoder:
    return load_encoder(f"local-dir:{folder}", device="cpu", notices=notices, **{"precision": "fp32", **options})  # type: ignore[arg-type]


def exports() -> list[Path]:
    return sorted(path for path in (cache_dir() / "exports").iterdir())


def start(script: str, folder: Path) -> subprocess.Popen[str]:
    """A process of its own on a folder."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


def poison(folder: Path, tensor: str) -> Path:
    """Make one of the weights NaN: a tower that gives no vectors cannot be shown to agree with torch."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    tensors[tensor][:] = np.nan
    save_file(tensors, folder / WEIGHTS)
    return folder


def test_vectors_are_those_of_torch(small: Path, pixels: Array) -> None:
    fast, exact = load(small), load(small, exact=True)
    assert "openvino" in fast.store_key and "torch" in exact.store_key
    np.testing.assert_allclose(fast.encode_images(pixels), exact.encode_images(pixels), atol=1e-5)
    np.testing.assert_allclose(fast.encode_texts(TEXTS), exact.encode_texts(TEXTS), atol=1e-5)


def test_once_exported_nothing_needs_torch(small: Path) -> None:
    assert load(small).store_key
    script = (
        "import sys, numpy as np; from cmprompt import load_encoder\n"
        f"e = load_encoder('local-dir:{small}', device='cpu')\n"
        "e.encode_images(np.zeros((1, 3, 32, 32), np.uint8)); e.encode_texts(['a new label'])\n"
        "print(e.back_end, sorted({'torch', 'open_clip', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("openvino-") and done.stdout.endswith(" []\n")


def test_a_signal_is_still_handled_after_a_model_was_dropped_in_another_thread(small: Path) -> None:
    assert load(small).store_key
    script = (
        "import os, signal, threading, numpy as np; from cmprompt import load_encoder\n"
        f"held = [load_encoder('local-dir:{small}', device='cpu')]\n"
        "held[0].encode_images(np.zeros((1, 3, 32, 32), np.uint8))\n"
        "dropping = threading.Thread(target=held.clear)\n"
        "dropping.start(); dropping.join()\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('handled'))\n"
        "os.kill(os.getpid(), signal.SIGTERM)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n")


def test_the_export_sends_no_usage_statistics(small: Path, empty: Path) -> None:
    script = (
        "import sys; from cmprompt import load_encoder\n"
        f"load_encoder('local-dir:{small}', device='cpu').store_key\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry') and sys.modules[name]])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_towers_are_exported_once_and_it_is_said(small: Path, empty: Path) -> None:
    said: list[str] = []
    keys = {load(small, said.append, precision=precision).store_key for precision in ("fp32", "bf16", "fp32")}
    assert len(keys) == 2 and len(said) == 1 and "once" in said[0]
    assert len(exports()) == 1


def test_processes_that_start_at_once_share_one_export(small: Path, empty: Path) -> None:
    processes = [start(ENCODE, small) for _ in range(4)]
    told = [json.loads(process.communicate(timeout=300)[0]) for process in processes]
    assert "openvino" in told[0][0] and all((key, rows) == (told[0][0], told[0][2]) for key, _, rows in told)
    assert sum(len(said) for _, said, _ in told) == 1 and len(exports()) == 1


def test_one_that_is_killed_as_it_exports_holds_up_no_other(small: Path, empty: Path) -> None:
    process, deadline = start(ENCODE, small), time.monotonic() + 60
    while not list((cache_dir() / "exports").glob(".*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    lock, half = sorted(exports(), key=lambda path: path.is_dir())
    said: list[str] = []
    assert lock.is_file() and half.is_dir() and "openvino" in load(small, said.append).store_key
    assert len(said) == 1 and not lock.exists()


def test_an_export_that_is_lost_as_it_is_made_leaves_torch_and_a_word(small: Path, empty: Path) -> None:
    out, _ = start(LOSE + ENCODE, small).communicate(timeout=300)
    key, said, _ = json.loads(out)
    assert "torch-cpu" in key and said[1].endswith("so torch encodes")


def test_a_model_fails_and_no_photo_where_the_export_went_meanwhile(small: Path, empty: Path, pixels: Array) -> None:
    encoder = load(small)
    assert "openvino" in encoder.store_key
    shutil.rmtree(exports()[0])
    with pytest.raises(ModelError, match=r"images\.xml cannot be loaded; run it again"):
        encode_images(encoder, pixels[:1])
    with pytest.raises(ModelError, match=r"texts\.xml cannot be loaded"):
        encoder.encode_texts(TEXTS)


def test_a_folder_is_whole_at_every_step_until_the_new_one_is_in_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "here" / "sealed"
    folder.parent.mkdir()
    process = start(SEAL, folder)
    assert process.communicate(timeout=300)[0] == "True ['sealed']\n"


@pytest.mark.parametrize("name", ["images.bin", "texts.xml", "export.json"])
def test_a_damaged_export_is_made_again(small: Path, empty: Path, pixels: Array, name: str) -> None:
    expected = load(small).encode_images(pixels)
    (folder,) = exports()
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 255
    (folder / name).write_bytes(data)
    said: list[str] = []
    assert np.array_equal(load(small, said.append).encode_images(pixels), expected) and len(said) == 1
    assert exports() == [folder]


def test_what_was_compiled_is_kept_and_gives_the_same_vectors(small: Path, empty: Path, pixels: Array) -> None:
    encoder = load(small)
    expected = encoder.encode_images(pixels), encoder.encode_texts(TEXTS)
    (folder,) = exports()
    kept = sorted(compiled_dir(folder / "images.xml").iterdir())
    assert len(kept) == 2 and sum(path.stat().st_size for path in kept) < 1 << 20  # the graphs, not the weights
    assert_gives(load(small), expected, pixels)
    for path in kept:
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_gives(load(small), expected, pixels)  # what is damaged is made anew
    shutil.rmtree(kept[0].parent)
    kept[0].parent.write_text("a file where the folder should be")
    assert_gives(load(small), expected, pixels)


def assert_gives(encoder: Encoder, expected: tuple[Array, Array], pixels: Array) -> None:
    assert np.array_equal(encoder.encode_images(pixels), expected[0])
    assert np.array_equal(encoder.encode_texts(TEXTS), expected[1])


def test_an_export_of_other_weights_is_not_used(small: Path, empty: Path, tmp_path: Path, pixels: Array) -> None:
    assert load(small).store_key
    other = save_model(tmp_path / "other", {**SMALL, "embed_dim": 8})
    assert load(other).encode_images(pixels).shape == (5, 8) and len(exports()) == 2


def test_torch_runs_a_tower_that_does_not_export(small: Path, empty: Path, tmp_path: Path, pixels: Array) -> None:
    folder, said = poison(Path(shutil.copytree(small, tmp_path / "copy")), "text_projection"), []
    encoder = load(folder, said.append)
    assert encoder.store_key.split("/")[2].endswith("-images") and "texts" in said[1]
    assert np.isfinite(encoder.encode_images(pixels)).all() and np.isnan(encoder.encode_texts(["a cat"])).all()
    load(folder, said.append).encode_texts(["a cat"])
    assert len(said) == 2  # not tried again


def test_torch_runs_both_where_nothing_can_be_kept(small: Path, empty: Path, pixels: Array) -> None:
    empty.write_text("a file where the cache should be")
    said: list[str] = []
    encoder = load(small, said.append)
    assert "torch-cpu" in encoder.store_key and "cannot be written" in said[1]
    np.testing.assert_array_equal(encoder.encode_images(pixels), load(small, exact=True).encode_images(pixels))


def test_the_two_towers_may_load_at_once(small: Path, pixels: Array) -> None:
    from concurrent.futures import ThreadPoolExecutor

    first, second = load(small), load(small)
    expected = first.encode_images(pixels), first.encode_texts(TEXTS)
    before = locale.setlocale(locale.LC_ALL)
    with ThreadPoolExecutor(2) as pool:
        rows = [pool.submit(second.encode_images, pixels), pool.submit(second.encode_texts, TEXTS)]
    assert all(np.array_equal(task.result(), known) for task, known in zip(rows, expected, strict=True))
    assert locale.setlocale(locale.LC_ALL) == before  # which OpenVINO changes meanwhile


def test_several_threads_may_be_the_first_in_a_process(small: Path) -> None:
    assert load(small).store_key
    script = (
        "import sys, numpy as np; from concurrent.futures import ThreadPoolExecutor; from threading import Barrier\n"
        "from cmprompt import load_encoder\n"
        f"tower = load_encoder('local-dir:{small}', device='cpu', threads=8)._tower('images')\n"
        "sys.setswitchinterval(1e-6); gate = Barrier(8)\n"
        "def call(_): gate.wait(); return tower(np.zeros((1, 3, 32, 32), np.uint8))\n"
        "with ThreadPoolExecutor(8) as pool: print(len(list(pool.map(call, range(8)))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "8\n"


def test_several_threads_may_encode_at_once(small: Path, pixels: Array) -> None:
    from concurrent.futures import ThreadPoolExecutor

    encoder = load(small, threads=2)
    expected = encoder.encode_images(pixels)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(rows, expected) for rows in pool.map(encoder.encode_images, [pixels] * 12))
