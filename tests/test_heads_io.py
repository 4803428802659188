"""Heads on disk: the same logits back, whole or not at all, and nothing but safetensors and JSON."""

from __future__ import annotations

import json
import pickle
import shutil
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from heads_data import blobs, halves

from cmprompt import PromptClassifier, load_encoder
from cmprompt.cli.app import run
from cmprompt.encoders.weights import TINY
from cmprompt.errors import ModelError, OutputError
from cmprompt.heads.fit import fit
from cmprompt.heads.io import (
    columns_of,
    gives_numbers,
    is_multi_label,
    load_head,
    model_of,
    read_settings,
    save_head,
    table_of,
)
from cmprompt.heads.linear import LinearHead
from cmprompt.hub import folder_of

HEAD = LinearHead(np.eye(2, 4, dtype=np.float32), ("a", "b"), "fake", 3.0, np.ones(2, np.float32))


@pytest.mark.parametrize("kind", ["linear", "tip-adapter", "proker", "gda", "concat"])
def test_a_loaded_head_says_the_very_same(kind: str, tmp_path: Path) -> None:
    features, names, prior = blobs()
    options = {}
    if kind == "concat":
        (features, names), prior, options = (
            halves(60),
            None,
            {"model_id": "fake", "epochs": 2, "least_steps": 0, "hidden": 8},
        )
    head = fit(kind, features, names, prior, **options)  # type: ignore[arg-type]
    save_head(head, tmp_path / "h.head")
    back = load_head(tmp_path / "h.head")
    assert (back.labels, back.model_id, back.needs) == (head.labels, head.model_id, head.needs)
    assert back.logits(features).tobytes() == head.logits(features).tobytes()


def test_the_record_and_other_files_lie_beside_it(tmp_path: Path) -> None:
    save_head(HEAD, tmp_path / "h", {"accuracy": np.float32(0.5)}, files={"report.json": "{}"})
    assert read_settings(tmp_path / "h")["record"] == {"accuracy": 0.5}
    assert sorted(path.name for path in (tmp_path / "h").iterdir()) == ["head.json", "head.safetensors", "report.json"]


def test_a_figure_that_is_no_number_is_null(tmp_path: Path) -> None:
    figures = {"r2": float("nan"), "top": (np.float32("inf"), 1.0), "curve": np.array([0.5, np.nan])}
    save_head(HEAD, tmp_path / "h", {"metrics": [figures]})
    assert read_settings(tmp_path / "h")["record"]["metrics"] == [{"r2": None, "top": [None, 1], "curve": [0.5, None]}]


def test_a_name_that_is_not_utf_8_comes_back_as_it_was(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    save_head(HEAD, tmp_path / "h", {"table": name}, files={"report.json": json.dumps({"table": name})})
    assert read_settings(tmp_path / "h")["record"] == {"table": name}


def test_two_saves_of_one_head_are_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_head(HEAD, tmp_path / name)
    for part in ("head.json", "head.safetensors"):
        assert (tmp_path / "a" / part).read_bytes() == (tmp_path / "b" / part).read_bytes()


def test_what_is_there_stays_unless_overwrite(tmp_path: Path) -> None:
    save_head(HEAD, tmp_path / "h")
    with pytest.raises(OutputError, match="--overwrite"):
        save_head(HEAD, tmp_path / "h")
    save_head(HEAD, tmp_path / "h", {"second": True}, overwrite=True)
    assert read_settings(tmp_path / "h")["record"] == {"second": True}
    assert [path.name for path in tmp_path.iterdir()] == ["h"]


def test_a_head_that_is_replaced_while_it_is_read_is_one_or_the_other(tmp_path: Path) -> None:
    other = replace(HEAD, labels=("b", "a"), weight=HEAD.weight[::-1].copy())
    wanted = {head.labels: head.weight.tobytes() for head in (HEAD, other)}
    place, ends = tmp_path / "a.head", time.monotonic() + 0.7
    save_head(HEAD, place)

    def save() -> None:
        while time.monotonic() < ends:
            for head in (other, HEAD):
                save_head(head, place, overwrite=True)

    writer = threading.Thread(target=save)
    writer.start()
    seen = set()
    while writer.is_alive():
        with suppress(ModelError):  # another took its place twice meanwhile
            found = load_head(place)
            assert isinstance(found, LinearHead) and found.weight.tobytes() == wanted[found.labels]
            seen.add(found.labels)
    assert seen == set(wanted)


def test_overwrite_never_replaces_what_is_no_head(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(OutputError, match="not a head"):
        save_head(HEAD, tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"x"


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save_head(HEAD, tmp_path / "h", {"not JSON": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".pt", ".pkl", ".bin"])
def test_a_pickle_is_refused_and_never_runs(ending: str, tmp_path: Path) -> None:
    canary = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return Path.write_text, (canary, "x")  # type: ignore[return-value]

    (tmp_path / f"head{ending}").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ModelError, match="never loaded"):
        load_head(tmp_path / f"head{ending}")
    save_head(HEAD, tmp_path / "h")
    (tmp_path / "h" / "head.safetensors").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ModelError):
        load_head(tmp_path / "h")
    assert not canary.exists()


def test_one_flipped_byte_is_noticed(tmp_path: Path) -> None:
    save_head(HEAD, tmp_path / "h")
    file = tmp_path / "h" / "head.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelError, match=r"head\.safetensors"):
        load_head(tmp_path / "h")


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"format": 1}', '{"format": 99}', pytest.param("[" * 100_000, id="deep")]
)
def test_damaged_settings_are_one_error(damage: str, tmp_path: Path) -> None:
    save_head(HEAD, tmp_path / "h")
    (tmp_path / "h" / "head.json").write_text(damage)
    with pytest.raises(ModelError):
        load_head(tmp_path / "h")


