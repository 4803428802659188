"""The values that travel between rooms.

Axis letters, everywhere: N items, C classes, D embedding size, T templates, P patches, L words.
Arrays are float32 numpy unless said otherwise.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, BinaryIO, Literal, Protocol
from zlib import crc32

import numpy as np
import numpy.typing as npt

from cmprompt.errors import ItemError, Status

Array = npt.NDArray[Any]
Triple = tuple[float, float, float]
MAX_FILE_BYTES = 1 << 30  # no picture is larger; a file that is must not fill the memory
TAR_BLOCK_BYTES = 512


@dataclass(frozen=True)
class Preprocess:
    """How a checkpoint wants its pixels. Data, not code, so that a decoder can use it before decoding."""

    size_px: int
    resize: Literal["shortest", "squash", "longest"]
    interpolation: Literal["bicubic", "bilinear", "nearest"]
    mean: Triple
    std: Triple
    fill: int = 0


@dataclass(frozen=True)
class Frame:
    """A picture that is decoded already: `pixels` (H, W, 3) uint8 RGB."""

    pixels: Array


def open_regular(path: str) -> BinaryIO:
    """A regular file, open for reading; what would block or never end is none. Raises OSError, ItemError."""
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # a NUL byte, or half a surrogate pair
        raise ItemError("missing", "no file can have this name; is the list one for -0?") from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise ItemError("unsupported", "not a regular file")
    # Should a pipe have taken its place since, opening it must not block.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags), "rb")


@dataclass(frozen=True)
class FileBytes:
    """The bytes of a regular file, read when called. `path` lets the store recognise an unchanged file unopened."""

    path: str

    def __call__(self) -> bytes:
        """Raises OSError; ItemError for what is not a regular file or is over `MAX_FILE_BYTES`."""
        with open_regular(self.path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise ItemError("too_large", f"over {MAX_FILE_BYTES >> 20} MB")
            data = file.read(size + 1)  # what is asked for is allocated
            return data if len(data) <= size else data + file.read(MAX_FILE_BYTES - len(data))  # it grew meanwhile


@dataclass(frozen=True)
class MemberBytes:
    """The bytes of a member of a tar that is not compressed, read from their place in it when called.

    `stamp` is `stamp_of` the archive when the member was found there, and `header` the CRC-32 of the block before its
    bytes: by now another archive may have taken its place.
    """

    archive: str
    stamp: tuple[int, int]
    header: int
    offset: int
    size: int

    def __call__(self) -> bytes:
        """Raises OSError; ItemError where the archive ends too early, or has another member there by now."""
        with open_regular(self.archive) as file:
            if stamp_of(file) != self.stamp:  # it may only have grown
                file.seek(self.offset - TAR_BLOCK_BYTES)
                if crc32(file.read(TAR_BLOCK_BYTES)) != self.header:
                    raise ItemError("unreadable", "the archive has changed since it was listed; run again")
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise ItemError("truncated", "the archive ends within this member")
        return data


@dataclass(frozen=True)
class HeldBytes:
    """The bytes of a picture that lie in memory already: a cell's, or a compressed archive's."""

    data: bytes

    def __call__(self) -> bytes:
        return self.data


def stamp_of(file: BinaryIO | str) -> tuple[int, int]:
    """A file's size and modification time, in ns. Raises OSError."""
    seen = os.stat(file if isinstance(file, str) else file.fileno())
    return seen.st_size, seen.st_mtime_ns


