"""`cmprompt check`: which pairs do not belong together, which labels are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from cmprompt.cli import options as o

if TYPE_CHECKING:
    from cmprompt.types import Embedded

CHECKING = "Checking"


def command(
    table: Annotated[
        str,
        typer.Argument(metavar="TABLE", help="A table of images with texts or labels, or a folder of class folders."),
    ],
    image_col: o.ImageCol = None,
    text_col: o.TextCol = None,
    target_col: o.TargetCol = None,
    limit: o.Limit = None,
    fdr: Annotated[
        float,
        o.option(
            "--fdr",
            metavar="RATE",
            group=CHECKING,
            min=0.0,
            max=1.0,
            help="Of the pairs that are flagged, the share that may in truth be fine. An estimate: it takes the scores"
            " of pairs that fit for normal, and where a model scores some of them far lower, more are.",
        ),
    ] = 0.1,
    fail_on_flagged: Annotated[
        bool, o.option("--fail-on-flagged", group=CHECKING, help="Exit with status 1 if anything is flagged.")
    ] = False,
    model: o.Model = "auto",
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    exact: o.Exact = False,
    batch_size: o.BatchSize = None,
    threads: o.Threads = None,
    accept_licence: o.AcceptLicence = False,
    output: o.OutputFile = None,
    format: o.Format = None,
    overwrite: o.Overwrite = False,
    header: o.Header = False,
    keep_columns: o.KeepColumns = False,
    csv_safe: o.CsvSafe = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    show_timings: o.Timings = False,
    store: o.StoreDir = None,
    no_store: o.NoStore = False,
) -> int:
    """Find pairs that do not belong together, and wrong labels. The most suspicious come first.

    cmprompt check pairs.csv
    cmprompt check labelled.csv --target-col breed --format jsonl -o suspects.jsonl
    cmprompt check photos/ --fail-on-flagged

    A pair's suspicion is how likely a shuffled pair is to fit as well; a label's is what other images say against it.
    """  # fmt: skip
    started_s = perf_counter()
    from dataclasses import replace

    from cmprompt.cli import road
    from cmprompt.cli.details import Details, print_timings
    from cmprompt.cli.notices import speaker
    from cmprompt.cli.progress import Progress
    from cmprompt.cli.texts import warn_of_row_texts
    from cmprompt.clips import pooled, with_frames
    from cmprompt.embed import Stats, embed
    from cmprompt.encoders import load_encoder
    from cmprompt.labelled import with_classes
    from cmprompt.runs.header import rows_header
    from cmprompt.sources import SourceOptions, read_items
    from cmprompt.tasks.suspects import FIELDS, find_suspects
    from cmprompt.writers.rows import check_output, write_rows

    say = speaker(quiet)
    check_output(output, format, overwrite)
    named = SourceOptions(image_col=image_col, text_col=text_col, target_col=target_col, limit=limit)
    source = with_classes(table, named)
    encoder = load_encoder(
        model, device, precision, exact=exact, threads=threads, batch_size=batch_size,
        accept_licence=accept_licence, notices=say,
    )  # fmt: skip
    road.calibrate(encoder, [table], source)
    kept = road.open_store(store, no_store, say)
    details = Details(verbose and not quiet)
    details.run(encoder, kept)
    stats, start_s = Stats(), perf_counter() - started_s
    with Progress("embedding", quiet=quiet, details=details) as progress:

        def counted() -> Iterator[Embedded]:
            items = with_frames(read_items([table], replace(source, skipped=progress.skip)))
            for batch in pooled(embed(items, encoder, kept, needs=frozenset({"image", "text"}), stats=stats)):
                progress.take(batch)
                yield batch

        rows = warn_of_row_texts(encoder, counted(), say)
        found = find_suspects(rows, fdr=fdr, keep_columns=keep_columns)
    details.work(stats)
    for notice in found.notices:
        say(notice)
    columns = ("suspicion", "flagged", "id", "text", "better_text", "label", "better_label", "status", "error")
    own = [key for key in found.records[0] if key not in FIELDS]
    write_rows(
        found.records, output=output, format=format, overwrite=overwrite, columns=(*columns, *own), csv_safe=csv_safe,
        header=rows_header(encoder, inputs=[table], options={"fdr": fdr}) if header else None,
    )  # fmt: skip
    if show_timings:
        print_timings(stats, perf_counter() - started_s, start_s=start_s)
    return 1 if found.failed or (fail_on_flagged and found.flagged) else 0
