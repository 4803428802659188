"""`cmprompt models`: which models there are, and getting, checking and converting their weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cmprompt.cli import options as o
from cmprompt.cli.completion import completer
from cmprompt.cli.completion import models as known_models
from cmprompt.cli.help import Group, GroupedCommand
from cmprompt.cli.notices import echo, speaker

if TYPE_CHECKING:
    from cmprompt import zoo

app = typer.Typer(cls=Group, help="The models and their weights.", no_args_is_help=True, rich_markup_mode=None)

NAMES = completer("", known_models)
_say = speaker(False)
COLUMNS = ("name", "here", "ImageNet", "MB", "speed", "px", "tokens", "licence", "note")


@app.command("list", cls=GroupedCommand)
def list_models() -> None:
    """List the recommended models, and what else was pulled. Any open_clip architecture/tag works as a name, too.

    cmprompt models list
    """
    from cmprompt import hub, zoo

    here = {checkpoint.name for checkpoint in hub.pulled()}
    rows: list[tuple[str, ...]] = [("tiny", "yes", "", "", "fastest", "", "", "see its card", "bundled with cmprompt")]
    for model in zoo.ZOO:
        numbers = (_text(model.imagenet), _text(model.size_mb), _text(model.speed), _text(model.size_px))
        present = "yes" if model.name in here else ""
        rows.append((model.name, present, *numbers, _text(model.context), model.licence, _note(model)))
    others = sorted(here - {model.name for model in zoo.ZOO})
    rows += [(name, "yes", *[""] * 5, zoo.licence_of(name), "pulled") for name in others]
    _table(COLUMNS, rows)


@app.command("info", cls=GroupedCommand)
def info(name: Annotated[str, typer.Argument(help="A model's name.", autocompletion=NAMES)]) -> None:
    """Show what is known of one model, and whether it is here.

    cmprompt models info ViT-B-32-256
    cmprompt models info local-dir:my-model
    """
    facts = _local_facts(name) if name == "tiny" or name.startswith("local-dir:") else _zoo_facts(name)
    for key, value in facts.items():
        echo(f"{key}\t{value}")


@app.command("pull", cls=GroupedCommand)
def pull(
    name: Annotated[str, typer.Argument(help="A model's name.", autocompletion=NAMES)],
    to: Annotated[str | None, typer.Option("--to", metavar="DIR", help="Write a folder for local-dir:DIR.")] = None,
    accept_licence: o.AcceptLicence = False,
) -> None:
    """Download a model, pinned or the newest, and check its hashes. An interrupted download goes on where it stopped.

    cmprompt models pull ViT-B-32-256
    cmprompt models pull ViT-B-32-256 --to models/vit-b-32-256
    """
    from pathlib import Path

    from cmprompt import hub
    from cmprompt.errors import UsageError

    if name == "tiny":
        if to:
            raise UsageError("tiny is bundled with cmprompt, so there is nothing to pull; leave --to out")
        _say("tiny is bundled with cmprompt; there is nothing to pull")
        return
    target = Path(to).expanduser() if to else None
    checkpoint = hub.pull(name, to=target, accept_licence=accept_licence, progress=sys.stderr.isatty(), notices=_say)
    echo(f"{checkpoint.name}\t{checkpoint.revision}\t{checkpoint.folder}")


@app.command("verify", cls=GroupedCommand)
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME|DIR", help="Default: every one here.", autocompletion=NAMES)
    ] = None,
) -> None:
    """Compare the models' files with the published hashes. All that are on this machine.

    cmprompt models verify
    """
    from cmprompt import hub
    from cmprompt.encoders.weights import MANIFEST
    from cmprompt.errors import ModelError

    damaged = []
    for folder in hub.folders(names or []):
        for path, good in hub.verify(folder):
            echo(f"{'ok' if good else 'damaged'}\t{path}")
            damaged += [] if good else [str(path)]
    if damaged:
        raise ModelError(f"damaged: {', '.join(damaged)}; pull the model again (or fix its {MANIFEST})")


@app.command("convert", cls=GroupedCommand)
def convert(
    file: Annotated[str, typer.Argument(help="A checkpoint ending in .bin, .pt or .pth.")],
    output: Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="The safetensors file.")] = None,
    kept_as: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Keep it as this model, as if pulled.", autocompletion=NAMES),
    ] = None,
    accept_licence: o.AcceptLicence = False,
) -> None:
    """Turn a pickled checkpoint into safetensors, once. Only tensors are read: code in the pickle never runs.

    cmprompt models convert open_clip_pytorch_model.bin --as ViT-L-14
    cmprompt models convert open_clip_pytorch_model.bin -o my-model/open_clip_model.safetensors
    """
    from pathlib import Path

    from cmprompt.encoders.convert import convert as convert_file

    if kept_as:
        from cmprompt.errors import UsageError
        from cmprompt.hub import keep

        if output:
            raise UsageError("--as keeps the model where pulled ones are, so -o does not go with it; leave one out")
        made = keep(kept_as, Path(file), accept_licence=accept_licence)
        echo(f"{made.weights}")
        _say(f"--model {made.name} uses it from now on")
        return
    target = convert_file(Path(file), Path(output) if output else None)
    echo(f"{target}")
    _say(f"put an open_clip_config.json beside it to use it as local-dir:{target.parent}")


def _zoo_facts(name: str) -> dict[str, str]:
    from cmprompt import hub, zoo

    here = hub.find_here(name)
    model = zoo.find(name)
    weights = f"{model.architecture}/{model.tag}" if model.architecture else "as its repository says"
    coming = model.pin.revision if model.pin else "the newest at the first pull, then pinned"
    return {
        "name": model.name,
        "open_clip": weights,
        "repository": model.repo or "none",
        "revision": here.revision or "" if here else coming,
        "licence": model.licence + ("" if model.commercial else "; needs --accept-licence"),
        "ImageNet zero-shot": f"{model.imagenet} %" if model.imagenet else "not known here",
        "size": f"{model.size_mb} MB" if model.size_mb else "not known here",
        "speed": _text(model.speed) or "not known here",
        "image side": f"{model.size_px} px" if model.size_px else "as its configuration says",
        "text context": f"{model.context} tokens" if model.context else "as its configuration says",
        "note": _note(model),
        "here": str(here.folder) if here else f"no; cmprompt models pull {model.name}",
    }


def _local_facts(name: str) -> dict[str, str]:
    from cmprompt.encoders import find_checkpoint

    checkpoint = find_checkpoint(name, notices=_say)
    preprocess = checkpoint.preprocess
    return {
        "name": checkpoint.name,
        "weights": str(checkpoint.weights),
        "sha256": checkpoint.verified_hash(),
        "size": f"{checkpoint.weights.stat().st_size / 1e6:.0f} MB",
        "vector": str(checkpoint.model_cfg["embed_dim"]),
        "preprocess": f"{preprocess.size_px} px, {preprocess.resize}, {preprocess.interpolation}",
        "text context": f"{checkpoint.model_cfg['text_cfg'].get('context_length', 77)} tokens",
    }


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """In columns for a reader, separated by tabs for a program."""
    if not sys.stdout.isatty():
        for row in (header, *rows):
            echo("\t".join(row))
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _note(model: zoo.Model) -> str:
    needs = f"needs cmprompt[{model.extra}]" if model.extra else ""
    return "; ".join(part for part in (model.note, needs) if part)


def _text(value: object) -> str:
    return "" if value is None else str(value)
