"""Training of the small networks: AdamW, modality dropout, and what learns with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cmprompt.encoders.devices import torch_threads
from cmprompt.encoders.vocabulary import PADDING, WIDTH, vocabulary_of, word_ids
from cmprompt.heads.adamw import AdamW
from cmprompt.heads.network import Fusion, NetworkHead, Ops, forward, fused, unit
from cmprompt.heads.recipe import MODALITIES, Recipe, starting_point
from cmprompt.heads.scaling import Scaling
from cmprompt.heads.training import Training
from cmprompt.heads.tuned import Tuned
from cmprompt.types import Array, Features, Head

PATIENCE = 0.05  # the part of all epochs for which held-out rows may fail to improve
LEAST_GAIN, LEAST_GAIN_NATS = 5e-3, 1e-3  # a smaller part of the held-out loss, or less of it, is no improvement
UNKNOWN_PART = 0.05  # of the words that a learned embedding does not get to see at each step


class Trainer:
    """The parameters as tensors, and the loop over them."""

    def __init__(self, data: Training, fusion: Fusion, recipe: Recipe) -> None:
        import torch

        self.data, self.fusion, self.recipe = data, fusion, recipe
        self.dice = torch.Generator().manual_seed(data.seed)
        self.params = {name: torch.from_numpy(array) for name, array in starting_point(data, fusion, recipe).items()}
        for tensor in self.params.values():
            tensor.requires_grad_(True)
        self.scaling = Scaling.of(data.features) if fusion.raw else None
        self.x = self._inputs(data.features)
        use_views = data.views is not None and "image" in fusion.needs
        self.views = torch.from_numpy(self.scaled(data.views).astype(np.float32)) if use_views else None
        numbers = data.task == "regression"
        self.mean = float(data.targets.mean()) if numbers else 0.0
        self.deviation = (float(data.targets.std()) or 1.0) if numbers else 1.0
        self.targets = torch.from_numpy((data.targets - self.mean) / self.deviation if numbers else data.targets)
        self.weights = torch.from_numpy(data.row_weights)
        self.ops = _torch_ops(recipe.dropout, self.dice)
        self.best_epoch, self.best_logits = 0, np.zeros((0, 0), np.float32)
        self.vocabulary: tuple[str, ...] = ()
        self.reader, self.ids = None, None
        if data.words and "text" in fusion.needs:
            from cmprompt.encoders.reader import Reader

            self.vocabulary = vocabulary_of(filter(None, data.texts))
            self.reader, self.ids = Reader(data.words, len(self.vocabulary), data.seed), self._ids(data)

    def run(self, epochs: int, held: Training | None = None, *, begun: bool = False) -> list[dict[str, float]]:
        """Train; with `held`, stop when it has not improved for long. Gives a point for each epoch.

        `begun`: the parameters are good for something before the first epoch already, and may be the best.
        """
        with torch_threads(1 if self.reader is None and self.data.features.image_tokens is None else None):
            return self._run(epochs, held, begun)

    def _run(self, epochs: int, held: Training | None, begun: bool) -> list[dict[str, float]]:
        recipe, least = self.recipe, np.inf
        optimiser = AdamW(self.groups(), recipe.rate, decay=recipe.decay)
        curve: list[dict[str, float]] = []
        if held is not None and begun:
            self.best_logits, least = self.held_out(held)
            curve.append({"epoch": 0, "loss": self.held_out(self.data)[1], "held_out_loss": least})
        for epoch in range(1, epochs + 1):
            trained = self._epoch(optimiser)
            if held is None:
                continue
            logits, loss = self.held_out(held)
            curve.append({"epoch": epoch, "loss": trained, "held_out_loss": loss})
            if least == np.inf or loss < least - max(LEAST_GAIN * least, LEAST_GAIN_NATS):
                least, self.best_epoch, self.best_logits = loss, epoch, logits
            if epoch - self.best_epoch >= max(5, epochs * PATIENCE):
                break
        return curve

    def groups(self) -> list[dict[str, Any]]:
        """What is trained, for an optimiser; planes decay, the rest does not."""
        tensors = [*self.params.values(), *(self.reader.parameters() if self.reader else ())]
        others = [tensor for tensor in tensors if tensor.ndim < 2]
        return [{"params": [t for t in tensors if t.ndim > 1]}, {"params": others, "weight_decay": 0.0}]

    def head(self, kind: str, temperature: float = 1.0) -> Head:
        """What was trained, with the embedding if there is one."""
        data = self.data
        head = NetworkHead(kind, self.arrays(), data.labels, data.model_id, self.fusion.needs, temperature)
        if self.reader is None or self.data.encoder is None:
            return head
        from cmprompt.encoders.tuned import Tower, with_towers

        weights = {name: tensor.numpy().copy() for name, tensor in self.reader.state_dict().items()}
        tower = Tower("text", weights, {"kind": self.data.words, "vocabulary": list(self.vocabulary)})
        encoder = with_towers(self.data.encoder, [tower])
        return Tuned(replace(head, model_id=encoder.model_id), encoder, (tower,))

    def arrays(self) -> dict[str, Array]:
        """The parameters as numpy, for features and targets in their own units."""
        found = {name: tensor.detach().numpy().copy() for name, tensor in self.params.items()}
        found["out.weight"] = found["out.weight"] * np.float32(self.deviation)
        found["out.bias"] = found["out.bias"] * np.float32(self.deviation) + np.float32(self.mean)
        return self.scaling.undone(found) if self.scaling else found

    def _epoch(self, optimiser: AdamW) -> float:
        import torch

        total, order = 0.0, torch.randperm(len(self.data), generator=self.dice)
        for rows in torch.split(order, self.recipe.batch):
            loss = self.loss(self.batch(rows), rows)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        return total / len(self.data)

    def loss(self, x: Any, rows: Any) -> Any:
        """The mean loss of `x`, the features of these rows."""
        losses = self._losses(forward(self.ops, self.fusion, self.params, x), self.targets[rows])
        return (losses * self.weights[rows]).mean()

    def batch(self, rows: Any) -> Any:
        """These rows, some of them without one of their modalities."""
        import torch

        x = self._sampled(rows, self._rows(rows))
        if self.reader is not None and self.ids is not None:
            from cmprompt.encoders.reader import with_unknowns

            x = self._read(x, with_unknowns(self.ids[rows], UNKNOWN_PART, self.dice))
        if len(self.fusion.needs) < 2 or not self.recipe.modality_dropout:
            return x
        luck = torch.rand(len(rows), generator=self.dice)
        both, part = x.has_image & x.has_text, self.recipe.modality_dropout
        has_image = x.has_image & ~(both & (luck < part))
        return replace(x, has_image=has_image, has_text=x.has_text & ~(both & (luck > 1 - part)))

    def _sampled(self, rows: Any, x: Any) -> Any:
        """`x` with one of the views of each row, or the row itself, as its image."""
        import torch

        if self.views is None:
            return x
        drawn = torch.randint(-1, self.views.shape[1], (len(rows),), generator=self.dice)
        return replace(x, image=torch.where(drawn[:, None] < 0, x.image, self.views[rows, drawn.clamp(min=0)]))

    def scaled(self, rows: Any) -> Any:
        """Image features as tensors, in the units in which they are trained on."""
        return rows if self.scaling is None else self.scaling.done(rows)

    def start_from(self, weight: Array, bias: Array) -> None:
        """Put a plane (K, D), (K,) for features and targets in their own units in place of the last layer."""
        import torch

        if self.scaling is not None:
            weight, bias = weight * self.scaling.deviation, bias + weight @ self.scaling.mean
        plane = {"out.weight": weight / self.deviation, "out.bias": (bias - self.mean) / self.deviation}
        with torch.no_grad():
            for name, array in plane.items():
                self.params[name].copy_(torch.from_numpy(np.asarray(array, np.float32)))

    def centre_stand_ins(self) -> None:
        """Let a missing modality stand where its rows have their middle, once projected."""
        import torch

        every = Features(*self.x)
        for name in MODALITIES:
            rows, has = getattr(every, name), getattr(every, f"has_{name}")
            if f"{name}.weight" in self.params and has.any():
                with torch.no_grad():
                    middle = unit(rows[has] @ self.params[f"{name}.weight"].T).mean(0)
                    self.params[f"{name}.missing"].copy_(unit(middle))

    def fused(self, rows: Array, has_image: Array, has_text: Array) -> Array:
        """(M, W) what the fusion makes of these (M,) rows with these modalities, as the parameters stand."""
        import torch

        parts = []
        with torch.no_grad():
            for start in range(0, len(rows), self.recipe.batch):
                part = slice(start, start + self.recipe.batch)
                x = self._rows(torch.from_numpy(rows[part]))
                x = replace(x, has_image=torch.from_numpy(has_image[part]), has_text=torch.from_numpy(has_text[part]))
                parts.append(fused(_torch_ops(0.0, self.dice), self.fusion, self.params, x).numpy())
        return np.concatenate(parts)

    def _rows(self, rows: Any) -> Any:
        return Features(*self.x).take(rows)

    def _inputs(self, features: Features) -> tuple[Any, ...]:
        """The features as tensors, those of the image scaled where the fusion reads them raw."""
        if self.scaling and features.image is not None:
            features = replace(features, image=self.scaling.done(features.image).astype(np.float32))
        return _tensors(features)

    def _ids(self, data: Training) -> Any:
        """(N, L) words of the rows' texts, L that of the longest."""
        import torch

        ids = word_ids(data.texts, self.vocabulary)
        return torch.from_numpy(ids[:, : int((ids != PADDING).sum(1).max())])

    def _read(self, x: Any, ids: Any) -> Any:
        """`x` with the embedding's vectors as its text and words; as wide as the encoder says that texts are."""
        from torch.nn import functional

        assert self.reader is not None
        more = (0, x.text.shape[1] - WIDTH)
        text, words = (functional.pad(rows, more) for rows in self.reader(ids))
        return replace(x, text=text, text_tokens=None if x.text_tokens is None else words)

    def _losses(self, logits: Any, targets: Any) -> Any:
        from torch.nn import functional

        if self.data.task == "classes":
            return functional.cross_entropy(logits, targets, reduction="none")
        if self.data.task == "multi_label":
            return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
        if self.data.squared:
            return 0.5 * (logits[:, 0] - targets) ** 2
        return functional.huber_loss(logits[:, 0], targets, reduction="none", delta=1.35)

    def held_out(self, held: Training) -> tuple[Array, float]:
        """The logits of these rows and their mean loss, as the parameters stand."""
        import torch

        x = Features(*self._inputs(held.features))
        targets = torch.from_numpy(held.targets)
        if held.task == "regression":
            targets = (targets - self.mean) / self.deviation
        with torch.no_grad():
            x = self._read(x, self._ids(held)) if self.reader is not None else x
            logits = forward(_torch_ops(0.0, self.dice), self.fusion, self.params, x)
            losses = self._losses(logits, targets) * torch.from_numpy(held.row_weights)
        return logits.numpy(), float(losses.mean())


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
