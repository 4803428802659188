"""What can be wrong with labelled rows, found before anything is computed; every message names the lines."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

import numpy as np

from cmprompt.errors import UsageError, counted
from cmprompt.labelled.rows import Labelled
from cmprompt.sources.names import SHARDS
from cmprompt.sources.options import SourceOptions, failure_of, is_address
from cmprompt.sources.video import is_video_name
from cmprompt.types import Array, FileBytes, Item

SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")  # 1,234.5


def columns(source: str, options: SourceOptions) -> None:
    """Raises UsageError for flags that name a column of a folder, or a shard's column of pictures."""
    is_folder, is_shard = os.path.isdir(source), source.lower().endswith(SHARDS)
    names = ("image_col", "text_col", "target_col") if is_folder else ("image_col",) if is_shard else ()
    if idle := [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) is not None]:
        what = (
            "a folder has no columns, its class folders are the labels" if is_folder else "a shard's pictures are files"
        )
        raise UsageError(f"{source}: {what}; leave {', '.join(idle)} out")


def splits(source: str) -> None:
    """Raises UsageError for a folder of folders of class folders, all named as splits are: they are no labels."""
    names = _folders_in(source)
    if {name.lower() for name in names} <= SPLITS and any(_folders_in(os.path.join(source, name)) for name in names):
        raise UsageError(
            f"{source} holds splits ({', '.join(names)}), not classes; name one, such as"
            f" {os.path.join(source, names[0])}; finetune takes another by --val"
        )


def _folders_in(path: str) -> list[str]:
    """The names of those that are not hidden, sorted; none where `path` is no folder that can be read."""
    with suppress(OSError), os.scandir(path) as found:
        return sorted(entry.name for entry in found if entry.is_dir() and not entry.name.startswith("."))
    return []


def pictures(data: Labelled) -> None:
    """Raises UsageError for rows with nothing to see, addresses, and pictures that are not there."""
    _refuse(data, _is_empty, "with neither a picture nor a text", "give them one, or leave them out")
    _refuse(data, _is_address, "whose picture is an address", "addresses are not fetched: download the pictures first")
    _refuse(data, _is_missing, "whose picture is not there", "paths are relative to the table")


def some_pair(data: Labelled) -> None:
    """Raises UsageError where no row has both a picture and a text."""
    if not any(item.image is not None and item.text for item in data.items):
        raise UsageError(f"{data.source}: no row has a picture and a text; name the columns by --image-col, --text-col")


def something_for(data: Labelled, encoders: Mapping[str, str | None]) -> None:
    """Raises UsageError where an encoder is named for a modality ("image", "text") that no row has."""
    for modality, name in encoders.items():
        if name and not any(getattr(item, modality) for item in data.items):
            raise UsageError(
                f"{data.source}: no row has {'a picture' if modality == 'image' else 'a text'} for"
                f" --{modality}-encoder {name}; name the column by --{modality}-col, or leave the encoder out"
            )


def targets(data: Labelled) -> None:
    """Raises UsageError for rows without a target."""
    _refuse(data, lambda item: item.target in (None, ""), "without a target", "give them one, or name --target-col")


def something_of(data: Labelled, modalities: Collection[str]) -> None:
    """Raises UsageError for rows that have none of these modalities ("image", "text")."""
    names = " or ".join({"image": "picture", "text": "text"}[name] for name in sorted(modalities))

    def is_blind(item: Item) -> bool:
        return not (("image" in modalities and item.image is not None) or ("text" in modalities and item.text))

    advice = "leave them out, or read both sides with --head concat"
    _refuse(data, is_blind, f"without a {names}, all that this head reads", advice)


def no_clips(data: Labelled, flag: str) -> None:
    """Raises UsageError for rows whose picture is a video, which the `flag` does not go with."""
    _refuse(data, _is_clip, f"whose picture is a video, which {flag} cannot crop", f"leave them or {flag} out")


def one_answer_each(data: Labelled) -> None:
    """Raises UsageError where the same picture with the same text has two labels, or two sets of them."""
    rows: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for place, item in enumerate(data.items):
        if isinstance(item.image, FileBytes):
            rows[os.path.realpath(item.image.path), item.text].append(place)
    answers = [frozenset(labels) for labels in data.label_sets]
    for places in rows.values():
        if len({answers[place] for place in places}) > 1:
            labels = sorted({str(data.items[place].target) for place in places})
            raise UsageError(
                f"{data.source}: one picture has the labels {' and '.join(map(repr, labels))}: {data.where(places)}"
            )


def numbers(data: Labelled, *, to_train: bool = False) -> Array:
    """(N,) float32 targets. Raises UsageError for what is no number, and for one number only `to_train` on."""
    values = np.array([_number(item.target) for item in data.items])
    bad = np.flatnonzero(~np.isfinite(values)).tolist()
    if bad:
        what = f"{counted(len(bad), 'row')} whose target is no number: {data.where(bad)}"
        raise UsageError(f"{data.source}: {what}; write numbers like 1,234.5")
    if to_train and np.all(values == values[0]):
        raise UsageError(f"{data.source}: every row has the number {values[0]:g}; there is nothing to learn")
    rows: Array = values.astype(np.float32)
    return rows


def _refuse(data: Labelled, is_bad: Callable[[Item], bool], what: str, advice: str) -> None:
    bad = [place for place, item in enumerate(data.items) if is_bad(item)]
    if bad:
        raise UsageError(f"{data.source}: {counted(len(bad), 'row')} {what}: {data.where(bad)}; {advice}")


def _is_empty(item: Item) -> bool:
    failure = failure_of(item.image)
    return item.image is None and not item.text if failure is None else failure.status == "missing"


def _is_address(item: Item) -> bool:
    return is_address(item.id) and failure_of(item.image) is not None


def _is_missing(item: Item) -> bool:
    return isinstance(item.image, FileBytes) and not os.path.isfile(item.image.path)


def _is_clip(item: Item) -> bool:
    return isinstance(item.image, FileBytes) and is_video_name(item.image.path)


def _number(text: str | float | None) -> float:
    """NaN for what is no number; a comma stands between thousands alone, for `3,5` may be one in other languages."""
    written = str(text).strip()
    try:
        return float(written.replace(",", "") if GROUPED.fullmatch(written) else written)
    except ValueError:
        return float("nan")
