"""Folders of derived files beside a manifest: made whole or not at all, trusted only while they are as written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from cmprompt.encoders.weights import file_sha256, fresh_sha256


def seal(folder: Path, manifest: str, fill: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Let `fill` write files into an empty folder, which then takes the name `folder`; what it returns, with the hash
    of each file under `files`, is the manifest. A folder of that name goes first, and at once.

    Raises OSError where it cannot be written, and what `fill` raises.
    """
    room = Path(mkdtemp(prefix=".", dir=folder.parent))
    partial, old = room / "new", room / "old"
    try:
        partial.mkdir()
        facts = fill(partial)
        files = sorted(partial.iterdir())
        facts["files"] = {path.name: fresh_sha256(path) for path in files}
        for path in files:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        (partial / manifest).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        with suppress(FileNotFoundError):
            folder.rename(old)
        partial.rename(folder)
        return facts
    finally:
        shutil.rmtree(room, ignore_errors=True)


def sealed(folder: Path, manifest: str) -> dict[str, Any] | None:
    """The manifest of a folder that is as `seal` left it, else None."""
    try:
        facts: dict[str, Any] = json.loads((folder / manifest).read_text(encoding="utf-8"))
        whole = all(file_sha256(folder / name) == digest for name, digest in facts["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return facts if whole else None
