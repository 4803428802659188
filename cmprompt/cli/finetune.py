"""`cmprompt finetune`: from a labelled table to a head that is proven to help, or to none."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from cmprompt.cli import options as o
from cmprompt.errors import HeadRefused

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
    head: o.HeadKind = None,
    image_encoder: o.ImageEncoder = None,
    text_encoder: o.TextEncoder = None,
    stop_words: o.StopWords = None,
    use: o.Use = None,
    task: o.Task = "classification",
    multi_label: o.MultiLabel = False,
    loss: o.Loss = None,
    val: o.Val = "0.2",
    shots: o.Shots = None,
    seed: o.Seed = 0,
    class_weight: o.ClassWeight = None,
    wise: o.Wise = None,
    augment: o.Augment = 0,
    unfreeze: o.Unfreeze = None,
    from_head: o.FromHead = None,
    force: o.Force = False,
    labels: o.Labels = None,
    label: o.Label = None,
    level: o.Level = None,
    pool: o.Pool = "mean",
    prompts: o.Prompts = None,
    template: o.Template = None,
    language: o.Language = "auto",
    model: o.Model = "auto",
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    exact: o.Exact = False,
    batch_size: o.BatchSize = None,
    threads: o.Threads = None,
    accept_licence: o.AcceptLicence = False,
    output: o.HeadOutput = None,
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    store: o.StoreDir = None,
    no_store: o.NoStore = False,
) -> int:
    """Fit a head on labelled images, with or without texts. It is kept only if it helps.

    cmprompt finetune pets.csv
    cmprompt finetune groceries.csv --text-col coarse --target-col fine --head concat
    cmprompt finetune houses.csv --task regression -o price.head
    cmprompt finetune scenes.csv --multi-label          # cells like: beach | people
    cmprompt finetune more-pets.csv --from pets.head -o more-pets.head
    cmprompt finetune data.csv --image-encoder timm:vgg16 --text-encoder embedding --head concat
    """
    from pathlib import Path

    from cmprompt import report
    from cmprompt.cli import fitting, road, unused
    from cmprompt.cli.details import Details
    from cmprompt.cli.heads import is_multi_label
    from cmprompt.cli.notices import echo, speaker
    from cmprompt.encoders import load_encoder
    from cmprompt.encoders.classic import with_stop_words
    from cmprompt.encoders.pair import PairEncoder, pair_name
    from cmprompt.encoders.tuned import with_counts
    from cmprompt.heads.answers import wants_vocabulary
    from cmprompt.heads.io import check_free, check_model, save_head
    from cmprompt.labelled import checks, columns_of, contents_line, read_labelled
    from cmprompt.labelled.vectors import embed_labelled, embed_views
    from cmprompt.openset import vocabulary_vectors
    from cmprompt.registry import SLOW_KINDS
    from cmprompt.sources import SourceOptions
    from cmprompt.tasks.fit import check_rows, fit_on_trial
    from cmprompt.tasks.plan import Plan

    say = speaker(quiet)
    old = fitting.old_head(from_head, model)
    multi_label = multi_label or is_multi_label(from_head)
    plan = Plan.parse(
        head=head,
        use=use,
        task=task,
        val=val,
        shots=shots,
        seed=seed,
        class_weight=class_weight,
        wise=wise,
        multi_label=multi_label,
        loss=loss,
        unfreeze=unfreeze,
        augment=augment,
    )
    unused.refuse(context, unused.FINETUNE)
    source_path = Path(table)  # without the slash that a folder's name may end in
    target = Path(output or f"{source_path.with_suffix('') if source_path.is_file() else source_path}.head")
    check_free(target, overwrite)
    text_encoder = with_stop_words(text_encoder, stop_words)
    source = SourceOptions(image_col=image_col, text_col=text_col, target_col=target_col, limit=limit)
    how: dict[str, Any] = {"task": task, "multi_label": multi_label, "level": level}
    data = read_labelled(table, fitting.columns_for(table, source, plan.val_file), to_train=True, **how)
    judges = None
    if plan.val_file:
        judges = read_labelled(plan.val_file, fitting.columns_for(plan.val_file, source, table), **how)
    say(contents_line(data, source))
    if old:
        plan, model = plan.going_on(data, own_encoders=bool(image_encoder or text_encoder)), old.model
    checks.something_for(data, {"image": image_encoder, "text": text_encoder})
    if image_encoder or text_encoder:
        model = pair_name(image_encoder, text_encoder, model)
    encoder = load_encoder(
        model, device, precision, exact=exact, threads=threads, batch_size=batch_size,
        accept_licence=accept_licence, notices=say,
    )  # fmt: skip
    if old:
        check_model(old.head, encoder, old.directory)
    encoder, counted = with_counts(encoder, [item.text for item in data.items if item.text])
    needs = plan.needs(data)
    from_text = not plan.regression and "image" in needs and (old is not None or not isinstance(encoder, PairEncoder))
    unused.refuse(context, unused.FINETUNE, from_text=from_text)
    texts = None
    if from_text or (not plan.regression and (labels or label)):
        _, texts = fitting.texts_of(
            data.names, labels, label, prompts, template, language, say=say if from_text else None
        )
        texts = fitting.at_level(texts, level)
    known = [*(old.head.labels if old else ()), *(texts or data.names)]
    for notice in check_rows(plan, data, judges, needs, known, from_text=from_text):
        say(notice)
    road.calibrate_on(encoder, data.items)
    kept = road.open_store(store, no_store, say)
    Details(verbose and not quiet).run(encoder, kept, texts)
    start = old.extended_by if old else fitting.start_head
    prior = start(encoder, texts, pool, kept) if texts and from_text else None
    features = embed_labelled(data, encoder, kept, needs)
    judging = embed_labelled(judges, encoder, kept, needs) if judges else None
    views = embed_views(data, encoder, kept, augment, seed) if augment else None
    before = "before" if old else "zero-shot"
    old_rows = old.own_rows(encoder, kept, say) if old else None
    words = vocabulary_vectors(encoder, kept) if prior and wants_vocabulary(prior, plan.task) else None
    if plan.unfreeze:
        say("training the image tower: every picture several times; slow on a CPU")
    if plan.kind in SLOW_KINDS:
        say(f"{plan.kind}: every step goes through the text tower; slow on a CPU")
    trial = fit_on_trial(
        plan, data, features, judges, judging, encoder, prior, before=before, vocabulary=words, views=views,
        old=old_rows,
    )  # fmt: skip
    if again := trial.record.get("replayed"):
        say(f"{again:,} rows of the old data train again, so that it is not forgotten")
    if old and (known_rows := trial.record.get("old_judges")):
        say(
            f"{known_rows:,} of {trial.record['judged_on']:,} rows that judge are of the data that {old.directory} was"
            " fitted on: what is measured on them says too much"
        )
    if seen := trial.record.get("texts_seen"):
        say(f"{seen:,} of {trial.record['judged_on']:,} rows that judge have a text that was trained on too")
    lines = [*fitting.trial_lines(trial), *(old.lines(old_rows, trial, encoder, kept) if old and old_rows else ())]
    if not trial.verdict.kept and not force:
        echo(*lines)
        raise HeadRefused(
            f"the head {trial.chosen!r} does not help, so nothing is written; --force saves it all the same"
        )
    record = fitting.head_record(
        trial,
        encoder,
        texts if prior else None,
        model=model,
        table=table,
        source={"limit": limit, **columns_of(table, source)},
        level=level,
        argv=sys.argv[1:],
        forced=not trial.verdict.kept,
    )
    items = (*data.items, *(judges.items if judges else ()))
    reports = {
        "report.json": report.as_json(trial, trial.head.labels, record),
        "report.html": report.html(trial, trial.head.labels, items, record),
    }
    save_head(trial.head, target, record, overwrite=overwrite, files=reports, towers=(*counted, *trial.towers))
    echo(*lines)  # whoever reads this may have left
    inputs = "TABLE" if "text" in trial.head.needs else "PHOTOS"
    say(f"wrote {target}; use it with: cmprompt classify --head {target} {inputs}")
    return 0
