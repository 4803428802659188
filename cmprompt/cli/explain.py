"""`cmprompt explain`: which pixels and which words speak for a label."""

from __future__ import annotations

from typing import Annotated

import typer

from cmprompt.cli import options as o

EXPLAINING = "Explaining"


def command(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The picture to explain.")],
    labels: o.Labels = None,
    label: o.Label = None,
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
    top_k: o.TopK = "3",
    model: o.Model = "auto",
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    exact: o.Exact = False,
    threads: o.Threads = None,
    accept_licence: o.AcceptLicence = False,
    output: Annotated[
        str | None,
        o.option("-o", "--output", metavar="FILE.png", group=o.OUTPUT, help="Draw heat maps on the picture, here."),
    ] = None,
    format: o.Format = None,
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    store: o.StoreDir = None,
    no_store: o.NoStore = False,
) -> None:
    """Show why a picture gets its label: heat maps with -o, and what each text adds to each label's cosine.

    cmprompt explain photo.jpg --labels cat,dog
    cmprompt explain photo.jpg --labels cat,dog -o why.png
    cmprompt explain photo.jpg --labels @descriptions.json --method occlusion -o why.png

    A heat map shows what tells its label from the others. --top-k limits the labels, best first.
    """  # fmt: skip
    from cmprompt.cli import road
    from cmprompt.encoders import load_encoder
    from cmprompt.explaining import explain
    from cmprompt.writers.rows import write_file, write_rows

    say = road.speaker(quiet)
    _, texts = road.read_prompts(labels, label, prompts, template, language)
    encoder = load_encoder(
        model, device, precision, exact=exact, threads=threads, accept_licence=accept_licence, notices=say
    )
    kept = road.open_store(store, no_store, say)
    found = explain(image, encoder, texts, pool=pool, method=method, top_k=top_k, draw=output is not None, store=kept)
    if output is not None:
        assert found.png is not None
        write_file(output, found.png, overwrite=overwrite)
        say(f"wrote {output}: {found.method}")
    write_rows(found.rows, format=format, columns=("label", "score", "cosine", "contribution", "text"))
