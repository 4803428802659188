"""Known answers by hand; the comparison with scikit-learn is in tests/parity/test_sklearn.py."""

import tracemalloc

import numpy as np
import pytest
import scipy.special

from cmprompt import metrics

SCORES = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
TARGET = np.array([0, 1, 1, 2])


def test_accuracy_at_k() -> None:
    assert metrics.accuracy_at_k(SCORES, TARGET, 1) == 0.5
    assert metrics.accuracy_at_k(SCORES, TARGET, 2) == 0.75
    assert metrics.accuracy_at_k(SCORES, TARGET, 5) == 1.0


def test_equal_scores_go_to_the_first_label() -> None:
    assert metrics.accuracy_at_k(np.array([[0.5, 0.5]]), np.array([0])) == 1.0
    assert metrics.accuracy_at_k(np.array([[0.5, 0.5]]), np.array([1])) == 0.0


@pytest.mark.parametrize("k", [1, 2, 5, 30])
def test_the_best_are_those_of_a_stable_sort(k: int) -> None:
    dice = np.random.default_rng(0)
    scores, target = dice.integers(0, 6, (300, 30)) / 5, dice.integers(0, 30, 300)  # many equal scores
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert np.array_equal(metrics.is_among_best(scores, target, k), (best == target[:, None]).any(1))


def test_the_best_are_found_without_a_sort() -> None:
    scores, target = np.random.default_rng(0).random((1000, 500)), np.zeros(1000, int)
    tracemalloc.start()
    metrics.accuracy_at_k(scores, target, 5)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < scores.nbytes / 2


def test_balanced_accuracy_ignores_how_many_rows_a_class_has() -> None:
    target = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    assert metrics.balanced_accuracy(np.zeros(10, int), target) == 0.5


def test_ece_of_a_known_case() -> None:
    # Ten answers at 0.8, six of them right: the gap is 0.2. Ten at 0.6, all right: 0.4. Half of each.
    probabilities = np.array([[0.8, 0.2]] * 10 + [[0.6, 0.4]] * 10)
    target = np.array([0] * 6 + [1] * 4 + [0] * 10)
    np.testing.assert_allclose(metrics.expected_calibration_error(probabilities, target), 0.3)


def test_ece_is_zero_when_confidence_is_accuracy() -> None:
    probabilities = np.array([[0.75, 0.25]] * 4)
    assert metrics.expected_calibration_error(probabilities, np.array([0, 0, 0, 1])) == 0.0


def test_certain_answers_fall_in_the_last_bin() -> None:
    parts = metrics.reliability(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 0]))
    assert [(part["share"], part["accuracy"]) for part in parts] == [(1.0, 0.5)]


def test_regression_of_a_perfect_and_a_mean_answer() -> None:
    target = np.array([1.0, 2.0, 6.0])
    assert metrics.regression(target, target)["r2"] == 1.0
    answer = metrics.regression(np.full(3, 3.0), target)
    assert answer["r2"] == 0.0 and answer["mae"] == 2.0 and np.isnan(answer["spearman"])


def test_map_leaves_out_labels_that_do_not_occur() -> None:
    relevant = np.array([[True, False], [False, False]])
    assert metrics.mean_average_precision(np.array([[0.9, 0.1], [0.2, 0.8]]), relevant) == 1.0


def test_confusion_has_the_truth_in_rows() -> None:
    table = metrics.confusion(np.array([1, 1, 0]), np.array([0, 1, 0]), 2)
    np.testing.assert_array_equal(table, [[1, 1], [0, 1]])


def test_the_most_frequent_mistakes_are_the_largest_cells_of_the_confusion() -> None:
    predicted, target = np.random.default_rng(0).integers(0, 6, (2, 300))
    table = metrics.confusion(predicted, target, 6)
    np.fill_diagonal(table, 0)
    cells = np.argsort(-table, axis=None, kind="stable")[:9]
    wanted = [(*divmod(cell, 6), int(table.flat[cell])) for cell in cells.tolist()]
    assert metrics.mistakes(predicted, target, 6, 9) == wanted
    assert metrics.mistakes(target, target, 6, 9) == []


def test_many_classes_need_no_table_of_their_pairs() -> None:
    count = 200_000  # whose pairs would take 320 GB
    target, predicted = np.array([0, 1, 1, count - 1]), np.array([0, 1, 0, 0])
    assert metrics.mistakes(predicted, target, count, 1) == [(1, 0, 1)]
    assert metrics.per_class(predicted, target, count)["recall"][[0, 1, count - 1]].tolist() == [1, 0.5, 0]
    assert metrics.balanced_accuracy(predicted, target) == 0.5


def test_probabilities_take_the_memory_of_their_table_alone() -> None:
    logits = np.random.default_rng(0).normal(size=(1000, 500)).astype(np.float32)
    tracemalloc.start()
    rows = metrics.softmax(logits)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1.5 * rows.nbytes
    np.testing.assert_allclose(rows, scipy.special.softmax(logits.astype(np.float64), axis=1))
