"""The lines of --timings, and the clock behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from cmprompt.errors import counted

if TYPE_CHECKING:
    from cmprompt.embed import Stats

T = TypeVar("T")


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
