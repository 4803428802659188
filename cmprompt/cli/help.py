"""Plain help with the flags in groups: rich's panels would double the time to the first line."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from cmprompt.cli.precedence import settle


class _Help:
    """`-h` before `--help` each time: typer takes them from a set."""

    def get_help_option_names(self, ctx: Any) -> list[str]:
        return sorted(super().get_help_option_names(ctx), key=len)  # type: ignore[misc]


class Group(_Help, TyperGroup):
    """What holds commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Without a command the help is all there is to say: it goes to stderr as it is, not as an error's line."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(2)
        return super().parse_args(ctx, args)


class GroupedCommand(_Help, TyperCommand):
    """Lists the options under their `rich_help_panel`, the command's own first and the help flag last."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command, without the settings that do not go with what is typed."""
        settle(ctx)
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """`[OPTIONS] TABLE`, `[OPTIONS] [INPUT]...`: brackets for what may be left out."""
        return ["[OPTIONS]", *(_usage(p) for p in self.get_params(ctx) if p.param_type_name == "argument")]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section for each group, in the order in which the groups first occur."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = _record(parameter, ctx)
            if record is not None:
                groups.setdefault(_group(parameter), []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """The docstring as it is written, so that its examples keep their lines."""
        formatter.write_paragraph()
        for line in (self.help or "").rstrip().splitlines():
            formatter.write(f"  {line}\n" if line else "\n")


def _usage(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name.upper()).strip("[]")
    return (name if parameter.required else f"[{name}]") + ("..." if parameter.nargs != 1 else "")


def _group(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    if parameter.name == "help":
        return "Other"
    return str(parameter.rich_help_panel or "Options")


def _record(parameter: Any, ctx: Any) -> tuple[str, str] | None:
    if parameter.hidden:
        return None
    if not isinstance(parameter, TyperOption):
        return (parameter.metavar or parameter.name.upper()).strip("[]"), parameter.help or ""
    names = ", ".join(parameter.opts) + "".join(f" / {name}" for name in parameter.secondary_opts)
    if not parameter.is_flag and not parameter.count:
        names += f" {_metavar(parameter, ctx)}"
    return names, (parameter.help or "") + _default(parameter)


def _metavar(parameter: TyperOption, ctx: Any) -> str:
    if parameter.metavar:
        return parameter.metavar
    choices = parameter.type_descriptor.choices
    return "|".join(str(choice) for choice in choices) if choices else parameter.name.upper()


def _default(parameter: TyperOption) -> str:
    silent = parameter.default is False or parameter.default in (None, "", [], ()) or parameter.show_default is False
    return "" if silent or callable(parameter.default) else f" [default: {_text(parameter)}]"


def _text(parameter: TyperOption) -> str:
    if parameter.is_flag:
        return parameter.opts[0].lstrip("-")
    return str(parameter.default)
