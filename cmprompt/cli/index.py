"""`cmprompt index`: named collections to search in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmprompt.cli import options as o
from cmprompt.cli.help import GroupedCommand

if TYPE_CHECKING:
    from cmprompt.cli.details import Details
    from cmprompt.cli.road import Say
    from cmprompt.embed import Stats
    from cmprompt.index.building import Changes
    from cmprompt.index.collections import About
    from cmprompt.index.recall import Recall
    from cmprompt.sources import SourceOptions
    from cmprompt.store import Store
    from cmprompt.types import Embedded, Encoder

app = typer.Typer(help="Named collections to search in.", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, o.option("--name", metavar="COLLECTION", group=o.STORE, help="What to call the collection.")]
ChosenName = Annotated[
    str | None, o.option("--name", metavar="COLLECTION", group=o.STORE, help="Which collection. Default: the only one.")
]


@app.command("build", cls=GroupedCommand)
def build(
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
    from cmprompt.cli import road
    from cmprompt.cli.details import Details, print_timings
    from cmprompt.embed import Stats
    from cmprompt.encoders import load_encoder
    from cmprompt.encoding import store_dtype
    from cmprompt.errors import UsageError
    from cmprompt.index import lancedb
    from cmprompt.index.collections import About
    from cmprompt.sources import read_items

    say = road.speaker(quiet)
    sources = road.require_inputs(inputs, files_from, stdin_jsonl)
    if stdin_jsonl and dry_run:
        raise UsageError("--stdin-jsonl answers each request as it comes; leave --dry-run out")
    if not stdin_jsonl and not road.rereadable(sources, files_from):
        raise UsageError("a collection's inputs are read again at an update; name files or folders, no - and no pipe")
    if ann:
        lancedb.require()
    encoder = load_encoder(
        model, device, precision, exact=exact, threads=threads, batch_size=batch_size,
        accept_licence=accept_licence, notices=say,
    )  # fmt: skip
    about = About(
        name, lasting_name(model, encoder), encoder.model_id, encoder.dim, store_dtype(encoder),
        tuple(_absolute(source) for source in sources),  # so that update finds them from anywhere
        {"files_from": files_from and _absolute(files_from), "null_separated": null, "list_folder": _absolute(""),
         "image_col": image_col, "text_col": text_col, "limit": limit, "all_files": all_files,
         "allow_truncated": allow_truncated, "fps": fps, "frames": frames, "requests": stdin_jsonl},
        ann, precision=precision,
    )  # fmt: skip
    if dry_run:
        for line in road.describe_run(encoder, None, "none", read_items(about.inputs, _source_options(about))):
            typer.echo(line)
        return 0
    road.calibrate(encoder, about.inputs, _source_options(about))
    stats, start_s = Stats(), perf_counter() - started_s
    changes, failed = _build(about, encoder, _store(store, say), quiet, Details(verbose and not quiet), stats)
    say(_described(about.name, changes))
    if show_timings:
        print_timings(stats, threads, perf_counter() - started_s, start_s=start_s)
    return 1 if failed else 0


@app.command("update", cls=GroupedCommand)
def update(
    name: ChosenName = None,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    batch_size: o.BatchSize = None,
    threads: o.Threads = None,
    accept_licence: o.AcceptLicence = False,
    store: o.StoreDir = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Read a collection's inputs again: new, changed and deleted files.

    cmprompt index update
    cmprompt index update --name trips

    Without --precision it is the one of the build.
    """
    from dataclasses import replace

    from cmprompt.cli import road
    from cmprompt.cli.details import Details
    from cmprompt.embed import Stats
    from cmprompt.encoders import load_encoder
    from cmprompt.errors import ModelError, UsageError
    from cmprompt.index import lancedb
    from cmprompt.index.collections import Collection, only_name

    say = road.speaker(quiet)
    kept = _store(store, say)
    about = Collection(kept.path, name or only_name(kept.path)).about
    if about.options.get("requests"):
        raise UsageError(f"{about.name!r} was made of requests on standard input; build it again by --stdin-jsonl")
    if about.ann:
        lancedb.require()
    about = replace(about, precision=about.precision_for(precision))
    encoder = load_encoder(
        about.model, device, about.precision, exact=about.dtype == "float32", threads=threads, batch_size=batch_size,
        accept_licence=accept_licence, notices=say,
    )  # fmt: skip
    if encoder.model_id != about.model_id:
        raise ModelError(f"{about.model} is another model now; build the collection {about.name!r} again")
    changes, failed = _build(about, encoder, kept, quiet, Details(verbose and not quiet), Stats())
    say(_described(about.name, changes))
    return 1 if failed else 0


@app.command("list", cls=GroupedCommand)
def list_names(
    output: o.OutputFile = None,
    format: o.Format = None,
    overwrite: o.Overwrite = False,
    csv_safe: o.CsvSafe = False,
    quiet: o.Quiet = False,
    store: o.StoreDir = None,
) -> None:
    """List the collections.

    cmprompt index list
    cmprompt index list --format jsonl
    cmprompt index list --csv-safe -o collections.csv
    """
    from cmprompt.cli import road
    from cmprompt.index.collections import Collection, names
    from cmprompt.writers.records import clean
    from cmprompt.writers.rows import write_rows

    say = road.speaker(quiet)
    kept = _store(store, say)
    found = [Collection(kept.path, name).about for name in names(kept.path)]
    if not found:
        say("there is no collection yet; make one with: cmprompt index build FOLDER --name NAME")
    rows = [
        {"name": about.name, "images": about.images, "texts": about.texts, "index": "lancedb" if about.ann else "exact",
         "model": about.model_id, "inputs": clean(" ".join(about.sources))}
        for about in found
    ]  # fmt: skip
    write_rows(rows, output=output, format=format, overwrite=overwrite, csv_safe=csv_safe)


