"""`cmprompt search`: find images or texts by words and pictures."""

from __future__ import annotations

from time import perf_counter
from typing import Annotated

import typer

from cmprompt.cli import options as o

SEARCH = "What to look for"
SHEETS = (".png", ".html")  # contact sheets, beside the formats of rows


def command(
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="What to look for, in words.")] = None,
    like: Annotated[
        list[str] | None, o.option("--like", metavar="IMAGE", group=SEARCH, help="Like this picture. Repeatable.")
    ] = None,
    minus: Annotated[
        list[str] | None, o.option("--minus", metavar="TEXT", group=SEARCH, help="But not this. Repeatable.")
    ] = None,
    kind: Annotated[str, o.option("--in", metavar="images|texts", group=SEARCH, help="What to find.")] = "images",
    name: Annotated[
        str | None,
        o.option("--name", metavar="COLLECTION", group=SEARCH, help="Where to look. Default: the only collection."),
    ] = None,
    ann: Annotated[
        bool | None,
        o.option(
            "--ann/--no-ann", group=SEARCH, help="Ask the approximate index. Default: where the collection has one."
        ),
    ] = None,
    top_k: o.HitCount = "10",
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    threads: o.Threads = None,
    output: Annotated[
        str | None,
        o.option(
            "-o",
            "--output",
            metavar="FILE",
            group=o.OUTPUT,
            help="Write here; its ending names the format. .png and .html are contact sheets.",
        ),
    ] = None,
    format: o.Format = None,
    overwrite: o.Overwrite = False,
    header: o.Header = False,
    csv_safe: o.CsvSafe = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    show_timings: o.Timings = False,
    store: o.StoreDir = None,
) -> None:
    """Find images or texts in a collection. `cmprompt index build` makes one.

    cmprompt search "a red car in the snow"
    cmprompt search --like photo.jpg "but at night" --minus people
    cmprompt search "a cup of coffee" --name trips -o coffee.html

    Every vector is compared, unless the collection was built with --ann. The score is the cosine with the signed sum
    of what is looked for.
    """  # fmt: skip
    started_s = perf_counter()
    from cmprompt.cli.details import Details, print_timings
    from cmprompt.cli.notices import speaker
    from cmprompt.cli.texts import warn_of_texts
    from cmprompt.embed import Stats
    from cmprompt.encoders import load_encoder
    from cmprompt.errors import ModelError, UsageError, unknown
    from cmprompt.index import lancedb
    from cmprompt.index.collections import KINDS, Collection, only_name
    from cmprompt.index.query import query_vector
    from cmprompt.rule import parse_top_k
    from cmprompt.runs.header import rows_header
    from cmprompt.store import store_dir, usable_store
    from cmprompt.writers.records import rounded
    from cmprompt.writers.rows import check_file, check_output, identity_of, second_of, write_file, write_rows

    say = speaker(quiet)
    is_sheet = output is not None and output.lower().endswith(SHEETS) and format is None
    if output is not None and is_sheet:
        check_file(output, overwrite)
    else:
        check_output(output, format, overwrite, others=SHEETS)
    if kind not in KINDS:
        raise UsageError(unknown("--in", kind, KINDS))
    most = parse_top_k(top_k)
    if text is not None and not text.strip():
        raise UsageError("the text is empty; write what to look for, or leave it out")
    if any(not word.strip() for word in minus or []):
        raise UsageError("--minus is empty; write what to take away, or leave it out")
    if not text and not like:
        raise UsageError("nothing to look for; give a text, or --like IMAGE")
    folder = store_dir(store)
    collection = Collection(folder, name or only_name(folder))
    about, count = collection.about, collection.count(kind)
    if not count:
        raise UsageError(f"the collection {about.name!r} holds no {kind}")
    encoder = load_encoder(
        about.model,
        device,
        about.precision_for(precision),
        exact=about.dtype == "float32",
        threads=threads,
        accept_licence=True,
        notices=say,
    )
    if encoder.model_id != about.model_id:
        raise ModelError(f"{about.model} is another model now; build the collection {about.name!r} again")
    kept = usable_store(folder, say)  # a shared one may be there to read only
    warn_of_texts(encoder, {"": [*([text] if text else []), *(minus or [])]}, say)
    start_s = perf_counter() - started_s
    query = query_vector(encoder, kept, texts=[text] if text else [], like=like or [], minus=minus or [])
    asked_s = perf_counter() - started_s
    details = Details(verbose and not quiet)
    details.run(encoder, kept)
    approximate = about.ann and lancedb.is_installed() if ann is None else ann
    details.say(f"collection {about.name}: {count:,} {kind}, {'approximate' if approximate else 'exact'}")
    found = collection.nearest(kind, query[None], most or count, threads=threads, approximate=approximate)
    entries = collection.entries(kind, found.rows[0].tolist())
    scores = found.scores[0].tolist()
    found_s = perf_counter() - started_s
    if show_timings:
        print_timings(Stats(), found_s, start_s=start_s, texts_s=asked_s - start_s, score_s=found_s - asked_s)
    if output is not None and is_sheet:
        from cmprompt.index import sheet

        title = " ".join([*(like or []), *([text] if text else []), *(f"- {word}" for word in minus or [])])
        is_html = output.lower().endswith(".html")
        data = sheet.to_html(entries, scores, title) if is_html else sheet.to_png(entries, scores)
        write_file(output, data, overwrite=overwrite)
        return
    asked = {"text": text, "like": like or [], "minus": minus or [], "in": kind, "collection": about.name}
    rows = []
    for rank, (entry, score) in enumerate(zip(entries, scores, strict=True), start=1):
        words = {} if entry.text is None else {"text": entry.text}
        rows.append(
            {"rank": rank, "score": rounded(score), **identity_of(entry.id), **second_of(entry.time_s), **words}
        )
    write_rows(
        rows,
        output=output,
        format=format,
        overwrite=overwrite,
        columns=("rank", "score", "id", "time_s", "text"),
        csv_safe=csv_safe,
        header=rows_header(encoder, inputs=about.sources, options=asked) if header else None,
    )
