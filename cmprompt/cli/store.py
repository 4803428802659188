"""`cmprompt store`: what is kept between runs, and looking after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cmprompt.cli import options as o
from cmprompt.cli.help import Group, GroupedCommand
from cmprompt.cli.notices import Say, echo, speaker

if TYPE_CHECKING:
    from cmprompt.store import Store

app = typer.Typer(cls=Group, help="The embeddings kept between runs.", no_args_is_help=True, rich_markup_mode=None)
_say = speaker(False)


@app.command("info", cls=GroupedCommand)
def info(store: o.StoreDir = None) -> None:
    """Show which vectors are kept, and where. A line for each model; and how many exported models there are.

    cmprompt store info
    cmprompt store info --store vectors/
    """
    from cmprompt.encoders.export import exports_dir
    from cmprompt.encoders.exports import every_export
    from cmprompt.store.upkeep import summary

    with_store = _existing(store, _say)
    if with_store is not None:
        found = summary(with_store)
        typer.echo("vectors\tdim\tdtype\tadded\tused\tkey")
        for key, count in found.keys:
            days = f"{_day(key.added_at)}\t{_day(key.used_at)}"
            echo(f"{count}\t{key.dim}\t{key.dtype}\t{days}\t{key.store_key}")
        typer.echo(f"# {with_store.path}: {_size(found.size)}, {found.files:,} files known")
        for folder in found.aside:
            typer.echo(f"# damaged and set aside: {folder}")
    exports = every_export()
    typer.echo(f"# {exports_dir()}: {_size(sum(each.size for each in exports))}, {_models(len(exports))}")


@app.command("prune", cls=GroupedCommand)
def prune(
    store: o.StoreDir = None,
    older_than: Annotated[
        float | None, typer.Option("--older-than", metavar="DAYS", min=0, help="Drop vectors kept longer ago.")
    ] = None,
    unused: Annotated[
        float | None, typer.Option("--unused", metavar="DAYS", min=0, help="Drop what no run has used for so long.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="Drop the oldest beyond this: 500MB, 2GB.")
    ] = None,
) -> None:
    """Drop what serves nothing any more; by the flags, what is old too.

    cmprompt store prune
    cmprompt store prune --unused 90 --max-size 2GB

    Exported models, which lie beside the default store, go where their weights are nowhere known any more, and under
    --unused; the next run makes what it needs again.
    """
    from cmprompt.encoders import exports
    from cmprompt.encoders.export import exports_dir
    from cmprompt.store import upkeep

    limit = None if max_size is None else parse_size(max_size)
    with_store = _existing(store, _say)
    if with_store is not None:
        freed = upkeep.prune(with_store, older_than_days=older_than, unused_days=unused, max_bytes=limit)
        typer.echo(f"{_size(freed)} came free in {with_store.path}")
    dropped = exports.prune(unused_days=unused)
    typer.echo(f"{_size(sum(each.size for each in dropped))} came free in {exports_dir()}: {_models(len(dropped))}")


@app.command("clear", cls=GroupedCommand)
def clear(store: o.StoreDir = None) -> None:
    """Drop every vector. They are computed again when they are needed.

    cmprompt store clear
    """
    from cmprompt.store import upkeep

    with_store = _existing(store, _say)
    if with_store is None:
        return
    before = upkeep.summary(with_store).size
    upkeep.clear(with_store)
    typer.echo(f"{_size(before)} came free in {with_store.path}")


@app.command("verify", cls=GroupedCommand)
def verify(store: o.StoreDir = None) -> None:
    """Read every vector and check that it is as it was written. What is damaged is dropped, to be computed again.

    cmprompt store verify
    """
    from cmprompt.errors import StoreError
    from cmprompt.store import upkeep

    damages: list[str] = []
    with_store = _existing(store, damages.append)
    if with_store is None:
        return
    for key, checked, bad in upkeep.verify(with_store):
        echo(f"{checked}\t{bad} damaged\t{key.store_key}")
        if bad:
            damages.append(f"{bad} damaged vectors of {key.store_key} were dropped")
    if damages:
        raise StoreError("; ".join(damages) + "; they are computed again when they are needed")


def parse_size(text: str) -> int:
    """Bytes of "500MB", "2 GB", "1.5GiB" or "4096". Raises UsageError."""
    import re

    from cmprompt.errors import UsageError

    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if match is None:
        raise UsageError(f"{text!r} is no size; write 500MB, 2GB or 1.5GiB")
    number, prefix, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(prefix or " "))


def _existing(directory: str | None, notice: Say) -> Store | None:
    """The store that the flag names, else the default one; None, and a line, where there is none yet."""
    from pathlib import Path

    from cmprompt.store import Store, default_store_dir
    from cmprompt.store.catalogue import FILE_NAMES

    path = Path(directory) if directory is not None else default_store_dir()
    if not (path / FILE_NAMES[0]).is_file():
        typer.echo(f"# {path}: nothing is kept yet")
        return None
    return Store(path, notice)


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _models(count: int) -> str:
    return f"{count} exported model{'' if count == 1 else 's'}"


def _day(seconds: int) -> str:
    import time

    return time.strftime("%Y-%m-%d", time.localtime(seconds))
