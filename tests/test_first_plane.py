"""Where the network of a few rows begins: at the plane that scikit-learn would put there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from heads_data import both, unit

from cmprompt.heads.first_plane import Setting, begin
from cmprompt.heads.fit import fit, training_data
from cmprompt.heads.recipe import Recipe
from cmprompt.heads.trainer import Trainer
from cmprompt.registry import FUSIONS, resolve
from cmprompt.types import Array, Features

DIM = 24


def few(n: int = 40, seed: int = 0) -> tuple[Features, Array]:
    """Fewer rows than a plane on both sides has columns, and a number that both sides speak of."""
    rng = np.random.default_rng(seed)
    image, text = (unit(rng.normal(size=(n, DIM))) for _ in range(2))
    return both(image, text), (5 + 30 * image[:, 0] + 60 * text[:, 1] + rng.normal(size=n)).astype(np.float32)


def begun(kind: str, setting: Setting | None, n: int = 40, **recipe: float) -> Trainer:
    features, numbers = few(n)
    data = training_data(features, numbers, model_id="fake", task="regression", squared=True)
    trainer = Trainer(data, resolve(FUSIONS, "fusion", kind), Recipe(**{"modality_dropout": 0.0, **recipe}))  # type: ignore[arg-type]
    begin(trainer, setting)
    return trainer


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_concat_begins_as_ridge_regression_on_both_sides(scale: float) -> None:
    from sklearn.linear_model import Ridge

    features, numbers = few()
    unseen, _ = few(seed=1)

    def beside(x: Features) -> Array:
        assert x.image is not None and x.text is not None
        return np.hstack([scale * x.image, x.text]) / np.sqrt(2)  # rows of length 1 where both sides are as loud

    ridge = Ridge(alpha=1 / 50.0).fit(beside(features), numbers)
    ours = begun("concat", Setting(50.0, scale)).head("concat").logits(unseen)[:, 0]
    np.testing.assert_allclose(ours, ridge.predict(beside(unseen)), rtol=2e-3, atol=0.05)


def test_folds_choose_how_loud_the_image_is() -> None:
    """A number of the text alone, beside an image that says nothing of it."""
    found = {}
    for rows in (40, 60):
        features, _ = few(rows)
        assert features.text is not None
        data = training_data(features, features.text[:, 1] * 60, model_id="fake", task="regression")
        found[rows] = begin(Trainer(data, resolve(FUSIONS, "fusion", "concat"), Recipe()))
    assert found[60] is None  # as many rows as columns, and more
    assert found[40] is not None and found[40].image_scale < 1


@pytest.mark.parametrize("kind", ["concat", "add", "hadamard", "dot", "weighted", "bilinear"])
def test_an_untrained_fusion_begins_better_than_the_mean(kind: str) -> None:
    features, numbers = few(20)
    trainer = begun(kind, Setting(100.0), 20, modality_dropout=0.15)
    found = trainer.head(kind).logits(features)[:, 0]
    assert np.mean((found - numbers) ** 2) < 0.7 * numbers.var()


def test_a_missing_side_counts_as_one_of_the_middle() -> None:
    trainer = begun("concat", Setting(50.0))
    features, _ = few()
    assert features.image is not None
    middle = features.image.mean(0) / np.linalg.norm(features.image.mean(0))
    blind = replace(features, image=np.zeros_like(features.image), has_image=np.zeros(len(features), bool))
    average = replace(features, image=np.repeat(middle[None], len(features), 0))
    head = trainer.head("concat")
    np.testing.assert_allclose(head.logits(blind), head.logits(average), rtol=1e-4, atol=1e-3)


def test_few_rows_fused_are_answered_better_than_by_either_side() -> None:
    features, numbers = few()
    unseen, truth = few(400, seed=1)

    def error(kind: str, use: str) -> float:
        head = fit(kind, features, numbers, model_id="fake", task="regression", use=use)  # type: ignore[arg-type]
        return float(np.mean((head.logits(unseen)[:, 0] - truth) ** 2))

    assert error("concat", "image") < min(error("linear", "image"), error("linear", "text"))
