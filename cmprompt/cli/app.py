"""The program: mounts the commands, and is the only place where an error becomes one line and an exit status."""

from __future__ import annotations

import atexit
import errno
import os
import sys
from collections.abc import Mapping
from copy import copy
from typing import Annotated, Any, NoReturn

import typer

from cmprompt import __version__
from cmprompt.cli import (
    adapt,
    check,
    classify,
    config,
    doctor,
    embed,
    evaluate,
    examples,
    explain,
    finetune,
    index,
    models,
    prompts,
    search,
    store,
)
from cmprompt.cli.help import Group, GroupedCommand
from cmprompt.cli.notices import speaker
from cmprompt.cli.streams import prepare_streams
from cmprompt.errors import CmpromptError, OutputError
from cmprompt.signals import EXIT_STATUSES, Interrupted, stop_signals

EPILOG = "Start here: cmprompt examples try && cmprompt classify try/photos --labels cat,dog,coffee"

BOUNDS = {"ge": "at least", "le": "at most"}
NUMBERS = {"int": "a whole number", "float": "a number"}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

app = typer.Typer(
    name="cmprompt",
    cls=Group,
    help="Label images with words: zero-shot classification, and heads on labelled image-text pairs.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("classify", cls=GroupedCommand)(classify.command)
app.command("finetune", cls=GroupedCommand)(finetune.command)
app.command("evaluate", cls=GroupedCommand)(evaluate.command)
app.command("adapt", cls=GroupedCommand)(adapt.command)
app.command("embed", cls=GroupedCommand)(embed.command)
app.command("examples", cls=GroupedCommand)(examples.command)
app.command("check", cls=GroupedCommand)(check.command)
app.command("explain", cls=GroupedCommand)(explain.command)
app.add_typer(index.app, name="index")
app.command("search", cls=GroupedCommand)(search.command)
app.add_typer(prompts.app, name="prompts")
app.add_typer(models.app, name="models")
app.add_typer(store.app, name="store")
app.add_typer(config.app, name="config")
app.command("doctor", cls=GroupedCommand)(doctor.command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cmprompt {__version__}")
        raise typer.Exit()


@app.callback()
def _configure(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    from cmprompt.config import Settings

    settings = Settings.load()
    context.default_map = settings.default_map(context.command)
    for message in settings.misspelt(context.command):
        _say(message, 0)


def main() -> None:
    """Run the command line and exit with the status that the outcome has."""
    prepare_streams()
    status = 0
    try:
        status = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        status = 0  # the reader left
    except OSError as error:
        status = _output_full(error, status)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """End at once: the interpreter would wait for a thread that still loads a model or encodes a batch, and take a
    tenth of a second or more to part with what the system takes back anyhow."""
    if status not in EXIT_STATUSES:
        atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(status)


def run(arguments: list[str]) -> int:
    """One command, argv without the program's name in, exit status out. The only error boundary."""
    try:
        with stop_signals():
            result: Any = _program(arguments)(arguments, prog_name="cmprompt", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.TyperException as error:
        return _say(_wrong_value(error) + _origin(error), error.exit_code)
    except CmpromptError as error:
        return _say("; ".join([str(error), *_notes(error)]), error.exit_status)
    except Interrupted as stop:
        return _say("; ".join(_notes(stop)), stop.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # how typer answers a reader that left
            return 0
        raise


def _program(arguments: list[str]) -> typer.Typer:
    """`app` with no more than the command that is asked for, since to build thirty takes a tenth of a second; all of it
    where settings may be meant for another one."""
    from cmprompt.config import are_set

    first = arguments[0] if arguments else ""
    commands = [info for info in app.registered_commands if info.name == first]
    groups = [info for info in app.registered_groups if info.name == first]
    if first == "config" or not (commands or groups) or are_set():
        return app
    one = copy(app)
    one.registered_commands, one.registered_groups = commands, groups
    return one


def _wrong_value(error: Any) -> str:
    """What the parser says, by `--level 0: it must be at least 1` where that is a number out of range, or none."""
    found: list[Any] = getattr(error.__cause__, "errors", list)()  # of the library that typer leaves numbers to
    wanted = _wanted(found[0]) if found else ""
    return f"{error.param.opts[-1]} {found[0]['input']}: it must be {wanted}" if wanted else error.format_message()


def _wanted(wrong: Mapping[str, Any]) -> str:
    """`at least 1`; nothing for what is not about numbers."""
    bounds = [f"{words} {wrong['ctx'][key]:g}" for key, words in BOUNDS.items() if key in wrong.get("ctx", {})]
    kind = str(wrong["type"]).partition("_")[0]
    return bounds[0] if bounds else NUMBERS.get(kind, "")


def _origin(error: Any) -> str:
    """Where a value that makes no sense came from, if not from the command line."""
    from cmprompt.config import Settings, setting

    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    if context is None or parameter is None:
        return ""
    given = context.get_parameter_source(parameter.name)
    if given is None or given.name != "DEFAULT_MAP":
        return ""
    found = Settings.load().find(tuple(context.command_path.split()[1:]), setting(parameter))
    return f" (from {found.source})" if found else ""


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def _say(message: str, status: int) -> int:
    if message:
        speaker(False)(message)
    return status


def _output_full(error: OSError, status: int) -> int:
    """The status where standard output takes no more; the run's own `status` may have said so already."""
    if error.errno not in FULL or error.filename is not None:  # files are named by who writes them
        raise error
    if status == OutputError.exit_status:
        return status
    return _say(f"cannot write standard output: {error.strerror}", OutputError.exit_status)
