"""Stage one: the image tower, against concepts, captions and what a teacher says, in the text teachers' space.

Beside it the trunk's pooled features learn to tell what the teacher of pictures has before its classifier: far more of
each image than a name says. Of classes held out it sees no image, so the teacher says nothing of them either.
The text tower takes no part: texts are their teachers' features through a map that learns beside the image tower, which
costs next to nothing.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import open_clip
import torch
from torch.nn import functional as F

from training.corpus import Batch, Corpus
from training.lessons import Lessons, spoken
from training.model import build, native_bf16, pixels
from training.parallel import share_gradients
from training.probe import distillation
from training.space import Space
from training.targets import concept_loss

STAGES = ((0.0, 48, 0.5), (0.35, 64, 0.4), (0.7, 96, 0.4))  # from this progress on: size in px, smallest crop
STEM_UNTIL = 0.4  # the stem, a third of the cost, has learned its edges by then and stays as it is
TEACHER_WEIGHT, CAPTION_WEIGHT, SIGHT_WEIGHT, TOLD_WEIGHT = 0.5, 0.5, 3.0, 1.0
NEGATIVES = 512  # captions drawn as negatives in each step, and images of past steps kept as such
WARM_UP = 0.04
DECAY = 0.05


@dataclass(frozen=True)
class Recipe:
    backbone: str
    images: int  # seen in all, over all processes
    batch: int  # of each process
    lr: float
    seed: int


class Pictures:
    """The image tower, the space it learns in, and what a checkpoint holds."""

    def __init__(self, recipe: Recipe, corpus: Corpus, lessons: Lessons, names: list[str]) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.corpus, self.lessons = recipe, corpus, lessons
        self.model: open_clip.CLIP = build(recipe.backbone)
        self.sight = torch.nn.Linear(self.model.visual.trunk.num_features, 1280)  # to the teacher's features
        wordings = [concept.wordings[0] for concept in corpus.targets.table.values()]
        self.space = Space(lessons.of(wordings), self.model.text_projection.shape[1])
        self.columns = [row for row, name in enumerate(names) if not corpus.forbidden.search(name)]
        spoken_names = [spoken(names[row]) for row in self.columns]
        self.names = lessons.of(spoken_names)  # (K, T) what the teacher of pictures knows
        keys = {key: row for row, key in enumerate(wordings)}
        self.shared = [(row, keys[name]) for row, name in enumerate(spoken_names) if name in keys]
        self.captions = torch.stack(
            [lessons.of([str(c) for c in five]).half() for five in corpus.captions]
        )  # (N, 5, T)
        modules = (self.model.visual, self.space, self.sight)
        named = [pair for module in modules for pair in module.named_parameters()]
        flat = [p for n, p in named if p.ndim < 2 or n == "map.weight"]
        deep = [p for n, p in named if not (p.ndim < 2 or n == "map.weight")]
        groups = [{"params": deep, "weight_decay": DECAY}, {"params": flat, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.99), fused=True)
        self.parameters = [*deep, *flat]
        self.step = 0
        self.queue = torch.zeros(0, self.space.residual.shape[1])  # (Q, D) captioned images of past steps

    def state(self) -> dict[str, Any]:
        towers = {"model": self.model.state_dict(), "space": self.space.state_dict()}
        towers |= {"sight": self.sight.state_dict()}
        return towers | {"optimizer": self.optimizer.state_dict(), "step": self.step, "queue": self.queue}

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.space.load_state_dict(state["space"])
        self.sight.load_state_dict(state["sight"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.queue = state["step"], state["queue"]

    def progress(self, world: int) -> float:
        return self.step * self.recipe.batch * world / self.recipe.images

    def size_px(self, world: int) -> int:
        return self.stage(world)[0]

    def stage(self, world: int) -> tuple[int, float]:
        """Size in px, and the smallest crop."""
        return [stage[1:] for stage in STAGES if self.progress(world) >= stage[0]][-1]

    def advance(self, rank: int, world: int) -> dict[str, float]:
        """One step; what it draws depends on the seed, the step and the process alone."""
        progress, (size_px, smallest) = self.progress(world), self.stage(world)
        drawn = np.random.default_rng([self.recipe.seed, rank, self.step])
        torch.manual_seed(int(drawn.integers(2**31)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * rate(progress)
        for part in (self.model.visual.trunk.conv1, self.model.visual.trunk.bn1):
            part.requires_grad_(progress < STEM_UNTIL)
        parts = self.losses(self.corpus.draw(self.recipe.batch, size_px, smallest, drawn), drawn)
        self.optimizer.zero_grad()
        sum(parts.values()).backward()  # type: ignore[union-attr]
        share_gradients(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, 5.0)
        self.optimizer.step()
        self.step += 1
        return {name: loss.item() for name, loss in parts.items()}

    def losses(self, batch: Batch, drawn: np.random.Generator) -> dict[str, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=native_bf16()):
            pooled = self.model.visual.trunk(pixels(batch.pixels))  # (N, F)
            rows = self.model.visual.head(pooled)
        sight = F.cosine_similarity(self.sight(pooled.float()), batch.seen)
        images, scale = F.normalize(rows.float(), dim=1), self.space.scale  # (N, D)
        heads = self.space.heads(residual=self.step % 2 == 0)
        logits = scale * images @ heads.T  # (N, V)
        named = scale * images @ self.teacher_heads(heads).T  # (N, K)
        return {
            "sight": SIGHT_WEIGHT * (1 - sight).mean(),
            "concept": concept_loss(logits, batch.weights, batch.mask),
            "told": TOLD_WEIGHT * distillation(logits, batch.told),
            "teacher": TEACHER_WEIGHT * soft_cross_entropy(named, batch.soft[:, self.columns], batch.trust),
            "caption": CAPTION_WEIGHT * self.contrast(images[batch.captioned], batch.captions, scale, drawn),
        }

    def teacher_heads(self, heads: torch.Tensor) -> torch.Tensor:
        """(K, D) unit rows of the teacher's names; one that is a concept is that concept."""
        rows = self.space.texts(self.names)
        here, there = (torch.tensor(column) for column in zip(*self.shared, strict=True))
        return rows.index_copy(0, here, heads[there])

    def contrast(
        self, images: torch.Tensor, chosen: np.ndarray[Any, Any], scale: torch.Tensor, drawn: np.random.Generator
    ) -> torch.Tensor:
        """InfoNCE: each image's caption against those of other images, and the other way with a queue of images."""
        others = np.setdiff1d(drawn.choice(self.corpus.parts["flickr"].rows, NEGATIVES), chosen)
        rows = np.concatenate([chosen, others])
        features = self.captions[rows, drawn.integers(5, size=len(rows))].float()
        texts, target = self.space.texts(features), torch.arange(len(images))
        to_text = F.cross_entropy(scale * images @ texts.T, target)
        to_image = F.cross_entropy(scale * texts[: len(images)] @ torch.cat([images, self.queue]).T, target)
        self.queue = torch.cat([images.detach(), self.queue])[:NEGATIVES]
        return (to_text + to_image) / 2


def soft_cross_entropy(logits: torch.Tensor, soft: torch.Tensor, trust: torch.Tensor) -> torch.Tensor:
    """Cross entropy with the teacher's probabilities of the names that may be learnt; all (N, K), `trust` (N,).

    Weighed by its confidence in each image, and a mean over those that it is trusted in wholly.
    """
    mass = soft.sum(1, keepdim=True)
    confidence = (soft.max(1).values * mass[:, 0]).sqrt()
    losses = -(soft / mass.clamp(min=1e-6) * logits.log_softmax(1)).sum(1)
    return (trust * confidence * losses).sum() / (trust == 1).sum()


def rate(progress: float) -> float:
    """Up over the first steps, then a half cosine down to a hundredth."""
    if progress < WARM_UP:
        return progress / WARM_UP + 1e-3
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1, (progress - WARM_UP) / (1 - WARM_UP))))