@app.command("verify", cls=GroupedCommand)
def verify(name: ChosenName = None, store: o.StoreDir = None) -> int:
    """Read every vector and compare it with its checksum; measure an approximate index against the exact answer.

    cmprompt index verify --name trips
    """
    from cmprompt.cli import road
    from cmprompt.index.collections import KINDS, Collection, only_name
    from cmprompt.index.recall import recall

    kept = _store(store, road.speaker(False))
    collection = Collection(kept.path, name or only_name(kept.path))
    damaged = collection.damaged()
    for kind, count in damaged.items():
        typer.echo(f"{collection.about.name}: {count:,} of the {kind} are damaged; build it again")
    if not damaged:
        typer.echo(f"{collection.about.name}: {collection.about.images:,} images, {collection.about.texts:,} texts, ok")
    for kind in KINDS if collection.about.ann and not damaged else ():
        if collection.count(kind):
            typer.echo(_recall_line(kind, recall(collection, kind)))
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
    """Groups of images that are nearly the same, with each one's cosine to the first of its group.

    cmprompt index duplicates --name trips
    cmprompt index duplicates --threshold 0.99 -o duplicates.csv
    """
    from cmprompt.cli import road
    from cmprompt.index.collections import Collection, only_name
    from cmprompt.index.duplicates import groups
    from cmprompt.writers.records import rounded
    from cmprompt.writers.rows import identity_of, second_of, write_rows

    say = road.speaker(quiet)
    kept = _store(store, say)
    collection = Collection(kept.path, name or only_name(kept.path))
    matrix = collection.matrix("images")
    rows: list[dict[str, Any]] = []
    number = 0
    for members in groups(matrix, threshold):
        entries = collection.entries("images", members)
        if len({entry.id for entry in entries}) > 1:  # the frames of one video are no duplicates
            cosines = matrix[members].astype("float32") @ matrix[members[0]].astype("float32")
            number += 1
            rows += [
                {"group": number, **identity_of(entry.id), **second_of(entry.time_s), "cosine": rounded(float(cosine))}
                for entry, cosine in zip(entries, cosines, strict=True)
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
    from cmprompt.cli import road
    from cmprompt.index.collections import drop

    drop(_store(store, road.speaker(False)).path, name)


def lasting_name(model: str, encoder: Encoder) -> str:
    """What `--model` must say to get this encoder again: `auto` may mean another one by then."""
    from cmprompt.encoders import RECOMMENDED
    from cmprompt.encoders.weights import TINY

    checkpoint: Any = getattr(encoder, "checkpoint", None)
    if model == "auto" and checkpoint is not None:
        return "tiny" if checkpoint.folder == TINY else RECOMMENDED
    if model.startswith("local-dir:"):
        return f"local-dir:{Path(model.removeprefix('local-dir:')).expanduser().absolute()}"
    return model


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def _source_options(about: About) -> SourceOptions:
    """How a collection's inputs are read."""
    from cmprompt.sources import SourceOptions

    others = ("allow_truncated", "fps", "frames")
    return SourceOptions(**{key: value for key, value in about.options.items() if key not in others}, videos=True)


def _store(directory: str | None, say: Say) -> Store:
    """The store that holds the collections."""
    from cmprompt.store import Store, default_store_dir

    return Store(directory or default_store_dir(), say)


def _build(
    about: About, encoder: Encoder, kept: Store, quiet: bool, details: Details, stats: Stats
) -> tuple[Changes, int]:
    """Embed and keep; the changes and how many inputs failed. Failures are named with and without `details`."""
    from dataclasses import replace

    from cmprompt.cli import requests, road
    from cmprompt.cli.details import Details
    from cmprompt.cli.progress import Progress
    from cmprompt.clips import sampling_of, with_frames
    from cmprompt.embed import READ_AHEAD, embed
    from cmprompt.index.building import build
    from cmprompt.sources import read_items
    from cmprompt.vector_files import records

    options, answers = _source_options(about), bool(about.options.get("requests"))
    sampling = sampling_of(about.options.get("fps"), about.options.get("frames"))
    details.run(encoder, kept)
    with Progress("embedding", quiet=quiet, details=Details(not quiet)) as progress:
        road.count_in_background(about.inputs, options, progress.expect, progress.drawn)
        items = read_items(about.inputs, replace(options, skipped=details.skipped))
        embedded = embed(
            items if answers else with_frames(items, sampling), encoder, kept, needs=frozenset({"image", "text"}),
            read_ahead=1 if answers else READ_AHEAD, allow_truncated=about.options.get("allow_truncated", False),
            stats=stats,
        )  # fmt: skip

        def counted() -> Iterator[Embedded]:
            for batch in embedded:
                progress.take(batch)
                if answers:
                    requests.answer(records(batch))
                yield batch

        rows = road.warn_of_cut_rows(encoder, counted(), road.speaker(quiet))
        changes = build(kept.path, about, rows)
    details.work(stats)
    return changes, progress.failed


def _recall_line(kind: str, found: Recall) -> str:
    return (
        f"{kind}: recall@{found.k} {found.share:.1%} of the exact answer, asked with {found.queries} {found.asked}; "
        f"{found.approximate_ms:.1f} ms a query, exact {found.exact_ms:.1f} ms"
    )


def _described(name: str, changes: Changes) -> str:
    return (
        f"{name}: {changes.new:,} new, {changes.changed:,} changed, {changes.deleted:,} deleted, "
        f"{changes.same:,} as before"
    )
