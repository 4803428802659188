"""Model files from the hub: pinned or the newest, hashes checked, interrupted downloads taken up where they stopped.

A pulled model is an ordinary local folder (open_clip_config.json, weights, tokenizer files and a manifest of hashes).
The weights themselves stay in the Hugging Face cache, so that other tools find them too, and the folder links to them.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cmprompt import zoo
from cmprompt.atomic import in_turn, writing
from cmprompt.encoders.weights import (
    CONFIG,
    MANIFEST,
    TEXT_CONFIG,
    TINY,
    TOKENIZER_FILES,
    WEIGHTS,
    Checkpoint,
    cache_dir,
    check_architecture,
    file_sha256,
    fresh_sha256,
    read_folder,
    read_json,
    read_manifest,
)
from cmprompt.errors import ModelError, OutputError, UsageError
from cmprompt.hub.download import Hub, RemoteFile

Notices = Callable[[str], None]


def models_dir() -> Path:
    """Where the pulled models' folders are."""
    return cache_dir() / "models"


def folder_of(name: str) -> Path:
    return models_dir() / name.replace("/", "--").replace(":", "--")


def find_here(name: str, notices: Notices = lambda text: None) -> Checkpoint | None:
    """A model that is on this machine, or None; the network is not asked. Raises UsageError for an unknown name."""
    name = zoo.canonical(name)
    folder = folder_of(name)
    if (folder / MANIFEST).is_file() and (folder / WEIGHTS[0]).is_file():
        return read_folder(folder)
    return _adopt(zoo.aliases().get(name.lower()), notices)


def _adopt(model: zoo.Model | None, notices: Notices) -> Checkpoint | None:
    """A recommended model whose weights another tool left in the Hugging Face cache, if its licence asks nothing."""
    if model is None or not model.commercial or model.extra:
        return None
    sha256 = model.pin.sha256 if model.pin else None
    path = find_cached(model.repo, "*.safetensors" if sha256 else WEIGHTS[0], sha256)
    if path is None:
        return None
    config, folder = _config_of(model, lambda: path.with_name(CONFIG)), folder_of(model.name)
    try:
        return lay_out(folder, model, path.parent.name, config, {WEIGHTS[0]: path}, copy=False)
    except OSError as error:
        why = f"{folder} cannot be written ({error.strerror or error})"
        notices(f"{model.name} is in the Hugging Face cache but is not used, since {why}")
        return None


def find_cached(repo: str, name: str, sha256: str | None = None) -> Path | None:
    """A large file of a repository in the Hugging Face cache, of whichever revision, whole and as it was published.

    `name` may be a pattern; with `sha256` it is the file of that hash.
    """
    snapshots = hub_cache() / f"models--{repo.replace('/', '--')}" / "snapshots"
    for path in sorted(snapshots.glob(f"*/{name}")):
        published = path.resolve().name  # the cache calls a large file by its sha256
        if len(published) == 64 and sha256 in (None, published) and file_sha256(path) == published:
            return path
    return None


