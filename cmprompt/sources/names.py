"""Which files a walk takes, by how their names end."""

from __future__ import annotations

import mimetypes
import os
from functools import cache

from cmprompt.registry import SOURCES

# The usual ones cost no import; HEIC's are known to Pillow only once its plugin is loaded.
_COMMON = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .ppm .pgm .pbm .pnm .avif .avifs .mpo"
    " .heic .heif .heics .heifs .hif".split()
)
_NOT_PICTURES = frozenset(".pdf .ps .mpg .mpeg .h5 .hdf .grib .bufr".split())

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
SHARDS = tuple(ending for ending in SOURCES if ending not in TABLES)


def is_image_name(name: str) -> bool:
    """Whether Pillow registers the ending or the system calls it image/*."""
    return _is_image_ending(os.path.splitext(name)[1].lower())


@cache
def _is_image_ending(ending: str) -> bool:
    if ending in _COMMON:
        return True
    if not ending or ending in _NOT_PICTURES:
        return False
    if (mimetypes.guess_type("x" + ending)[0] or "").startswith("image/"):
        return True
    from PIL import Image

    return ending in Image.registered_extensions()


def is_table_name(name: str) -> bool:
    """Whether the ending is a table's."""
    return name.lower().endswith(TABLES)
