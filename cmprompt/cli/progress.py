"""Progress on stderr: a bar where a person watches, nothing where a script does."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cmprompt.cli.details import Details
from cmprompt.errors import Status

if TYPE_CHECKING:
    from cmprompt.types import Embedded


class Progress:
    """Counts outcomes; on a terminal draws a bar while rows go elsewhere, and closes with the count.

    `total` is None where it is not known. The bar stays away where the rows themselves appear on the terminal.
    `details` hears of each file that is skipped and each item that fails.
    """

    def __init__(
        self,
        doing: str = "labelling",
        *,
        total: int | None = None,
        quiet: bool = False,
        rows_on_terminal: bool = False,
        details: Details | None = None,
    ) -> None:
        self.statuses: Counter[Status] = Counter()
        self.skipped = 0
        self._doing = doing
        self._total = total
        self._details = details or Details(False)
        self._watched = sys.stderr.isatty() and not quiet
        self.drawn = self._watched and not rows_on_terminal
        self._bar: Any = None
        self._started_s = time.monotonic()

    def __enter__(self) -> Progress:
        if self.drawn:
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task(self._doing, total=self._total)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._watched and kind is None:
            print(self.summary(), file=sys.stderr)

    def take(self, batch: Embedded) -> None:
        """Count every item of a batch."""
        for item, outcome in zip(batch.items, batch.outcomes, strict=True):
            self.count(outcome.status, item.id, outcome.error)

    def count(self, status: Status, id: str = "", error: str | None = None) -> None:
        """One more item, called `id`, came out with `status`."""
        self.statuses[status] += 1
        if status != "ok":
            self._details.failure(id, status, error)
        if self._bar is not None:
            self._bar.advance(self._task)

    def skip(self, path: str) -> None:
        """One more file that a walk left out, since its name does not end as an image's."""
        self.skipped += 1
        self._details.skipped(path)

    def resume(self, done: int) -> None:
        """Begin after the items that an earlier run has done, for the time left."""
        if self._bar is not None:
            self._bar.reset(self._task, completed=done)

    def expect(self, total: int) -> None:
        """How many items there will be, once that is known."""
        if self._bar is not None:
            self._bar.update(self._task, total=total)

    @property
    def failed(self) -> int:
        """How many items did not come out `ok`."""
        return self.statuses.total() - self.statuses["ok"]

    def summary(self) -> str:
        """The closing line: how many, what failed and why, how fast."""
        elapsed_s = max(time.monotonic() - self._started_s, 1e-9)
        n = self.statuses.total()
        failures = ", ".join(_failures(self.statuses))
        tail = f"; {self.failed:,} failed: {failures}" if failures else ""
        others = f"; {self.skipped:,} other files skipped" if self.skipped else ""
        rate = f"{n / elapsed_s:,.0f}" if n > 10 * elapsed_s else f"{n / elapsed_s:.1f}"
        return f"{n:,} input{'' if n == 1 else 's'} in {elapsed_s:.1f} s ({rate}/s){tail}{others}"


def _failures(statuses: Counter[Status]) -> Iterator[str]:
    for status, n in statuses.most_common():
        if status != "ok":
            yield f"{n:,} {status}"


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed else "")

    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
