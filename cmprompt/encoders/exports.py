"""The exported towers in the user's cache: what is there, and dropping what no model on this machine needs any more."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from cmprompt.encoders.export import MANIFEST, exports_dir, folder_of
from cmprompt.encoders.weights import TINY, file_sha256, read_folder
from cmprompt.errors import ModelError

DAY_S = 86_400


@dataclass(frozen=True)
class Export:
    """One model's towers, and its int8 ones. `source`: the folder of the model; `used_at`: seconds since 1970."""

    folder: Path
    source: Path | None
    used_at: float
    size: int  # bytes

    @property
    def is_unfinished(self) -> bool:
        """Whether it is being made, or was when the process that made it ended."""
        return self.folder.name.startswith(".")


def every_export() -> list[Export]:
    """What is in the cache, unfinished ones included. `exported` marks a manifest when it is used."""
    return list(_found("*"))


def prune(unused_days: float | None = None) -> list[Export]:
    """Drop the exports of weights that are nowhere known, those not used for so many days, and what was left half made
    a day ago. They are made again when they are needed. Returns what was dropped."""
    now, exports = time.time(), every_export()
    needed = _needed(export.source for export in exports)
    dropped = []
    for export in chain(exports, _found("*/.*")):  # those that stay may hold an unfinished int8 tower
        idle_s = now - export.used_at
        if export.is_unfinished:
            goes = idle_s > DAY_S
        else:
            goes = export.folder.name not in needed or (unused_days is not None and idle_s > unused_days * DAY_S)
        if goes:
            shutil.rmtree(export.folder, ignore_errors=True)
            if not export.folder.exists():
                dropped.append(export)
    return dropped


def _found(pattern: str) -> Iterator[Export]:
    for folder in sorted(path for path in exports_dir().glob(pattern) if path.is_dir()):
        manifest = folder / MANIFEST
        with suppress(OSError):  # another process removed it just now
            used_at = (manifest if manifest.is_file() else folder).stat().st_mtime
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            yield Export(folder, _source_of(manifest), used_at, size)


def _needed(sources: Iterable[Path | None]) -> set[str]:
    """The names of the folders for the bundled model, the pulled ones, and those in `sources` that are as they were."""
    from cmprompt import hub

    names = set()
    for folder in {TINY, *hub.folders([]), *(source for source in sources if source is not None)}:
        with suppress(ModelError, OSError):
            checkpoint = read_folder(folder)
            names.add(folder_of(checkpoint, file_sha256(checkpoint.weights)).name)
    return names


def _source_of(manifest: Path) -> Path | None:
    try:
        return Path(json.loads(manifest.read_text(encoding="utf-8"))["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
