"""`cmprompt evaluate`: zero-shot, prompts and heads, measured on the same labelled rows."""

from __future__ import annotations

from typing import Annotated

import typer

from cmprompt.cli import options as o

Table = Annotated[
    str, typer.Argument(metavar="TABLE", help="CSV, TSV, JSONL or Parquet, or a folder of class folders.")
]


def command(
    context: typer.Context,
    table: Table,
    image_col: o.ImageCol = None,
    text_col: o.TextCol = None,
    target_col: o.TargetCol = None,
    limit: o.Limit = None,
    head: o.HeadDirs = None,
    task: o.Measured = "classification",
    compare_prompts: o.ComparePrompts = None,
    tune_prompts: o.TunePrompts = False,
    tune_thresholds: o.TuneThresholds = False,
    output: o.EvaluateOutput = None,
    predictions: o.Predictions = None,
    plot: o.Plot = None,
    seed: o.Seed = 0,
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
    multi_label: o.MultiLabel = False,
    top_k: o.TopK = "5",
    threshold: o.Threshold = None,
    min_margin: o.MinMargin = None,
    none: o.NoneOfThese = False,
    none_name: o.NoneName = "none of these",
    csv_safe: o.CsvSafe = False,
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    store: o.StoreDir = None,
    no_store: o.NoStore = False,
) -> int:
    """Measure zero-shot, template sets and heads on labelled data.

    cmprompt evaluate pets.csv --labels @pets.txt
    cmprompt evaluate test.csv --head pets.head --labels @pets.txt -o figures.json
    cmprompt evaluate photos/ --compare-prompts photo,plain
    cmprompt evaluate pets.csv --task alignment --plot pets.svg
    cmprompt evaluate pets.csv --tune-prompts --prompts openai-imagenet -o pets.toml
    cmprompt evaluate pets.csv --tune-thresholds -o pets.json

    The table's lines stand beside each other on the same rows; each after the first is compared with the first, and
    with the one before it, by 1,000 paired bootstrap draws of balanced accuracy (of the error, for numbers; of mean
    average precision, for several labels).

    Where a label file has thresholds, or --threshold, --min-margin or --none lets answers be withheld as in classify:
    coverage is the part of rows that get a label, answered the accuracy among these; the other figures take every row's
    best label. Under --multi-label the thresholds decide precision, recall and F1. Rows labelled with --none-name are
    right where --none says so.
    """
    from functools import partial

    from cmprompt.cli import contests, measuring, road, tuning, unused
    from cmprompt.cli.details import Details
    from cmprompt.cli.heads import is_multi_label
    from cmprompt.cli.inputs import usual_columns
    from cmprompt.cli.notices import echo, speaker
    from cmprompt.encoders import load_encoder
    from cmprompt.errors import UsageError, unknown
    from cmprompt.labelled import TASKS, contents_line, read_labelled
    from cmprompt.labelled.rows import BY_NUMBER
    from cmprompt.rule import Rule
    from cmprompt.sources import SourceOptions
    from cmprompt.types import Encoder
    from cmprompt.writers.rows import check_output

    say = speaker(quiet)
    if task not in TASKS:
        raise UsageError(unknown("--task value", task, TASKS))
    unused.refuse(context, unused.EVALUATE)
    labelled, tunes = task == "classification", tune_prompts or tune_thresholds
    multi_label = multi_label or (labelled and any(map(is_multi_label, head or [])))
    unused.refuse(context, unused.EVALUATE, multi_label=multi_label)  # a head may say so
    source = SourceOptions(
        image_col=image_col, text_col=text_col, target_col=target_col, usual_columns=usual_columns(head or []),
        limit=limit,
    )  # fmt: skip
    words = measuring.Words(labels, label, pool, prompts, template, language, question, describe)
    make_rule = partial(
        Rule.parse, multi_label=multi_label, top_k=top_k, threshold=threshold, min_margin=min_margin, none=none,
        none_name=none_name, level=level,
    )  # fmt: skip

    def open_encoder(name: str) -> Encoder:
        return load_encoder(
            name, device, precision, exact=exact, threads=threads, batch_size=batch_size,
            accept_licence=accept_licence, notices=say,
        )  # fmt: skip

    if predictions:
        check_output(predictions, None, overwrite, flag="--predictions")
    if plot:
        measuring.check_plot(plot, overwrite)
    tuned = tuning.output_of(output, table, tune_prompts, tune_thresholds, overwrite) if tunes else None
    if output and not tuned:
        measuring.check_figures(output, overwrite)
    measures_heads = task in ("classification", "regression") and not tunes
    heads = measuring.read_heads((head or []) if measures_heads else [], model, open_encoder)
    data = read_labelled(table, source, task=task, multi_label=labelled and multi_label)
    say(contents_line(data, source))
    own_names = not words.named and (compare_prompts or not head)
    if task in ("classification", "alignment") and own_names and data.are_numbered:
        say(f"all {len(data.names)} labels are numbers; {BY_NUMBER} names them")
    for notice in measuring.seen_before(head or [], table):
        say(notice)
    kept = road.open_store(store, no_store, say)
    asked = measuring.Evaluation(
        data, words, model, open_encoder, kept, say, Details(verbose and not quiet), seed=seed,
        translations=translate_labels, overwrite=overwrite, output=None if tuned else output,
    )  # fmt: skip
    if tuned:
        lines = tuning.lines(asked, tuned, tune_prompts)
    elif task == "retrieval":
        lines = measuring.retrieval_lines(asked)
    elif task == "alignment":
        lines = measuring.alignment_lines(asked, plot)
    else:
        lines = contests.lines(asked, heads, compare_prompts, make_rule, predictions, csv_safe)
    for line in lines:
        echo(line)
    return 0
