"""Heat maps on the picture, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cmprompt.explain.heat import Heat, pixel_box
from cmprompt.lettering import fitted, font_for
from cmprompt.types import Array

if TYPE_CHECKING:
    from PIL.Image import Image

PANEL_PX = 320
CAPTION_PX = 22
GAP_PX = 8
COLUMNS = 4
PALE = 0.7  # how much white is over what the model does not see
STRONGEST = 0.65  # how much of the picture the warmest colour hides
# from nothing to everything: dark blue, violet, red, orange, pale yellow; lightness rises all the way
COLOURS = np.array([(20, 15, 80), (110, 25, 120), (200, 50, 80), (245, 140, 40), (252, 250, 170)], np.float32)


def overlay(picture: Image, heat: Array) -> Image:
    """The picture with (height, width) heat from 0 to 1 over it; where there is none it keeps its own colours."""
    from PIL import Image

    place = np.clip(heat, 0, 1) * (len(COLOURS) - 1)
    low = np.minimum(place.astype(int), len(COLOURS) - 2)
    part = (place - low)[..., None]
    colour = COLOURS[low] * (1 - part) + COLOURS[low + 1] * part  # (height, width, 3)
    weight = STRONGEST * np.clip(heat, 0, 1)[..., None] ** 0.7
    mixed = np.asarray(picture, np.float32) * (1 - weight) + colour * weight
    return Image.fromarray(mixed.round().astype(np.uint8))


def seen_only(picture: Image, box: tuple[float, float, float, float]) -> Image:
    """The picture, pale outside of `box` (left, top, right, bottom); the same one where nothing is outside."""
    from PIL import Image

    left, top, right, bottom = pixel_box(box, picture.size)
    if left <= 0 and top <= 0 and right >= picture.width and bottom >= picture.height:
        return picture
    pale = Image.blend(picture, Image.new("RGB", picture.size, "white"), PALE)
    inside = max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height)
    pale.paste(picture.crop(inside), inside[:2])
    return pale


def panels(picture: Image, heat: Heat, captions: Sequence[str]) -> Image:
    """The picture and one panel for each label, the method named below. `captions` stand under the labels' panels."""
    from PIL import Image, ImageDraw

    small = picture.copy()
    small.thumbnail((PANEL_PX, PANEL_PX))
    across, down = small.width / picture.width, small.height / picture.height  # a thin side stays one pixel
    left, top, right, bottom = heat.box
    scaled = replace(heat, box=(left * across, top * down, right * across, bottom * down))
    ground = seen_only(small, scaled.box)
    shown = [small, *(overlay(ground, scaled.on_picture(i, small.size)) for i in range(len(heat.labels)))]
    columns, rows = min(COLUMNS, len(shown)), -(-len(shown) // COLUMNS)
    width, height = small.width + GAP_PX, small.height + CAPTION_PX + GAP_PX
    sheet = Image.new("RGB", (columns * width + GAP_PX, rows * height + CAPTION_PX + GAP_PX), "white")
    pen, font = ImageDraw.Draw(sheet), font_for("".join(captions), 14)
    for i, (panel, caption) in enumerate(zip(shown, ["", *captions], strict=True)):
        x, y = GAP_PX + i % COLUMNS * width, GAP_PX + i // COLUMNS * height
        sheet.paste(panel, (x, y))
        pen.text((x, y + small.height + 2), fitted(caption, font, small.width), fill="black", font=font)
    note = heat.method if ground is small else f"{heat.method}; pale: not seen by the model"
    note = fitted(note, font, sheet.width - 2 * GAP_PX)
    pen.text((GAP_PX, sheet.height - CAPTION_PX - 2), note, fill=(110, 110, 110), font=font)
    return sheet
