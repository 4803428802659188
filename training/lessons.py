"""Every text of the recipe with its teachers' features: what the map and the text tower learn from."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from training import teachers, texts


@dataclass
class Lessons:
    """Phrases in three stretches: names, then words and word pairs (from `short`), then captions (from `long`)."""

    phrases: list[str]
    features: torch.Tensor  # (P, T) float16
    short: int
    long: int

    def __post_init__(self) -> None:
        self.row = {phrase: row for row, phrase in enumerate(self.phrases)}

    def of(self, phrases: list[str]) -> torch.Tensor:
        """(M, T) float32."""
        return self.features[[self.row[phrase] for phrase in phrases]].float()


def lessons(data: Path, cache: Path, names: list[str], captions: list[str]) -> Lessons:
    """`names` are the wordings of the concepts; the teachers are asked once, and their answers kept in the cache."""
    clip_names, clip = teachers.clip_vectors(data)
    named = list(dict.fromkeys([*(spoken(name) for name in clip_names), *names]))
    rest = texts.vocabulary(captions)
    short = [phrase for phrase in rest if phrase not in set(named)]
    long = list(dict.fromkeys(captions))
    phrases = [*named, *short, *long]
    kept = cache / f"phrases-{sha256(json.dumps(phrases).encode()).hexdigest()[:12]}.npy"
    if not kept.exists():
        np.save(kept, teachers.text_features(phrases, [spoken(name) for name in clip_names], clip))
    return Lessons(phrases, torch.from_numpy(np.load(kept)), len(named), len(named) + len(short))


def spoken(name: str) -> str:
    """A dictionary's entry as one would say it: its first synonym."""
    return name.split(", ")[0].replace("/", " or ").replace("_", " ")
