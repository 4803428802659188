"""`cmprompt classify`: from files to labels."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING

import typer

from cmprompt.cli import options as o
from cmprompt.errors import UsageError

if TYPE_CHECKING:
    from cmprompt.store import Store
    from cmprompt.types import Embedded, Item


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
    timeline: o.Timeline = False,
    labels: o.Labels = None,
    label: o.Label = None,
    level: o.Level = None,
    pool: o.Pool = "mean",
    prompts: o.Prompts = None,
    template: o.Template = None,
    language: o.Language = "auto",
    question: o.Question = None,
    describe: o.Describe = None,
    translate_labels: o.TranslateLabels = None,
    model: o.Model = "auto",
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    exact: o.Exact = False,
    batch_size: o.BatchSize = None,
    threads: o.Threads = None,
    accept_licence: o.AcceptLicence = False,
    compiled: o.Compile = False,
    head: o.HeadDir = None,
    multi_label: o.MultiLabel = False,
    top_k: o.TopK = "5",
    threshold: o.Threshold = None,
    min_margin: o.MinMargin = None,
    none: o.NoneOfThese = False,
    none_name: o.NoneName = "none of these",
    output: o.OutputFile = None,
    format: o.Format = None,
    resume: o.Resume = False,
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
    """Label images.

    cmprompt classify photo.jpg --labels cat,dog
    cmprompt classify photos/ --labels @labels.txt --none -o labels.jsonl
    cmprompt classify photos/ --head pets.head
    cmprompt classify photo.jpg --question "What is the man holding?" --labels umbrella,bag
    cmprompt classify clip.mp4 --labels running,jumping --timeline
    find . -name '*.jpg' -print0 | cmprompt classify -0 - --labels cat,dog > labels.tsv
    echo '{"path": "photo.jpg"}' | cmprompt classify --stdin-jsonl --labels cat,dog
    """
    started_s = perf_counter()
    from dataclasses import replace
    from functools import partial

    from cmprompt.cli import answering, road, unused
    from cmprompt.cli.details import Details, print_timings
    from cmprompt.cli.dry_run import describe_run
    from cmprompt.cli.heads import check_head, gives_numbers, is_multi_label, model_for
    from cmprompt.cli.inputs import count_in_background, require_inputs, say_columns, usual_columns, warn_of_nothing
    from cmprompt.cli.notices import speaker
    from cmprompt.cli.progress import Progress
    from cmprompt.cli.texts import set_names, warn_of_texts
    from cmprompt.cli.timings import Clock
    from cmprompt.clips import pooled, sampling_of, segments, with_frames
    from cmprompt.embed import BATCH_SIZE, READ_AHEAD, Stats, embed
    from cmprompt.encoders import load_encoder
    from cmprompt.encoding import streams_of
    from cmprompt.rule import Rule
    from cmprompt.runs import OutputOptions, check_output, open_output
    from cmprompt.runs.header import run_header
    from cmprompt.sources import SourceOptions, read_items
    from cmprompt.writers import choose_format

    say = speaker(quiet)
    details = Details(verbose and not quiet)
    progress = Progress(quiet=quiet, rows_on_terminal=output is None and sys.stdout.isatty(), details=details)
    sources = require_inputs(inputs, files_from, stdin_jsonl)
    chosen = SourceOptions(
        files_from=files_from, null_separated=null, requests=stdin_jsonl, image_col=image_col, text_col=text_col,
        target_col=target_col, usual_columns=usual_columns([head] if head else []), limit=limit,
        all_files=all_files, videos=True,
    )  # fmt: skip
    sampling = sampling_of(fps, frames)
    if timeline and resume:
        raise UsageError("--timeline gives a clip several records, which --resume cannot match; use --overwrite")
    if stdin_jsonl and (output is not None or timeline or format not in (None, "jsonl")):
        raise UsageError(
            "--stdin-jsonl answers in JSON lines on standard output; leave -o, --format and --timeline out"
        )
    form = "jsonl" if stdin_jsonl else choose_format(format, output, terminal=sys.stdout.isatty())
    unused.refuse(context, unused.CLASSIFY, form=form, numbers=gives_numbers(head))
    if not dry_run:
        check_output(output, resume=resume, overwrite=overwrite)
    make_rule = partial(
        Rule.parse, multi_label=multi_label or is_multi_label(head), top_k=top_k, threshold=threshold,
        min_margin=min_margin, none=none, none_name=none_name, level=level,
    )  # fmt: skip
    wanted = answering.wanted(
        sources, head, labels, label, prompts, template, language, question=question, describe=describe,
        minimum=1 if make_rule().one_will_do else 2, say=say,
    )  # fmt: skip
    rule = wanted.rule(make_rule(label_thresholds=wanted.labels.thresholds))
    answering.check_pool(pool, wanted)
    names = answering.translations(translate_labels, wanted, level)
    encoder = road.for_good(load_encoder(
        model_for(head, model), device, precision, exact=exact, threads=threads, batch_size=batch_size,
        accept_licence=accept_licence, compiled=compiled, notices=say,
    ))  # fmt: skip
    if wanted.head is not None:
        check_head(wanted.head, encoder, head)
    if dry_run:
        asks = question is not None or bool(wanted.sets)
        sets = set_names(wanted.labels, prompts, template, language, asks=asks)
        for line in describe_run(encoder, wanted.texts, head or "zero-shot", read_items(sources, chosen), sets):
            typer.echo(line)
        return 0
    say_columns(head, sources, chosen, say)
    road.calibrate(encoder, sources, chosen)
    loaded_s = perf_counter()
    warn_of_texts(encoder, wanted.texts, say)
    kept, stats = road.open_store(store, no_store, say), Stats()

    def see(
        items: Iterator[Item], vectors: Store | None, needs: frozenset[str] = frozenset({"image"})
    ) -> Iterator[Embedded]:
        return embed(
            items if stdin_jsonl else with_frames(items, sampling), encoder, vectors, needs=needs,
            read_ahead=1 if stdin_jsonl else READ_AHEAD, allow_truncated=allow_truncated, stats=stats,
        )  # fmt: skip

    def read() -> Iterator[Item]:
        return read_items(sources, replace(chosen, skipped=progress.skip))

    ahead = None
    if wanted.texts and not (resume or stdin_jsonl) and streams_of(encoder) > 1:
        ahead = road.begun(see(read(), kept.reopened() if kept else None))  # while the texts are encoded
    judge = wanted.judge(encoder, pool, kept, stats)
    decide = answering.decider(judge, wanted, rule, encoder, kept, names)
    details.run(encoder, kept, wanted.texts or None)
    about = run_header(
        encoder, judge, rule, prompts=wanted.texts or None, inputs=sources,
        options={"allow_truncated": allow_truncated, "pool": pool, "source": vars(chosen), "translations": names,
                 "video": {**vars(sampling), "timeline": timeline}, **wanted.options()},
    )  # fmt: skip
    texts_s, write_s = perf_counter() - loaded_s, 0.0
    waiting, scoring = Clock(), Clock()
    with (
        open_output(
            output, about, OutputOptions(form, header, keep_columns, csv_safe, stdin_jsonl, timeline), resume=resume,
            overwrite=overwrite, batch_size=getattr(encoder, "batch_size", BATCH_SIZE), argv=sys.argv[1:], say=say,
        ) as out,
        progress,
    ):  # fmt: skip
        if out.finished:
            say(f"{output} is finished already")
            return road.exit_status(out.statuses)
        progress.resume(out.done)
        count_in_background(sources, chosen, progress.expect, progress.drawn)
        embedded = waiting.timed(ahead or see(out.remaining(read()), kept, judge.needs))
        rows = embedded if timeline else pooled(embedded)
        for prediction in scoring.timed(segments(decide(rows)) if timeline else decide(rows)):
            before_s = perf_counter()
            out.write(prediction)
            write_s += perf_counter() - before_s
            progress.count(prediction.status, prediction.item.id, prediction.error)
    warn_of_nothing(out.statuses, sources, progress.skipped, say, limit)
    details.work(stats)
    if show_timings:
        print_timings(
            stats, perf_counter() - started_s, start_s=loaded_s - started_s, texts_s=texts_s,
            score_s=scoring.seconds - waiting.seconds, write_s=write_s,
        )  # fmt: skip
    return road.exit_status(out.statuses)
