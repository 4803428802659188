"""What `evaluate` says of each label, on answers given by hand."""

from __future__ import annotations

import numpy as np

from cmprompt.tasks.evaluate import Contest, class_lines, confused_pairs

LABELS = ("apple", "bread", "fig")


def answered(truth: list[int], answers: list[int]) -> Contest:
    return Contest(LABELS, np.array(truth), {"x": np.eye(3)[answers]}, [])


def test_the_most_frequent_mistake_comes_first() -> None:
    found = answered([0, 0, 0, 1, 2, 2], [1, 1, 0, 1, 0, 2])
    assert confused_pairs(found, "x") == [("apple", "bread", 2), ("fig", "apple", 1)]


def test_the_worst_label_stands_first() -> None:
    lines = list(class_lines(answered([0, 0, 1, 1, 2, 2], [0, 0, 2, 2, 2, 2]), "x"))
    assert [line.split() for line in lines[1:]] == [
        ["bread", "2", "0.0", "0.0", "0.0"],
        ["fig", "2", "50.0", "100.0", "66.7"],
        ["apple", "2", "100.0", "100.0", "100.0"],
    ]


def test_labels_of_many_are_counted_each_by_itself() -> None:
    truth = np.array([[1, 1, 0], [1, 0, 0]], np.float32)
    found = Contest(LABELS, truth, {"x": np.array([[0.9, 0.2, 0.1], [0.8, 0.7, 0.4]])}, [])
    assert [line.split() for line in list(class_lines(found, "x"))[1:]] == [
        ["bread", "1", "0.0", "0.0", "0.0"],
        ["apple", "2", "100.0", "100.0", "100.0"],
    ]
