"""The last plane of a fusion before its network is trained: the optimum on what the fusion makes of the rows as it is.

Projections start as the identity, so that this is (logistic) regression on both modalities at once. It is what a
network of few rows has to beat; one of many rows finds its own way, and often a better one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cmprompt.heads.probe import fit_linear, held_out_path
from cmprompt.heads.trainer import Trainer
from cmprompt.heads.training import Training, choose
from cmprompt.types import Array, Features

STRENGTHS = (1.0, 3.0, 10.0, 30.0)  # scikit-learn's C, on rows of length 1
IMAGE_SCALES = (1.0, 0.3, 3.0)  # of the image's numbers beside the text's, under one penalty for both


@dataclass(frozen=True)
class Setting:
    """What held-out folds chose: scikit-learn's C, and the scale of the image where the two stand side by side."""

    strength: float
    image_scale: float = 1.0


def begin(trainer: Trainer, setting: Setting | None = None) -> Setting | None:
    """Put the optimal plane in place of the trainer's zeros, at `setting` or at one that folds of its rows choose.

    Gives the setting; None, and nothing is done, where there are as many rows as the plane has columns, where it does
    not come last, or where what it will read is not there yet (words that are still to be learned, random views).
    """
    if len(trainer.data) >= trainer.params["out.weight"].shape[1] or "hidden.weight" in trainer.params:
        return None
    if trainer.fusion.raw or trainer.reader is not None or trainer.views is not None:
        return None
    trainer.centre_stand_ins()
    rows, has_image, has_text = _with_gaps(trainer.data, trainer.recipe.modality_dropout)
    fused = trainer.fused(rows, has_image, has_text)  # (M, W)
    length = float(np.sqrt((fused * fused).sum(1).mean())) or 1.0
    table = _table(trainer.data, fused / np.float32(length), rows)
    setting = setting or _chosen(table, trainer.fusion.side_by_side)
    head = fit_linear(_scaled(table, setting.image_scale), strength=setting.strength)
    columns = _columns(fused.shape[1], setting.image_scale) / np.float32(length)
    trainer.start_from(head.weight * columns, head.offset)
    return setting


def _with_gaps(data: Training, part: float) -> tuple[Array, Array, Array]:
    """(M,) row numbers, and whether each has an image and a text: every row once, and some again without one of the
    two, so many that each modality is missing in `part` of all."""
    n, x = len(data), data.features
    extra = round(n * part / (1 - 2 * part)) if x.image is not None and x.text is not None else 0
    dice = np.random.default_rng(data.seed)
    blind, mute = np.arange(n, n + extra), np.arange(n + extra, n + 2 * extra)
    rows = np.concatenate([np.arange(n), dice.permutation(n)[:extra], dice.permutation(n)[:extra]])
    has_image, has_text = x.has_image[rows], x.has_text[rows]
    has_image[blind] &= ~has_text[blind]  # the only one that a row has stays
    has_text[mute] &= ~has_image[mute]
    return rows, has_image, has_text


def _table(data: Training, fused: Array, rows: Array) -> Training:
    """The fused rows as features of one modality; copies of a row stay on one side of a split."""
    groups = np.arange(len(data)) if data.groups is None else data.groups
    return replace(
        data,
        features=Features.of_images(fused),
        targets=data.targets[rows],
        groups=groups[rows],
        prior=None,
        use="image",
        views=None,
        items=(),
        record={},
    )


def _chosen(table: Training, side_by_side: bool) -> Setting:
    scales = IMAGE_SCALES if side_by_side else IMAGE_SCALES[:1]

    def score(train: Training, held: Training) -> list[Array]:
        parts = ((_scaled(train, scale), _scaled(held, scale)) for scale in scales)
        return [losses for part in parts for losses in held_out_path(*part, STRENGTHS)]

    settings = [Setting(strength, scale) for scale in scales for strength in STRENGTHS]
    return choose(table, settings, score, cautious=False, most_folds=3)


def _scaled(table: Training, scale: float) -> Training:
    return replace(table, features=Features.of_images(table.x * _columns(table.x.shape[1], scale)))


def _columns(width: int, scale: float) -> Array:
    """(W,) float32: the image's half at this scale."""
    columns = np.ones(width, np.float32)
    columns[: width // 2] = scale
    return columns