def hub_cache() -> Path:
    """The Hugging Face cache, found as its library finds it but without importing that."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = os.environ.get("HF_HOME") or cache / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def find_or_pull(name: str, *, accept_licence: bool = False, notices: Notices = lambda text: None) -> Checkpoint:
    """A model by name, downloaded where it is not here. Raises ModelError (offline), UsageError (unknown, licence)."""
    if here := find_here(name, notices):
        return here
    return pull(name, accept_licence=accept_licence, progress=sys.stderr.isatty(), notices=notices)


def pull(
    name: str,
    *,
    to: Path | None = None,
    revision: str | None = None,
    accept_licence: bool = False,
    progress: bool = False,
    notices: Notices = lambda text: None,
) -> Checkpoint:
    """Download a model, check its hashes, and lay it out as a folder: in the cache, or as real files in `to`.

    The revision is the given one, else the pinned one, else the newest. Raises ModelError (offline, no safetensors or
    others than the pinned ones, damaged on the way), UsageError (unknown, licence not accepted), OutputError.
    """
    zoo.canonical(name)
    alias = zoo.aliases().get(name.lower())
    if alias:
        zoo.check_licence(alias, accept_licence)
    hub = Hub(progress)
    if not alias and not name.startswith("hf-hub:"):
        hub.check_online(name)
    model = zoo.find(name)
    zoo.check_licence(model, accept_licence)
    if not model.repo:
        raise ModelError(f"{model.name} is {model.note}; {_convert_it(model)}")
    pin = model.pin
    commit, files = hub.list_files(model.repo, revision or (pin.revision if pin else None), model.name)
    sha256 = pin.sha256 if pin and commit == pin.revision else None
    weights = _pinned_weights(files, model, sha256) if sha256 else _weights(files, model)
    notices(f"downloading {model.name}: {weights.size / 1e6:.0f} MB from {model.repo} at {commit[:7]}, {model.licence}")
    paths = {WEIGHTS[0]: hub.fetch(model.repo, commit, weights)}
    config = _config_of(model, lambda: hub.fetch(model.repo, commit, _named(files, CONFIG, model)))
    paths |= _text_files(hub, config["model_cfg"]["text_cfg"], model.repo, commit)
    folder = to or folder_of(zoo.canonical(name))
    with writing(str(folder)):
        return lay_out(folder, model, commit, config, paths, copy=to is not None)


def keep(name: str, pickled: Path, *, accept_licence: bool = False) -> Checkpoint:
    """Convert a checkpoint that was downloaded by hand, and lay it out as the model `name`, as if it had been pulled.

    Raises ModelError (more than tensors, or not this model's), OutputError (the model is here already, or cannot be
    written), UsageError (unknown, without an architecture, licence not accepted).
    """
    from cmprompt.encoders.convert import convert
    from cmprompt.encoders.towers import DoesNotFit, load_towers

    model = zoo.find(name)
    zoo.check_licence(model, accept_licence)
    if not model.architecture:
        raise UsageError(f"--as {name}: name an open_clip architecture/tag or a model of: cmprompt models list")
    if here := find_here(name):
        raise OutputError(f"{model.name} is here already, in {here.folder}; remove that folder to make it anew")
    folder = folder_of(zoo.canonical(name))
    config = _config_of(model, lambda: folder / CONFIG)
    revision = model.pin.revision if model.pin else None
    texts = _text_files(Hub(progress=False), config["model_cfg"]["text_cfg"], model.repo, revision)
    with writing(str(folder)), _made_whole(folder) as made:
        convert(pickled, made / WEIGHTS[0])
        _fill(made, config, texts, copy=False)
        write_manifest(made, model.name, licence=model.licence)
        try:
            load_towers(read_folder(made), "cpu", "float32")
        except DoesNotFit as error:
            raise ModelError(f"{pickled} is not {model.name}: it holds the tensors of another architecture") from error
    return read_folder(folder)


def repair(checkpoint: Checkpoint, error: ModelError) -> Checkpoint:
    """One fresh download of a damaged model, at the revision it was pulled at. Raises `error` where that fails."""
    if checkpoint.folder.parent != models_dir():
        raise error
    try:
        return pull(checkpoint.name, revision=checkpoint.revision, accept_licence=True, progress=sys.stderr.isatty())
    except ModelError as again:
        raise ModelError(f"{error} (tried just now: {again})") from again


def pulled() -> list[Checkpoint]:
    """The models that are on this machine, by name."""
    folders = sorted(path.parent for path in models_dir().glob(f"*/{MANIFEST}"))
    return [read_folder(folder) for folder in folders if (folder / WEIGHTS[0]).is_file()]


def folders(names: Sequence[str]) -> list[Path]:
    """The folders that models' names or paths mean; without any, of all that are here, the bundled model included."""
    if not names:
        return [path for path in (TINY, *sorted(models_dir().glob("*"))) if (path / MANIFEST).is_file()]
    return [TINY if name == "tiny" else Path(name) if Path(name).is_dir() else _pulled_folder(name) for name in names]


def _pulled_folder(name: str) -> Path:
    here = find_here(name)
    if here is None:
        raise ModelError(f"{name} is not on this machine; get it with: cmprompt models pull {name}")
    return here.folder


