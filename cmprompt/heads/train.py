"""Training of the small networks: AdamW, modality dropout, early stopping on held-out rows. One seed, one result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cmprompt.errors import UsageError
from cmprompt.heads.calibrate import calibration
from cmprompt.heads.network import Fusion, NetworkHead, Ops, forward
from cmprompt.heads.training import Training, split_folds
from cmprompt.registry import FUSIONS, resolve
from cmprompt.types import Array, Features

if TYPE_CHECKING:
    import torch

MODALITIES = ("image", "text")
PATIENCE = 0.05  # the part of all epochs for which held-out rows may fail to improve
ENOUGH_TO_HOLD_OUT = 20  # rows
LEAST_GAIN = 5e-3  # of the held-out loss; a smaller one is no improvement


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. `hidden` 0 is a plane; `modality_dropout` the part of rows that lose each modality."""

    size: int = 512  # d of the projections, where the features are not smaller
    hidden: int = 0
    rate: float = 1e-3
    decay: float = 0.05
    dropout: float = 0.1
    modality_dropout: float = 0.15
    batch: int = 128
    epochs: int = 40
    least_steps: int = 400  # few rows are gone through more often, so that there are this many steps


def fit_fusion(data: Training, kind: str, recipe: Recipe | None = None) -> NetworkHead:
    """A network of `registry.FUSIONS` on `data`, trained for as long as held-out rows improve; these choose its
    temperature too."""
    recipe = recipe or Recipe()
    fusion: Fusion = resolve(FUSIONS, "fusion", kind)
    _check(data, fusion, kind)
    epochs = max(recipe.epochs, -(-recipe.least_steps // -(-len(data) // recipe.batch)))
    if len(data) >= ENOUGH_TO_HOLD_OUT:
        epochs = _scouted(data, fusion, recipe, epochs)
    data.record["epochs"] = epochs
    trainer = _Trainer(data, fusion, recipe)
    trainer.run(epochs)
    temperature = data.record.get("temperature", 1.0)
    return NetworkHead(kind, trainer.arrays(), data.labels, data.model_id, fusion.needs, temperature)


def fit_mlp(data: Training, **options: Any) -> NetworkHead:
    """One hidden layer on the modality in use; `options` are those of `Recipe`."""
    return fit_fusion(data, data.use, Recipe(**{"hidden": 512, **options}))


def _scouted(data: Training, fusion: Fusion, recipe: Recipe, most: int) -> int:
    """The epochs that are best for a held-out fifth; the record gets the curve and, for classes, the temperature."""
    train, rows = split_folds(data.strata, data.groups, 5, data.seed)[0]
    held = data.take(rows)
    scout = _Trainer(data.take(train), fusion, recipe)
    data.record["curve"], logits = scout.run(most, held), scout.best_logits
    if data.task == "classes":
        data.record.update(calibration(logits, held.targets))
    return scout.best_epoch


def _check(data: Training, fusion: Fusion, kind: str) -> None:
    for name in sorted(fusion.needs):
        if getattr(data.features, name) is None:
            raise UsageError(f"--head {kind} reads {name.replace('_', ' ')}, and there are none in this data")


class _Trainer:
    """The parameters as tensors, and the loop over them."""

    def __init__(self, data: Training, fusion: Fusion, recipe: Recipe) -> None:
        import torch

        self.data, self.fusion, self.recipe = data, fusion, recipe
        self.dice = torch.Generator().manual_seed(data.seed)
        self.params = {name: torch.from_numpy(array) for name, array in starting_point(data, fusion, recipe).items()}
        for tensor in self.params.values():
            tensor.requires_grad_(True)
        self.x = _tensors(data.features)
        numbers = data.task == "regression"
        self.mean = float(data.targets.mean()) if numbers else 0.0
        self.deviation = (float(data.targets.std()) or 1.0) if numbers else 1.0
        self.targets = torch.from_numpy((data.targets - self.mean) / self.deviation if numbers else data.targets)
        self.weights = torch.from_numpy(data.row_weights)
        self.ops = _torch_ops(recipe.dropout, self.dice)
        self.best_epoch, self.best_logits = 0, np.zeros((0, 0), np.float32)

    def run(self, epochs: int, held: Training | None = None) -> list[dict[str, float]]:
        """Train; with `held`, stop when it has not improved for long. Gives a point for each epoch."""
        optimiser, least = self._optimiser(), np.inf
        curve: list[dict[str, float]] = []
        for epoch in range(1, epochs + 1):
            trained = self._epoch(optimiser)
            if held is None:
                continue
            logits, loss = self._held_out(held)
            curve.append({"epoch": epoch, "loss": trained, "held_out_loss": loss})
            if loss < least - LEAST_GAIN * abs(least) or epoch == 1:
                least, self.best_epoch, self.best_logits = loss, epoch, logits
            if epoch - self.best_epoch >= max(5, epochs * PATIENCE):
                break
        return curve

    def _optimiser(self) -> torch.optim.Optimizer:
        import torch

        decayed = [tensor for tensor in self.params.values() if tensor.ndim > 1]
        others = [tensor for tensor in self.params.values() if tensor.ndim < 2]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=self.recipe.rate, weight_decay=self.recipe.decay, fused=True)

    def arrays(self) -> dict[str, Array]:
        """The parameters as numpy, in the targets' own units."""
        found = {name: tensor.detach().numpy().copy() for name, tensor in self.params.items()}
        found["out.weight"] = found["out.weight"] * np.float32(self.deviation)
        found["out.bias"] = found["out.bias"] * np.float32(self.deviation) + np.float32(self.mean)
        return found

    def _epoch(self, optimiser: torch.optim.Optimizer) -> float:
        import torch

        total, order = 0.0, torch.randperm(len(self.data), generator=self.dice)
        for rows in torch.split(order, self.recipe.batch):
            losses = self._losses(forward(self.ops, self.fusion, self.params, self._batch(rows)), self.targets[rows])
            loss = (losses * self.weights[rows]).mean()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        return total / len(self.data)

    def _batch(self, rows: Any) -> Any:
        """These rows, some of them without one of their modalities."""
        import torch

        x = Features(*(None if field is None else field[rows] for field in self.x))  # type: ignore[arg-type]
        if len(self.fusion.needs) < 2 or not self.recipe.modality_dropout:
            return x
        luck = torch.rand(len(rows), generator=self.dice)
        both, part = x.has_image & x.has_text, self.recipe.modality_dropout
        has_image = x.has_image & ~(both & (luck < part))
        return replace(x, has_image=has_image, has_text=x.has_text & ~(both & (luck > 1 - part)))

    def _losses(self, logits: Any, targets: Any) -> Any:
        from torch.nn import functional

        if self.data.task == "classes":
            return functional.cross_entropy(logits, targets, reduction="none")
        if self.data.task == "multi_label":
            return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
        if self.data.squared:
            return 0.5 * (logits[:, 0] - targets) ** 2
        return functional.huber_loss(logits[:, 0], targets, reduction="none", delta=1.35)

    def _held_out(self, held: Training) -> tuple[Array, float]:
        """The logits of these rows and their mean loss."""
        import torch

        x = Features(*_tensors(held.features))
        targets = torch.from_numpy(held.targets)
        if held.task == "regression":
            targets = (targets - self.mean) / self.deviation
        with torch.no_grad():
            logits = forward(_torch_ops(0.0, self.dice), self.fusion, self.params, x)
            losses = self._losses(logits, targets) * torch.from_numpy(held.row_weights)
        return logits.numpy(), float(losses.mean())


def starting_point(data: Training, fusion: Fusion, recipe: Recipe) -> dict[str, Array]:
    """The parameters before training; projections start as the identity where sizes allow, so that v . l means what
    the encoder meant by it."""
    rng = np.random.default_rng(data.seed)
    outputs = len(data.labels) or 1
    sizes = {name: _width(getattr(data.features, name)) for name in MODALITIES if name in fusion.needs}
    d = min(recipe.size, *sizes.values())
    p: dict[str, Array] = {}
    for name, size in sizes.items():
        p[f"{name}.weight"] = _projection(d, size, rng)
        p[f"{name}.missing"] = (rng.normal(size=d) / np.sqrt(d)).astype(np.float32)
        if f"{name}_tokens" in fusion.needs:
            p[f"{name}.tokens"] = _projection(d, _width(getattr(data.features, f"{name}_tokens")), rng)
    p.update(fusion.parameters(d, rng))
    width = fusion.width(d)
    if recipe.hidden:
        p["hidden.weight"] = (rng.normal(size=(recipe.hidden, width)) * np.sqrt(2 / width)).astype(np.float32)
        p["hidden.bias"] = np.zeros(recipe.hidden, np.float32)
        width = recipe.hidden
    p["out.weight"], p["out.bias"] = np.zeros((outputs, width), np.float32), np.zeros(outputs, np.float32)
    return p


def _projection(d: int, size: int, rng: np.random.Generator) -> Array:
    """(d, size): the identity, or as near to a rotation as a rectangle comes."""
    if d == size:
        return np.eye(d, dtype=np.float32)
    return np.ascontiguousarray(np.linalg.qr(rng.normal(size=(size, d)))[0].T, np.float32)


def _width(rows: Array) -> int:
    return int(rows.shape[-1])


def _tensors(x: Features) -> tuple[Any, ...]:
    import torch

    fields = (x.image, x.text, x.has_image, x.has_text, x.image_tokens, x.text_tokens)
    return tuple(None if field is None else torch.from_numpy(np.ascontiguousarray(field)) for field in fields)


def _torch_ops(dropout: float, dice: Any) -> Ops:
    """torch's functions; `dropout` falls on the hidden layer, by dice of our own so that the seed rules it."""
    import torch

    def mm(x: Any, w: Any) -> Any:
        return x @ w.T

    def relu(x: Any) -> Any:
        rows = torch.relu(x)
        if not dropout:
            return rows
        return rows * (torch.rand(rows.shape, generator=dice) >= dropout) / (1 - dropout)

    return Ops(mm=mm, concat=lambda parts: torch.cat(parts, -1), exp=torch.exp, relu=relu, where=torch.where)
