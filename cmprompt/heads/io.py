"""A head on disk: one directory with `head.safetensors` and `head.json`, whole or not at all. Never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmprompt.errors import ModelError, OutputError
from cmprompt.registry import HEAD_FORMS, resolve
from cmprompt.types import Encoder, Head

if TYPE_CHECKING:
    from cmprompt.encoders.tuned import Tower

FORMAT = 1  # of head.json; a newer one is refused
TENSORS, SETTINGS = "head.safetensors", "head.json"
OUTPUTS = ("weight", "starts", "params.out.weight")  # the tensors that have a row for each output
FIELDS = {"image", "text", "image_tokens", "text_tokens"}  # what a head may need
UNREADABLE = "backslashreplace"  # a byte of a name that is not UTF-8 becomes its JSON escape, which reads as it was


def save_head(
    head: Head,
    directory: str | os.PathLike[str],
    record: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    files: Mapping[str, str] | None = None,
    towers: Sequence[Tower] = (),
) -> None:
    """Write `head` and what is known about it (`record`, JSON) to `directory`, with other text `files` beside it.

    `towers` that were trained with it lie there too: SIDE.safetensors, and their words in head.json.

    The directory appears at once and complete. Raises OutputError when something is there already (with `overwrite`,
    when it is not a head), or when it cannot be written.
    """
    target = Path(directory)
    check_free(target, overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            _write(head, beside, record or {}, files or {}, towers)
            _put_in_place(beside, target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot write the head {target}: {error.strerror or error}") from error


def load_head(directory: str | os.PathLike[str]) -> Head:
    """The head saved in `directory`. Raises ModelError for anything that is not one, naming what is wrong."""
    settings, packed = _read(Path(directory))
    tensors = _tensors(Path(directory), packed)
    form = str(settings.get("form"))
    if form not in HEAD_FORMS:
        raise ModelError(f"{Path(directory, SETTINGS)}: unknown form of head {form!r}; a newer cmprompt may know it")
    try:
        head: Head = _assemble(resolve(HEAD_FORMS, "form of head", form), settings["settings"], tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{directory} is no complete head ({error}); fit it again") from error
    return head


def read_settings(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """What `head.json` says: the form, the settings and, under `record`, how the head came to be."""
    return _read(Path(directory))[0]


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    """The settings and the tensors of one and the same head, though another takes its place meanwhile."""
    before = _folder_id(path)
    try:
        return _read_once(path)
    except ModelError:
        if _folder_id(path) == before:
            raise
    return _read_once(path)


def _folder_id(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_ino
    return None


def _read_once(path: Path) -> tuple[dict[str, Any], bytes]:
    if not path.is_dir():
        found = "is a single file" if path.exists() else "does not exist"
        raise ModelError(
            f"head {str(path)!r} {found}; a head is a directory that holds {SETTINGS} and {TENSORS}, as `cmprompt"
            " finetune` writes it (.pt, .pkl and .bin files are never loaded)"
        )
    try:
        settings: dict[str, Any] = json.loads((path / SETTINGS).read_text("utf-8"))
        if settings["format"] > FORMAT:
            raise ModelError(f"head {str(path)!r} was written by a newer cmprompt; upgrade to use it")
        for key in ("settings", "record"):
            if not isinstance(settings[key], dict):
                raise TypeError(f"its {key!r} is no JSON object")
        packed = (path / TENSORS).read_bytes()
        if hashlib.sha256(packed).hexdigest() != settings["sha256"]:
            raise ModelError(f"{path / TENSORS}: its bytes are not those that {SETTINGS} names; fit the head again")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{str(path)!r} is no complete head ({error}); fit it again") from error
    return settings, packed


def model_of(directory: str | os.PathLike[str]) -> str:
    """The name by which `load_encoder` finds the model that this head was fitted on, or with.

    Raises ModelError for a repository of the hub that was not pulled: whoever wrote the head chose it, not the user.
    """
    if read_settings(directory).get("towers"):
        return f"tuned:{os.fspath(directory)}"
    return _model_below(directory)


def load_tuned(model: str, **options: Any) -> Encoder:
    """The encoder that `tuned:DIR` names: that of the head in DIR, with the towers that were trained with the head.

    The model below the towers is loaded with the `options` of `load_encoder`.
    """
    from cmprompt.encoders import load_encoder
    from cmprompt.encoders.tuned import with_towers

    directory = Path(model.removeprefix("tuned:")).expanduser()
    _, towers = read_towers(directory)
    return with_towers(load_encoder(_model_below(directory), **options), towers)


def _model_below(directory: str | os.PathLike[str], above: frozenset[str] = frozenset()) -> str:
    """The model in a head's record, if it may be loaded unasked; `above` are the heads that were fitted with this one.

    The recommended models and open_clip's other names may: those are downloaded from where their makers put them.
    """
    from cmprompt.encoders import is_here

    here = os.path.realpath(directory)
    if here in above:
        raise ModelError(f"{str(directory)!r} was fitted on itself, as its {SETTINGS} says; fit it again")
    model = str(read_settings(directory)["record"].get("model", "auto"))
    for part in model.split("|"):
        name = re.sub("^(pair:)+", "", part)
        if name.startswith("tuned:"):
            _model_below(Path(name.removeprefix("tuned:")).expanduser(), above | {here})
        elif name.startswith("hf-hub:") and not is_here(name):
            raise ModelError(
                f"head {str(directory)!r} was fitted on {name}, which is not on this machine; "
                f"if you trust it, get it with: cmprompt models pull {name}"
            )
    return model


def read_towers(directory: str | os.PathLike[str]) -> tuple[str, tuple[Tower, ...]]:
    """The model that a head was fitted on, and the towers of it that were trained with the head.

    Raises ModelError for what is no head, and where a tower is not the one that was saved.
    """
    settings = read_settings(directory)
    try:
        towers = tuple(_tower(Path(directory), side, about) for side, about in settings.get("towers", {}).items())
        return str(settings["record"].get("model", "auto")), towers
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{str(directory)!r} is no complete head ({error}); fit it again") from error


def _tower(directory: Path, side: str, about: Mapping[str, Any]) -> Tower:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from cmprompt.encoders.tuned import SIDES, Tower

    more = {key: about[key] for key in SIDES[side]}
    path = directory / f"{side}.safetensors"
    packed = path.read_bytes()
    if hashlib.sha256(packed).hexdigest() != about["sha256"]:
        raise ModelError(f"{path}: its bytes are not those that {SETTINGS} names; fit the head again")
    try:
        return Tower("image" if side == "image" else "text", load(packed), more)
    except SafetensorError as error:
        raise ModelError(f"{path} cannot be read ({error}); fit the head again") from error


def is_multi_label(directory: str | os.PathLike[str]) -> bool:
    """Whether the labels of the head in `directory` do not exclude each other."""
    return bool(read_settings(directory)["record"].get("multi_label"))


def gives_numbers(directory: str | os.PathLike[str]) -> bool:
    """Whether the head in `directory` answers with a number: it has no labels."""
    return not read_settings(directory)["settings"].get("labels", True)


def table_of(directory: str | os.PathLike[str]) -> str | None:
    """The path of the table or folder that the head in `directory` was fitted on, where it is known."""
    table = read_settings(directory)["record"].get("table")
    return str(table) if table else None


def columns_of(directory: str | os.PathLike[str]) -> dict[str, str]:
    """The columns of the table that the head in `directory` was fitted on, by the fields of their flags."""
    source = read_settings(directory)["record"].get("source")
    columns = source.items() if isinstance(source, dict) else ()
    return {field: name for field, name in columns if field.endswith("_col") and isinstance(name, str) and name}


def check_model(
    head: Head, encoder: Encoder, name: str, advice: str = "leave --model out to use the head's own"
) -> None:
    """Raises ModelError when `head` was fitted on another model than `encoder`; precision and device do not matter."""
    if head.model_id != encoder.model_id:
        raise ModelError(f"head {name!r} was fitted on {head.model_id}, and this model is {encoder.model_id}; {advice}")


def form_of(head: Head) -> str:
    """The name in `registry.HEAD_FORMS` of this head's class."""
    wanted = f"{type(head).__module__}:{type(head).__name__}"
    for form, where in HEAD_FORMS.items():
        if where == wanted:
            return form
    raise OutputError(f"a head of the class {type(head).__name__} cannot be saved")