@dataclass(frozen=True)
class Item:
    """One thing to label.

    `id` is what the output calls it; a name that is not UTF-8 keeps its bytes by surrogateescape.
    `image` returns file bytes or a decoded frame and may raise OSError or ItemError; None for a row of text alone.
    `captions`: every text of a picture that has several, where `text` is the first of them or all.
    """

    id: str
    image: Callable[[], bytes | Frame] | None
    text: str | None = None
    target: str | float | None = None
    time_s: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    end_s: float | None = None  # where a stretch of video that begins at `time_s` ends
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Features:
    """A batch of aligned rows; what is missing is masked, not invented.

    `image` (N, Dv), `text` (N, Dl): unit rows, or a network's own beside an embedding that is learned; zero where
    masked. `has_image`, `has_text` (N,) bool.
    Tokens, for the heads that need them: `image_tokens` (N, P, Dv), `text_tokens` (N, L, Dl).
    """

    image: Array | None
    text: Array | None
    has_image: Array
    has_text: Array
    image_tokens: Array | None = None
    text_tokens: Array | None = None

    def __len__(self) -> int:
        return len(self.has_image)

    @staticmethod
    def of_images(image: Array) -> Features:
        """Features of images alone; (N, D) unit rows."""
        n = len(image)
        return Features(image, None, np.ones(n, bool), np.zeros(n, bool))

    @staticmethod
    def joined(parts: Sequence[Features]) -> Features:
        """The rows of one part or more, one part after the other; a field that one of them lacks is left out."""

        def join(name: str) -> Any:
            arrays = [getattr(part, name) for part in parts]
            return None if any(array is None for array in arrays) else np.concatenate(arrays)

        return Features(*(join(field.name) for field in fields(Features)))

    def take(self, rows: Array | slice) -> Features:
        """Some rows of every field."""

        def part(name: str) -> Any:
            array: Array | None = getattr(self, name)
            return None if array is None else array[rows]

        return Features(*(part(field.name) for field in fields(Features)))


@dataclass(frozen=True)
class Outcome:
    """What became of one item on its way to a vector."""

    status: Status = "ok"
    error: str | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Embedded:
    """A batch in input order: row i of `features` belongs to `items[i]`, and is masked where `outcomes[i]` failed."""

    items: tuple[Item, ...]
    outcomes: tuple[Outcome, ...]
    features: Features


@dataclass(frozen=True)
class Prediction:
    """One output record. `label` is None where nothing was decided or the item failed.

    `score` is a probability, `cosine` the raw similarity of the winner, `margin` the gap between the two best scores,
    `top` the best labels with their scores, `labels` those above the threshold under multi-label,
    `value` a regression head's number, `question` what this row asked, `descriptors` the winner's texts with their
    cosines, the most similar first: empty where nothing won, None where nobody asked.
    """

    item: Item
    status: Status = "ok"
    error: str | None = None
    flags: tuple[str, ...] = ()
    label: str | None = None
    score: float | None = None
    cosine: float | None = None
    margin: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    labels: tuple[str, ...] | None = None
    value: float | None = None
    question: str | None = None
    descriptors: tuple[tuple[str, float], ...] | None = None


class Encoder(Protocol):
    """Pixels and texts to unit vectors. Reading the attributes costs no torch, but for a first `store_key`: it
    may have to find out which back end runs the model. The weights load at the first encode."""

    model_id: str  # checkpoint + weights hash + preprocess: what a head is tied to
    dim: int  # D
    logit_scale: float  # already exponentiated
    logit_bias: float | None  # SigLIP family only
    preprocess: Preprocess
    context_length: int  # tokens a text may have, with the start and end tokens
    exact: bool  # decode and encode exactly as open_clip does

    @property
    def store_key(self) -> str:
        """model_id + precision + back end + decode path: the store's namespace."""
        ...

    def encode_images(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, D) float32 unit rows."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """M texts -> (M, D) float32 unit rows."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before truncation, with the start and end tokens."""
        ...

    def fallback_share(self, texts: Sequence[str]) -> float:
        """The part of the texts' tokens, 0 to 1, that show a script which the tokenizer does not know."""
        ...


class Head(Protocol):
    """Vectors to logits."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Empty for regression."""
        ...

    @property
    def model_id(self) -> str:
        """The encoder that the vectors must come from."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """The fields of Features it reads."""
        ...

    def logits(self, features: Features) -> Array:
        """(N, C) float32; (N, 1) for regression."""
        ...
