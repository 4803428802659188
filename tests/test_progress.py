"""The closing line of a run."""

from __future__ import annotations

import io

import pytest

from cmprompt.cli.progress import Progress


def test_it_counts_and_names_what_failed() -> None:
    progress = Progress()
    progress.count("missing")
    assert progress.summary().startswith("1 input in ")
    assert progress.summary().endswith("; 1 failed: 1 missing")


def test_a_slow_rate_is_no_zero() -> None:
    progress = Progress()
    progress._started_s -= 4
    progress.count("ok")
    assert "(0.2/s)" in progress.summary()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_of_a_run_that_goes_on_begins_where_that_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    with Progress() as progress:
        progress.resume(8)
        progress.expect(10)
        progress.count("ok")
        (task,) = progress._bar.tasks
        assert (task.completed, task.total, task.speed) == (9, 10, None)  # the eight say nothing of how fast it is
