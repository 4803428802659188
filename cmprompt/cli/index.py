"""`cmprompt index`: named collections to search in."""

from __future__ import annotations

from time import perf_counter
from typing import Annotated, Any

import typer

from cmprompt.cli import collecting
from cmprompt.cli import options as o
from cmprompt.cli.help import Group, GroupedCommand

app = typer.Typer(cls=Group, help="Named collections to search in.", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, o.option("--name", metavar="COLLECTION", group=o.STORE, help="What to call the collection.")]
ChosenName = Annotated[
    str | None, o.option("--name", metavar="COLLECTION", group=o.STORE, help="Which collection. Default: the only one.")
]
MANY = 200_000  # images that take minutes to compare


@app.command("build", cls=GroupedCommand)
def build(
    context: typer.Context,
    inputs: o.Inputs = None,
    files_from: o.FilesFrom = None,
    null: o.NullSeparated = False,
    image_col: o.ImageCol = None,
    text_col: o.TextCol = None,
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
    name: Name = "default",
    ann: Annotated[
        bool, o.option("--ann", group=o.STORE, help="An approximate index too, by LanceDB, for what outgrows memory.")
    ] = False,
    store: o.StoreDir = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    show_timings: o.Timings = False,
) -> int:
    """Embed inputs and name them, so that they can be searched.

    cmprompt index build photos/ --name trips
    cmprompt index build pairs.csv --name products
    cmprompt index build archive/ --name archive --ann
    echo '{"path": "photo.jpg", "text": "at noon"}' | cmprompt index build --stdin-jsonl --name inbox

    A table's texts go in beside its images, and a video's frames one by one. A collection of this name is replaced;
    one of requests on standard input is there when they end, and cannot be updated.
    """
    started_s = perf_counter()
    from cmprompt.cli import road, unused
    from cmprompt.cli.details import Details, print_timings
    from cmprompt.cli.dry_run import describe_run
    from cmprompt.cli.inputs import require_inputs, rereadable
    from cmprompt.cli.notices import speaker
    from cmprompt.embed import Stats
    from cmprompt.encoders import load_encoder
    from cmprompt.encoders.names import lasting_name
    from cmprompt.encoding import store_dtype
    from cmprompt.errors import UsageError
    from cmprompt.index import lancedb
    from cmprompt.index.collections import About
    from cmprompt.sources import read_items

    say = speaker(quiet)
    sources = require_inputs(inputs, files_from, stdin_jsonl)
    unused.refuse(context, [unused.REQUESTS])
    if stdin_jsonl and dry_run:
        raise UsageError("--stdin-jsonl answers each request as it comes; leave --dry-run out")
    if not stdin_jsonl and not rereadable(sources, files_from):
        raise UsageError("a collection's inputs are read again at an update; name files or folders, no - and no pipe")
    if ann:
        lancedb.require()
    encoder = load_encoder(
        model, device, precision, exact=exact, threads=threads, batch_size=batch_size,
        accept_licence=accept_licence, compiled=compiled, notices=say,
    )  # fmt: skip
    about = About(
        name, lasting_name(model, encoder), encoder.model_id, encoder.dim, store_dtype(encoder),
        tuple(collecting.absolute(source) for source in sources),  # so that update finds them from anywhere
        {"files_from": files_from and collecting.absolute(files_from), "null_separated": null,
         "list_folder": collecting.absolute(""), "image_col": image_col, "text_col": text_col, "limit": limit,
         "all_files": all_files, "allow_truncated": allow_truncated, "fps": fps, "frames": frames,
         "requests": stdin_jsonl},
        ann, precision=precision,
    )  # fmt: skip
    options = collecting.source_options(about)
    if dry_run:
        for line in describe_run(encoder, None, "none", read_items(about.inputs, options)):
            typer.echo(line)
        return 0
    road.calibrate(encoder, about.inputs, options)
    stats, start_s = Stats(), perf_counter() - started_s
    kept, details = collecting.store_at(store, say), Details(verbose and not quiet)
    changes, failed = collecting.embed_into(about, encoder, kept, quiet, details, stats)
    say(collecting.described(about.name, changes, failed))
    if show_timings:
        print_timings(stats, perf_counter() - started_s, start_s=start_s)
    return 1 if failed else 0


