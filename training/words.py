"""Stage two: the text tower, into the space that the images learned in, which stays as it is.

Three lessons in each step: phrases of every kind against their place in the space; names in changing wordings and
templates against the images of their concepts; captions against the captioned images.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import open_clip
import torch
from torch.nn import functional as F

from training.corpus import Corpus
from training.lessons import Lessons
from training.model import encode_text, native_bf16
from training.parallel import share_gradients
from training.pictures import rate
from training.space import Space
from training.targets import concept_loss
from training.texts import TEMPLATES, Tokens, phrase

PHRASES, NAMES, CAPTIONS, IMAGES = 96, 64, 64, 512  # of a step and a process
RELATION_SCALE = 12.0
SETTLE_STEPS, SETTLE_LR = 600, 2e-3
# share of each set among the stored images that the text tower is held against
SHARES = {"tiny": 0.5, "cifar-train": 0.25, "flickr": 0.1, "clothing": 0.07, "grocery": 0.04, "weather": 0.03}


@dataclass
class Seen:
    """The training images as the finished image tower has them."""

    rows: torch.Tensor  # (N, D) float16 unit rows
    label: torch.Tensor  # (N,) row in the corpus's tables of weights and masks
    share: torch.Tensor  # (N,) how often each is drawn
    captioned: torch.Tensor  # (F, D) of the captioned images
    captions: list[list[str]]  # F times 5


class Words:
    def __init__(
        self, model: open_clip.CLIP, space: Space, corpus: Corpus, lessons: Lessons, seen: Seen, seed: int, lr: float
    ) -> None:
        self.model, self.corpus, self.lessons, self.seen = model, corpus, lessons, seen
        self.seed, self.lr, self.step = seed, lr, 0
        self.tokens = Tokens(model.vocab_size, model.context_length)
        self.concepts = list(corpus.targets.table.values())
        with torch.no_grad():
            self.scale = float(space.scale)
        self.heads = settle(space.heads().detach(), self.scale, seen, corpus, seed)  # (V, D)
        with torch.no_grad():
            places = torch.cat([space.texts(part.float()) for part in lessons.features.split(4096)])  # (P, D)
            known = {w: row for row, c in enumerate(self.concepts) for w in reversed(c.wordings) if w in lessons.row}
            places[[lessons.row[word] for word in known]] = self.heads[list(known.values())]
        self.places = places
        text = [(n, p) for n, p in model.named_parameters() if not n.startswith("visual.") and n != "logit_scale"]
        flat = [p for n, p in text if p.ndim < 2 or "embedding" in n]
        deep = [p for n, p in text if not (p.ndim < 2 or "embedding" in n)]
        groups = [{"params": deep, "weight_decay": 0.05}, {"params": flat, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
        self.parameters = [*deep, *flat]

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def advance(self, rank: int, steps: int) -> dict[str, float]:
        drawn = np.random.default_rng([self.seed + 1, rank, self.step])
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * rate(self.step / steps)
        parts = self.losses(drawn)
        self.optimizer.zero_grad()
        sum(parts.values()).backward()  # type: ignore[union-attr]
        share_gradients(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        return {name: loss.item() for name, loss in parts.items()}

    def losses(self, drawn: np.random.Generator) -> dict[str, torch.Tensor]:
        phrases, places = self.phrases(drawn)
        names = drawn.choice(len(self.concepts), NAMES, replace=False)
        wordings = [phrase(self.concepts[row].wordings, drawn) for row in names]
        photos = drawn.choice(len(self.seen.captioned), CAPTIONS, replace=False)
        captions = [self.seen.captions[row][drawn.integers(5)] for row in photos]
        with torch.autocast("cpu", torch.bfloat16, enabled=native_bf16()):
            rows = encode_text(self.model, self.tokens([*phrases, *wordings, *captions])).float()  # (B, D)
        said, named, told = rows.split([len(phrases), NAMES, CAPTIONS])
        where = torch.from_numpy(names)
        return {
            "place": 4 * (1 - (said * places).sum(1)).mean() + relations(said, places),
            "name": 4 * (1 - (named * self.heads[where]).sum(1)).mean()
            + F.cross_entropy(self.scale * named @ self.heads.T, where),
            "image": self.images(self.heads.index_copy(0, where, named), drawn),
            "caption": self.contrast(told, torch.from_numpy(photos)),
        }

    def phrases(self, drawn: np.random.Generator) -> tuple[list[str], torch.Tensor]:
        """Names, words and word pairs, and captions, which are long and by far the most, with their places."""
        stretches = ((0, self.lessons.short), (self.lessons.short, self.lessons.long), (self.lessons.long, None))
        total = len(self.lessons.phrases)
        picked = np.concatenate(
            [
                drawn.integers(start, stop or total, size=size)
                for (start, stop), size in zip(stretches, (PHRASES // 3, PHRASES // 2, PHRASES // 6), strict=True)
            ]
        )
        said = [self.lessons.phrases[row] for row in picked]
        templated = drawn.random(len(picked)) < np.where(picked < self.lessons.long, 0.6, 0.0)
        said = [
            TEMPLATES[drawn.integers(len(TEMPLATES))].format(text) if wrapped else text
            for text, wrapped in zip(said, templated, strict=True)
        ]
        return said, self.places[picked]

    def images(self, heads: torch.Tensor, drawn: np.random.Generator) -> torch.Tensor:
        """The concept loss of stored images, against heads some of which are fresh from the tower."""
        picker = torch.Generator().manual_seed(int(drawn.integers(2**31)))
        rows = torch.multinomial(self.seen.share, IMAGES, replacement=True, generator=picker)
        return image_loss(heads, self.scale, self.seen, self.corpus, rows)

    def contrast(self, texts: torch.Tensor, photos: torch.Tensor) -> torch.Tensor:
        """InfoNCE of captions against every captioned image, and of their images against the captions."""
        logits = self.scale * texts @ self.seen.captioned.float().T  # (K, F)
        here = torch.arange(len(texts))
        return (F.cross_entropy(logits, photos) + F.cross_entropy(logits[:, photos].T, here)) / 2


def image_loss(heads: torch.Tensor, scale: float, seen: Seen, corpus: Corpus, rows: torch.Tensor) -> torch.Tensor:
    label = seen.label[rows]
    return concept_loss(scale * seen.rows[rows].float() @ heads.T, corpus.weights[label], corpus.masks[label])


def settle(heads: torch.Tensor, scale: float, seen: Seen, corpus: Corpus, seed: int) -> torch.Tensor:
    """(V, D) unit rows: the concepts held against the images as they ended, drawn by `share`; they stay near.

    With every fourth photo from CIFAR its ten names gain five points, and the others lose nothing.
    """
    table = heads.clone().requires_grad_()
    optimizer = torch.optim.Adam([table], lr=SETTLE_LR)
    picker = torch.Generator().manual_seed(seed)
    for step in range(SETTLE_STEPS):
        optimizer.param_groups[0]["lr"] = SETTLE_LR * (1 - step / SETTLE_STEPS)
        rows = torch.multinomial(seen.share, 1024, replacement=True, generator=picker)
        moved = 1 - F.cosine_similarity(table, heads).mean()
        loss = image_loss(F.normalize(table, dim=1), scale, seen, corpus, rows) + 3 * moved
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return F.normalize(table.detach(), dim=1)


def relations(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL between the rows' softmax over the batch, teacher to student, without the diagonal (RKD, by similarity)."""
    off = torch.eye(len(student), dtype=torch.bool)
    target = (RELATION_SCALE * teacher @ teacher.T).masked_fill(off, -1e4).softmax(1)
    guess = (RELATION_SCALE * student @ student.T).masked_fill(off, -1e4).log_softmax(1)
    return F.kl_div(guess, target, reduction="batchmean")
