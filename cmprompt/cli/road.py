"""What the commands share: from flags to a source, an encoder, a store, prompts; and the lines on stderr."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from cmprompt.errors import CmpromptError, UsageError, counted

if TYPE_CHECKING:
    from cmprompt.embed import Stats
    from cmprompt.errors import Status
    from cmprompt.labels import LabelSet
    from cmprompt.sources import SourceOptions
    from cmprompt.store import Store
    from cmprompt.tasks.questions import Asked
    from cmprompt.types import Embedded, Encoder, Head, Item

Say = Callable[[str], None]
T = TypeVar("T")
_lasting: list[Encoder] = []
STREAMS = (".tar", ".gz", ".tgz", ".zip", ".parquet")  # reading these only to count them would double the work


def speaker(quiet: bool) -> Say:
    """A function that puts one notice on stderr, or nowhere."""

    def say(message: str) -> None:
        if not quiet:
            print(f"cmprompt: {message}", file=sys.stderr)

    return say


def require_inputs(inputs: Sequence[str] | None, files_from: str | None, requests: bool = False) -> list[str]:
    """What is to be read. Raises UsageError where nothing is named, or something beside `requests`."""
    if requests:
        if inputs or files_from is not None:
            raise UsageError("--stdin-jsonl reads its inputs from standard input; name no others")
        return []
    if not inputs and files_from is None:
        raise UsageError("nothing to read; name files, folders or tables, or - for a list on standard input")
    return list(inputs or [])


def rereadable(inputs: Sequence[str], files_from: str | None) -> bool:
    """Whether something is named, and none of it comes through standard input or a pipe, which give it only once."""
    names = [*inputs, *([] if files_from is None else [files_from])]
    return bool(names) and not any(name == "-" or _is_stream(name) for name in names)


def _is_stream(name: str) -> bool:
    return os.path.exists(name) and not (os.path.isfile(name) or os.path.isdir(name))


def open_store(directory: str | None, no_store: bool, say: Say) -> Store | None:
    """The embedding store that the flags name, or none."""
    from cmprompt import store

    return None if no_store else store.open_store(directory, say)


def read_prompts(
    labels: Sequence[str] | None,
    label: Sequence[str] | None,
    prompts: Sequence[str] | None,
    template: Sequence[str] | None,
    language: str,
    *,
    minimum: int = 2,
    describe: str | None = None,
    say: Say | None = None,
) -> tuple[LabelSet, dict[str, tuple[str, ...]]]:
    """The labels and, for each, its texts; `say` is told where there is no template in their letters.

    Raises UsageError where fewer than `minimum` labels are named.
    """
    from cmprompt.labels import describe as described
    from cmprompt.labels import load_labels
    from cmprompt.prompts import PLAIN_SET, choose_sets, expand

    if not labels and not label and not describe:
        raise UsageError("no labels; give --labels cat,dog, --labels @FILE, or --labels @everyday to tag")
    label_set = load_labels(labels or [], label or [], minimum=minimum) if labels or label else None
    if describe:
        label_set = described(describe, label_set)
    assert label_set is not None
    sets = choose_sets(prompts or [], template or [], label_set, language=language)
    if say and not (prompts or template or label_set.verbatim) and sets[0].name == PLAIN_SET:
        say("no prompt set is written in the letters of these labels, so they stand alone; give a --template with {}")
    return label_set, expand(label_set, sets)


def read_question(
    question: str,
    labels: Sequence[str] | None,
    label: Sequence[str] | None,
    prompts: Sequence[str] | None,
    template: Sequence[str] | None,
    language: str,
) -> Asked:
    """The question with its answers. Raises UsageError where it cannot be asked."""
    from cmprompt.labels import load_labels
    from cmprompt.tasks.questions import ask, question_sets

    answers = load_labels(labels or [], label or [], minimum=0)
    return ask(question, answers, question_sets(prompts, template, language))


def for_good(encoder: Encoder) -> Encoder:
    """`encoder`, which lasts as long as the process: to part with a large model costs a third of a second."""
    _lasting.append(encoder)
    return encoder


def begun(source: Iterator[T]) -> Iterator[T]:
    """`source`, the first of which another thread makes from now on."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1, "cmprompt-begin")
    first = pool.submit(lambda: list(islice(source, 1)))
    pool.shutdown(wait=False)

    def whole() -> Iterator[T]:
        yield from first.result()
        yield from source

    return whole()


def calibrate(encoder: Encoder, inputs: Sequence[str], options: SourceOptions) -> None:
    """--precision int8: show the encoder the first of the images, where it has not been calibrated yet.

    Raises UsageError where the inputs cannot be read twice, or hold too few images.
    """
    if _to_calibrate(encoder)[1] and not rereadable(inputs, options.files_from):
        raise UsageError("--precision int8 is calibrated on your own images first; name a folder or a table of them")
    from cmprompt.sources import read_items

    calibrate_on(encoder, read_items(inputs, options))


