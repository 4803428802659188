"""The closing line of a run."""

from __future__ import annotations

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