@pytest.mark.parametrize(("key", "value"), [("form", "pickle"), ("settings", {}), ("settings", {"labels": 3})])
def test_settings_that_do_not_fit_are_one_error(key: str, value: object, tmp_path: Path) -> None:
    save_head(HEAD, tmp_path / "h")
    file = tmp_path / "h" / "head.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ModelError):
        load_head(tmp_path / "h")


@pytest.mark.parametrize(
    "changed",
    [
        {"labels": ["b"]}, {"labels": ["a", "b", "c"]}, {"labels": []}, {"labels": [1, 2]}, {"labels": "ab"},
        {"labels": ["a", "a"]}, {"scale": "x"}, {"scale": float("nan")}, {"scale": -1}, {"scale": True},
        {"scale": None}, {"needs": ["sound"]}, {"needs": "image"}, {"model_id": 3}, {"text_built": "no"}, {"bias": 3},
    ],
)  # fmt: skip
def test_settings_that_no_such_head_has_are_one_error(changed: dict[str, object], tmp_path: Path) -> None:
    save_head(replace(HEAD, bias=None), tmp_path / "h")
    file = tmp_path / "h" / "head.json"
    about = json.loads(file.read_text())
    file.write_text(json.dumps(about | {"settings": about["settings"] | changed}))
    with pytest.raises(ModelError, match="no complete head"):
        load_head(tmp_path / "h")


@pytest.mark.parametrize("key", ["record", "settings"])
@pytest.mark.parametrize("value", [None, [], "x"])
def test_what_head_json_says_is_two_objects(key: str, value: object, tmp_path: Path) -> None:
    save_head(HEAD, tmp_path / "h")
    file = tmp_path / "h" / "head.json"
    about = json.loads(file.read_text())
    for changed in (about | {key: value}, {name: part for name, part in about.items() if name != key}):
        file.write_text(json.dumps(changed))
        for read in (load_head, model_of, is_multi_label, gives_numbers, table_of, columns_of):
            with pytest.raises(ModelError, match="no complete head"):
                read(tmp_path / "h")


def test_a_source_that_is_no_object_names_no_columns(tmp_path: Path) -> None:
    save_head(HEAD, tmp_path / "h", {"source": [1]})
    assert columns_of(tmp_path / "h") == {}


def test_a_number_has_no_label(tmp_path: Path) -> None:
    save_head(LinearHead(np.eye(1, 4, dtype=np.float32), (), "fake"), tmp_path / "h")
    assert load_head(tmp_path / "h").labels == ()


def test_no_such_head(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load_head(tmp_path / "h")


def tuned(name: str) -> object:
    return load_encoder(f"tuned:{name}")


def classified(name: str) -> object:
    return PromptClassifier(head=name).encoder_


@pytest.mark.parametrize("base", ["{}", "pair:{}|classic", "pair:pair:timm:vgg16|{}|classic", "tuned:below"])
def test_a_head_has_no_repository_of_a_stranger_downloaded(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket is opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    model = "hf-hub:someone/model"
    save_head(HEAD, "below", {"model": model})
    save_head(HEAD, "h", {"model": base.format(model)})
    for use in (model_of, tuned, classified):
        with pytest.raises(ModelError, match=f"models pull {model}"):
            use("h")
    assert run(["classify", "a.jpg", "--head", "h"]) == 3
    shutil.copytree(TINY, folder_of(model))
    assert model_of("h") == base.format(model)


@pytest.mark.parametrize(
    "model",
    ["auto", "tiny", "ViT-B-32-256", "ViT-B-16/laion2b_s34b_b88k", "local-dir:/models/mine", "pair:timm:vgg16|classic"],
)
def test_a_head_has_known_models_loaded(model: str, tmp_path: Path) -> None:
    save_head(HEAD, tmp_path / "h", {"model": model})
    assert model_of(tmp_path / "h") == model


@pytest.mark.parametrize("other", ["one", "two"])
def test_heads_that_stand_on_each_other_are_refused(other: str, tmp_path: Path) -> None:
    save_head(HEAD, tmp_path / "one", {"model": f"tuned:{tmp_path / other}"})
    save_head(HEAD, tmp_path / "two", {"model": f"pair:tuned:{tmp_path / 'one'}|classic"})
    for name in ("one", "two"):
        with pytest.raises(ModelError, match="fitted on itself"):
            load_encoder(f"tuned:{tmp_path / name}")
