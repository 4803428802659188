"""A small model on disk and a table of coloured pictures, for the commands that fit and measure heads."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from small_models import SMALL, save_model

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 40, 200)}


def write_model(folder: Path) -> str:
    """A model with random weights; what `--model` calls it."""
    return f"local-dir:{save_model(folder, SMALL)}"


def write_pictures(folder: Path, each: int = 20, noise: int = 50, seed: int = 0) -> list[tuple[str, str]]:
    """(path relative to `folder`, colour) of noisy pictures, `each` of every colour."""
    dice = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(each):
        for colour, middle in COLOURS.items():
            shade = np.clip(np.array(middle) + dice.integers(-noise, noise + 1, 3), 0, 255)
            pixels = np.clip(shade + dice.integers(-30, 31, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{colour}-{number}.png")
            rows.append((f"images/{colour}-{number}.png", colour))
    return rows


def write_table(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("image", "label")) -> Path:
    """A CSV of these rows."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path
