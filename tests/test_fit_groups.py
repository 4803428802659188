"""What must stand on one side of a split of labelled rows, and what a head is judged on."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import FakeEncoder
from heads_data import blobs, both, unit

from cmprompt.errors import UsageError
from cmprompt.heads.trial import Trial
from cmprompt.labelled.rows import Labelled
from cmprompt.labelled.vectors import apart_groups
from cmprompt.tasks.fit import check_rows, fit_on_trial
from cmprompt.tasks.plan import Plan
from cmprompt.types import Array, Features, FileBytes, Item


def rows_of(pictures: list[int], texts: list[int]) -> Features:
    """Rows with the pictures and texts of these numbers, 0 for none."""
    vectors = unit(np.random.default_rng(0).normal(size=(1000, 32)))
    vectors[0] = 0
    features = both(vectors[pictures], vectors[texts])
    return Features(features.image, features.text, np.array(pictures) > 0, np.array(texts) > 0)


def tried(kind: str, features: Features, labels: Array, judges: int = 0) -> Trial:
    """A head on trial; the last rows judge, where so many are said."""
    items = tuple(Item(str(n), None, None, str(label)) for n, label in enumerate(labels))
    cut = len(items) - judges
    data, other = Labelled("all.csv", items[:cut]), Labelled("judges.csv", items[cut:]) if judges else None
    judging = features.take(slice(cut, None)) if judges else None
    return fit_on_trial(Plan(kind), data, features.take(slice(cut)), other, judging, FakeEncoder(), None)


def test_rows_that_share_a_picture_or_a_text_stand_together() -> None:
    features = rows_of([1, 1, 2, 3, 0, 4, 5, 6, 7, 8], [11, 12, 12, 13, 13, 0, 0, 14, 15, 16])
    groups = [[0, 0, 0, 1, 1, 2, 3, 4, 5, 6], [0, 0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 1, 2, 2, 3, 4, 5, 6, 7]]
    for part, of_text, expected in ((0.3, False, 0), (0.3, True, 0), (0.2, False, 1), (0.2, True, 2)):
        found = apart_groups(features, part, of_text=of_text)
        np.testing.assert_array_equal(np.unique(found, return_inverse=True)[1], groups[expected])


@pytest.mark.parametrize("kind", ["linear-text", "text", "concat", "linear"])
def test_no_head_is_judged_on_a_text_that_it_learned(kind: str) -> None:
    titles = np.arange(300) % 75
    labels = np.random.default_rng(1).permutation(np.arange(75) % 2)[titles]
    trial = tried(kind, rows_of((1 + np.arange(300)).tolist(), (400 + titles).tolist()), labels)
    assert all(row.figures["accuracy"] < 0.7 for row in trial.table)
    assert not trial.verdict.kept and "texts_seen" not in trial.record


def test_texts_that_are_categories_are_counted() -> None:
    features = rows_of((1 + np.arange(60)).tolist(), (100 + np.arange(60) % 3).tolist())
    trial = tried("concat", features, np.arange(60) % 6)
    assert trial.record["texts_seen"] == trial.record["judged_on"] == 60
    assert "texts_seen" not in tried("linear", features, np.arange(60) % 6).record


def test_a_title_that_judges_is_not_trained_on() -> None:
    features = rows_of((1 + np.arange(60)).tolist(), (100 + np.arange(60) % 50).tolist())
    trial = tried("linear-text", features, np.arange(60) % 2, judges=12)
    assert trial.record["left_out"] == 10 and trial.record["trained_on"] == 38
    with pytest.raises(UsageError, match="nothing is left"):
        tried("linear-text", rows_of(list(range(1, 13)), [*range(21, 27)] * 2), np.arange(12) % 2, judges=6)


@pytest.mark.parametrize(("kind", "seen"), [("concat", 40), ("linear", None)])
def test_where_most_titles_judge_too_those_who_see_pictures_train_on_them(kind: str, seen: int | None) -> None:
    features = rows_of((1 + np.arange(100)).tolist(), (200 + np.arange(100) % 20).tolist())
    trial = tried(kind, features, np.arange(100) % 2, judges=40)
    assert trial.record["trained_on"] == 60 and "left_out" not in trial.record
    assert trial.record.get("texts_seen") == seen


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (Plan(wise=0.5), "'concat' is none: use linear"),
        (Plan("linear", use="text", wise=0.5), "one of them is missing"),
        (Plan("linear", wise=0.5, regression=True), "one of them is missing"),
        (Plan(augment=2), r"2 rows whose picture is a video, which --augment 2 cannot crop: a\.mp4, b\.webm"),
        (Plan(unfreeze=True), r"--unfreeze image cannot crop: a\.mp4, b\.webm"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_it_is_embedded(plan: Plan, says: str) -> None:
    names = ("a.mp4", "b.webm", "c.png")
    data = Labelled("all", tuple(Item(name, FileBytes(name), "text", name) for name in names))
    with pytest.raises(UsageError, match=says):
        needs, from_text = plan.needs(data), not plan.regression
        list(check_rows(plan, data, None, needs, data.names, from_text=from_text))


def labelled(names: Array) -> Labelled:
    return Labelled("table", tuple(Item(str(row), None, target=name) for row, name in enumerate(names)))


def test_old_labels_that_the_new_rows_lack_are_trained_again_and_judge_nothing() -> None:
    features, names, text = blobs(180, noise=0.4)
    is_old = names != "cheese"
    old_rows, new_rows = np.flatnonzero(is_old)[:80], np.flatnonzero(~is_old)[:40]
    new_rows = np.sort(np.append(new_rows, np.flatnonzero(names == "bread")[40:60]))
    old = labelled(names[old_rows]), features.take(old_rows)
    start = fit_on_trial(Plan("linear"), *old, None, None, FakeEncoder(), text).head
    data = labelled(names[new_rows]), features.take(new_rows)
    trial = fit_on_trial(Plan("linear"), *data, None, None, FakeEncoder(), start, old=old)
    apples = np.flatnonzero(names == "apple")[40:]
    forgetful = fit_on_trial(Plan("linear"), *data, None, None, FakeEncoder(), start)
    known, forgotten = (
        np.mean(one.head.logits(features.take(apples)).argmax(1) == one.head.labels.index("apple"))
        for one in (trial, forgetful)
    )
    assert known > 0.9 > 0.8 > forgotten
    assert trial.record["replayed"] == 60 and trial.record["judged_on"] == 60 and "old_judges" not in trial.record


def test_rows_of_the_old_data_that_judge_are_counted_and_not_trained_on_twice() -> None:
    features, names, text = blobs(60)
    everything = labelled(names), features
    start = fit_on_trial(Plan("linear"), *everything, None, None, FakeEncoder(), text).head
    again = fit_on_trial(Plan("linear"), *everything, None, None, FakeEncoder(), start, old=everything)
    assert again.record["old_judges"] == again.record["judged_on"] == 60 and "replayed" not in again.record
