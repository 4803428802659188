"""Search results to look at: a contact sheet as PNG or HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from cmprompt import inline
from cmprompt.errors import ItemError
from cmprompt.index.collections import Entry
from cmprompt.lettering import fitted, font_for
from cmprompt.types import FileBytes
from cmprompt.utf8 import clean

if TYPE_CHECKING:
    from PIL.Image import Image

TILE_PX = 180
CAPTION_PX = 34
COLUMNS = 5
GAP_PX = 8
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>:root{{color-scheme:light dark}}
body{{font:14px sans-serif;margin:16px}}main{{display:flex;flex-wrap:wrap;gap:12px}}
figure{{width:180px;margin:0}}img{{display:block;max-width:180px;max-height:180px}}
figcaption{{overflow-wrap:anywhere}}</style>
<h1>{title}</h1><main>
{figures}
</main></html>
"""


def caption(rank: int, score: float, entry: Entry) -> str:
    """Two lines: rank, score and second; then the text, else the end of the name."""
    second = "" if entry.time_s is None else f"  at {entry.time_s:.1f} s"
    name = entry.text or entry.id.rpartition("/")[2]
    return f"{rank}  {score:.3f}{second}\n{_shown(name)}"


def to_png(entries: Sequence[Entry], scores: Sequence[float]) -> bytes:
    """The hits in rows of five, best first."""
    from PIL import Image, ImageDraw

    columns, rows = min(COLUMNS, max(1, len(entries))), -(-len(entries) // COLUMNS)
    width, height = TILE_PX + GAP_PX, TILE_PX + CAPTION_PX + GAP_PX
    sheet = Image.new("RGB", (columns * width + GAP_PX, max(1, rows) * height + GAP_PX), "white")
    captions = [caption(rank, score, entry) for rank, (score, entry) in enumerate(zip(scores, entries, strict=True), 1)]
    pen, font = ImageDraw.Draw(sheet), font_for("".join(captions), 12)
    for place, (entry, words) in enumerate(zip(entries, captions, strict=True)):
        x, y = GAP_PX + place % COLUMNS * width, GAP_PX + place // COLUMNS * height
        tile = thumbnail(entry)
        sheet.paste(tile, (x + (TILE_PX - tile.width) // 2, y + (TILE_PX - tile.height) // 2))
        lines = [fitted(line, font, TILE_PX) for line in words.split("\n")]
        pen.text((x, y + TILE_PX + 2), "\n".join(lines), fill="black", font=font)
    return inline.to_png(sheet)


def to_html(entries: Sequence[Entry], scores: Sequence[float], title: str) -> bytes:
    """One page without scripts, the pictures inside it."""
    figures = []
    for rank, (entry, score) in enumerate(zip(entries, scores, strict=True), start=1):
        line, name = caption(rank, score, entry).split("\n")
        title_of = escape(_shown(entry.id), quote=True)
        words = f"{escape(line)}<br>{escape(name)}"
        image = f'<img src="{inline.data_url(thumbnail(entry))}" alt="{title_of}" title="{title_of}">'
        figures.append(f"<figure>{image}<figcaption>{words}</figcaption></figure>")
    return PAGE.format(title=escape(_shown(title)), figures="\n".join(figures)).encode()


def thumbnail(entry: Entry) -> Image:
    """The picture, at most TILE_PX on a side; a grey tile where it cannot be read any more."""
    from PIL import Image

    try:
        picture = _picture(entry)
    except (OSError, ItemError):
        return Image.new("RGB", (TILE_PX, TILE_PX), (225, 225, 225))
    picture.thumbnail((TILE_PX, TILE_PX))
    return picture


def _picture(entry: Entry) -> Image:
    from cmprompt.images import open_rgb

    if entry.path is None:
        raise ItemError("unsupported", "not a file of its own")
    if entry.time_s is not None:
        return _frame(entry.path, entry.time_s)
    return open_rgb(FileBytes(entry.path)(), least_px=TILE_PX)


def _frame(path: str, time_s: float) -> Image:
    from PIL import Image

    from cmprompt.sources.video import frame_at, to_rgb

    return Image.fromarray(to_rgb(frame_at(path, time_s).frame, 2 * TILE_PX))


def _shown(text: str) -> str:
    """Without control characters and bytes that are not UTF-8."""
    return "".join(char if char.isprintable() else " " for char in clean(text))
