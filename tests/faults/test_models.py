"""Weights that must not be used: pickles, whatever they are called, and files that changed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NO_SOCKETS
from small_models import SMALL, save_model

from cmprompt import load_encoder
from cmprompt.encoders.convert import convert
from cmprompt.errors import ModelError, OutputError
from cmprompt.hub import write_manifest

WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture
def folder(small: Path, tmp_path: Path) -> Path:
    """A model's folder without its weights."""
    copy = Path(shutil.copytree(small, tmp_path / "model"))
    (copy / WEIGHTS).unlink()
    return copy


class Payload:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.canary),)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def test_the_canary_sings(canary: Path) -> None:
    pickle.loads(pickle.dumps(Payload(canary)))
    assert canary.exists()


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "model.pt", "model.pkl", "model.ckpt", WEIGHTS])
def test_a_pickle_is_refused_and_never_runs(folder: Path, canary: Path, name: str) -> None:
    (folder / name).write_bytes(pickle.dumps({"state_dict": Payload(canary)}))
    with pytest.raises(ModelError, match=name):
        load_encoder(f"local-dir:{folder}")
    assert not canary.exists()


@pytest.mark.parametrize("as_torch_saves_it", [True, False])
def test_convert_refuses_a_payload(tmp_path: Path, canary: Path, as_torch_saves_it: bool) -> None:
    source = tmp_path / "model.bin"
    if as_torch_saves_it:
        torch.save({"weight": torch.ones(2), "extra": Payload(canary)}, source)
    else:
        source.write_bytes(pickle.dumps(Payload(canary)))
    with pytest.raises(ModelError, match="refused"):
        convert(source)
    assert not canary.exists() and not source.with_suffix(".safetensors").exists()


def test_a_checkpoint_of_tensors_is_converted(small: Path, folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    tensors = {f"module.{name}": value for name, value in load_file(small / WEIGHTS).items()}
    torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / "epoch_3.pt")
    convert(tmp_path / "epoch_3.pt", folder / WEIGHTS)
    rows = [load_encoder(f"local-dir:{path}", device="cpu").encode_texts(["a cat"]) for path in (small, folder)]
    np.testing.assert_array_equal(*rows)


def test_convert_replaces_nothing(small: Path, tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "model.pt")
    with pytest.raises(OutputError, match="exists"):
        convert(tmp_path / "model.pt", small / WEIGHTS)


STRANGE = """
from pathlib import Path
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig
Path({canary!r}).mkdir(exist_ok=True)
class Words(PreTrainedTokenizerFast): pass
class Config(XLMRobertaConfig): model_type = "strange"
"""
WORDS = {"tokenizer_class": "Words", "auto_map": {"AutoTokenizer": [None, "strange.Words"]}}
CONFIG = {"model_type": "strange", "auto_map": {"AutoConfig": "strange.Config"}}


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    from multilingual_models import save_xlm_roberta

    return Path(save_xlm_roberta(tmp_path_factory.mktemp("multilingual")).removeprefix("local-dir:"))


@pytest.fixture
def strange(multilingual: Path, tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with code beside its files, before a user who agrees to all that is asked."""
    monkeypatch.setattr("builtins.input", lambda _: "y")
    copy = Path(shutil.copytree(multilingual, tmp_path / "strange"))
    for folder in (copy, copy / "text_model"):
        (folder / "strange.py").write_text(STRANGE.format(canary=str(canary)))
    return copy


def change(file: Path, changes: dict[str, Any]) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(known | changes))


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("tokenizer_config.json", WORDS, "auto_map"),
        ("text_model/config.json", CONFIG, "auto_map"),
        ("text_model/config.json", {"model_type": "strange"}, "no text tower of open_clip"),
        ("text_model/config.json", {"configuration_files": ["config.4.0.0.json"]}, "configuration_files"),
        ("text_model/config.json", {"_attn_implementation": "someone/kernel"}, "_attn_implementation"),
    ],
)
def test_code_beside_a_model_never_runs(
    strange: Path, canary: Path, name: str, values: dict[str, Any], said: str
) -> None:
    change(strange / "text_model/config.4.0.0.json", CONFIG)
    change(strange / name, values)
    with pytest.raises(ModelError, match=rf"^.*{said}.*$"):
        load_encoder(f"local-dir:{strange}", "cpu", exact=True).encode_texts(["a cat"])
    assert not canary.exists()


@pytest.mark.parametrize("options", [{"trust_remote_code": True}, {"use_fast": False}, ["clean"], {"clean": "none"}])
def test_a_model_chooses_no_other_tokenizer_options_than_open_clip_s_own(
    strange: Path, canary: Path, options: object
) -> None:
    model_cfg = json.loads((strange / "open_clip_config.json").read_text())["model_cfg"]
    model_cfg["text_cfg"]["tokenizer_kwargs"] = options
    change(strange / "open_clip_config.json", {"model_cfg": model_cfg})
    change(strange / "config.json", CONFIG)
    with pytest.raises(ModelError, match=r"^.*tokenizer.*$"):
        load_encoder(f"local-dir:{strange}", "cpu", exact=True).encode_texts(["a cat"])
    assert not canary.exists()


def test_what_a_model_runs_elsewhere_does_not_keep_its_tokenizer_from_being_read(strange: Path, canary: Path) -> None:
    change(strange / "config.json", CONFIG)
    load_encoder(f"local-dir:{strange}", "cpu", exact=True).encode_texts(["a cat"])
    assert not canary.exists()


@pytest.mark.parametrize("name", ["hf-hub:someone/network", "hf_hub:someone/network", "local-dir:network", ["a"]])
def test_a_network_from_elsewhere_is_not_fetched_for_a_model(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: object
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket is opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    copy = Path(shutil.copytree(small, tmp_path / "model"))
    vision = {"timm_model_name": name, "image_size": 32}
    change(copy / "open_clip_config.json", {"model_cfg": {**SMALL, "vision_cfg": vision}})
    with pytest.raises(ModelError, match="timm_model_name"):
        load_encoder(f"local-dir:{copy}", "cpu", exact=True).encode_texts(["a cat"])


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"\xff" * 64, b"\x10\0\0\0\0\0\0\0{}"])
def test_broken_safetensors_name_the_file(folder: Path, data: bytes) -> None:
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(ModelError, match=WEIGHTS):
        load_encoder(f"local-dir:{folder}")


DEEP = pytest.param("[" * 100_000, id="deep")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model_cfg": 3}', '{"model_cfg": {"embed_dim": 4}}', "\x00", DEEP])
def test_broken_configurations_name_the_file(small: Path, tmp_path: Path, text: str) -> None:
    copy = Path(shutil.copytree(small, tmp_path / "model"))
    (copy / "open_clip_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"open_clip_config\.json"):
        load_encoder(f"local-dir:{copy}")


def test_a_flipped_byte_ends_with_status_3_and_the_files_name(small: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small, tmp_path / "model"))
    write_manifest(copy, "mine")
    data = bytearray((copy / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / WEIGHTS).write_bytes(data)
    command = [sys.executable, "-m", "cmprompt", "models", "info", f"local-dir:{copy}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3 and WEIGHTS in done.stderr and "Traceback" not in done.stderr


def test_loading_and_encoding_open_no_socket(small: Path) -> None:
    script = NO_SOCKETS + (
        "import numpy as np; from cmprompt import load_encoder\n"
        f"e = load_encoder('local-dir:{small}')\n"
        "e.encode_texts(['a cat']); e.encode_images(np.zeros((1, 3, 32, 32), np.uint8)); print('done')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "done", done.stderr
