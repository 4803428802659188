"""Items to vectors: the hot path. Store first, then read, decode and encode the rest, overlapped.

    items -> looked up in blocks -> read, hashed and decoded by some threads -> encoded in batches by others
          -> kept by one more, yielded in order

Memory is constant: only so many items are looked at ahead, held by the threads, and remembered for their copies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from cmprompt.encoders.tokens import TOKENS, TokenEncoder
from cmprompt.encoding import Encoded, Texts, encode_images, most_remembered, store_dtype, streams_of, threads_of
from cmprompt.errors import ModelError
from cmprompt.reading import OK, Prepared, Reader, Result, flagged, identity_of
from cmprompt.types import Array, Embedded, Encoder, Features, FileBytes, HeldBytes, Item, MemberBytes, Outcome

if TYPE_CHECKING:
    from cmprompt.store import Identity, Store
    from cmprompt.store.segments import DType

READ_AHEAD = 1024  # items looked at before the first of them is answered
FIRST_BLOCK = 64  # items looked up at once, doubled while the store has them all
BATCH_SIZE = 16  # where the encoder does not say
# Of pictures that lie in memory, from when they are asked for until they are answered: what is held in any case, where
# batches are large enough for more, and the most.
HELD_BYTES, MOST_HELD_BYTES = 256 << 20, 1 << 30
BATCHES_HELD = 3  # one that is encoded, one that waits, one that is decoded
REMEMBERED = 2048  # contents whose vectors are at hand, so that a copy of one is not encoded again
UNWRITTEN = 1024  # vectors that may wait for the disk
TEXTS_AHEAD = 128  # items whose texts are encoded with those of a batch, which alone are too few to fill one


@dataclass
class Stats:
    """What a run did and where its time went; seconds of reading and decoding are summed over its `threads`."""

    items: int = 0
    failed: int = 0
    store_hits: int = 0
    opened: int = 0
    decoded: int = 0
    encoded: int = 0
    texts_encoded: int = 0
    lookup_s: float = 0.0
    read_s: float = 0.0
    decode_s: float = 0.0
    encode_s: float = 0.0
    threads: int = 1


def embed(
    items: Iterable[Item],
    encoder: Encoder,
    store: Store | None = None,
    *,
    needs: frozenset[str] = frozenset({"image"}),
    batch_size: int | None = None,
    decode_threads: int | None = None,
    read_ahead: int = READ_AHEAD,
    allow_truncated: bool = False,
    max_pixels: int | None = None,
    stats: Stats | None = None,
) -> Iterator[Embedded]:
    """Batches of `items` in input order, with the vectors that `needs` names ("image", "text"); failures as outcomes.

    With "image_tokens" or "text_tokens" in `needs` each of the two comes with its tokens, kept under their own key.
    Vectors are rounded to the store's dtype, stored or not. `read_ahead` 1 answers each item before the next is asked
    for. `batch_size` and `decode_threads` are the encoder's own by default (`threads`, or one for each core),
    `max_pixels` the decoder's. `stats` is filled while it runs.
    An encoder that has `streams` is called by so many threads at once.
    Raises ModelError where the model fails on everything, StoreError and OutputError where the store does.
    """
    threads = decode_threads or threads_of(encoder)
    if needs & TOKENS:
        wide: Any = TokenEncoder(encoder)
        plain = embed(
            items, wide, store, needs=needs - TOKENS, batch_size=batch_size, decode_threads=threads,
            read_ahead=read_ahead, allow_truncated=allow_truncated, max_pixels=max_pixels, stats=stats,
        )  # fmt: skip
        whole: Iterator[Embedded] = wide.split(plain)
        return whole
    key = encoder.store_key + (f"/max_pixels={max_pixels}" if max_pixels else "")
    pipeline = _Pipeline(
        source=iter(items),
        encoder=encoder,
        reader=Reader(encoder, store, key, allow_truncated, max_pixels),
        needs=needs,
        batch_size=batch_size or int(getattr(encoder, "batch_size", BATCH_SIZE)),
        read_ahead=read_ahead,
        stats=stats or Stats(),
    )
    return pipeline.run(threads)


def embed_texts(
    texts: Sequence[str], encoder: Encoder, store: Store | None = None, *, stats: Stats | None = None
) -> Array:
    """(M, D) float32 unit rows. Repeated texts are encoded once, stored ones not at all.

    Raises ModelError where the model makes nothing usable of a text.
    """
    with _threads(streams_of(encoder), "cmprompt-encode") as pool:
        known = Texts(encoder, store, pool.map)
        rows = known.rows(texts)
    if stats:
        stats.texts_encoded += known.encoded
    bad = np.isnan(rows).any(axis=1)
    if bad.any():
        text = texts[int(bad.argmax())]
        raise ModelError(f"the model {encoder.model_id} makes no usable vector of the text {text!r}")
    return rows


class _Slot:
    """An item's place in the queue."""

    __slots__ = ("item", "result", "task")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.result = Result()
        self.task: Future[Prepared] | None = None


