"""One item to pixels: read, hash, look up, decode. Runs in any thread, and has none of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from time import perf_counter

from cmprompt.errors import ItemError
from cmprompt.store import Identity, Store, identify
from cmprompt.types import Array, Encoder, FileBytes, Frame, Item, MemberBytes, Outcome, stamp_of

OK = Outcome()


class Result:
    """What became of one content: shared by the items that are copies of each other."""

    __slots__ = ("done", "outcome", "vector")

    def __init__(self) -> None:
        self.done = False
        self.outcome = OK
        self.vector: Array | None = None  # (D,)

    def resolve(self, outcome: Outcome, vector: Array | None = None) -> None:
        self.outcome, self.vector, self.done = outcome, vector, True


@dataclass
class Prepared:
    """An item on its way: pixels to encode, or a vector or a failure. `result` is another's where that has the same
    content and came first."""

    result: Result
    sha: bytes = b""
    identity: Identity | None = None
    pixels: Array | None = None  # (3, H, W) uint8
    vector: Array | None = None  # (D,), from the store
    outcome: Outcome = OK
    opened: bool = False
    read_s: float = 0.0
    decode_s: float = 0.0


@dataclass
class Reader:
    """Reads items for one encoder. `claims` says who has which content in hand, or had it lately."""

    encoder: Encoder
    store: Store | None
    store_key: str
    allow_truncated: bool = False
    max_pixels: int | None = None
    claims: dict[bytes, Result] = field(default_factory=dict)

    def prepare(self, item: Item, result: Result) -> Prepared:
        """Read one item as far as it has to be. Failures are outcomes."""
        made = Prepared(result)
        try:
            started = perf_counter()
            data = self._read(item, made)
            made.sha = content_hash(data)
            made.read_s = perf_counter() - started
            made.result = self.claims.setdefault(made.sha, result)
            if made.result is result and not self._find(made):
                started = perf_counter()
                self._decode(data, made)
                made.decode_s = perf_counter() - started
        except (OSError, MemoryError, ItemError) as error:
            made.outcome = failure(error)
        return made

    def accepts(self, flags: tuple[str, ...]) -> bool:
        """Whether a stored vector may be used: what was salvaged from a cut file only where that is allowed."""
        return self.allow_truncated or "truncated" not in flags

    def _read(self, item: Item, made: Prepared) -> bytes | Frame:
        assert item.image is not None
        before = identity_of(item) if self.store else None
        made.opened = isinstance(item.image, FileBytes | MemberBytes)
        data = item.image()
        if before and before == identity_of(item):  # not changed while it was read
            made.identity = before
        return data

    def _find(self, made: Prepared) -> bool:
        if self.store is None:
            return False
        found = self.store.lookup(self.store_key, [made.sha])
        if not found.found[0] or not self.accepts(found.flags[0]):
            return False
        made.vector, made.outcome = found.vectors[0], flagged(found.flags[0])
        return True

    def _decode(self, data: bytes | Frame, made: Prepared) -> None:
        from cmprompt import images

        if isinstance(data, Frame):
            decoded = images.from_frame(data, self.encoder.preprocess, exact=self.encoder.exact)
        else:
            decoded = images.decode(
                data,
                self.encoder.preprocess,
                exact=self.encoder.exact,
                allow_truncated=self.allow_truncated,
                max_pixels=self.max_pixels or images.MAX_PIXELS,
            )
        made.pixels, made.outcome = decoded.pixels, flagged(decoded.flags)


def content_hash(data: bytes | Frame) -> bytes:
    """SHA-256 of file bytes, or of a frame's shape and pixels."""
    if isinstance(data, Frame):
        return hashlib.sha256(f"frame {data.pixels.shape} ".encode() + data.pixels.tobytes()).digest()
    return hashlib.sha256(data).digest()


def failure(error: Exception) -> Outcome:
    """The outcome that an error on the way to the pixels stands for."""
    if isinstance(error, ItemError):
        return Outcome(error.status, str(error))
    if isinstance(error, MemoryError):
        return Outcome("out_of_memory", "not enough memory to read and decode it")
    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return Outcome("missing", reason)
    if isinstance(error, (PermissionError, IsADirectoryError)):
        return Outcome("denied", reason)
    return Outcome("unreadable", reason)


def flagged(flags: tuple[str, ...]) -> Outcome:
    """A good outcome with these flags."""
    return Outcome(flags=flags) if flags else OK


def identity_of(item: Item) -> Identity | None:
    """How an item's file looks unopened, or its place in an archive that does; None for what is neither, or is not
    there."""
    try:
        if isinstance(item.image, FileBytes):
            return identify(item.image.path)
        if isinstance(item.image, MemberBytes):
            archive = identify(item.image.archive)
            if stamp_of(item.image.archive) != item.image.stamp:
                return None  # what is there now may be another's
            return archive._replace(path=b"%s\0%d+%d" % (archive.path, item.image.offset, item.image.size))
    except (OSError, ValueError):
        pass
    return None
