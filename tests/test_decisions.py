"""Answers that a rule withholds: what is given is what `classify` gives, and how it is counted."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from cmprompt import metrics
from cmprompt.decisions import answered, decided, decides, figures_of, parts_of
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.verdict import bootstrap_counts
from cmprompt.labelled.rows import Labelled
from cmprompt.rule import Rule, Threshold
from cmprompt.tasks.evaluate import Contender, _spread, class_lines, contest
from cmprompt.types import Array, Features, Item

LABELS = ("cat", "dog", "fox")
HEAD = LinearHead(np.eye(3, 4, dtype=np.float32), LABELS, "fake", 3.0, text_built=True)
SURE, TORN, STRANGE = (1, 0, 0, 0), (0, 0.71, 0.704, 0), (0.1, 0.05, 0, 0.99)
WORDS = np.array([[0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0.6, 0.8]], np.float32)


def rows(*vectors: tuple[float, ...]) -> Features:
    return Features.of_images(np.array(vectors, np.float32))


def labelled(*targets: str) -> Labelled:
    return Labelled("here", tuple(Item(str(n), None, target=target) for n, target in enumerate(targets)))


def given(rule: Rule, *vectors: tuple[float, ...], labels: tuple[str, ...] = LABELS) -> Array:
    items = labelled(*["cat"] * len(vectors)).items
    return decided(answered(items, rows(*vectors), HEAD, rule, WORDS), labels, rule)


def test_a_row_below_the_threshold_or_the_margin_is_not_answered() -> None:
    assert given(Rule(), SURE, TORN).tolist() == [0, 1]
    assert given(Rule(threshold=Threshold("p", 0.6)), SURE, TORN).tolist() == [0, -1]
    assert given(Rule(min_margin=0.1), SURE, TORN).tolist() == [0, -1]
    assert given(Rule(label_thresholds={"cat": Threshold("cos", 1.1)}), SURE, TORN).tolist() == [-1, 1]


def test_none_of_these_is_no_answer() -> None:
    assert given(Rule(none=True, threshold=Threshold("z", 1.0)), SURE, STRANGE).tolist() == [0, -1]


def test_of_many_labels_those_that_reach_their_limits_are_given() -> None:
    rule = Rule(kind="sigmoid", threshold=Threshold("cos", 0.5))
    assert given(rule, SURE, TORN).tolist() == [[True, False, False], [False, True, True]]


def test_labels_of_other_heads_shift_the_places() -> None:
    assert given(Rule(), SURE, TORN, labels=("ant", *LABELS)).tolist() == [1, 2]


def test_many_rows_are_answered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contest(labelled("cat", "dog", "fox"), {"x": Contender(HEAD, rows(SURE, TORN, STRANGE))})
    monkeypatch.setattr("cmprompt.decisions.ROWS_AT_ONCE", 2)
    parts = contest(labelled("cat", "dog", "fox"), {"x": Contender(HEAD, rows(SURE, TORN, STRANGE))})
    assert np.array_equal(whole.answers["x"], parts.answers["x"])
    assert given(Rule(min_margin=0.1), SURE, TORN, SURE).tolist() == [0, -1, 0]


def test_many_labels_are_answered_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    data, x, rule = labelled("cat", "dog", "none of these"), rows(SURE, TORN, STRANGE), Rule(none=True)
    whole = contest(data, {"x": Contender(HEAD, x, rule, WORDS)})
    monkeypatch.setattr("cmprompt.decisions.SCORES_AT_ONCE", 6)
    assert [len(part) for part in parts_of(x, HEAD)] == [2, 1]
    assert np.array_equal(contest(data, {"x": Contender(HEAD, x, rule, WORDS)}).answers["x"], whole.answers["x"])


def test_answers_among_many_labels_take_little_more_than_their_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmprompt.decisions.SCORES_AT_ONCE", 1 << 18)
    count = 2000
    names = tuple(f"label {n}" for n in range(count))
    weight = np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32)
    head = LinearHead(weight, names[::-1], "fake", 3.0)
    contender = Contender(head, Features.of_images(weight))
    tracemalloc.start()
    answers = _spread(contender, names)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(answers[:, ::-1], metrics.softmax(head.logits(contender.features)))
    assert most < 2 * answers.nbytes


def test_only_some_rules_withhold_answers() -> None:
    assert not decides(Rule()) and not decides(Rule(level=1, top_k=None))
    assert decides(Rule(none=True)) and decides(Rule(min_margin=0.0)) and decides(Rule(threshold=Threshold("p", 0)))


def test_coverage_and_the_accuracy_of_what_is_answered() -> None:
    figures = metrics.selective(np.array([-1, 0, 1, 1]), np.array([0, 0, 1, 0]))
    assert figures == {"coverage": 0.75, "answered": pytest.approx(2 / 3)}
    assert np.isnan(metrics.selective(np.array([-1]), np.array([0]))["answered"])


@pytest.mark.parametrize("many", [False, True])
def test_the_draws_are_the_figures_on_the_drawn_rows(many: bool) -> None:
    dice = np.random.default_rng(0)
    target = (dice.random((80, 3)) < 0.4).astype(np.float32) if many else dice.integers(0, 3, 80)
    rows = dice.random((80, 3)) < 0.5 if many else dice.integers(-1, 3, 80)
    (row,) = figures_of({"x": rows}, target, seed=4, draws=50)
    each = []
    for counts in next(bootstrap_counts(80, 50, 4)):
        drawn = np.repeat(np.arange(80), counts.astype(int))
        figures = metrics.multi_label_f1(rows[drawn], target[drawn] > 0) if many else None
        each.append(figures or metrics.selective(rows[drawn], target[drawn]))
    for name, (low, high) in row.intervals.items():
        found = np.percentile([figures[name] for figures in each], (2.5, 97.5))
        np.testing.assert_allclose((low, high), found, rtol=1e-4, err_msg=name)


def test_where_nothing_is_answered_there_is_no_interval() -> None:
    (row,) = figures_of({"x": np.full(4, -1)}, np.arange(4) % 2)
    assert row.figures["coverage"] == 0 and "answered" not in row.intervals


def test_the_usual_figures_take_the_best_label_of_every_row() -> None:
    data, x = labelled("cat", "fox", "dog"), rows(SURE, TORN, TORN)
    rule = Rule(threshold=Threshold("p", 0.6))
    plain, picky = (contest(data, {"x": Contender(HEAD, x, each)}).table[0].figures for each in (Rule(), rule))
    assert picky == {**plain, "coverage": pytest.approx(1 / 3), "answered": 1.0}
    assert plain["accuracy"] == pytest.approx(2 / 3)


def test_contenders_without_a_rule_answer_all() -> None:
    data, x = labelled("cat", "dog"), rows(SURE, TORN)
    picky = Contender(HEAD, x, Rule(label_thresholds={"dog": Threshold("p", 0.9)}))
    found = contest(data, {"picky": picky, "plain": Contender(HEAD, x)})
    assert [row.figures["coverage"] for row in found.table] == [0.5, 1.0]
    lines = [line.split() for line in class_lines(found, "picky")]
    assert lines[0][-2:] == ["coverage", "answered"] and ["dog", "1", "100.0", "100.0", "100.0", "0.0", "nan"] in lines


def test_rows_of_none_are_right_where_that_is_the_answer() -> None:
    data, x = labelled("cat", "none of these"), rows(SURE, STRANGE)
    rule = Rule(none=True, threshold=Threshold("z", 1.0))
    found = contest(data, {"x": Contender(HEAD, x, rule, WORDS)})
    assert found.labels == (*LABELS, "none of these")
    assert found.table[0].figures["accuracy"] == 1 and found.table[0].figures["coverage"] == 0.5
    without = contest(labelled("cat", "dog"), {"x": Contender(HEAD, x, rule, WORDS)})
    assert without.labels == LABELS and without.answers["x"].sum(1) == pytest.approx(1)


def test_thresholds_of_many_labels_decide_what_is_counted_and_not_the_ranking() -> None:
    data = replace(labelled("cat", "dog | fox", "cat"), multi_label=True)
    x = rows(SURE, TORN, (0.6, 0, 0.8, 0))
    many, strict = Rule(kind="sigmoid"), Rule(kind="sigmoid", threshold=Threshold("cos", 0.7))
    plain, picky = (contest(data, {"x": Contender(HEAD, x, each, WORDS)}).table[0] for each in (many, strict))
    assert picky.figures["map"] == plain.figures["map"] and picky.figures["exact_match"] == pytest.approx(2 / 3)
    assert list(picky.figures) == list(plain.figures) == list(picky.intervals)


def test_labels_are_gathered_at_a_level() -> None:
    head = replace(HEAD, labels=("pet/cat", "pet/dog", "wild/fox"))
    data = labelled("pet/cat", "pet/dog", "wild/fox").at_level(1)
    found = contest(data, {"x": Contender(head, rows(SURE, TORN, TORN), Rule(level=1))})
    assert found.labels == ("pet", "wild") and found.target.tolist() == [0, 0, 1]
    assert 0.5 < found.answers["x"][1, 0] < 0.6 and found.table[0].figures["accuracy"] == pytest.approx(2 / 3)