@app.command("update", cls=GroupedCommand)
def update(
    name: ChosenName = None,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    batch_size: o.BatchSize = None,
    threads: o.Threads = None,
    accept_licence: o.AcceptLicence = False,
    compiled: o.Compile = False,
    store: o.StoreDir = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Read the inputs again: new, changed and deleted files.

    cmprompt index update
    cmprompt index update --name trips

    Without --precision it is the one of the build.
    """
    from dataclasses import replace

    from cmprompt.cli.details import Details
    from cmprompt.cli.notices import speaker
    from cmprompt.embed import Stats
    from cmprompt.encoders import load_encoder
    from cmprompt.errors import ModelError, UsageError
    from cmprompt.index import lancedb
    from cmprompt.index.collections import about_of, only_name

    say = speaker(quiet)
    kept = collecting.store_at(store, say)
    about = about_of(kept.path, name or only_name(kept.path))
    if about.options.get("requests"):
        raise UsageError(f"{about.name!r} was made of requests on standard input; build it again by --stdin-jsonl")
    if about.ann:
        lancedb.require()
    about = replace(about, precision=about.precision_for(precision))
    encoder = load_encoder(
        about.model, device, about.precision, exact=about.dtype == "float32", threads=threads, batch_size=batch_size,
        accept_licence=accept_licence, compiled=compiled, notices=say,
    )  # fmt: skip
    if encoder.model_id != about.model_id:
        raise ModelError(f"{about.model} is another model now; build the collection {about.name!r} again")
    changes, failed = collecting.embed_into(about, encoder, kept, quiet, Details(verbose and not quiet), Stats())
    say(collecting.described(about.name, changes, failed))
    return 1 if failed else 0


@app.command("list", cls=GroupedCommand)
def list_names(
    output: o.OutputFile = None,
    format: o.Format = None,
    overwrite: o.Overwrite = False,
    csv_safe: o.CsvSafe = False,
    quiet: o.Quiet = False,
    store: o.StoreDir = None,
) -> int:
    """List the collections.

    cmprompt index list
    cmprompt index list --format jsonl
    cmprompt index list --csv-safe -o collections.csv
    """
    from cmprompt.cli.notices import speaker
    from cmprompt.errors import StoreError
    from cmprompt.index.collections import about_of, names
    from cmprompt.store import store_dir
    from cmprompt.utf8 import clean
    from cmprompt.writers.rows import write_rows

    say, folder = speaker(quiet), store_dir(store)
    found, damages = [], []
    for name in names(folder):
        try:
            found.append(about_of(folder, name))
        except StoreError as damage:
            damages.append(damage)
    if not found and not damages:
        say("there is no collection yet; make one with: cmprompt index build FOLDER --name NAME")
    rows = [
        {"name": about.name, "images": about.images, "texts": about.texts, "index": "lancedb" if about.ann else "exact",
         "model": about.model_id, "inputs": clean(" ".join(about.sources))}
        for about in found
    ]  # fmt: skip
    write_rows(rows, output=output, format=format, overwrite=overwrite, csv_safe=csv_safe)
    for each in damages:
        typer.echo(f"cmprompt: {each}", err=True)
    return StoreError.exit_status if damages else 0


@app.command("verify", cls=GroupedCommand)
def verify(name: ChosenName = None, store: o.StoreDir = None) -> int:
    """Compare every vector with its checksum. An approximate index is measured against the exact answer.

    cmprompt index verify --name trips
    """
    from cmprompt.index.collections import KINDS, Collection, only_name
    from cmprompt.index.recall import recall
    from cmprompt.store import store_dir

    folder = store_dir(store)
    collection = Collection(folder, name or only_name(folder))
    damaged = collection.damaged()
    for kind, count in damaged.items():
        typer.echo(f"{collection.about.name}: {count:,} of the {kind} are damaged; build it again")
    if not damaged:
        typer.echo(f"{collection.about.name}: {collection.about.images:,} images, {collection.about.texts:,} texts, ok")
    for kind in KINDS if collection.about.ann and not damaged else ():
        if collection.count(kind):
            typer.echo(collecting.recall_line(kind, recall(collection, kind)))
    return 3 if damaged else 0


@app.command("duplicates", cls=GroupedCommand)
def duplicates(
    name: ChosenName = None,
    threshold: Annotated[
        float, o.option("--threshold", metavar="C", group=o.DECISION, min=-1, max=1, help="Alike from this cosine on.")
    ] = 0.97,
    output: o.OutputFile = None,
    format: o.Format = None,
    overwrite: o.Overwrite = False,
    csv_safe: o.CsvSafe = False,
    quiet: o.Quiet = False,
    store: o.StoreDir = None,
) -> None:
    """Group images that are nearly the same. Each has its cosine to the first of its group.

    cmprompt index duplicates --name trips
    cmprompt index duplicates --threshold 0.99 -o duplicates.csv
    """
    from cmprompt.cli.notices import speaker
    from cmprompt.index.collections import Collection, only_name
    from cmprompt.index.duplicates import cosines_to_first, groups
    from cmprompt.store import store_dir
    from cmprompt.writers.records import rounded
    from cmprompt.writers.rows import identity_of, second_of, write_rows

    say, folder = speaker(quiet), store_dir(store)
    collection = Collection(folder, name or only_name(folder))
    matrix = collection.matrix("images")
    if len(matrix) >= MANY:
        say(f"comparing each of {len(matrix):,} images with all others; ten times as many take a hundred times as long")
    rows: list[dict[str, Any]] = []
    number = 0
    for members in groups(matrix, threshold):
        entries = collection.entries("images", members)
        if len({entry.id for entry in entries}) > 1:  # the frames of one video are no duplicates
            number += 1
            rows += [
                {"group": number, **identity_of(entry.id), **second_of(entry.time_s), "cosine": rounded(float(cosine))}
                for entry, cosine in zip(entries, cosines_to_first(matrix[members]), strict=True)
            ]
    if not rows:
        say(f"no two images of {collection.about.name!r} have a cosine of {threshold:g} or more")
    write_rows(
        rows, output=output, format=format, overwrite=overwrite, columns=("group", "cosine", "id", "time_s"),
        csv_safe=csv_safe,
    )  # fmt: skip


@app.command("drop", cls=GroupedCommand)
def drop_collection(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The collection to remove.")], store: o.StoreDir = None
) -> None:
    """Remove a collection. The store keeps its embeddings.

    cmprompt index drop trips
    """
    from cmprompt.index.collections import drop
    from cmprompt.store import store_dir

    drop(store_dir(store), name)
