"""What the commands share: the store, an encoder made ready, the exit status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from cmprompt.cli.inputs import rereadable
from cmprompt.errors import UsageError

if TYPE_CHECKING:
    from cmprompt.cli.notices import Say
    from cmprompt.sources import SourceOptions
    from cmprompt.store import Store
    from cmprompt.types import Encoder, Item

T = TypeVar("T")
_lasting: list[Encoder] = []


def open_store(directory: str | None, no_store: bool, say: Say) -> Store | None:
    """The embedding store that the flags name, or none."""
    from cmprompt import store

    return None if no_store else store.open_store(directory, say)


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


def exit_status(statuses: Counter[str]) -> int:
    """0 where every record is `ok`, earlier runs' records included, else 1."""
    return 1 if statuses.total() > statuses["ok"] else 0
