"""`cmprompt config show`: every setting, its value, and where that came from."""

from __future__ import annotations

from typing import Annotated

import typer

from cmprompt.cli.help import Group, GroupedCommand

app = typer.Typer(cls=Group, help="What is configured, and where.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """What is configured, and where."""


@app.command("show", cls=GroupedCommand)
def show(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="The command whose settings to show. Default: classify."),
    ] = None,
) -> None:
    """Show each flag of a command, its value, and where it is from.

    cmprompt config show
    cmprompt config show index build
    CMPROMPT_MODEL=tiny cmprompt config show classify
    """
    from cmprompt.config import Settings, is_flag, is_many, setting
    from cmprompt.errors import UsageError, unknown

    root = context.find_root().command
    path = tuple(" ".join(command or ["classify"]).split())
    target = root
    for name in path:
        commands = getattr(target, "commands", {})
        if name not in commands:
            raise UsageError(unknown("command", name, commands))
        target = commands[name]
    if hasattr(target, "commands"):
        raise UsageError(f"{' '.join(path)!r} is a group; name one of its commands: {', '.join(target.commands)}")
    settings = Settings.load()
    typer.echo(f"# {settings.path}{'' if settings.path.exists() else ' (not there)'}")
    for parameter in target.params:
        if is_flag(parameter):
            name = setting(parameter)
            origin = settings.find(path, name, many=is_many(parameter))
            value, source = (origin.value, origin.source) if origin else (parameter.default, "default")
            typer.echo(f"{name.replace('_', '-')}\t{'' if value is None else value}\t{source}")
