"""`cmprompt explain`: which pixels and which words speak for a label."""

from __future__ import annotations

from typing import Annotated

import typer

from cmprompt.cli import options as o

EXPLAINING = "Explaining"


def command(
    context: typer.Context,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The picture to explain.")],
    labels: o.Labels = None,
    label: o.Label = None,
    level: o.Level = None,
    pool: o.Pool = "mean",
    prompts: o.Prompts = None,
    template: o.Template = None,
    language: o.Language = "auto",
    method: Annotated[
        str,
        o.option(
            "--method",
            metavar="auto|gradients|occlusion",
            group=EXPLAINING,
            help="Where heat comes from: the model's gradients, or what covering parts of the picture costs.",
        ),
    ] = "auto",
    head: o.HeadDir = None,
    text: Annotated[
        str | None,
        o.option("--text", metavar="TEXT", group=EXPLAINING, help="With --head: the text beside the picture."),
    ] = None,
    top_k: o.TopK = "all",
    model: o.Model = "auto",
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    exact: o.Exact = False,
    batch_size: o.BatchSize = None,
    threads: o.Threads = None,
    accept_licence: o.AcceptLicence = False,
    output: Annotated[
        str | None,
        o.option(
            "-o",
            "--output",
            metavar="FILE.png|.html",
            group=o.OUTPUT,
            help="Draw heat maps on the picture, here; a page has the words beside them.",
        ),
    ] = None,
    format: o.Format = None,
    overwrite: o.Overwrite = False,
    header: o.Header = False,
    csv_safe: o.CsvSafe = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    store: o.StoreDir = None,
    no_store: o.NoStore = False,
) -> None:
    """Show why a picture gets its label. Heat maps with -o, and what each text adds to each label's cosine.

    cmprompt explain photo.jpg --labels cat,dog
    cmprompt explain photo.jpg --labels cat,dog -o why.png
    cmprompt explain photo.jpg --labels @descriptions.json --method occlusion -o why.html
    cmprompt explain photo.jpg --head posts.head --text "what a lovely day"

    A heat map shows what tells its label from the others. --top-k limits the labels, best first; under --level the
    best label below speaks for each. With a fitted head that reads texts: the label that each word of the text pushes,
    and by how much of its logit.
    """  # fmt: skip
    from cmprompt.cli import road, unused
    from cmprompt.cli.details import Details
    from cmprompt.cli.heads import check_head, model_for, read_head
    from cmprompt.cli.notices import speaker
    from cmprompt.cli.texts import read_prompts, warn_of_texts
    from cmprompt.encoders import load_encoder
    from cmprompt.errors import UsageError, unknown
    from cmprompt.explain.heat import METHODS
    from cmprompt.explain.page import to_html
    from cmprompt.inline import to_png
    from cmprompt.runs.header import rows_header
    from cmprompt.tasks.explain import explain, explain_text
    from cmprompt.writers.rows import check_file, write_file, write_rows

    say = speaker(quiet)
    _check_picture(image)
    if method not in METHODS:
        raise UsageError(unknown("--method", method, METHODS))
    is_page = output is not None and output.lower().endswith(".html")
    if output is not None and not is_page and not output.lower().endswith(".png"):
        raise UsageError(f"-o {output}: heat maps are a picture or a page; name a .png or a .html file")
    if output is not None:
        check_file(output, overwrite)
    if head is None and text is not None:
        raise UsageError("--text goes with a fitted head; name it by --head DIR")
    if head is not None and output is not None:
        raise UsageError("-o draws labels on the picture, and --head explains words; leave one out")
    if head is not None and level is not None:
        raise UsageError("--level goes with --labels, and --head explains words; leave one out")
    unused.refuse(context, unused.EXPLAIN)
    fitted = read_head(head, labels, label)
    texts = {} if fitted else read_prompts(labels, label, prompts, template, language, say=say)[1]
    encoder = load_encoder(
        model_for(head, model), device, precision, exact=exact, threads=threads, batch_size=batch_size,
        accept_licence=accept_licence, notices=say,
    )  # fmt: skip
    if fitted is not None:
        check_head(fitted, encoder, head)
        kept = road.open_store(store, no_store, say)
        Details(verbose and not quiet).run(encoder, kept)
        rows = explain_text(image, text or "", encoder, fitted, store=kept)
        write_rows(
            rows, format=format, columns=("word", "label", "contribution"), csv_safe=csv_safe,
            header=rows_header(encoder, inputs=[image], options={"head": head, "text": text}) if header else None,
        )  # fmt: skip
        return
    warn_of_texts(encoder, texts, say)
    kept = road.open_store(store, no_store, say)
    Details(verbose and not quiet).run(encoder, kept, texts)
    found = explain(
        image, encoder, texts, pool=pool, method=method, top_k=top_k, level=level, draw=output is not None, store=kept
    )
    if output is not None:
        assert found.sheet is not None and found.method is not None
        data = to_html(image, found.sheet, found.method, found.rows) if is_page else to_png(found.sheet)
        write_file(output, data, overwrite=overwrite)
        say(f"wrote {output}: {found.method}")
    columns = ("label", "score", "cosine", "contribution", "text")
    about = rows_header(encoder, prompts=texts, inputs=[image], options={"pool": pool}) if header else None
    write_rows(found.rows, format=format, columns=columns, csv_safe=csv_safe, header=about)


def _check_picture(path: str) -> None:
    """Raises UsageError for what is no picture by its name: a clip, a folder."""
    from os.path import isdir

    from cmprompt.errors import UsageError
    from cmprompt.sources.video import is_video_name

    if isdir(path) or is_video_name(path):
        raise UsageError(f"{path}: explain takes one picture, not a {'folder' if isdir(path) else 'clip'}")
