"""`cmprompt embed`: from files to vectors, for other tools."""

from __future__ import annotations

import sys
from time import perf_counter

import typer

from cmprompt.cli import options as o


def command(
    inputs: o.Inputs = None,
    files_from: o.FilesFrom = None,
    null: o.NullSeparated = False,
    image_col: o.ImageCol = None,
    limit: o.Limit = None,
    all_files: o.AllFiles = False,
    allow_truncated: o.AllowTruncated = False,
    dry_run: o.DryRun = False,
    fps: o.Fps = None,
    frames: o.Frames = None,
    model: o.Model = "auto",
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    exact: o.Exact = False,
    batch_size: o.BatchSize = None,
    threads: o.Threads = None,
    accept_licence: o.AcceptLicence = False,
    output: o.OutputFile = None,
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    show_timings: o.Timings = False,
    store: o.StoreDir = None,
    no_store: o.NoStore = False,
) -> int:
    """Write the vectors of images for other tools. The file is .npy, .parquet or .safetensors.

    cmprompt embed photos/ -o photos.npy
    cmprompt embed products.csv --image-col picture -o products.parquet
    cmprompt embed 'shards/*.tar' --model ViT-B-32-256 -o shards.safetensors

    Row i belongs to input i; a clip's is the mean of its frames. Parquet has the ids beside the vectors; the others in
    FILE.ids.jsonl.
    """
    started_s = perf_counter()
    from dataclasses import replace

    from cmprompt import __version__
    from cmprompt.cli import road
    from cmprompt.cli.progress import Progress
    from cmprompt.clips import pooled, sampling_of, with_frames
    from cmprompt.embed import Stats, cores, embed
    from cmprompt.encoders import load_encoder
    from cmprompt.errors import UsageError
    from cmprompt.sources import SourceOptions, read_items
    from cmprompt.vector_files import vector_file

    say = road.speaker(quiet)
    sources = road.require_inputs(inputs, files_from)
    source_options = SourceOptions(
        files_from=files_from, null_separated=null, image_col=image_col, limit=limit, all_files=all_files,
        videos=True,
    )  # fmt: skip
    sampling = sampling_of(fps, frames)
    if output is None:
        raise UsageError("name the file to write: -o FILE.npy, .parquet or .safetensors")
    encoder = load_encoder(
        model, device, precision, exact=exact, threads=threads, batch_size=batch_size,
        accept_licence=accept_licence, notices=say,
    )  # fmt: skip
    if dry_run:
        for line in road.describe_run(encoder, None, "none", read_items(sources, source_options)):
            typer.echo(line)
        return 0
    road.calibrate(encoder, sources, source_options)
    about = {"model": encoder.model_id, "encoding": encoder.store_key, "cmprompt": __version__}
    kept = road.open_store(store, no_store, say)
    stats, start_s, write_s = Stats(), perf_counter() - started_s, 0.0
    with (
        vector_file(output, encoder.dim, about, overwrite=overwrite) as out,
        Progress("embedding", quiet=quiet) as progress,
    ):
        road.count_in_background(sources, source_options, progress.expect, progress.drawn)
        items = with_frames(read_items(sources, replace(source_options, skipped=progress.skip)), sampling)
        rows = embed(items, encoder, kept, allow_truncated=allow_truncated, decode_threads=threads, stats=stats)
        for embedded in pooled(rows):
            before_s = perf_counter()
            out.write(embedded)
            write_s += perf_counter() - before_s
            for outcome in embedded.outcomes:
                progress.count(outcome.status)
    road.warn_of_nothing(progress.statuses, sources, progress.skipped, say)
    if show_timings:
        total_s = perf_counter() - started_s
        lines = road.timings(stats, threads or cores(), total_s, start_s=start_s, write_s=write_s)
        print(*lines, sep="\n", file=sys.stderr)
    return 1 if progress.failed else 0