def verify(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Every file of the manifest in `folder`, read whole now: is it as it was published?"""
    for name, expected in read_manifest(folder).get("files", {}).items():
        path = folder / name
        yield path, path.is_file() and fresh_sha256(path) == expected["sha256"]


def write_manifest(folder: Path, name: str, **more: str | None) -> None:
    """Name the model in `folder` and pin its files as they are now."""
    files = {
        str(path.relative_to(folder)): {"sha256": file_sha256(path), "size": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in (".json", ".safetensors", ".txt", ".model") and path.name != MANIFEST
    }
    text = json.dumps({"name": name, **more, "files": files}, indent=1)
    partial = folder / f".{MANIFEST}.{os.getpid()}"
    partial.write_text(text, encoding="utf-8")
    partial.replace(folder / MANIFEST)


def lay_out(
    folder: Path, model: zoo.Model, commit: str, config: dict[str, Any], paths: dict[str, Path], copy: bool
) -> Checkpoint:
    """The model's folder: its configuration, its files linked (or copied), and the manifest.

    Raises OSError where that cannot be written.
    """
    with _made_whole(folder) as made:
        _fill(made, config, paths, copy)
        write_manifest(made, model.name, repo=model.repo, revision=commit, licence=model.licence)
    return read_folder(folder)


@contextmanager
def _made_whole(folder: Path) -> Iterator[Path]:
    """A folder of its own to make the model's files in; they are moved to `folder` when the block is left, so that a
    process that reads the model finds it whole, and dropped when an exception leaves it, with a new `folder`."""
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with in_turn(folder / ".lock"), TemporaryDirectory(prefix=".", dir=folder) as temporary:
            yield Path(temporary)
            _move(Path(temporary), folder)
    except BaseException:
        if new:
            with suppress(OSError):  # another process may be making it
                folder.rmdir()
        raise


def _fill(folder: Path, config: dict[str, Any], paths: dict[str, Path], copy: bool) -> None:
    """The configuration and the files, but no manifest."""
    (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
    for name, path in paths.items():
        (folder / name).parent.mkdir(exist_ok=True)
        _place(path, folder / name, copy)


def _move(made: Path, folder: Path) -> None:
    """Every file to its place in `folder`, over the one that was there; the manifest, which says so, last."""
    files = [path.relative_to(made) for path in made.rglob("*") if path.is_file()]
    for name in sorted(files, key=lambda name: name.name == MANIFEST):
        (folder / name).parent.mkdir(exist_ok=True)
        (made / name).replace(folder / name)


def _place(source: Path, target: Path, copy: bool) -> None:
    """A link where the system allows one: the weights are large, and the cache has them already."""
    if not copy:
        try:
            target.symlink_to(source.resolve())
            return
        except OSError:
            pass
    shutil.copyfile(source, target)


def _pinned_weights(files: dict[str, RemoteFile], model: zoo.Model, sha256: str) -> RemoteFile:
    for file in files.values():
        if file.sha256 == sha256:
            return file
    raise ModelError(
        f"{model.repo} does not have the weights of {model.name} at the pinned revision (sha256 {sha256[:12]}...), "
        f"so nothing was downloaded; hf-hub:{model.repo} takes what it publishes now"
    )


def _weights(files: dict[str, RemoteFile], model: zoo.Model) -> RemoteFile:
    for name in WEIGHTS:
        if name in files:
            return files[name]
    found = [name for name in files if name.endswith(".safetensors") and "/" not in name]
    if len(found) == 1:
        return files[found[0]]
    raise ModelError(
        f"{model.repo} publishes no safetensors weights for open_clip; it has: {', '.join(sorted(files))}. "
        f"{_convert_it(model)}"
    )


def _convert_it(model: zoo.Model) -> str:
    kept = f" --as {model.name}" if model.architecture else ""
    return f"Download its checkpoint yourself and turn it into safetensors with: cmprompt models convert FILE{kept}"


def _named(files: dict[str, RemoteFile], name: str, model: zoo.Model) -> RemoteFile:
    if name not in files:
        raise ModelError(f"{model.repo} has no {name}, so how to build it and prepare its images is not known")
    return files[name]


def _config_of(model: zoo.Model, fetch: Callable[[], Path]) -> dict[str, Any]:
    """model_cfg and preprocess_cfg: from open_clip's tables for its own names, else from the repository."""
    if not model.architecture:
        config = read_json(fetch())
        check_architecture(config.get("model_cfg"), f"{model.repo}: {CONFIG}")
        return config
    from open_clip import get_model_config
    from open_clip.pretrained import get_pretrained_cfg

    model_cfg, table = get_model_config(model.architecture), get_pretrained_cfg(model.architecture, model.tag)
    check_quick_gelu(model, model_cfg, table)
    keys = ("mean", "std", "interpolation", "resize_mode")
    return {"model_cfg": model_cfg, "preprocess_cfg": {key: table[key] for key in keys}}


def check_quick_gelu(model: zoo.Model, model_cfg: dict[str, Any], table: dict[str, Any]) -> None:
    """open_clip only warns when the weights were trained with the other activation; they then answer wrongly."""
    if bool(model_cfg.get("quick_gelu")) == bool(table.get("quick_gelu")):
        return
    base = model.architecture.removesuffix("-quickgelu")
    right = f"{base}-quickgelu" if table.get("quick_gelu") else base
    raise ModelError(
        f"{model.architecture}/{model.tag} pairs the wrong activation with these weights (QuickGELU mismatch); "
        f"use {right}/{model.tag}"
    )


def _text_files(hub: Hub, text_cfg: dict[str, Any], own: str, revision: str | None) -> dict[str, Path]:
    """The files of a tokenizer and a text tower of Hugging Face's.

    From the model's `own` repository they are of its `revision`, from any other the newest.
    """
    paths: dict[str, Path] = {}
    if repo := text_cfg.get("hf_tokenizer_name"):
        commit, files = hub.list_files(repo, revision if repo == own else None, repo)
        paths |= {name: hub.fetch(repo, commit, files[name]) for name in TOKENIZER_FILES if name in files}
    if repo := text_cfg.get("hf_model_name"):
        commit, files = hub.list_files(repo, revision if repo == own else None, repo)
        if "config.json" not in files:
            raise ModelError(f"{repo} has no config.json, so how to build the text tower is not known")
        paths[TEXT_CONFIG] = hub.fetch(repo, commit, files["config.json"])
    return paths
