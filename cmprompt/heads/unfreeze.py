"""`--unfreeze image`: the image tower trained with its head, end to end, on crops and flips of the pictures.

First the head on the frozen tower, then both at a low rate (LP-FT, Kumar et al., ICLR 2022). A fifth of the rows is
held out: the epoch that they like best is kept, which may be the start, and they set the temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cmprompt.encoders.devices import torch_threads
from cmprompt.encoders.pair import trainable
from cmprompt.encoders.torch import normalised
from cmprompt.encoders.tuned import Tower, with_towers
from cmprompt.errors import UsageError
from cmprompt.heads.calibrate import calibration, cooled
from cmprompt.heads.network import Fusion
from cmprompt.heads.probe import fit_linear
from cmprompt.heads.recipe import Recipe
from cmprompt.heads.train import ENOUGH_TO_HOLD_OUT, trained
from cmprompt.heads.trainer import Trainer
from cmprompt.heads.training import Training, split_folds
from cmprompt.heads.tuned import Tuned, encode_pictures, plain
from cmprompt.images.views import random_view
from cmprompt.registry import FUSIONS, resolve
from cmprompt.types import Array, Encoder, Features, Item

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Schedule:
    """How the tower is trained; the head goes on at its own rate."""

    epochs: int = 5
    tower_rate: float = 3e-5
    head_rate: float = 3e-4
    decay: float = 1e-4
    batch: int = 16


@torch_threads()
def fit_unfrozen(data: Training, kind: str, schedule: Schedule | None = None, **options: Any) -> Tuned:
    """A head of `kind` and the image tower under it. `options` are those of the kind.

    Raises UsageError for kinds that are not trained by steps, and for encoders without a tower to train.
    """
    schedule = schedule or Schedule()
    _check(kind, data)
    if data.encoder is None or not data.items or data.features.image is None:
        raise UsageError("--unfreeze image trains on the pictures themselves, and these data have none")
    tower = _Tower(data.encoder)
    train, held = _held_out(replace(data, unfreeze=False))
    kind, trainer = _on_frozen(train, kind, options)
    data.record.update(train.record)
    data.record["chose_on"] = train.record.get("chose_on", 0) + (len(held) if held is not None else 0)
    data.record["tower_curve"] = _train(tower, trainer, held, schedule, data.seed)
    return _calibrated(_tuned(tower, trainer, kind), held, data)


def _check(kind: str, data: Training) -> None:
    """Raises UsageError for a head that is not trained by steps, or not on the picture's one vector."""
    if kind in ("linear", "mlp") and data.use == "image":
        return
    fusion: Fusion | None = resolve(FUSIONS, "fusion", kind) if kind in FUSIONS else None
    if fusion is None or "image" not in fusion.needs or "image_tokens" in fusion.needs:
        raise UsageError(f"--unfreeze image does not go with --head {kind}; use linear, mlp, concat or another fusion")


def _held_out(data: Training) -> tuple[Training, Training | None]:
    """The rows that train, and those that tell how long; none of few."""
    if len(data) < ENOUGH_TO_HOLD_OUT:
        return data, None
    rows, held = split_folds(data.strata, data.groups, 5, data.seed)[0]
    return data.take(rows), data.take(held)


def _on_frozen(data: Training, kind: str, options: dict[str, Any]) -> tuple[str, Trainer]:
    """The head trained on the frozen tower, ready to go on, and the network that it is."""
    if kind == "linear":
        head = fit_linear(data, **options)
        trainer = Trainer(data, resolve(FUSIONS, "fusion", "image-raw"), Recipe())
        trainer.start_from(np.float32(head.scale) * head.weight, head.offset)
        return "image-raw", trainer
    if kind == "mlp":
        kind, options = data.use, {"hidden": 512, **options}
    return kind, trained(data, kind, Recipe(**options))


class _Tower:
    """The image tower of an encoder, open to gradients, its rows as the encoder gives them."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.module = trainable(encoder).image_tower().eval().requires_grad_(True)  # eval: statistics stay as they are
        self.device = next(self.module.parameters()).device
        self.raw = bool(getattr(encoder, "raw_images", False))

    def rows(self, pixels: Array) -> Any:
        """(N, 3, H, W) uint8 -> (N, D), with gradients."""
        import torch
        from torch.nn import functional

        x = normalised(torch.from_numpy(pixels).to(self.device), self.encoder.preprocess)
        rows = self.module(x).cpu()
        rows = rows if self.raw else functional.normalize(rows, dim=-1)
        return functional.pad(rows, (0, self.encoder.dim - rows.shape[1]))

    def features(self, data: Training) -> Features:
        """Those of `data` with the tower's rows of the pictures as they are."""
        import torch

        with torch.no_grad():
            image = encode_pictures(data.items, self.encoder, lambda pixels: self.rows(pixels).numpy())
        return replace(data.features, image=image)


