"""Sample photos, labelled pairs, questions and label files, so that every command can be tried at once.

The photos are those that scikit-image and scikit-learn, two dependencies, carry in their wheels; the rest is drawn. A
clip of some of them is made where the extra `[video]` is installed.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cmprompt.errors import OutputError
from cmprompt.examples.scene import draw_scene
from cmprompt.examples.texts import CHINESE, DESCRIPTIONS, KINDS, LABELS, POSTS, QUESTIONS

if TYPE_CHECKING:
    from PIL.Image import Image

# our name, the package, its file, what the photo shows, its label
PHOTOS = (
    ("astronaut.png", "skimage", "data/astronaut.png", "an astronaut in an orange suit, smiling", "person"),
    ("building.jpg", "sklearn", "datasets/images/china.jpg", "a Chinese temple building with a tiled roof", "building"),
    ("cat.png", "skimage", "data/chelsea.png", "a ginger tabby cat looking at the camera", "cat"),
    ("coffee.png", "skimage", "data/coffee.png", "a cup of coffee with a spoon on a saucer", "coffee"),
    ("coins.png", "skimage", "data/coins.png", "rows of old coins on a dark table", "coins"),
    ("flower.jpg", "sklearn", "datasets/images/flower.jpg", "a pink flower in a garden", "flower"),
    ("galaxies.jpg", "skimage", "data/hubble_deep_field.jpg", "galaxies and stars in deep space", "space"),
    ("grass.png", "skimage", "data/grass.png", "blades of grass seen close", "grass"),
    ("moon.png", "skimage", "data/moon.png", "craters on the surface of the moon", "moon"),
    ("motorcycle.png", "skimage", "data/motorcycle_left.png", "a red motorcycle in a garage", "motorcycle"),
    ("retina.jpg", "skimage", "data/retina.jpg", "the retina of an eye", "retina"),
    ("rocket.jpg", "skimage", "data/rocket.jpg", "a rocket standing on its launch pad", "rocket"),
    ("wall.png", "skimage", "data/brick.png", "a brick wall", "wall"),
)
CLIP = ("coffee.png", "building.jpg", "rocket.jpg")  # two seconds of each
CLIP_SIZE, CLIP_FPS = (320, 240), 10
SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = ("red", "green", "blue")
SHAPES_OF_EACH = 12


def write_examples(folder: Path) -> list[Path]:
    """Fill `folder` and return what was written. Raises OutputError where it cannot."""
    try:
        return list(_write_all(folder))
    except OSError as error:
        raise OutputError(f"cannot write examples to {folder}: {error.strerror}") from None


def _write_all(folder: Path) -> Iterator[Path]:
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    (folder / "shapes").mkdir(exist_ok=True)
    rows = []
    for name, package, source, caption, label in PHOTOS:
        path = installed(package, source)
        if path is not None:
            yield Path(shutil.copyfile(path, folder / "photos" / name))
            rows.append((f"photos/{name}", caption, label))
    yield _write_scene(folder / "bus.png")
    shown = [folder / "photos" / name for name in CLIP if (folder / "photos" / name).exists()]
    if shown and find_spec("av"):
        yield _write_clip(folder / "clip.mp4", shown)
    yield _write_table(folder / "photos.csv", rows)
    yield _write_table(folder / "pairs.csv", list(_draw_shapes(folder)))
    here = {name.removeprefix("photos/") for name, _, _ in rows}
    posts = [(f"photos/{name}", text, tone) for name, text, tone in POSTS if name in here]
    yield _write_table(folder / "posts.csv", posts)
    yield _write_table(folder / "questions.csv", list(QUESTIONS), ("image", "question", "choices"))
    yield _write_text(folder / "labels.txt", LABELS)
    yield _write_text(folder / "chinese.txt", CHINESE)
    yield _write_text(folder / "descriptions.json", json.dumps(DESCRIPTIONS, indent=2) + "\n")
    yield _write_text(folder / "kinds.json", json.dumps(KINDS, indent=2) + "\n")


def installed(package: str, source: str) -> Path | None:
    """Where an installed package keeps a file of its own, found without importing the package."""
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec else None
    path = Path(places[0]) / source if places else None
    return path if path is not None and path.exists() else None


def _write_table(
    path: Path, rows: list[tuple[str, str, str]], header: tuple[str, ...] = ("image", "text", "label")
) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path


def _write_text(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _write_scene(path: Path) -> Path:
    draw_scene().save(path)
    return path


def _write_clip(path: Path, photos: list[Path]) -> Path:
    import av
    from PIL import Image as pillow
    from PIL import ImageOps

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=CLIP_FPS, options={"threads": "1"})
        stream.width, stream.height = CLIP_SIZE
        stream.pix_fmt = "yuv420p"
        for photo in photos:
            with pillow.open(photo) as picture:
                frame = av.VideoFrame.from_image(ImageOps.fit(picture.convert("RGB"), CLIP_SIZE))
            for _ in range(2 * CLIP_FPS):
                frame.pts = None
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _draw_shapes(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Grey shapes whose colour only the text tells: the label needs both, so a fusion beats either side alone."""
    dice = random.Random(0)
    for shape in SHAPES:
        for number in range(SHAPES_OF_EACH * len(COLOURS)):
            colour = COLOURS[number % len(COLOURS)]
            name = f"shapes/{shape}-{number:02}.png"
            _draw(shape, dice).save(folder / name)
            yield name, f"paint it {colour}", f"{colour} {shape}"


def _draw(shape: str, dice: random.Random) -> Image:
    from PIL import Image as pillow
    from PIL import ImageDraw

    picture = pillow.new("RGB", (96, 96), (dice.randrange(190, 256),) * 3)
    x, y, r = dice.randrange(30, 66), dice.randrange(30, 66), dice.randrange(16, 28)
    pen, ink = ImageDraw.Draw(picture), (dice.randrange(0, 110),) * 3
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)
    elif shape == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=ink)
    elif shape == "triangle":
        pen.polygon(((x, y - r), (x - r, y + r), (x + r, y + r)), fill=ink)
    else:
        pen.line((x - r, y, x + r, y), fill=ink, width=r // 2)
        pen.line((x, y - r, x, y + r), fill=ink, width=r // 2)
    return picture
