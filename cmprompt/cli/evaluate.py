"""`cmprompt evaluate`: zero-shot, prompts and heads, measured on the same labelled rows."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cmprompt.cli import options as o

Table = Annotated[
    str, typer.Argument(metavar="TABLE", help="CSV, TSV, JSONL or Parquet, or a folder of class folders.")
]


def command(
    table: Table,
    image_col: o.ImageCol = None,
    text_col: o.TextCol = None,
    target_col: o.TargetCol = None,
    limit: o.Limit = None,
    head: o.HeadDirs = None,
    task: o.Measured = "classification",
    multi_label: o.MultiLabel = False,
    compare_prompts: o.ComparePrompts = None,
    tune_prompts: o.TunePrompts = False,
    tune_thresholds: o.TuneThresholds = False,
    output: o.TunedOutput = None,
    predictions: o.Predictions = None,
    plot: o.Plot = None,
    seed: o.Seed = 0,
    labels: o.Labels = None,
    label: o.Label = None,
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
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    store: o.StoreDir = None,
    no_store: o.NoStore = False,
) -> int:
    """Measure zero-shot, template sets and heads on labelled data.

    cmprompt evaluate pets.csv --labels @pets.txt
    cmprompt evaluate test.csv --head pets.head --labels @pets.txt
    cmprompt evaluate photos/ --compare-prompts photo,plain
    cmprompt evaluate pets.csv --task alignment --plot pets.svg
    cmprompt evaluate pets.csv --tune-prompts --prompts openai-imagenet -o pets.toml
    cmprompt evaluate pets.csv --tune-thresholds -o pets.json

    The table's lines stand beside each other on the same rows; each after the first is compared with the first by
    1,000 paired bootstrap draws of balanced accuracy (of the error, for numbers).
    """
    from cmprompt.cli import fitting, measuring, road, tuning
    from cmprompt.encoders import load_encoder
    from cmprompt.errors import UsageError, unknown
    from cmprompt.evaluation import class_lines, comparisons, confused_pairs, contest, retrieval
    from cmprompt.labelled import TASKS, columns_line, embed_labelled, read_labelled
    from cmprompt.prompts import choose_sets
    from cmprompt.sources import SourceOptions
    from cmprompt.types import Encoder, Features, Head

    say = road.speaker(quiet)
    if task not in TASKS:
        raise UsageError(unknown("--task value", task, TASKS))
    source = SourceOptions(image_col=image_col, text_col=text_col, target_col=target_col, limit=limit)

    def open_encoder(name: str) -> Encoder:
        return load_encoder(
            name, device, precision, exact=exact, threads=threads, batch_size=batch_size,
            accept_licence=accept_licence, notices=say,
        )  # fmt: skip

    tunes = tune_prompts or tune_thresholds
    tuned = tuning.output_of(output, table, tune_prompts, tune_thresholds, overwrite) if tunes else None
    if tuned and (head or task != "classification" or question or (tune_prompts and multi_label)):
        raise UsageError("tuning is for templates: leave --head, --task, --question, and here --multi-label out")
    heads = measuring.read_heads(head or [], model, open_encoder)
    multi_label = multi_label or any(map(road.is_multi_label, head or []))
    if multi_label and task != "classification":
        raise UsageError(f"--multi-label is for labels; leave --task {task} out")
    data = read_labelled(table, source, task=task, multi_label=multi_label)
    say(columns_line(table, source) or f"{table}: {len(data.names)} class folders")
    kept = road.open_store(store, no_store, say)
    if task == "retrieval":
        features = embed_labelled(data, open_encoder(model), kept, frozenset({"image", "text"}))
        for line in fitting.table_lines(retrieval(data, features, seed=seed)):
            typer.echo(line)
        return 0
    if plot is not None and task != "alignment":
        raise UsageError("--plot draws what --task alignment measures; add it, or leave --plot out")
    if task == "alignment":
        encoder = open_encoder(model)
        _, texts = fitting.texts_of(data.names, labels, label, prompts, template, language, describe, question, say)
        road.warn_of_texts(encoder, texts, say)
        text = fitting.start_head(encoder, texts, pool, kept)
        features = embed_labelled(data, encoder, kept, frozenset({"image"}))
        for line in measuring.alignment_lines(data, text, features, translate_labels, plot, overwrite=overwrite):
            typer.echo(line)
        return 0
    contenders: dict[str, tuple[Head, Features]] = {}
    encoders: dict[str, Encoder] = {}
    described: str | None = None
    if task == "classification" and (labels or label or describe or question or compare_prompts or not heads):
        reader = next(iter(heads.values()))[1] if heads else open_encoder(model)
        features = embed_labelled(data, reader, kept, frozenset({"image"}))
        if tuned:
            label_set, _ = fitting.texts_of(data.names, labels, label, prompts, template, language)
            given = choose_sets(prompts or [], template or [], label_set, language=language)
            what = tuning.Tuning(data, features, reader, label_set, given, kept, seed)
            for line in (tuning.tune_prompts if tune_prompts else tuning.tune_thresholds)(what, tuned):
                typer.echo(line)
            say(f"wrote {tuned}; use it with: cmprompt classify PHOTOS {tuning.how_to_use(tuned, tune_prompts)}")
            return 0
        for name, sets in measuring.prompt_choices(compare_prompts, prompts).items():
            _, texts = fitting.texts_of(data.names, labels, label, sets, template, language, describe, question, say)
            road.warn_of_texts(reader, texts, say)
            contenders[name] = measuring.text_head(reader, texts, pool, kept), features
            encoders[name] = reader
        described = name if describe else None
    for name, (fitted, reader) in heads.items():
        contenders[name] = fitted, embed_labelled(data, reader, kept, fitted.needs)
        encoders[name] = reader
    if not contenders:
        raise UsageError("numbers have no prompts; name a fitted head with --head DIR")
    words = measuring.vocabularies(contenders, encoders, kept) if multi_label else {}
    found = contest(data, contenders, vocabularies=words, seed=seed)
    names = list(contenders)
    first, last = names[0], names[-1]
    won = measuring.description_lines(found, described, features, texts, encoders, kept) if described else []
    found = measuring.translated(found, translate_labels)
    for line in fitting.table_lines(found.table):
        typer.echo(line)
    for name, gap in comparisons(found, seed=seed).items():
        typer.echo(measuring.gap_line(first, name, gap, found.target))
    if found.labels:
        typer.echo(f"\n{last}, the worst label first:")
        for line in class_lines(found, last):
            typer.echo(line)
    if found.labels and not multi_label:
        typer.echo("\nmost confused:")
        for truth, answer, times in confused_pairs(found, last):
            typer.echo(f"{times:5} {truth} taken for {answer}")
    for line in won:
        typer.echo(line)
    if predictions:
        measuring.write_answers(predictions, data, found, last, overwrite=overwrite, argv=sys.argv[1:])
    return 0
