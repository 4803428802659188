"""`cmprompt adapt`: fit a head to a folder without labels, and freeze it."""

from __future__ import annotations

import sys

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
    labels: o.Labels = None,
    label: o.Label = None,
    level: o.Level = None,
    pool: o.Pool = "mean",
    prompts: o.Prompts = None,
    template: o.Template = None,
    language: o.Language = "auto",
    prior: o.PriorShares = None,
    model: o.Model = "auto",
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    exact: o.Exact = False,
    batch_size: o.BatchSize = None,
    threads: o.Threads = None,
    accept_licence: o.AcceptLicence = False,
    output: o.AdaptedOutput = None,
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    store: o.StoreDir = None,
    no_store: o.NoStore = False,
) -> int:
    """Fit a head to images without labels, and freeze it.

    cmprompt adapt trip/ --labels beach,city,forest -o trip.head
    cmprompt classify trip/ --head trip.head

    Gains where hundreds of images hold some or all of the labels. With fewer than about a hundred images, or where
    one label outweighs all others, it may lose a point or two against zero-shot: check with `cmprompt evaluate`.
    """
    from dataclasses import replace
    from pathlib import Path

    from cmprompt.cli import fitting, road
    from cmprompt.cli.details import Details
    from cmprompt.cli.dry_run import describe_run
    from cmprompt.cli.inputs import require_inputs
    from cmprompt.cli.notices import echo, speaker
    from cmprompt.cli.texts import read_prompts, set_names, warn_of_texts
    from cmprompt.clips import sampling_of
    from cmprompt.encoders import load_encoder
    from cmprompt.errors import UsageError, counted
    from cmprompt.heads.io import check_free, save_head
    from cmprompt.heads.stata import ENOUGH
    from cmprompt.sources import SourceOptions, read_items
    from cmprompt.tasks.adapt import adapt_to, read_shares

    say = speaker(quiet)
    if output is None and not dry_run:
        raise UsageError("name the head to write: -o DIR")
    target = Path(output or "")
    if output is not None:
        check_free(target, overwrite)
    sources = require_inputs(inputs, files_from)
    options = SourceOptions(
        files_from=files_from, null_separated=null, image_col=image_col, limit=limit, all_files=all_files,
        videos=True,
    )  # fmt: skip
    sampling = sampling_of(fps, frames)
    label_set, texts = read_prompts(labels, label, prompts, template, language, say=say)
    texts = fitting.at_level(texts, level)
    shares = read_shares(prior, tuple(texts)) if prior else None
    encoder = load_encoder(
        model, device, precision, exact=exact, threads=threads, batch_size=batch_size,
        accept_licence=accept_licence, notices=say,
    )  # fmt: skip
    if dry_run:
        sets = set_names(label_set, prompts, template, language)
        for line in describe_run(encoder, texts, "adapted from zero-shot", read_items(sources, options), sets):
            typer.echo(line)
        return 0
    road.calibrate(encoder, sources, options)
    warn_of_texts(encoder, texts, say)
    kept = road.open_store(store, no_store, say)
    details = Details(verbose and not quiet)
    details.run(encoder, kept, texts)
    before = fitting.start_head(encoder, texts, pool, kept)
    done = adapt_to(
        read_items(sources, replace(options, skipped=details.skipped)), encoder, before, kept, shares=shares,
        allow_truncated=allow_truncated, sampling=sampling, failure=details.failure,
    )  # fmt: skip
    if done.failed:
        say(f"left out: {counted(done.failed, 'input')} that cannot be read; the first: {done.first}")
    if done.images < ENOUGH:
        say(f"{done.images} images are few to adapt to; with fewer than {ENOUGH}, zero-shot is often the better head")
    about = {"adapted_to": sources, "images": done.images, "failed": done.failed, "changed_answers": done.changed}
    record = fitting.origin(encoder, done.head, texts, model=model, argv=sys.argv[1:])
    save_head(done.head, target, {**record, **about}, overwrite=overwrite)
    say("each label's share of the answers, before and after:")
    for name, share_before, share_after in zip(done.head.labels, done.before, done.after, strict=True):
        echo(f"{name}\t{share_before:.1%}\t{share_after:.1%}")
    say(f"{done.changed:.1%} of {done.images} answers changed; use it with: cmprompt classify --head {output} PHOTOS")
    return 1 if done.failed else 0