def check_free(target: Path, overwrite: bool) -> None:
    """Raises OutputError when a head may not be written to `target`."""
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise OutputError(f"{target} exists already; name another with -o, or replace it with --overwrite")
    if not (target / SETTINGS).is_file():
        raise OutputError(f"{target} is not a head, so --overwrite does not replace it; name another with -o")


def _write(
    head: Head, directory: Path, record: Mapping[str, Any], files: Mapping[str, str], towers: Sequence[Tower]
) -> None:
    from safetensors.numpy import save

    tensors, settings = {}, {}
    for name, value in ((field.name, getattr(head, field.name)) for field in fields(head)):  # type: ignore[arg-type]
        if isinstance(value, np.ndarray):
            tensors[name] = np.ascontiguousarray(value)
        elif isinstance(value, dict):
            tensors.update({f"{name}.{key}": np.ascontiguousarray(array) for key, array in value.items()})
        else:
            settings[name] = sorted(value) if isinstance(value, frozenset) else value
    packed = save(tensors)
    about = {
        "format": FORMAT,
        "form": form_of(head),
        "settings": settings,
        "sha256": hashlib.sha256(packed).hexdigest(),
        "towers": {tower.side: {"sha256": tower.sha256, **tower.about} for tower in towers},
        "record": record,
    }
    for tower in towers:
        (directory / f"{tower.side}.safetensors").write_bytes(tower.packed)
    (directory / TENSORS).write_bytes(packed)
    texts = {SETTINGS: json_text(about), **files}
    for name, text in texts.items():
        (directory / name).write_text(text, "utf-8", UNREADABLE)
    for path in directory.iterdir():
        with open(path, "rb") as written:
            os.fsync(written.fileno())
    os.chmod(directory, 0o777 & ~_umask())


