"""`cmprompt embed`: from files to vectors, for other tools."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import typer

from cmprompt.cli import options as o

if TYPE_CHECKING:
    from cmprompt.cli.progress import Progress
    from cmprompt.embed import Stats
    from cmprompt.sources import SourceOptions
    from cmprompt.store import Store
    from cmprompt.types import Encoder


def command(
    context: typer.Context,
    inputs: o.Inputs = None,
    files_from: o.FilesFrom = None,
    null: o.NullSeparated = False,
    image_col: o.ImageCol = None,
    text_col: o.TextCol = None,
    target_col: o.TargetCol = None,
    limit: o.Limit = None,
    all_files: o.AllFiles = False,
    allow_truncated: o.AllowTruncated = False,
    dry_run: o.DryRun = False,
    stdin_jsonl: o.StdinJsonl = False,
    fps: o.Fps = None,
    frames: o.Frames = None,
    model: o.Model = "auto",
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    exact: o.Exact = False,
    batch_size: o.BatchSize = None,
    threads: o.Threads = None,
    accept_licence: o.AcceptLicence = False,
    compiled: o.Compile = False,
    output: o.OutputFile = None,
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    show_timings: o.Timings = False,
    store: o.StoreDir = None,
    no_store: o.NoStore = False,
) -> int:
    """Write the vectors of images for other tools. The file is .npy, .parquet or .safetensors.

    cmprompt embed photos/ -o photos.npy
    cmprompt embed products.csv --image-col picture -o products.parquet
    cmprompt embed 'shards/*.tar' --model ViT-B-32-256 -o shards.safetensors
    cmprompt embed pairs.csv --text-col caption --target-col label -o pairs.parquet
    echo '{"path": "photo.jpg"}' | cmprompt embed --stdin-jsonl

    Row i belongs to input i; a clip's is the mean of its frames. Parquet has the ids beside the vectors; the others in
    FILE.ids.jsonl. --text-col adds the vectors of the texts, --target-col the targets; a folder's are its class
    folders.
    """
    started_s = perf_counter()
    from dataclasses import replace

    from cmprompt import __version__
    from cmprompt.cli import road, unused
    from cmprompt.cli.details import Details, print_timings
    from cmprompt.cli.dry_run import describe_run
    from cmprompt.cli.inputs import count_in_background, require_inputs, warn_of_nothing
    from cmprompt.cli.notices import speaker
    from cmprompt.cli.progress import Progress
    from cmprompt.clips import pooled, sampling_of, with_frames
    from cmprompt.embed import Stats, embed
    from cmprompt.encoders import load_encoder
    from cmprompt.errors import UsageError
    from cmprompt.sources import SourceOptions, read_items
    from cmprompt.vector_files import vector_file

    say = speaker(quiet)
    details = Details(verbose and not quiet)
    sources = require_inputs(inputs, files_from, stdin_jsonl)
    source_options = SourceOptions(
        files_from=files_from, null_separated=null, requests=stdin_jsonl, image_col=image_col, text_col=text_col,
        target_col=target_col, limit=limit, all_files=all_files, class_folders=target_col is not None, videos=True,
    )  # fmt: skip
    sampling = sampling_of(fps, frames)
    unused.refuse(context, [unused.REQUESTS])
    if stdin_jsonl and (output is not None or dry_run):
        raise UsageError("--stdin-jsonl answers in JSON lines on standard output; leave -o and --dry-run out")
    if output is None and not stdin_jsonl:
        raise UsageError("name the file to write: -o FILE.npy, .parquet or .safetensors")
    encoder = road.for_good(load_encoder(
        model, device, precision, exact=exact, threads=threads, batch_size=batch_size,
        accept_licence=accept_licence, compiled=compiled, notices=say,
    ))  # fmt: skip
    if dry_run:
        for line in describe_run(encoder, None, "none", read_items(sources, source_options)):
            typer.echo(line)
        return 0
    road.calibrate(encoder, sources, source_options)
    about = {"model": encoder.model_id, "encoding": encoder.store_key, "cmprompt": __version__}
    kept = road.open_store(store, no_store, say)
    details.run(encoder, kept)
    stats, start_s, write_s = Stats(), perf_counter() - started_s, 0.0
    progress = Progress("embedding", quiet=quiet, rows_on_terminal=output is None, details=details)
    if output is None:
        answer_requests(source_options, encoder, kept, progress, stats, allow_truncated)
    else:
        wanted = {"texts": text_col is not None, "targets": target_col is not None}
        with vector_file(output, encoder.dim, about, overwrite=overwrite, **wanted) as out, progress:
            count_in_background(sources, source_options, progress.expect, progress.drawn)
            items = with_frames(read_items(sources, replace(source_options, skipped=progress.skip)), sampling)
            rows = embed(
                items, encoder, kept, needs=frozenset({"image", "text"} if text_col else {"image"}),
                allow_truncated=allow_truncated, stats=stats,
            )  # fmt: skip
            for embedded in pooled(rows):
                before_s = perf_counter()
                out.write(embedded)
                write_s += perf_counter() - before_s
                progress.take(embedded)
    warn_of_nothing(progress.statuses, sources, progress.skipped, say, limit)
    details.work(stats)
    if show_timings:
        print_timings(stats, perf_counter() - started_s, start_s=start_s, write_s=write_s)
    return 1 if progress.failed else 0


def answer_requests(
    source: SourceOptions, encoder: Encoder, kept: Store | None, progress: Progress, stats: Stats, allow_truncated: bool
) -> None:
    """Answer each line of standard input with its vectors, before the next is read."""
    from cmprompt.cli import requests
    from cmprompt.embed import embed
    from cmprompt.sources import read_items
    from cmprompt.vector_files import answers

    rows = embed(
        read_items([], source), encoder, kept, needs=frozenset({"image", "text"}), read_ahead=1,
        allow_truncated=allow_truncated, stats=stats,
    )  # fmt: skip
    with progress:
        for embedded in rows:
            requests.answer(answers(embedded))
            progress.take(embedded)
