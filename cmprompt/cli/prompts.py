"""`cmprompt prompts list | show | lint | ablate`: the template sets, and what is wrong with one's own."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cmprompt.cli import ablate, options
from cmprompt.cli.completion import completer, models, prompt_sets
from cmprompt.cli.help import Group, GroupedCommand

SETS = completer("everyday", prompt_sets)

app = typer.Typer(
    cls=Group, help="Template sets: list, show, check and measure.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list", cls=GroupedCommand)
def list_sets() -> None:
    """List the template sets. In columns: name, language, number of templates, description.

    cmprompt prompts list
    cmprompt prompts list | cut -f1
    """
    from cmprompt.prompts import load_prompt_set, prompt_set_names

    sets = [load_prompt_set(name) for name in prompt_set_names()]
    rows = [(each.name, each.language, str(len(each.templates)), each.description) for each in sets]
    if not sys.stdout.isatty():
        typer.echo("\n".join("\t".join(row) for row in rows))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from cmprompt.writers.table import LINES, width_of

    table = Table("name", "language", "templates", "description", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    Console(markup=False, width=width_of(True), height=LINES).print(table)


@app.command("show", cls=GroupedCommand)
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A set of `prompts list`, a file, or everyday.", autocompletion=SETS)
    ],
) -> None:
    """Print the templates of a set, or the everyday vocabulary.

    cmprompt prompts show photo
    cmprompt prompts show openai-imagenet > my-prompts.txt
    cmprompt prompts show everyday
    """
    from cmprompt.cli.notices import echo
    from cmprompt.labels import everyday
    from cmprompt.prompts import load_prompt_set

    lines = everyday() if name == "everyday" else load_prompt_set(name).templates
    echo(*lines)


@app.command("lint", cls=GroupedCommand)
def lint(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="Prompt files, or names of sets.", autocompletion=SETS),
    ] = None,
    labels: options.Labels = None,
    label: options.Label = None,
    language: options.Language = "auto",
    model: Annotated[
        str | None,
        options.option(
            "--model",
            metavar="auto|NAME|local-dir:DIR|hf-hub:ID",
            group=options.MODEL,
            values=models,
            help="Also check lengths, scripts and near-synonyms with this model.",
        ),
    ] = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    exact: options.Exact = False,
    batch_size: options.BatchSize = None,
    threads: options.Threads = None,
    accept_licence: options.AcceptLicence = False,
    translate_labels: Annotated[
        str | None,
        options.option(
            "--translate-labels",
            metavar="FILE",
            group=options.LABELS,
            help="The labels in another language; with --model, measure whether the two agree.",
        ),
    ] = None,
) -> int:
    """Check prompt files and labels. Exit status 1 where there is an error, 0 where there are warnings only.

    cmprompt prompts lint my-prompts.toml
    cmprompt prompts lint photo --labels @labels.txt --model auto
    cmprompt prompts lint --labels @labels.txt --translate-labels chinese.txt --model xlm-roberta-base-ViT-B-32
    """
    from cmprompt.cli.notices import echo, speaker
    from cmprompt.errors import UsageError, counted
    from cmprompt.lint import lint as check

    say = speaker(False)
    if not files and not labels and not label:
        raise UsageError("nothing to check; name prompt files, or labels with --labels @FILE")
    if translate_labels and not ((labels or label) and model):
        raise UsageError("--translate-labels compares the labels of --labels in a model; name it by --model")
    encoder = None
    if model is not None:
        from cmprompt.encoders import load_encoder

        encoder = load_encoder(
            model, device, precision, exact=exact, threads=threads, batch_size=batch_size,
            accept_licence=accept_licence, notices=say,
        )  # fmt: skip
    findings = check(
        files or [], labels or [], label or [], encoder=encoder, language=language, translations=translate_labels
    )
    for finding in findings:
        echo(f"{finding.severity}: {finding.where}: {finding.message}")
    errors, warnings = (sum(each.severity == kind for each in findings) for kind in ("error", "warning"))
    say(f"{counted(errors, 'error')}, {counted(warnings, 'warning')}")
    return 1 if errors else 0


app.command("ablate", cls=GroupedCommand)(ablate.command)
