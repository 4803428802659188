"""A street that is drawn, for a first heat map: a school bus, a road and a tree, each at a place that one can check."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH, HEIGHT, FINER = 640, 480, 2  # drawn larger and shrunk, for smooth edges
SKY_ABOVE, SKY_BELOW = (120, 170, 225), (210, 225, 235)
BLACK, GREY, YELLOW, PANE = "#191919", "#969696", "#f5b914", "#323c4b"
PARTS = (  # shape, left, top, right, bottom, colour; what comes later covers what came before
    ("rectangle", 0, 300, 640, 325, "#5a823c"),  # the verge
    ("rectangle", 0, 320, 640, 480, "#5f5f62"),  # the road
    *(("rectangle", x, 425, x + 50, 433, "#e6e6dc") for x in range(0, 640, 100)),
    ("rectangle", 40, 280, 60, 322, "#50371e"),  # the tree
    ("ellipse", -30, 105, 130, 300, "#32692d"),
    ("rounded_rectangle", 165, 165, 565, 370, YELLOW),  # the bus
    ("rounded_rectangle", 520, 240, 615, 370, YELLOW),
    *(("rounded_rectangle", x, 195, x + 42, 245, PANE) for x in range(185, 505, 55)),
    ("rectangle", 165, 280, 615, 290, BLACK),
    ("rectangle", 165, 310, 615, 316, BLACK),
    *(("ellipse", x - 37, 333, x + 37, 407, BLACK) for x in (250, 505)),
    *(("ellipse", x - 17, 353, x + 17, 387, GREY) for x in (250, 505)),
)


def draw_scene() -> Image:
    """The picture, always the same."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (WIDTH * FINER, HEIGHT * FINER))
    pen = ImageDraw.Draw(picture)
    for y in range(picture.height):
        part = y / picture.height
        shade = tuple(round(a + part * (b - a)) for a, b in zip(SKY_ABOVE, SKY_BELOW, strict=True))
        pen.line((0, y, picture.width, y), fill=shade)
    for shape, left, top, right, bottom, colour in PARTS:
        corners = tuple(FINER * place for place in (left, top, right, bottom))
        more = {"radius": 18 * FINER} if shape == "rounded_rectangle" and right - left > 50 else {}
        getattr(pen, shape)(corners, fill=colour, **more)
    return picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
