"""The networks of `registry.FUSIONS`, trained for as long as held-out rows improve. One seed, one result."""

from __future__ import annotations

from typing import Any

from cmprompt.errors import UsageError
from cmprompt.heads.calibrate import calibration
from cmprompt.heads.first_plane import Setting, begin
from cmprompt.heads.network import Fusion
from cmprompt.heads.recipe import Recipe
from cmprompt.heads.trainer import Trainer
from cmprompt.heads.training import Training, split_folds
from cmprompt.registry import FUSIONS, resolve
from cmprompt.types import Head

ENOUGH_TO_HOLD_OUT = 20  # rows
ENOUGH_TO_CALIBRATE = 20  # rows held out; where there are fewer, the temperature takes all folds


def fit_fusion(data: Training, kind: str, recipe: Recipe | None = None) -> Head:
    """A network of `registry.FUSIONS` on `data`, trained for as long as held-out rows improve; where they are enough,
    these choose its temperature too. With `data.words` the texts are read by an embedding that is trained with it."""
    trainer = trained(data, kind, recipe or Recipe())
    return trainer.head(kind, data.record.get("temperature", 1.0))


def trained(data: Training, kind: str, recipe: Recipe) -> Trainer:
    """The same before it is made a head of."""
    fusion: Fusion = resolve(FUSIONS, "fusion", kind)
    _check(data, fusion, kind)
    epochs = max(recipe.epochs, -(-recipe.least_steps // -(-len(data) // recipe.batch)))
    setting = None
    if len(data) >= ENOUGH_TO_HOLD_OUT:
        epochs, setting = _scouted(data, fusion, recipe, epochs)
    trainer = Trainer(data, fusion, recipe)
    if begin(trainer, setting) and len(data) < ENOUGH_TO_HOLD_OUT:
        epochs = 0  # folds chose the plane that it begins at, and no row can say that going on is better
    data.record["epochs"] = epochs
    trainer.run(epochs)
    return trainer


def fit_mlp(data: Training, **options: Any) -> Head:
    """One hidden layer on the modality in use; `options` are those of `Recipe`."""
    return fit_fusion(data, data.use, Recipe(**{"hidden": 512, **options}))


def _scouted(data: Training, fusion: Fusion, recipe: Recipe, most: int) -> tuple[int, Setting | None]:
    """The epochs that are best for a held-out fifth, and where they begin; the record gets the curve and, for classes,
    the temperature."""
    train, rows = split_folds(data.strata, data.groups, 5, data.seed)[0]
    held = data.take(rows)
    scout = Trainer(data.take(train), fusion, recipe)
    setting = begin(scout)
    data.record["curve"], logits = scout.run(most, held, begun=setting is not None), scout.best_logits
    data.record["chose_on"] = len(held)
    if data.task == "classes" and len(held) >= ENOUGH_TO_CALIBRATE:
        data.record.update(calibration(logits, held.targets))
    return scout.best_epoch, setting


def _check(data: Training, fusion: Fusion, kind: str) -> None:
    for name in sorted(fusion.needs):
        if getattr(data.features, name) is None:
            raise UsageError(f"--head {kind} reads {name.replace('_', ' ')}, and there are none in this data")
    if data.words and "text" in fusion.needs and not data.items:
        raise UsageError("a word embedding learns from the texts themselves; pass the rows as items=")
