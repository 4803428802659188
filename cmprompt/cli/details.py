"""What -v adds on stderr, the same in every command: what runs, what the store had, what was left out and why."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cmprompt.cli.notices import speaker
from cmprompt.cli.timings import timings
from cmprompt.errors import counted

if TYPE_CHECKING:
    from cmprompt.embed import Stats
    from cmprompt.store import Store
    from cmprompt.types import Encoder


@dataclass(frozen=True)
class Details:
    """Says more where that is `wanted`, and nothing elsewhere."""

    wanted: bool

    def say(self, message: str) -> None:
        """One more notice."""
        speaker(not self.wanted)(message)

    def run(self, encoder: Encoder, store: Store | None, texts: Mapping[str, Sequence[str]] | None = None) -> None:
        """What encodes, where vectors are kept, how many labels and texts there are."""
        if self.wanted:  # else the store's key, which may have to be found out, is not asked for
            self.say(f"model {encoder.model_id}, encoding {encoder.store_key}, store {store.path if store else 'off'}")
        if texts is not None:
            self.say(f"{counted(len(texts), 'label')}, {counted(sum(map(len, texts.values())), 'text')}")

    def failure(self, id: str, status: str, error: str | None) -> None:
        """One input that failed."""
        from cmprompt.utf8 import clean

        self.say(f"{clean(id)}: {status}: {error}")

    def skipped(self, path: str) -> None:
        """A file that a walk left out."""
        from cmprompt.utf8 import clean

        self.say(f"skipped {clean(path)}")

    def work(self, stats: Stats) -> None:
        """How much of a run the store had, and what was computed."""
        self.say(
            f"{counted(stats.items, 'input')}: {stats.store_hits:,} stored, {stats.decoded:,} decoded,"
            f" {stats.encoded:,} encoded, {stats.failed:,} failed; {counted(stats.texts_encoded, 'text')} encoded"
        )


def print_timings(
    stats: Stats,
    total_s: float,
    *,
    start_s: float,
    write_s: float = 0.0,
    texts_s: float = 0.0,
    score_s: float = 0.0,
) -> None:
    """The lines of --timings on stderr."""
    lines = timings(stats, total_s, start_s=start_s, write_s=write_s, texts_s=texts_s, score_s=score_s)
    print(*lines, sep="\n", file=sys.stderr)
