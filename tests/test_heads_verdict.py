"""The rule that keeps or refuses a head, on cases where the answer is plain."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from cmprompt import metrics
from cmprompt.heads.verdict import Row, bootstrap_counts, judge, majority, paired, rule, table_of
from cmprompt.report.figures import table_lines
from cmprompt.types import Array

RNG = np.random.default_rng(0)
TARGET = np.arange(300) % 3


def right_in(part: float, seed: int = 0) -> Array:
    """(300, 3) probabilities whose winner is right in this part of the rows."""
    luck = np.random.default_rng(seed).random(300)
    winner = np.where(luck < part, TARGET, (TARGET + 1) % 3)
    rows: Array = 0.7 * np.eye(3)[winner] + 0.1
    return rows


FLOOR = majority(TARGET, TARGET, 3)


def test_a_head_that_is_plainly_better_is_kept() -> None:
    answers = {"majority class": FLOOR, "zero-shot": right_in(0.6), "linear": right_in(0.9)}
    table, verdict = judge(answers, TARGET, "linear", "majority class")
    assert verdict.kept
    assert [row.name for row in table] == ["majority class", "zero-shot", "linear"]


@pytest.mark.parametrize("part", [0.6, 0.4])
def test_a_tie_and_a_loss_are_refused(part: float) -> None:
    answers = {"majority class": FLOOR, "zero-shot": right_in(0.6), "linear": right_in(part)}
    _, verdict = judge(answers, TARGET, "linear", "majority class")
    assert not verdict.kept
    assert "zero-shot" in verdict.reasons[1]


def test_a_head_that_guesses_is_refused_without_any_baseline() -> None:
    _, verdict = judge({"majority class": FLOOR, "linear": right_in(1 / 3)}, TARGET, "linear", "majority class")
    assert not verdict.kept


def test_better_than_the_floor_in_94_percent_is_not_enough() -> None:
    floor = np.zeros(100)
    for wins, kept in ((94, False), (95, True)):
        draws = np.where(np.arange(100) < wins, 1.0, -1.0)
        assert rule({"floor": floor, "head": draws}, "head", "floor").kept is kept


def test_numbers_are_judged_by_their_error() -> None:
    target = RNG.normal(10, 3, 200).astype(np.float32)
    close = target + RNG.normal(0, 1, 200)
    answers = {"mean": np.full(200, target.mean()), "linear": close}
    table, verdict = judge(answers, target, "linear", "mean")
    assert verdict.kept and table[1].figures["r2"] > 0.8
    assert not judge({**answers, "linear": answers["mean"]}, target, "linear", "mean")[1].kept


def test_the_draws_of_a_figure_are_that_figure_on_the_drawn_rows() -> None:
    probabilities = RNG.dirichlet(np.ones(3), 300)
    table, _ = judge({"a": FLOOR, "b": probabilities}, TARGET, "b", "a", draws=50, seed=4)
    each = []
    for counts in next(bootstrap_counts(300, 50, 4)):
        rows = np.repeat(np.arange(300), counts.astype(int))
        each.append(metrics.classification(probabilities[rows], TARGET[rows]))
    for name, (low, high) in table[1].intervals.items():
        found = np.percentile([figures[name] for figures in each], (2.5, 97.5))
        np.testing.assert_allclose((low, high), found, rtol=1e-4, err_msg=name)


def test_intervals_hold_the_figure() -> None:
    table, _ = judge({"a": FLOOR, "b": right_in(0.7)}, TARGET, "b", "a")
    low, high = table[1].intervals["balanced_accuracy"]
    assert low < table[1].figures["balanced_accuracy"] < high < low + 0.2


def test_paired_says_which_is_ahead() -> None:
    assert paired(right_in(0.5), right_in(0.8), TARGET)["ahead"] == 1.0
    assert paired(right_in(0.5), right_in(0.5), TARGET) == {"difference": 0, "low": 0, "high": 0, "ahead": 0}


def test_the_draws_of_many_labels_are_the_figures_on_the_drawn_rows() -> None:
    target = (RNG.random((120, 3)) < (0.5, 0.2, 0.7)).astype(np.float32)
    probabilities = np.round(0.5 * target + 0.5 * RNG.random((120, 3)), 1)  # with many equal scores
    table, _ = judge({"a": np.full((120, 3), 0.4), "b": probabilities}, target, "b", "a", draws=50, seed=4)
    each = []
    for counts in next(bootstrap_counts(120, 50, 4)):
        rows = np.repeat(np.arange(120), counts.astype(int))
        each.append(metrics.multi_label(probabilities[rows], target[rows] > 0))
    for name, (low, high) in table[1].intervals.items():
        found = np.percentile([figures[name] for figures in each], (2.5, 97.5))
        np.testing.assert_allclose((low, high), found, rtol=1e-4, err_msg=name)


def test_many_labels_are_judged_by_how_they_rank() -> None:
    target = (RNG.random((200, 2)) < 0.3).astype(np.float32)
    floor, blind = np.full((200, 2), 0.3), RNG.random((200, 2))
    good = np.clip(target + RNG.normal(0, 0.4, (200, 2)), 0, 1)
    answers = {"label frequencies": floor, "zero-shot": blind, "linear": good}
    assert judge(answers, target, "linear", "label frequencies")[1].kept
    assert not judge({**answers, "linear": blind}, target, "linear", "label frequencies")[1].kept


def test_the_draws_of_numbers_are_the_figures_on_the_drawn_rows() -> None:
    target = RNG.integers(0, 9, 120).astype(np.float32)  # with many equal numbers
    close = np.round(target + RNG.normal(0, 3, 120))
    table, _ = judge({"mean": np.full(120, 4.0), "b": close}, target, "b", "mean", draws=50, seed=4)
    each = []
    for counts in next(bootstrap_counts(120, 50, 4)):
        rows = np.repeat(np.arange(120), counts.astype(int))
        each.append(metrics.regression(close[rows], target[rows]))
    assert set(table[1].intervals) == {"mae", "rmse", "r2", "spearman"}
    for name, (low, high) in table[1].intervals.items():
        found = np.percentile([figures[name] for figures in each], (2.5, 97.5))
        np.testing.assert_allclose((low, high), found, rtol=1e-4, err_msg=name)
    assert "spearman" not in table[0].intervals  # one number for all has no order


def test_ranks_drawn_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    target, close = RNG.normal(size=40), RNG.normal(size=40)
    whole = table_of({"a": close}, target, draws=20)
    monkeypatch.setattr("cmprompt.heads.verdict.RANKED_AT_ONCE", 100)  # two draws
    assert table_of({"a": close}, target, draws=20) == whole


@pytest.mark.parametrize(
    ("answers", "target"),
    [
        (RNG.dirichlet(np.ones(7), 40), np.arange(40) % 7),
        (RNG.random((40, 3)), (RNG.random((40, 3)) < 0.4).astype(np.float32)),
        (RNG.normal(size=40), RNG.normal(size=40)),
    ],
    ids=["classes", "labels", "numbers"],
)
def test_draws_in_parts_are_the_same(answers: Array, target: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = table_of({"a": answers}, target, draws=21)
    monkeypatch.setattr("cmprompt.heads.verdict.DRAWN_AT_ONCE", 80)  # two draws
    (parts,) = table_of({"a": answers}, target, draws=21)
    assert parts.figures == whole.figures and list(parts.intervals) == list(whole.intervals)
    for name, ends in parts.intervals.items():
        np.testing.assert_allclose(ends, whole.intervals[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(("n", "classes"), [(20_000, 4), (50, 20_000)], ids=["rows", "classes"])
def test_many_rows_and_many_classes_are_drawn_in_bounded_memory(
    n: int, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmprompt.heads.verdict.DRAWN_AT_ONCE", 1 << 16)
    target = np.arange(n) % classes
    answers = metrics.softmax(RNG.normal(size=(n, classes)))
    tracemalloc.start()
    table_of({"a": answers}, target, draws=100)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * 100 * max(n, classes)  # what one table of float32 takes for all draws at once


def test_every_figure_stands_under_its_name_however_long_it_is() -> None:
    ends = {"mae": (-6.1e4, 6.1e4), "rmse": (-1.5e5, 1.5e5), "r2": (-0.033, 0.033)}
    few = Row("mean", {"mae": 3.498e5, "rmse": 4.947e5, "r2": -0.03438}, ends)
    lines = list(table_lines([few, Row("linear", {"mae": 3.0, "rmse": 12.5, "r2": 0.9}, {})]))
    assert lines == [
        "                      MAE               RMSE              R2",
        "mean   3.498e+05 ±6.1e+04 4.947e+05 ±1.5e+05 -0.03438 ±0.033",
        "linear                  3               12.5             0.9",
    ]


def test_tables_of_fractions_have_columns_of_one_width() -> None:
    row = Row("zero-shot", {"accuracy": 0.912, "f1": 1.0}, {"accuracy": (0.9, 0.924)})
    assert list(table_lines([row])) == [
        "                      acc              F1",
        "zero-shot       91.2 ±1.2           100.0",
    ]
