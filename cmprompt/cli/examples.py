"""`cmprompt examples DIR`: something to try every command on."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Where to write; made if it is not there.")],
) -> None:
    """Write sample photos, pairs and labels to try everything on.

    cmprompt examples try
    cmprompt classify try/photos --labels @try/labels.txt
    cmprompt finetune try/pairs.csv
    """
    from pathlib import Path

    from cmprompt.examples import write_examples

    written = write_examples(Path(directory))
    for path in written:
        typer.echo(path)