class _Pipeline:
    def __init__(
        self,
        *,
        source: Iterator[Item],
        encoder: Encoder,
        reader: Reader,
        needs: frozenset[str],
        batch_size: int,
        read_ahead: int,
        stats: Stats,
    ) -> None:
        self.source, self.encoder, self.reader, self.needs = source, encoder, reader, needs
        self.batch_size, self.read_ahead, self.stats = batch_size, read_ahead, stats
        self.store = reader.store
        self.texts = Texts(encoder, self.store)
        self.keeper = _Keeper(self.store, reader.store_key, store_dtype(encoder)) if self.store else None
        self.streams = streams_of(encoder)
        self.exhausted = False
        self.block = FIRST_BLOCK
        self.window: deque[_Slot] = deque()  # every item not yet yielded
        self.waiting: deque[_Slot] = deque()  # those that no thread has yet
        self.working: deque[_Slot] = deque()  # those in the decoding threads' hands
        self.ready: list[Prepared] = []  # those decoded, not yet a batch
        self.encoding: deque[tuple[list[Prepared], Future[Encoded]]] = deque()  # batches at the model
        self.remembered: deque[bytes] = deque()
        self.held = 0  # bytes of the window's items

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be looked at before an answer."""
        return len(self.window) >= self.read_ahead or self._holds_enough(len(self.window))

    def run(self, threads: int) -> Iterator[Embedded]:
        self.stats.threads = threads
        in_hand = self.batch_size + 2 * threads
        try:
            with (
                _threads(self.streams, "cmprompt-encode") as encoders,
                _threads(threads, "cmprompt-decode") as decoders,
            ):
                while True:
                    self._look_ahead(in_hand)
                    self._decode(decoders, in_hand)
                    if not self.window:
                        return
                    self._advance(encoders)
                    yield from self._finished()
        finally:
            if self.keeper:
                self.keeper.close()

    def _decode(self, pool: ThreadPoolExecutor, in_hand: int) -> None:
        while self.waiting and len(self.working) < in_hand:
            slot = self.waiting.popleft()
            slot.task = pool.submit(self.reader.prepare, slot.item, slot.result)
            self.working.append(slot)

    def _advance(self, pool: ThreadPoolExecutor) -> None:
        """Give the model one more batch, or a part of one where no more can come before an answer; wait for its oldest
        where it has enough, or where there is no more."""
        enough = self.streams + (self.stats.encoded > 0)  # the first ones load the model, and show that it works
        if len(self.encoding) < enough:
            self._collect()
            held_up = self.exhausted or self.is_full
            if len(self.ready) >= self.batch_size or (held_up and not self.working and not self.waiting):
                self._encode(pool)
        while self.encoding and (len(self.encoding) >= enough or not (self.working or self.ready)):
            self._settle_batch(*self.encoding.popleft())

    def _look_ahead(self, in_hand: int) -> None:
        """Take items and look them up until the threads have enough to do, or some can be answered at once."""
        while not (self.exhausted or self.is_full) and len(self.waiting) < in_hand:
            count = min(self.block, self.read_ahead - len(self.window))
            slots = self._take(count, most_in_memory=in_hand - len(self.waiting))
            self.window.extend(slots)
            missed = self._look_up(slots)
            self.waiting.extend(missed)
            self.block = FIRST_BLOCK if missed else min(2 * self.block, READ_AHEAD)
            if self.window and self.window[0].result.done:
                return

    def _take(self, count: int, most_in_memory: int) -> list[_Slot]:
        """The next items; fewer of those that may hold their bytes."""
        slots: list[_Slot] = []
        in_memory = 0
        for item in islice(self.source, count):
            slots.append(_Slot(item))
            in_memory += item.image is not None and not isinstance(item.image, FileBytes | MemberBytes)
            self.held += _held_bytes(item)
            if in_memory >= most_in_memory or self._holds_enough(len(self.window) + len(slots)):
                return slots
        self.exhausted = len(slots) < count
        return slots

    def _look_up(self, slots: list[_Slot]) -> list[_Slot]:
        """Resolve what needs no file opened; the others are returned."""
        self.stats.items += len(slots)
        wanted = []
        for slot in slots:
            if "image" in self.needs and slot.item.image is not None:
                wanted.append(slot)
            else:
                slot.result.resolve(self._without_image(slot.item))
        return self._look_up_files(self.store, wanted) if self.store and wanted else wanted

    def _holds_enough(self, count: int) -> bool:
        """Whether so many items hold as many bytes as they may."""
        most = HELD_BYTES if count >= BATCHES_HELD * self.batch_size else MOST_HELD_BYTES
        return self.held >= most

    def _without_image(self, item: Item) -> Outcome:
        if "text" in self.needs and _has_text(item):
            return flagged(("no_image",)) if "image" in self.needs else OK
        return Outcome("missing", f"no {' and no '.join(sorted(self.needs & {'image', 'text'}))}")

    def _look_up_files(self, store: Store, slots: list[_Slot]) -> list[_Slot]:
        started = perf_counter()
        found = store.lookup_files(self.reader.store_key, [identity_of(slot.item) for slot in slots])
        for slot, here, vector, flags in zip(slots, found.found, found.vectors, found.flags, strict=True):
            if here and self.reader.accepts(flags):
                slot.result.resolve(flagged(flags), vector)
        missed = [slot for slot in slots if not slot.result.done]
        self.stats.store_hits += len(slots) - len(missed)
        self.stats.lookup_s += perf_counter() - started
        return missed

    def _collect(self) -> None:
        """Take what the threads have made, in input order, until a batch is full."""
        while self.working and len(self.ready) < self.batch_size:
            slot = self.working.popleft()
            assert slot.task is not None
            made, slot.task = slot.task.result(), None
            self.stats.opened += made.opened
            self.stats.read_s += made.read_s
            self.stats.decode_s += made.decode_s
            if made.pixels is not None:
                self.stats.decoded += 1
                self.ready.append(made)
            elif made.result is slot.result:
                self.stats.store_hits += made.vector is not None
                self._settle(made, made.vector)
            else:  # a copy of something in hand
                slot.result = made.result
                self._keep_file(made)

    def _encode(self, pool: ThreadPoolExecutor) -> None:
        if self.ready:
            proven = self.stats.encoded > 0
            pixels = [made.pixels for made in self.ready if made.pixels is not None]
            self.encoding.append((self.ready, pool.submit(encode_images, self.encoder, pixels, proven=proven)))
            self.ready = []

    def _settle_batch(self, batch: list[Prepared], task: Future[Encoded]) -> None:
        encoded = task.result()
        self.batch_size = min(self.batch_size, encoded.fits or self.batch_size)
        self.stats.encoded += len(batch) - len(encoded.failures)
        self.stats.encode_s += encoded.seconds / self.streams
        for place, made in enumerate(batch):
            made.outcome = encoded.failures.get(place, made.outcome)
            self._settle(made, encoded.rows[place])
        if self.keeper:
            good = [(made, row) for made, row in zip(batch, encoded.rows, strict=True) if made.outcome.status == "ok"]
            self.keeper.add([(made.sha, row, made.outcome.flags) for made, row in good])

    def _settle(self, made: Prepared, vector: Array | None) -> None:
        """Tell every copy of a content what became of it."""
        if made.outcome.status != "ok":
            made.result.resolve(made.outcome)
            self.reader.claims.pop(made.sha, None)
            return
        made.result.resolve(made.outcome, vector)
        self._keep_file(made)
        self.remembered.append(made.sha)
        if len(self.remembered) > most_remembered(REMEMBERED, self.encoder.dim):
            self.reader.claims.pop(self.remembered.popleft(), None)

    def _keep_file(self, made: Prepared) -> None:
        if self.keeper and made.identity:
            self.keeper.add_file(made.identity, made.sha)

    def _finished(self) -> Iterator[Embedded]:
        """What can be answered now, in input order."""
        slots = []
        while self.window and self.window[0].result.done:
            slots.append(self.window.popleft())
            self.held -= _held_bytes(slots[-1].item)
        if slots:
            yield self._embedded(slots)

    def _embedded(self, slots: list[_Slot]) -> Embedded:
        outcomes = [slot.result.outcome for slot in slots]
        image = text = None
        has_image = np.array([slot.result.vector is not None for slot in slots], bool)  # (N,)
        has_text = np.zeros(len(slots), bool)
        if "image" in self.needs:
            image = np.zeros((len(slots), self.encoder.dim), np.float32)
            rows = [slot.result.vector for slot in slots if slot.result.vector is not None]
            if rows:
                image[has_image] = np.concatenate(rows).reshape(len(rows), -1)
        if "text" in self.needs:
            text, has_text = self._text_rows(slots, outcomes)
            if image is not None:
                lost = np.array([outcome.status != "ok" for outcome in outcomes])
                image[lost], has_image[lost] = 0, False
        self.stats.failed += sum(outcome.status != "ok" for outcome in outcomes)
        features = Features(image, text, has_image, has_text)
        return Embedded(tuple(slot.item for slot in slots), tuple(outcomes), features)

    def _text_rows(self, slots: list[_Slot], outcomes: list[Outcome]) -> tuple[Array, Array]:
        """(N, D) vectors of the items' texts and where there are any; `outcomes` is amended."""
        rows = np.zeros((len(slots), self.texts.dim), np.float32)
        places = [place for place, slot in enumerate(slots) if _has_text(slot.item) and outcomes[place].status == "ok"]
        before = self.texts.encoded
        ahead = (slot.item.text or "" for slot in islice(self.window, TEXTS_AHEAD) if _has_text(slot.item))
        rows[places] = self.texts.rows([slots[place].item.text or "" for place in places], ahead)
        self.stats.texts_encoded += self.texts.encoded - before
        has_text = np.zeros(len(slots), bool)
        has_text[places] = True
        for place in map(int, np.flatnonzero(np.isnan(rows).any(axis=1))):
            outcomes[place] = Outcome("nan", "the model makes no usable vector of this text")
            rows[place], has_text[place] = 0, False
        for place, outcome in enumerate(outcomes):
            if outcome.status == "ok" and not has_text[place]:
                outcomes[place] = Outcome(flags=(*outcome.flags, "no_text"))
        return rows, has_text


