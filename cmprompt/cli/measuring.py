"""What `evaluate` is put together from: heads with their models, template sets as heads, answers in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cmprompt.errors import UsageError

if TYPE_CHECKING:
    from cmprompt.evaluation import Contest
    from cmprompt.heads.linear import LinearHead
    from cmprompt.heads.zero_shot import Pool
    from cmprompt.labelled import Labelled
    from cmprompt.store import Store
    from cmprompt.types import Array, Encoder, Features, Head, Prediction

OpenEncoder = Callable[[str], "Encoder"]
LISTED = 5  # labels that a written answer lists


def read_heads(directories: Sequence[str], model: str, open_encoder: OpenEncoder) -> dict[str, tuple[Head, Encoder]]:
    """Each head by the name of its directory, with its own model or, where it is named, `model`.

    Raises ModelError, before any image is read, where a head was fitted on another model.
    """
    from cmprompt.heads.io import check_model, load_head, model_of

    opened: dict[str, Encoder] = {}
    found: dict[str, tuple[Head, Encoder]] = {}
    for directory in directories:
        head = load_head(directory)
        wanted = model if model != "auto" else model_of(directory)
        encoder = opened.get(wanted) or open_encoder(wanted)
        opened[wanted] = encoder
        check_model(head, encoder, directory)
        name = Path(directory).name
        found[directory if name in found else name] = head, encoder
    return found


def prompt_choices(compared: str | None, prompts: Sequence[str] | None) -> dict[str, Sequence[str] | None]:
    """The lines of the table that prompts make: `zero-shot`, or each set compared and all of them together."""
    if compared is None:
        return {"zero-shot": prompts}
    names = [name.strip() for name in compared.split(",") if name.strip()]
    if len(names) < 2:
        raise UsageError(f"--compare-prompts {compared}: name two template sets or more, like photo,plain")
    return {**{name: [name] for name in names}, "together": names}


def text_head(encoder: Encoder, texts: Mapping[str, Sequence[str]], pool: str, store: Store | None) -> Head:
    """The zero-shot head of these prompts."""
    from cmprompt.heads.zero_shot import zero_shot

    return zero_shot(encoder, texts, pool=cast("Pool", pool), store=store)


def vocabularies(
    contenders: Mapping[str, tuple[Head, Features]], encoders: Mapping[str, Encoder], store: Store | None
) -> dict[str, Array | None]:
    """(V, D) of the everyday vocabulary for each contender whose sigmoids are calibrated by it."""
    from cmprompt.heads.answers import wants_vocabulary
    from cmprompt.openset import vocabulary_vectors

    return {
        name: vocabulary_vectors(encoders[name], store) if wants_vocabulary(head, "multi_label") else None
        for name, (head, _) in contenders.items()
    }


def gap_line(first: str, name: str, gap: Mapping[str, float], target: Array) -> str:
    """One line: is this contender better than the first?"""
    numbers, many = target.dtype.kind == "f" and target.ndim == 1, target.ndim == 2
    figure, size = ("RMSE", 1.0) if numbers else ("mAP" if many else "balanced accuracy", 100.0)
    ends = f"{size * gap['low']:+.4g} to {size * gap['high']:+.4g}"
    word = "better" if gap["low"] > 0 else "worse" if gap["high"] < 0 else "not told apart"
    middle = size * gap["difference"]
    return f"{name} against {first}: {figure} {middle:+.4g} ({ends}), ahead in {gap['ahead']:.1%} of the draws: {word}"


def write_answers(
    path: str, data: Labelled, found: Contest, name: str, *, overwrite: bool, argv: Sequence[str]
) -> None:
    """One contender's answer to every row, with the table's own columns."""
    from cmprompt.runs import OutputOptions, open_output
    from cmprompt.writers import choose_format

    options = OutputOptions(choose_format(None, path, terminal=False), keep_columns=True)
    with open_output(path, {"contender": name, "source": data.source}, options, overwrite=overwrite, argv=argv) as out:
        for row, _ in enumerate(data.items):
            out.write(_prediction(data, found, name, row))


def translated(found: Contest, path: str | None) -> Contest:
    """The same with every label by its translation in the file; as it is without one."""
    from dataclasses import replace

    from cmprompt.translation import read_translations

    return replace(found, labels=tuple(read_translations(path, found.labels).values())) if path else found


def description_lines(
    found: Contest,
    name: str,
    features: Features,
    texts: Mapping[str, Sequence[str]],
    encoders: Mapping[str, Encoder],
    store: Store | None,
) -> list[str]:
    """For each label that a contender gave, how often each of its texts was the nearest to the picture."""
    from cmprompt.descriptors import Descriptors, tally
    from cmprompt.embed import embed_texts

    assert features.image is not None
    known = Descriptors.of(texts, embed_texts([text for own in texts.values() for text in own], encoders[name], store))
    answers = [found.labels[c] for c in found.answers[name].argmax(1)]
    lines = [f"{times:5} {label}: {text}" for label, text, times in tally(answers, features.image, known)]
    return ["", f"{name}, the descriptions that won:", *lines]


def alignment_lines(
    data: Labelled,
    text: LinearHead,
    features: Features,
    translations: str | None,
    plot: str | None,
    *,
    overwrite: bool,
) -> Iterator[str]:
    """Figures, the classes that fit worst, the texts that lie nearest; the picture in `plot`."""
    import numpy as np

    from cmprompt.alignment import measure, nearest_texts
    from cmprompt.alignment_plot import svg
    from cmprompt.translation import read_translations
    from cmprompt.writers.rows import write_file

    target = data.class_numbers(text.labels)
    labels = tuple(read_translations(translations, text.labels).values()) if translations else text.labels
    texts = text.weight / np.linalg.norm(text.weight, axis=1, keepdims=True)
    assert features.image is not None
    found = measure(features.image, texts, target)
    for name, value in found.figures.items():
        yield f"{name:<33} {value:8.4f}"
    width = max(map(len, labels))
    yield f"\n{'label':<{width}} {'rows':>6} {'own':>8} {'other':>8} {'nearest':>8}"
    for c in np.argsort(found.own - found.other, kind="stable").tolist():
        if found.support[c]:
            cells = f"{found.support[c]:6} {found.own[c]:8.4f} {found.other[c]:8.4f} {100 * found.recall[c]:7.1f}%"
            yield f"{labels[c]:<{width}} {cells}"
    yield "\ntexts that lie nearest to each other:"
    yield from (f"{cosine:8.4f} {labels[a]} and {labels[b]}" for a, b, cosine in nearest_texts(found))
    if plot is not None:
        drawing = svg(found, features.image, texts, target, labels)
        write_file(plot, drawing.encode(), overwrite=overwrite)


def _prediction(data: Labelled, found: Contest, name: str, row: int) -> Prediction:
    from cmprompt.metrics import DECIDED
    from cmprompt.types import Prediction

    answer = found.answers[name][row]
    if not found.labels:
        return Prediction(data.items[row], value=float(answer))
    listed = max(LISTED, int((answer >= DECIDED).sum()))
    best = sorted(range(len(answer)), key=lambda c: -answer[c])[:listed]
    top = tuple((found.labels[c], float(answer[c])) for c in best)
    margin = top[0][1] - top[1][1] if len(top) > 1 else None
    given = tuple(label for label, score in top if score >= DECIDED) if data.multi_label else None
    label = None if given == () else top[0][0]
    return Prediction(data.items[row], label=label, score=top[0][1], margin=margin, top=top, labels=given)
