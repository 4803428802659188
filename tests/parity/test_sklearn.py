"""Our figures are scikit-learn's and scipy's figures on the same input."""

import numpy as np
import pytest

from cmprompt import metrics
from cmprompt.types import Array

sk = pytest.importorskip("sklearn.metrics")
RNG = np.random.default_rng(0)
TARGET = RNG.integers(0, 7, 300)
PREDICTED = np.where(RNG.random(300) < 0.6, TARGET, RNG.integers(0, 8, 300))  # class 7 is predicted and never true
PROBABILITIES = RNG.dirichlet(np.ones(8), 300)
RELEVANT = RNG.random((300, 5)) < 0.3
TIED = RNG.integers(0, 6, (300, 5)) / 5.0  # many equal scores


def test_accuracy_and_balanced_accuracy() -> None:
    known = TARGET[PREDICTED < 7], PREDICTED[PREDICTED < 7]
    assert metrics.accuracy(PREDICTED, TARGET) == pytest.approx(sk.accuracy_score(TARGET, PREDICTED))
    assert metrics.balanced_accuracy(known[1], known[0]) == pytest.approx(sk.balanced_accuracy_score(*known))


def test_macro_precision_recall_f1() -> None:
    ours = metrics.macro(PREDICTED, TARGET, 9)
    theirs = sk.precision_recall_fscore_support(TARGET, PREDICTED, average="macro", zero_division=0)
    np.testing.assert_allclose([ours["precision"], ours["recall"], ours["f1"]], theirs[:3])


def test_top_k() -> None:
    theirs = sk.top_k_accuracy_score(TARGET, PROBABILITIES, k=5, labels=range(8))
    assert metrics.accuracy_at_k(PROBABILITIES, TARGET, 5) == pytest.approx(theirs)


@pytest.mark.parametrize("scores", [TIED, RNG.random((300, 5))], ids=["tied", "distinct"])
def test_mean_average_precision(scores: Array) -> None:
    theirs = sk.average_precision_score(RELEVANT, scores, average="macro")
    assert metrics.mean_average_precision(scores, RELEVANT) == pytest.approx(theirs)


def test_multi_label_f1() -> None:
    decided = TIED > 0.5
    ours = metrics.multi_label_f1(decided, RELEVANT)
    theirs = sk.precision_recall_fscore_support(RELEVANT, decided, average="macro", zero_division=0)
    np.testing.assert_allclose([ours["precision"], ours["recall"], ours["f1"]], theirs[:3])
    assert ours["exact_match"] == pytest.approx(sk.accuracy_score(RELEVANT, decided))


def test_regression_figures() -> None:
    from scipy.stats import spearmanr

    target, predicted = TIED[:, 0], TIED[:, 0] + TIED[:, 1]
    ours = metrics.regression(predicted, target)
    assert ours["mae"] == pytest.approx(sk.mean_absolute_error(target, predicted))
    assert ours["rmse"] == pytest.approx(sk.root_mean_squared_error(target, predicted))
    assert ours["r2"] == pytest.approx(sk.r2_score(target, predicted))
    assert ours["spearman"] == pytest.approx(spearmanr(target, predicted).statistic)


@pytest.mark.parametrize("classes", [2, 12])
@pytest.mark.parametrize("strength", [0.1, 1.0, 100.0])
def test_the_linear_head_without_prior_is_logistic_regression(strength: float, classes: int) -> None:
    from sklearn.linear_model import LogisticRegression

    from cmprompt.heads.fit import fit
    from cmprompt.types import Features

    rng = np.random.default_rng(1)
    target = np.arange(2000) % classes
    rows = rng.normal(size=(classes, 48))[target] + 2.0 * rng.normal(size=(2000, 48)) + rng.normal(size=48)
    x = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    names = np.array([f"{c:02}" for c in target])
    theirs = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(x.astype(np.float64), target)
    head = fit("linear", Features.of_images(x), names, model_id="m", strength=strength)
    ours, found = head.logits(Features.of_images(x)), theirs.decision_function(x)
    found = found if classes > 2 else np.stack([np.zeros(2000), found], 1)
    penalised = head.weight if classes > 2 else head.weight[1:] - head.weight[:1]

    def loss(logits: Array, weight: Array) -> float:
        top = logits.max(1)
        cross = np.log(np.exp(logits - top[:, None]).sum(1)) + top - logits[np.arange(2000), target]
        return float(strength * cross.sum() + 0.5 * (weight.astype(np.float64) ** 2).sum())

    reference = loss(found, theirs.coef_)
    assert loss(ours.astype(np.float64), penalised) == pytest.approx(reference, rel=1e-3)
    assert np.mean(ours.argmax(1) == theirs.predict(x)) >= 0.995


def test_the_temperature_undoes_overconfidence() -> None:
    from cmprompt.heads.calibrate import temperature_of

    rng = np.random.default_rng(2)
    for classes in (2, 6):
        logits = 2 * rng.normal(size=(4000, classes))
        target = np.array([rng.choice(classes, p=row) for row in metrics.softmax(logits)])
        assert temperature_of(3 * logits, target) == pytest.approx(3.0, rel=0.1)
        rare = np.concatenate([3 * logits, np.full((4000, 1), -90.0)], axis=1)  # a class that no row has
        assert temperature_of(rare, target) == pytest.approx(3.0, rel=0.1)