def calibrate_on(encoder: Encoder, items: Iterable[Item]) -> None:
    """The same from items that can be read again. Raises UsageError where they hold too few images."""
    side, wanted = _to_calibrate(encoder)
    if not wanted:
        return
    import numpy as np

    from cmprompt.clips import sampling_of, with_frames
    from cmprompt.reading import Reader, Result

    reader = Reader(side, None, "")
    seen = (item for item in with_frames(items, sampling_of(None, 1)) if item.image is not None)
    made = (reader.prepare(item, Result()).pixels for item in seen)
    pixels = list(islice((one for one in made if one is not None), wanted))
    side.calibrate(np.stack(pixels) if pixels else np.zeros((0, 3, 1, 1), np.uint8))


def _to_calibrate(encoder: Encoder) -> tuple[Any, int]:
    """What sees, of a pair one side, and how many images it wants before anything else."""
    side: Any = getattr(encoder, "images", encoder)
    return side, getattr(side, "calibration_images", 0)


def warn_of_texts(encoder: Encoder, prompts: Mapping[str, Sequence[str]], say: Say) -> None:
    """Name the texts that the model will not read to their end, or at all; the libraries do not say a word."""
    from cmprompt.prompts.scripts import unread

    texts = [text for own in prompts.values() for text in own]
    if found := unread(texts, encoder):
        say(f"{_script_line(*found)}, or score English labels and report by --translate-labels")
    if cut := cut_texts(encoder, texts):
        say(_cut_line(encoder, len(cut), cut[0]))


def warn_of_row_texts(encoder: Encoder, embedded: Iterable[Embedded], say: Say) -> Iterator[Embedded]:
    """`embedded`; behind its last batch, which texts of its rows the model has not read to their end, or at all."""
    from cmprompt.prompts.scripts import unread

    count, first, strange = 0, "", None
    for batch in embedded:
        texts = [item.text for item in batch.items if item.text]
        cut = cut_texts(encoder, texts)
        first = first or next(iter(cut), "")
        count += len(cut)
        strange = strange or unread(texts, encoder)
        yield batch
    if strange:
        say(_script_line(*strange))
    if count:
        say(_cut_line(encoder, count, first))


def cut_texts(encoder: Encoder, texts: Sequence[str]) -> list[str]:
    """Those that are longer than the model reads."""
    room = encoder.context_length - 2  # a token is a byte or more, so shorter texts need no counting
    long = [text for text in texts if len(text.encode("utf-8", "replace")) > room]
    counts = encoder.count_tokens(long) if long else []
    return [text for text, count in zip(long, counts, strict=True) if count > encoder.context_length]


def _script_line(word: str, share: float) -> str:
    return (
        f"this model does not know the script of {word!r}: {share:.0%} of the tokens of such words are bytes or"
        " lone letters; take a multilingual model"
    )


def _cut_line(encoder: Encoder, count: int, first: str) -> str:
    what = f"{counted(count, 'text')} {'is' if count == 1 else 'are'} cut"
    return f"{what}, since this model reads {encoder.context_length} tokens; the first: {first!r}"


def read_head(directory: str | None, labels: Sequence[str] | None, label: Sequence[str] | None) -> Head | None:
    """The fitted head that --head names, or none. Raises ModelError, and UsageError beside labels."""
    if directory is None:
        return None
    if labels or label:
        raise UsageError("--head brings its own labels; leave --labels and --label out")
    from cmprompt.heads.io import load_head

    return load_head(directory)


def usual_columns(heads: Sequence[str]) -> dict[str, str]:
    """The columns that the heads in these directories were fitted on, the first one's where they differ."""
    from cmprompt.heads.io import columns_of

    return {field: name for head in reversed(heads) for field, name in columns_of(head).items()}


def say_columns(head: str | None, inputs: Sequence[str], options: SourceOptions, say: Say) -> None:
    """Say which columns of the first table a head is given."""
    from cmprompt.labelled import columns_line, columns_of
    from cmprompt.sources.names import is_table_name

    tables = (path for path in inputs if is_table_name(path) and os.path.isfile(path))
    if head and (table := next(tables, None)) and (columns := columns_of(table, options)):
        say(columns_line(table, columns))


def model_for(head: str | None, model: str) -> str:
    """The model that is asked for, else the head's own."""
    if head is None or model != "auto":
        return model
    from cmprompt.heads.io import model_of

    return model_of(head)


def is_multi_label(head: str | None) -> bool:
    """Whether --head names a head whose labels do not exclude each other."""
    if head is None:
        return False
    from cmprompt.heads import io

    return io.is_multi_label(head)


