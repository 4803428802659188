"""`cmprompt prompts ablate`: what each template contributes on a folder or a table."""

from __future__ import annotations

from time import perf_counter
from typing import Annotated

import typer

from cmprompt.cli import options as o


def command(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="A folder, a folder of class folders, or a table with labels or without."),
    ],
    image_col: o.ImageCol = None,
    target_col: o.TargetCol = None,
    limit: o.Limit = None,
    labels: o.Labels = None,
    label: o.Label = None,
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
    output: o.OutputFile = None,
    format: o.Format = None,
    overwrite: o.Overwrite = False,
    header: o.Header = False,
    csv_safe: o.CsvSafe = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    show_timings: o.Timings = False,
    store: o.StoreDir = None,
    no_store: o.NoStore = False,
) -> int:
    """Show what each template contributes. Alone, and what changes without it; the most useful first.

    cmprompt prompts ablate pets.csv
    cmprompt prompts ablate photos/ --labels cat,dog --prompts photo --prompts sketch

    Where the rows have labels, the figures are accuracies. Where they have none: how often the template alone, and the
    others without it, answer as all together do, and what it adds to the mean probability of the answers.
    """
    started_s = perf_counter()
    from cmprompt.cli import road
    from cmprompt.cli.details import Details, print_timings
    from cmprompt.cli.notices import speaker
    from cmprompt.clips import pooled, with_frames
    from cmprompt.embed import Stats, embed
    from cmprompt.encoders import load_encoder
    from cmprompt.errors import counted
    from cmprompt.labelled import read_pictures, targets_among
    from cmprompt.labelled.vectors import known_vectors
    from cmprompt.labels import load_labels
    from cmprompt.prompts import choose_sets, expand
    from cmprompt.runs.header import rows_header
    from cmprompt.sources import SourceOptions
    from cmprompt.tasks.ablate import ablate, single_sets, template_vectors
    from cmprompt.writers.records import rounded
    from cmprompt.writers.rows import check_output, write_rows

    say = speaker(quiet)
    check_output(output, format, overwrite)
    source = SourceOptions(image_col=image_col, target_col=target_col, limit=limit)
    items = read_pictures(data, source)
    own = sorted({str(item.target) for item in items if item.target}) if not (labels or label) else []
    chosen = load_labels(labels or [], label or own)
    singles = single_sets(choose_sets(prompts or [], template or [], chosen, language=language))
    encoder = load_encoder(
        model, device, precision, exact=exact, threads=threads, batch_size=batch_size, accept_licence=accept_licence,
        notices=say,
    )  # fmt: skip
    road.calibrate(encoder, [data], source)
    kept = road.open_store(store, no_store, say)
    details, stats, start_s = Details(verbose and not quiet), Stats(), perf_counter() - started_s
    details.run(encoder, kept)
    details.say(f"{counted(len(chosen), 'label')}, {counted(len(singles), 'template')}")
    vectors = template_vectors(chosen, singles, encoder, kept)
    texts_s = perf_counter() - started_s - start_s
    items, images, failed = known_vectors(data, pooled(embed(with_frames(items), encoder, kept, stats=stats)))
    details.work(stats)
    if failed:
        say(f"left out: {counted(failed, 'picture')} that cannot be read")
    target = targets_among(items, list(chosen.phrases))
    if target is not None and (others := int((target < 0).sum())):
        say(f"left out: {counted(others, 'picture')} without one of the labels")
        images, target = images[target >= 0], target[target >= 0]
    by = "their labels" if target is not None else "its agreement with all together: none of them has such a label"
    say(f"{counted(len(images), 'picture')}; a template is measured by {by}")
    about = rows_header(encoder, prompts=expand(chosen, singles), inputs=[data]) if header else None
    rows = ablate(images, vectors, [each.templates[0] for each in singles], scale=encoder.logit_scale, target=target)
    write_rows(
        ({name: rounded(value) if isinstance(value, float) else value for name, value in row.items()} for row in rows),
        output=output, format=format, overwrite=overwrite, columns=("alone", "without", "contribution", "template"),
        csv_safe=csv_safe, header=about,
    )  # fmt: skip
    if show_timings:
        print_timings(stats, perf_counter() - started_s, start_s=start_s, texts_s=texts_s)
    return 1 if failed else 0
