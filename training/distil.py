"""The text tower's teachers: CLIP's vectors of 2,600 names and a sentence encoder's of many thousand phrases.

Both are matched twice: each vector through a linear map, and the similarities within a batch (relational).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch import nn
from torch.nn import functional as F

from training import teachers, texts
from training.model import encode_text

CLIP_PROMPTS = ("a photo of a {}", "a {}", "{}", "a photo of a {}.")


@dataclass
class Lessons:
    """Phrases with their teacher's unit rows; the first `named` have CLIP's too."""

    phrases: list[str]
    sentence: torch.Tensor  # (P, 384)
    clip: torch.Tensor  # (K, 512), of the first K phrases
    short: int  # where the captions begin


def lessons(data: Path, cache: Path, names: list[str], captions: list[str]) -> Lessons:
    """`names` are the wordings of the concepts."""
    clip_names, clip = teachers.clip_vectors(data)
    short = [name.split(", ")[0].replace("/", " or ") for name in clip_names]
    rest = [p for p in texts.vocabulary(captions, names) if p not in set(short)]
    phrases, target = [*short, *rest], cache / "minilm.npz"
    if not target.exists() or np.load(target)["phrases"].tolist() != phrases:
        np.savez(target, phrases=np.array(phrases), vectors=teachers.minilm(phrases))
    vectors = torch.from_numpy(np.load(target)["vectors"]).float()
    vectors = F.normalize(vectors - vectors[: len(short) + len(names)].mean(0), dim=1)
    return Lessons(phrases, vectors, torch.from_numpy(clip), len(phrases) - len(set(captions) - set(short)))


class Distiller(nn.Module):
    """The maps from the student's space to each teacher's, and the loss of one batch of phrases."""

    def __init__(self, dim: int, school: Lessons) -> None:
        super().__init__()
        self.school = school
        self.to_sentence = nn.Linear(dim, school.sentence.shape[1], bias=False)
        self.to_clip = nn.Linear(dim, school.clip.shape[1], bias=False)

    def forward(
        self, model: open_clip.CLIP, tokens: texts.Tokens, count: int, rng: np.random.Generator
    ) -> torch.Tensor:
        school, named = self.school, len(self.school.clip)
        # names, words and word pairs, and of captions, which are long and by far the most, a sixth
        parts = (
            (0, named, count // 3),
            (named, school.short, count // 2),
            (school.short, len(school.phrases), count // 6),
        )
        rows = np.concatenate([rng.integers(start, stop, size=size) for start, stop, size in parts])
        words = [school.phrases[row] for row in rows]
        words = [
            CLIP_PROMPTS[rng.integers(4)].format(word) if row < named else word
            for word, row in zip(words, rows, strict=True)
        ]
        student = encode_text(model, tokens(words))  # (B, D)
        with_clip = torch.from_numpy(np.flatnonzero(rows < named))
        sentence, clip = school.sentence[rows], school.clip[rows[with_clip.numpy()]]
        loss = (1 - F.cosine_similarity(self.to_sentence(student), sentence)).mean()
        loss = loss + (1 - F.cosine_similarity(self.to_clip(student[with_clip]), clip)).mean()
        return loss + relations(student, sentence) + relations(student[with_clip], clip)


def relations(student: torch.Tensor, teacher: torch.Tensor, scale: float = 12.0) -> torch.Tensor:
    """KL between the rows' softmax over the batch, teacher to student, without the diagonal."""
    off = torch.eye(len(student), dtype=torch.bool)
    target = (scale * teacher @ teacher.T).masked_fill(off, -1e4).softmax(1)
    guess = (scale * student @ student.T).masked_fill(off, -1e4).log_softmax(1)
    return F.kl_div(guess, target, reduction="batchmean")
