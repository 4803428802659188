"""Words on drawn pictures: a font that has their letters, and words cut to a width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

# For letters that Pillow's own font lacks: what Linux, macOS and Windows call theirs.
SYSTEM_FONTS = (
    "DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "wqy-microhei.ttc",
    "Arial Unicode.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "msyh.ttc", "arial.ttf",
)  # fmt: skip
UNASSIGNED = "\U0010fffe"  # no font has it: it is drawn as a missing letter is


def font_for(words: str, size_px: int) -> FreeTypeFont | ImageFont:
    """Pillow's own font, or the one of this machine that lacks the fewest letters of `words`."""
    from PIL import ImageFont

    best = ImageFont.load_default(size_px)
    fewest = missing(best, words)
    for name in SYSTEM_FONTS:
        if not fewest:
            break
        try:
            font = ImageFont.truetype(name, size_px)
        except OSError:
            continue
        if (lacks := missing(font, words)) < fewest:
            best, fewest = font, lacks
    return best


def missing(font: FreeTypeFont | ImageFont, words: str) -> int:
    """How many of the letters in `words` the font does not have."""
    box = _drawn(font, UNASSIGNED)
    return sum(_drawn(font, letter) == box for letter in set(words) if letter.isalnum())


def _drawn(font: FreeTypeFont | ImageFont, letter: str) -> bytes:
    pixels: Any = font.getmask(letter)
    return bytes(pixels)


def fitted(text: str, font: FreeTypeFont | ImageFont, width_px: float) -> str:
    """`text`, or as much of it as goes into a width, with dots behind."""
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "...") > width_px:
        text = text[:-1]
    return text + "..."
