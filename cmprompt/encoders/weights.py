"""A checkpoint on disk: its configuration, its preprocessing, its hash. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmprompt.errors import ModelError
from cmprompt.types import Preprocess, Triple
from cmprompt.zoo import PICKLES, pickle_refusal

CONFIG = "open_clip_config.json"
MANIFEST = "cmprompt-manifest.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
TEXT_CONFIG = "text_model/config.json"  # of a text tower that is Hugging Face's
TINY = Path(__file__).parents[1] / "tiny"  # the bundled model
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "vocab.txt", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model",
)  # fmt: skip
# What open_clip's configs meant before they wrote the two keys down; only the CLIP family is that old.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)


@dataclass(frozen=True)
class Checkpoint:
    """An open_clip model on disk. `folder` holds the tokenizer's files, `expected` the weights' published sha256."""

    name: str
    folder: Path
    weights: Path
    model_cfg: Mapping[str, Any]
    preprocess: Preprocess
    expected: str | None = None
    repo: str | None = None
    revision: str | None = None

    @property
    def config_digest(self) -> str:
        """Eight characters for the architecture, the preprocessing and the files of Hugging Face that read texts."""
        parts: list[Any] = [self.model_cfg, vars(self.preprocess)]
        if files := self._text_files():
            parts.append({name: file_sha256(self.folder / name) for name in files})
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]

    def _text_files(self) -> list[str]:
        """Those of a tokenizer and a text tower that are not open_clip's own, as far as they are here."""
        text_cfg = self.model_cfg["text_cfg"]
        names = list(TOKENIZER_FILES if text_cfg.get("hf_tokenizer_name") else ())
        names += [TEXT_CONFIG] if text_cfg.get("hf_model_name") else []
        return [name for name in names if (self.folder / name).is_file()]

    def verified_hash(self) -> str:
        """The sha256 of the weights. Raises ModelError where it is not the published one."""
        actual = file_sha256(self.weights)
        if self.expected and actual != self.expected:
            raise HashMismatch(
                f"{self.weights} is damaged: sha256 {actual[:12]} where {self.expected[:12]} was published; "
                f"{self._remedy()}"
            )
        return actual

    def _remedy(self) -> str:
        if self.repo:
            return f"get it again with: cmprompt models pull {self.name}"
        return "restore the file, or reinstall cmprompt if it is the bundled model"


class HashMismatch(ModelError):
    """Weights that are not the published ones."""


def read_folder(folder: Path) -> Checkpoint:
    """The open_clip model in `folder`: open_clip_config.json beside one safetensors file. Raises ModelError."""
    if not folder.is_dir():
        raise ModelError(f"no model folder at {folder}; it should hold {CONFIG} and {WEIGHTS[0]}")
    config = read_json(folder / CONFIG)
    check_architecture(config.get("model_cfg"), str(folder / CONFIG))
    manifest = read_manifest(folder) if (folder / MANIFEST).is_file() else {}
    weights = find_weights(folder)
    return Checkpoint(
        name=manifest.get("name", "local"),
        folder=folder,
        weights=weights,
        model_cfg=config["model_cfg"],
        preprocess=preprocess_of(config.get("preprocess_cfg", {}), config["model_cfg"], str(folder / CONFIG)),
        expected=manifest.get("files", {}).get(weights.name, {}).get("sha256"),
        repo=manifest.get("repo"),
        revision=manifest.get("revision"),
    )


def check_architecture(model_cfg: Any, where: str) -> None:
    """Raises ModelError where the configuration does not have the parts that are read here, or other values in them."""
    kinds = {"embed_dim": int, "vision_cfg": dict, "text_cfg": dict}
    wrong = [
        key for key, kind in kinds.items() if not isinstance(model_cfg, dict) or type(model_cfg.get(key)) is not kind
    ]
    if wrong:
        raise ModelError(f"{where} has no model_cfg with {', '.join(wrong)}; it should be as open_clip writes it")
    for key in ("context_length", "vocab_size"):
        _whole(model_cfg["text_cfg"].get(key, 1), key, where)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `hub.write_manifest` wrote. Raises ModelError where it does not give a sha256 for each of its files."""
    manifest = read_json(folder / MANIFEST)
    files = manifest.get("files", {})
    if not isinstance(files, dict) or not all(_has_hash(entry) for entry in files.values()):
        raise ModelError(f"{folder / MANIFEST} does not give the sha256 of each file by its name")
    return manifest


def _has_hash(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("sha256"), str)


def find_weights(folder: Path) -> Path:
    """The safetensors file of `folder`. Raises ModelError where there is none, or more than one to choose from."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    if found:
        raise ModelError(f"{folder} holds {len(found)} safetensors files; name the one to use {WEIGHTS[0]}")
    pickled = sorted(path for path in folder.iterdir() if path.suffix in PICKLES)
    if pickled:
        raise ModelError(pickle_refusal(pickled[0]))
    raise ModelError(f"no weights in {folder}; expected {WEIGHTS[0]}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ModelError that names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} should hold a JSON object")
    return value