class _Keeper:
    """Hands vectors to the store from a thread of its own: what comes while the disk is busy is written together."""

    def __init__(self, store: Store, store_key: str, dtype: DType) -> None:
        self.store_key = store_key
        self.dtype: DType = dtype
        self._shared = store
        self._own: Store | None = None  # another connection, so that look-ups never wait for the disk
        self._pool = ThreadPoolExecutor(1, "cmprompt-store")
        self._writing: Future[None] | None = None
        self._rows: list[tuple[bytes, Array, tuple[str, ...]]] = []
        self._files: list[tuple[Identity, bytes]] = []

    def add_file(self, identity: Identity, sha: bytes) -> None:
        """Remember soon which content a file has."""
        self._files.append((identity, sha))
        if len(self._files) >= UNWRITTEN:
            self._start()

    def add(self, rows: list[tuple[bytes, Array, tuple[str, ...]]]) -> None:
        """Keep (hash, vector, flags) soon. Raises what an earlier write has met."""
        self._rows += rows
        if len(self._rows) >= UNWRITTEN or self._writing is None or self._writing.done():
            self._start()

    def close(self) -> None:
        """Wait until all of it is on disk."""
        try:
            self._start()
            if self._writing:
                self._writing.result()
        finally:
            self._pool.shutdown(wait=True)
            if self._own:
                self._own.close()

    def _start(self) -> None:
        if self._writing:
            self._writing.result()
            self._writing = None
        if self._rows or self._files:
            rows, files, self._rows, self._files = self._rows, self._files, [], []
            self._writing = self._pool.submit(self._write, rows, files)

    def _write(self, rows: list[tuple[bytes, Array, tuple[str, ...]]], files: list[tuple[Identity, bytes]]) -> None:
        self._own = self._own or self._shared.reopened()
        if rows:
            hashes, vectors, flags = zip(*rows, strict=True)
            self._own.put(self.store_key, hashes, np.stack(vectors), flags, self.dtype)
        self._own.remember_files([identity for identity, _ in files], [sha for _, sha in files])


@contextmanager
def _threads(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Threads that are waited for, but not by a signal: it does not wait for a model that loads."""
    pool, patient = ThreadPoolExecutor(count, name), True
    try:
        yield pool
    except BaseException as error:
        patient = isinstance(error, Exception | GeneratorExit)
        raise
    finally:
        pool.shutdown(wait=patient, cancel_futures=True)


def _held_bytes(item: Item) -> int:
    return len(item.image.data) if isinstance(item.image, HeldBytes) else 0


def _has_text(item: Item) -> bool:
    return item.text is not None and bool(item.text.strip())