def check_head(head: Head, encoder: Encoder, directory: str | None) -> None:
    """Raises ModelError where the head was fitted on another model."""
    from cmprompt.heads.io import check_model

    check_model(head, encoder, directory or "")


def count_in_background(
    inputs: Sequence[str], options: SourceOptions, tell: Callable[[int], None], wanted: bool
) -> None:
    """Tell how many items there will be, for the time left; not where counting would read the data twice."""
    doubled = any(name.lower().endswith(STREAMS) for name in inputs)
    if not wanted or doubled or not rereadable(inputs, options.files_from):
        return
    from cmprompt.sources import read_items

    def count() -> None:
        with suppress(CmpromptError):  # the run meets it too, and says so
            tell(sum(1 for _ in read_items(inputs, options)))

    threading.Thread(target=count, name="cmprompt-count", daemon=True).start()


def warn_of_nothing(
    statuses: Counter[Status] | Counter[str], inputs: Sequence[str], skipped: int, say: Say, limit: int | None = None
) -> None:
    """Say so where a run had nothing to do, though `limit` let it: a mistyped folder looks like an empty one."""
    from cmprompt.sources.names import is_table_name

    if statuses.total() or limit == 0:
        return
    if tables := [name for name in inputs if is_table_name(name)]:
        say(f"no rows in {', '.join(tables)}")
    if folders := [name for name in inputs if not is_table_name(name)]:
        others = f"; {skipped:,} other files skipped, --all-files tries them" if skipped else ""
        say(f"no images in {', '.join(folders)}{others}")


def exit_status(statuses: Counter[str]) -> int:
    """0 where every record is `ok`, earlier runs' records included, else 1."""
    return 1 if statuses.total() > statuses["ok"] else 0


def set_names(
    labels: LabelSet,
    prompts: Sequence[str] | None,
    template: Sequence[str] | None,
    language: str,
    *,
    asks: bool = False,
) -> list[str]:
    """The prompt sets in use, those of a question where one `asks`; none where each label brings its own texts."""
    from cmprompt.prompts import choose_sets
    from cmprompt.tasks.questions import question_sets

    if asks:
        return [each.name for each in question_sets(prompts, template)]
    if labels.verbatim >= labels.phrases.keys():
        return []
    return [each.name for each in choose_sets(prompts or [], template or [], labels, language=language)]


def describe_run(
    encoder: Encoder,
    prompts: Mapping[str, Sequence[str]] | None,
    head: str,
    items: Iterable[Item],
    sets: Sequence[str] = (),
) -> Iterator[str]:
    """The lines of --dry-run, escaped as TSV is: with what, and what would be read."""
    yield _line("model", encoder.model_id)
    yield _line("encoding", encoding_of(encoder))
    yield _line("head", head)
    for name in sets:
        yield _line("prompts", name)
    for label, texts in (prompts or {}).items():
        yield _line("label", label, counted(len(texts), "text"), texts[0])
    for item in items:
        yield _line("input", item.id)


def _line(*cells: str) -> str:
    from cmprompt.utf8 import clean
    from cmprompt.writers.tsv import ESCAPES

    return "\t".join(clean(cell).translate(ESCAPES) for cell in cells)


def encoding_of(encoder: Any) -> str:
    """Precision and back end, told without the export that the store's key may need."""
    from cmprompt.encoders.openvino import runs_here

    if not hasattr(encoder, "precision"):
        return str(encoder.store_key)
    fast = not encoder.exact and runs_here(encoder.device, encoder.precision)
    return f"{encoder.precision}/{'openvino' if fast else f'torch-{encoder.device}'}"


class Clock:
    """Counts the seconds that are spent waiting for what an iterator yields."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, source: Iterable[T]) -> Iterator[T]:
        """`source`, each of its steps counted."""
        iterator = iter(source)
        while True:
            started = perf_counter()
            try:
                step = next(iterator)
            except StopIteration:
                return
            finally:
                self.seconds += perf_counter() - started
            yield step


def timings(
    stats: Stats,
    total_s: float,
    *,
    start_s: float,
    write_s: float,
    texts_s: float = 0.0,
    score_s: float = 0.0,
) -> Iterator[str]:
    """The lines of --timings: seconds of each stage, and which one the run waited for. A model that loads as it first
    encodes does so in `texts` and `encode`."""
    stages = {
        "start": start_s,
        "texts": texts_s,
        "look up": stats.lookup_s,
        "read": stats.read_s / stats.threads,
        "decode": stats.decode_s / stats.threads,
        "encode": stats.encode_s,
        "score": score_s,
        "write": write_s,
    }
    for name, seconds in stages.items():
        yield f"{name:<8} {seconds:8.3f} s"
    slowest = max(stages, key=lambda name: stages[name])
    inputs = counted(stats.items, "input")
    yield f"{'all':<8} {total_s:8.3f} s; {inputs}, {stats.store_hits:,} stored; slowest: {slowest}"