def preprocess_of(cfg: Any, model_cfg: Mapping[str, Any], where: str) -> Preprocess:
    """open_clip's `preprocess_cfg` as data. Raises ModelError where it leaves open how the pixels were trained."""
    if not isinstance(cfg, dict):
        raise ModelError(f"{where}: preprocess_cfg should be a JSON object")
    filled = {**cfg, **{key: _triple(cfg[key], key, where) for key in ("mean", "std") if cfg.get(key) is not None}}
    if filled.get("mean") == CLIP_MEAN:
        filled = {"interpolation": "bicubic", "resize_mode": "shortest", **filled}
    missing = [key for key in ("mean", "std", "interpolation", "resize_mode") if filled.get(key) is None]
    if missing:
        raise ModelError(
            f"{where}: preprocess_cfg does not give {', '.join(missing)}; the wrong preprocessing silently loses "
            "accuracy, so say how the model was trained (CLIP: bicubic, shortest; SigLIP: bicubic, squash, 0.5)"
        )
    return Preprocess(
        size_px=_square(model_cfg, where),
        resize=_one_of(filled["resize_mode"], ("shortest", "squash", "longest"), "resize_mode", where),
        interpolation=_one_of(filled["interpolation"], ("bicubic", "bilinear", "nearest"), "interpolation", where),
        mean=filled["mean"],
        std=filled["std"],
        fill=_whole(filled.get("fill_color") or 0, "fill_color", where, least=0),
    )


def _square(model_cfg: Mapping[str, Any], where: str) -> int:
    size = model_cfg["vision_cfg"].get("image_size", 224)
    sides = [_whole(side, "image_size", where) for side in (size if isinstance(size, list | tuple) else [size])]
    if len(set(sides)) != 1:
        raise ModelError(f"{where}: image_size {size} is not square, which is not supported")
    return sides[0]


def _whole(value: Any, key: str, where: str, least: int = 1) -> int:
    if type(value) is not int or value < least:
        raise ModelError(f"{where}: {key} {value!r} is no whole number from {least} up")
    return value


def _one_of(value: str, known: tuple[str, ...], key: str, where: str) -> Any:
    if value not in known:
        raise ModelError(f"{where}: {key} {value!r} is not one of {', '.join(known)}")
    return value


def _triple(values: Any, key: str, where: str) -> Triple:
    """Three numbers, or one for all three, as open_clip reads them."""
    try:
        red, green, blue = (float(value) for value in (values if isinstance(values, list | tuple) else [values] * 3))
    except (TypeError, ValueError, OverflowError):
        raise ModelError(f"{where}: {key} {values!r} is not three numbers") from None
    return red, green, blue


def read_scalar(weights: Path, name: str) -> float | None:
    """One number from a safetensors file, or None where it is not in it. bfloat16 too, which numpy does not know."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(weights), "numpy") as file:
            if name not in file.keys():
                return None
            if file.get_slice(name).get_dtype() != "BF16":
                return float(np.asarray(file.get_tensor(name)).reshape(-1)[0])
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{weights} is not a readable safetensors file: {error}") from error
    return _read_bf16(weights, name)


def _read_bf16(weights: Path, name: str) -> float:
    """The header (length, JSON, data) is the format's own definition; a bfloat16 is the upper half of a float32."""
    with open(weights, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        start = json.loads(file.read(length))[name]["data_offsets"][0]
        file.seek(8 + length + start)
        upper = np.frombuffer(file.read(2), "<u2").astype(np.uint32)
    return float((upper << 16).view(np.float32)[0])


def file_sha256(path: Path) -> str:
    """The sha256 of a file, remembered in the user's cache for as long as the file is unchanged."""
    status = path.stat()
    identity = (str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    memo = cache_dir() / "hashes" / hashlib.sha256(repr(identity).encode()).hexdigest()[:32]
    if memo.is_file() and len(known := memo.read_text()) == 64:
        return known
    digest = fresh_sha256(path)
    _remember(memo, digest)
    return digest


def fresh_sha256(path: Path) -> str:
    """The sha256 of a file, read now."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_dir() -> Path:
    """The user's cache directory for cmprompt."""
    from platformdirs import user_cache_path

    return user_cache_path("cmprompt", appauthor=False)


def _remember(memo: Path, digest: str) -> None:
    """Written whole or not at all; a cache that cannot be written only costs the next run some time."""
    partial = memo.with_name(f"{memo.name}.{os.getpid()}")
    try:
        memo.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(digest)
        partial.replace(memo)
    except OSError:
        with suppress(OSError):
            partial.unlink()