def _train(
    tower: _Tower, trainer: Trainer, held: Training | None, schedule: Schedule, seed: int
) -> list[dict[str, float]]:
    """Both together; what the held-out rows like best stays in them. Gives a point for each epoch, 0 the start."""
    import torch

    ours = [{**group, "lr": schedule.head_rate} for group in trainer.groups()]
    theirs: dict[str, Any] = {"params": tower.module.parameters(), "lr": schedule.tower_rate}
    optimiser = torch.optim.AdamW([theirs, *ours], weight_decay=schedule.decay)
    curve: list[dict[str, float]] = []
    best = _state(tower, trainer)
    for epoch in range(schedule.epochs + 1):
        loss = _epoch(tower, trainer, optimiser, schedule.batch, (seed, epoch)) if epoch else float("nan")
        point = {"epoch": epoch, **({"loss": loss} if epoch else {})}
        if held is not None:
            _, point["held_out_loss"] = trainer.held_out(replace(held, features=tower.features(held)))
        curve.append(point)
        if held is None or point["held_out_loss"] <= min(p["held_out_loss"] for p in curve):
            best = _state(tower, trainer)
    _restore(tower, trainer, best)
    return curve


def _epoch(
    tower: _Tower, trainer: Trainer, optimiser: torch.optim.Optimizer, batch: int, seed: tuple[int, int]
) -> float:
    import torch

    total, items = 0.0, trainer.data.items
    for rows in torch.split(torch.randperm(len(items), generator=trainer.dice), batch):
        pixels = np.stack([_view(items[row], tower.encoder, (*seed, row)) for row in rows.tolist()])
        x = trainer.batch(rows)
        loss = trainer.loss(replace(x, image=trainer.scaled(tower.rows(pixels))), rows)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        total += float(loss.detach()) * len(rows)
    return total / len(items)


def _view(item: Item, encoder: Encoder, seed: Sequence[int]) -> Array:
    """A random view, the same for the same seed; black where there is no picture, which the head is told."""
    side = encoder.preprocess.size_px
    if item.image is None:
        return np.zeros((3, side, side), np.uint8)
    return random_view(item.image(), encoder.preprocess, np.random.default_rng(seed))


def _state(tower: _Tower, trainer: Trainer) -> list[dict[str, Any]]:
    """A copy of every number that is trained."""
    reader = trainer.reader.state_dict() if trainer.reader is not None else {}
    parts = (tower.module.state_dict(), trainer.params, reader)
    return [{name: tensor.detach().clone() for name, tensor in part.items()} for part in parts]


def _restore(tower: _Tower, trainer: Trainer, state: list[dict[str, Any]]) -> None:
    tower.module.load_state_dict(state[0])
    for name, tensor in trainer.params.items():
        tensor.detach().copy_(state[1][name])
    if trainer.reader is not None:
        trainer.reader.load_state_dict(state[2])


def _tuned(tower: _Tower, trainer: Trainer, kind: str) -> Tuned:
    """The head with its towers."""
    weights = {name: tensor.cpu().numpy().copy() for name, tensor in tower.module.state_dict().items()}
    head = trainer.head(kind)
    towers = (*(head.towers if isinstance(head, Tuned) else ()), Tower("image", weights))
    encoder = with_towers(tower.encoder, towers)
    return Tuned(replace(plain(head), model_id=encoder.model_id), encoder, towers)  # type: ignore[type-var]


def _calibrated(tuned: Tuned, held: Training | None, data: Training) -> Tuned:
    """With the temperature that the held-out rows set, not the one of the head on the frozen tower."""
    if data.task != "classes":
        return tuned
    found = calibration(tuned.logits(tuned.see(held)), held.targets) if held is not None else {"temperature": 1.0}
    data.record.update(found)
    return replace(tuned, head=cooled(tuned.head, found["temperature"]))
