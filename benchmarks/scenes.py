"""Drawn scenes of two things, left and right, for the pointing game."""

from collections.abc import Callable
from random import Random

from PIL import Image, ImageDraw

SIZE_PX = 160
Pen = ImageDraw.ImageDraw


def sun(pen: Pen, x: int, y: int, r: int) -> None:
    pen.ellipse((x - r, y - r, x + r, y + r), fill=(250, 200, 30))


def tree(pen: Pen, x: int, y: int, r: int) -> None:
    pen.rectangle((x - r // 6, y, x + r // 6, y + r), fill=(110, 70, 30))
    pen.ellipse((x - r * 3 // 4, y - r, x + r * 3 // 4, y + r // 3), fill=(40, 130, 40))


def flower(pen: Pen, x: int, y: int, r: int) -> None:
    pen.line((x, y, x, y + r), fill=(40, 140, 40), width=max(2, r // 8))
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1), (-0.7, -0.7), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7)):
        cx, cy = x + dx * r * 0.4, y - r * 0.3 + dy * r * 0.4
        pen.ellipse((cx - r * 0.28, cy - r * 0.28, cx + r * 0.28, cy + r * 0.28), fill=(230, 70, 150))
    pen.ellipse((x - r * 0.25, y - r * 0.55, x + r * 0.25, y - r * 0.05), fill=(250, 220, 60))


def house(pen: Pen, x: int, y: int, r: int) -> None:
    pen.rectangle((x - r * 0.8, y - r * 0.2, x + r * 0.8, y + r), fill=(200, 170, 130))
    pen.polygon(((x - r, y - r * 0.2), (x, y - r), (x + r, y - r * 0.2)), fill=(160, 50, 40))
    pen.rectangle((x - r * 0.2, y + r * 0.3, x + r * 0.2, y + r), fill=(90, 60, 40))


def banana(pen: Pen, x: int, y: int, r: int) -> None:
    pen.chord((x - r, y - r, x + r, y + r * 0.7), 20, 160, fill=(245, 215, 50))


def tomato(pen: Pen, x: int, y: int, r: int) -> None:
    pen.ellipse((x - r, y - r * 0.8, x + r, y + r * 0.8), fill=(215, 40, 30))
    pen.polygon(((x - r // 3, y - r * 0.8), (x, y - r * 0.5), (x + r // 3, y - r * 0.8)), fill=(50, 130, 40))


def car(pen: Pen, x: int, y: int, r: int) -> None:
    pen.rectangle((x - r, y, x + r, y + r * 0.5), fill=(40, 70, 190))
    pen.polygon(
        ((x - r * 0.6, y), (x - r * 0.3, y - r * 0.5), (x + r * 0.4, y - r * 0.5), (x + r * 0.7, y)), fill=(60, 90, 210)
    )
    for cx in (x - r * 0.55, x + r * 0.55):
        pen.ellipse((cx - r * 0.25, y + r * 0.25, cx + r * 0.25, y + r * 0.75), fill=(20, 20, 20))


def face(pen: Pen, x: int, y: int, r: int) -> None:
    pen.ellipse((x - r * 0.8, y - r, x + r * 0.8, y + r), fill=(235, 190, 160))
    for cx in (x - r * 0.3, x + r * 0.3):
        pen.ellipse((cx - r * 0.1, y - r * 0.3, cx + r * 0.1, y - r * 0.1), fill=(30, 30, 30))
    pen.arc((x - r * 0.4, y, x + r * 0.4, y + r * 0.6), 10, 170, fill=(150, 40, 40), width=max(2, r // 12))


def fish(pen: Pen, x: int, y: int, r: int) -> None:
    pen.ellipse((x - r, y - r * 0.45, x + r * 0.5, y + r * 0.45), fill=(250, 130, 30))
    pen.polygon(((x + r * 0.3, y), (x + r, y - r * 0.5), (x + r, y + r * 0.5)), fill=(250, 130, 30))
    pen.ellipse((x - r * 0.75, y - r * 0.2, x - r * 0.55, y), fill=(20, 20, 20))


THINGS: dict[str, Callable[[Pen, int, int, int], None]] = {
    "sun": sun,
    "tree": tree,
    "flower": flower,
    "house": house,
    "banana": banana,
    "tomato": tomato,
    "car": car,
    "face": face,
    "fish": fish,
}


Square = tuple[int, int, int]  # x and y of its middle, and half its side


def scene(left: str, right: str, seed: int) -> tuple[Image.Image, list[Square]]:
    """Two things on a plain ground, each somewhere in its half, and the squares that they fill."""
    dice = Random(seed)
    ground = tuple(dice.randrange(150, 250) for _ in range(3))
    picture = Image.new("RGB", (SIZE_PX, SIZE_PX), ground)
    pen, squares = ImageDraw.Draw(picture), []
    for name, middle in ((left, SIZE_PX // 4), (right, SIZE_PX * 3 // 4)):
        r = dice.randrange(24, 36)
        x, y = middle + dice.randrange(-4, 5), dice.randrange(50, 110)
        THINGS[name](pen, x, y, r)
        squares.append((x, y, r))
    return picture, squares