def _put_in_place(beside: Path, target: Path) -> None:
    """Rename into place; what was there is set aside first and comes back if that fails."""
    if not target.exists():
        os.rename(beside, target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent)) / "head"
    os.rename(target, aside)
    try:
        os.rename(beside, target)
    except OSError:
        os.rename(aside, target)
        raise
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)


def _tensors(directory: Path, packed: bytes) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(packed))
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{directory / TENSORS} cannot be read ({error}); fit the head again") from error


def _assemble(form: Any, settings: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """The dataclass from its fields: arrays by name, dictionaries of arrays by `name.key`, the rest from JSON.

    Raises TypeError or ValueError for what no such head holds.
    """
    values: dict[str, Any] = {}
    for field in fields(form):
        group = {key.partition(".")[2]: array for key, array in tensors.items() if key.startswith(f"{field.name}.")}
        if field.name in tensors:
            values[field.name] = tensors[field.name]
        elif group:
            values[field.name] = group
        elif field.name in settings:
            if not _is_sound(field.name, field.type, settings[field.name]):
                raise ValueError(f"{settings[field.name]!r} is no {field.name!r} of a head")
            values[field.name] = _typed(field.name, settings[field.name])
    if not all(np.isfinite(array).all() for array in tensors.values()):
        raise ValueError("it holds numbers that are not finite")
    head = form(**values)
    outputs = next((len(tensors[name]) for name in OUTPUTS if name in tensors), len(head.labels))
    if len(head.labels) != outputs and (head.labels or outputs != 1):  # a number has no label
        raise ValueError(f"{len(head.labels)} labels for {outputs} outputs")
    return head


def _is_sound(name: str, kind: object, value: Any) -> bool:
    """Whether a field that is annotated as `kind` can have this `value` from JSON."""
    if kind in ("tuple[str, ...]", "frozenset[str]"):
        strings = isinstance(value, list) and all(isinstance(part, str) for part in value)
        return strings and len(set(value)) == len(value) and (name != "needs" or set(value) <= FIELDS)
    if kind == "float":
        number = type(value) in (int, float) and abs(value) <= np.finfo(np.float32).max
        return bool(number) and (value > 0 or name not in ("scale", "temperature"))
    if kind in ("str", "bool"):
        return type(value).__name__ == kind
    return kind != "Array | None" or value is None


def _typed(name: str, value: Any) -> Any:
    if name == "needs":
        return frozenset(value)
    return tuple(value) if isinstance(value, list) else value


def json_text(value: Any) -> str:
    """`value` as JSON, numpy's numbers and arrays in it as well; null for a number that is not finite."""
    return json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
