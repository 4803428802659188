"""The hot path: order, store hits, copies, failures as outcomes, constant memory."""

from __future__ import annotations

import io
import os
import signal
import sys
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import FakeEncoder, draw, encode

from cmprompt.embed import Stats, embed, embed_texts
from cmprompt.errors import ItemError, ModelError
from cmprompt.signals import Interrupted, stop_signals
from cmprompt.sources import read_items
from cmprompt.store import Store
from cmprompt.types import Array, FileBytes, Frame, HeldBytes, Item

LONG_AGO = 1_600_000_000
BOTH = frozenset({"image", "text"})


def photos(folder: Path, count: int, *, old: bool = True) -> list[Item]:
    """Files of `count` different colours, old enough for their times to be trusted."""
    folder.mkdir(exist_ok=True)
    items = []
    for i in range(count):
        path = folder / f"{i:04}.png"
        draw((i % 256, i // 256, 7), (8, 8)).save(path)
        if old:
            os.utime(path, (LONG_AGO, LONG_AGO))
        items.append(Item(str(path), FileBytes(str(path))))
    return items


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as unchanged from the moment they are written: a file's ctime cannot be set back."""
    monkeypatch.setattr("cmprompt.store.SETTLED_NS", 0)


def run(
    items: Sequence[Item], encoder: FakeEncoder, store: Store | None = None, **options: object
) -> tuple[Array, Stats]:
    """All rows of a run whose items come out in order, and its counts."""
    stats = Stats()
    batches = list(embed(items, encoder, store, stats=stats, **options))  # type: ignore[arg-type]
    assert [item.id for batch in batches for item in batch.items] == [item.id for item in items]
    rows = np.concatenate([batch.features.image for batch in batches if batch.features.image is not None])
    return rows, stats


def outcomes(items: Sequence[Item], encoder: FakeEncoder, **options: object) -> list[tuple[str, str | None]]:
    batches = embed(items, encoder, **options)  # type: ignore[arg-type]
    return [(outcome.status, outcome.error) for batch in batches for outcome in batch.outcomes]


def test_vectors_come_in_input_order_rounded_to_what_the_store_keeps(tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    rows, stats = run(photos(tmp_path / "p", 100), fake_encoder)
    colours = np.array([[i + 1, 1, 8, 0, 0, 0, 0, 0] for i in range(100)], np.float32)
    expected = colours / np.linalg.norm(colours, axis=1, keepdims=True)
    assert np.array_equal(rows, expected.astype(np.float16).astype(np.float32))
    assert (stats.items, stats.opened, stats.decoded, stats.encoded) == (100, 100, 100, 100)


def test_exact_keeps_float32(tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    fake_encoder.exact = True
    items = photos(tmp_path / "p", 3)
    fresh, _ = run(items, fake_encoder, Store(tmp_path / "s"))
    stored, _ = run(items, fake_encoder, Store(tmp_path / "s"))
    assert np.array_equal(fresh, stored)
    assert np.abs(np.linalg.norm(fresh, axis=1) - 1).max() < 1e-6


def test_a_second_run_opens_no_file(tmp_path: Path, fake_encoder: FakeEncoder, settled: None) -> None:
    items = photos(tmp_path / "p", 200)
    first, _ = run(items, fake_encoder, Store(tmp_path / "s"))
    second, stats = run(items, fake_encoder, Store(tmp_path / "s"))
    assert np.array_equal(first, second)
    assert (stats.opened, stats.decoded, stats.encoded, stats.store_hits) == (0, 0, 0, 200)


def test_a_file_that_changed_a_moment_ago_is_read_again_but_not_decoded(
    tmp_path: Path, fake_encoder: FakeEncoder
) -> None:
    items = photos(tmp_path / "p", 20)
    run(items, fake_encoder, Store(tmp_path / "s"))
    _, stats = run(items, fake_encoder, Store(tmp_path / "s"))
    assert (stats.opened, stats.decoded, stats.encoded, stats.store_hits) == (20, 0, 0, 20)


def test_new_bytes_in_an_old_file_are_scored(tmp_path: Path, fake_encoder: FakeEncoder, settled: None) -> None:
    items = photos(tmp_path / "p", 5)
    before, _ = run(items, fake_encoder, Store(tmp_path / "s"))
    draw("white", (8, 8)).save(items[2].id)
    os.utime(items[2].id, (LONG_AGO, LONG_AGO))
    after, stats = run(items, fake_encoder, Store(tmp_path / "s"))
    assert (stats.decoded, stats.encoded) == (1, 1)
    assert [np.array_equal(x, y) for x, y in zip(before, after, strict=True)] == [True, True, False, True, True]


@pytest.mark.parametrize("stored", [True, False])
def test_copies_are_encoded_once(tmp_path: Path, fake_encoder: FakeEncoder, stored: bool) -> None:
    red, green = encode(draw("red")), encode(draw("green"))
    items = [Item(str(i), lambda i=i: green if i % 5 == 0 else red) for i in range(200)]
    rows, stats = run(items, fake_encoder, Store(tmp_path / "s") if stored else None)
    assert fake_encoder.images_encoded == stats.decoded == 2
    assert np.array_equal(rows[0], rows[195]) and np.array_equal(rows[1], rows[199])


def test_a_moved_file_is_known_by_its_content(tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    items = photos(tmp_path / "p", 4)
    run(items, fake_encoder, Store(tmp_path / "s"))
    (tmp_path / "p").rename(tmp_path / "q")
    moved = [Item(item.id, FileBytes(item.id.replace("/p/", "/q/"))) for item in items]
    _, stats = run(moved, fake_encoder, Store(tmp_path / "s"))
    assert (stats.opened, stats.decoded) == (4, 0)


def shard(path: Path, colours: range, mode: str = "w") -> Iterator[Item]:
    """The pictures of a tar, one of each colour."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for i in colours:
            info, data = tarfile.TarInfo(f"{i}.png"), encode(draw((i, 9, 9), (8, 8)))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return read_items([str(path)])


def test_a_second_run_reads_no_member_of_a_tar(tmp_path: Path, fake_encoder: FakeEncoder, settled: None) -> None:
    items = list(shard(tmp_path / "a.tar", range(100)))
    first, stats = run(items, fake_encoder, Store(tmp_path / "s"))
    assert (stats.opened, stats.decoded) == (100, 100)
    second, stats = run(items, fake_encoder, Store(tmp_path / "s"))
    assert np.array_equal(first, second)
    assert (stats.opened, stats.decoded, stats.store_hits) == (0, 0, 100)


def test_the_members_of_a_tar_that_grew_are_known_by_their_content(
    tmp_path: Path, fake_encoder: FakeEncoder, settled: None
) -> None:
    before, _ = run(list(shard(tmp_path / "a.tar", range(20))), fake_encoder, Store(tmp_path / "s"))
    after, stats = run(list(shard(tmp_path / "a.tar", range(20, 30), "a")), fake_encoder, Store(tmp_path / "s"))
    assert np.array_equal(before, after[:20])
    assert (stats.opened, stats.decoded, stats.store_hits) == (30, 10, 20)


def test_new_members_in_an_old_place_are_scored(tmp_path: Path, fake_encoder: FakeEncoder, settled: None) -> None:
    run(list(shard(tmp_path / "a.tar", range(5))), fake_encoder, Store(tmp_path / "s"))
    _, stats = run(list(shard(tmp_path / "a.tar", range(5, 10))), fake_encoder, Store(tmp_path / "s"))
    assert (stats.opened, stats.decoded) == (5, 5)


def test_frames_are_hashed_by_their_pixels(tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    frames = [Frame(np.full((4, 6, 3), value, np.uint8)) for value in (9, 200, 9)]
    items = [Item(str(i), lambda frame=frame: frame) for i, frame in enumerate(frames)]
    rows, stats = run(items, fake_encoder, Store(tmp_path / "s"))
    assert stats.encoded == 2 and np.array_equal(rows[0], rows[2])
    assert run(items, fake_encoder, Store(tmp_path / "s"))[1].decoded == 0


def test_what_cannot_be_read_is_an_outcome_and_the_rest_goes_on(tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    def denied() -> bytes:
        raise PermissionError(13, "Permission denied")

    def broken_disk() -> bytes:
        raise OSError(5, "Input/output error")

    def bomb() -> bytes:
        raise ItemError("too_large", "60000 x 60000")

    good = encode(draw("blue"))
    images = [FileBytes("/nowhere.jpg"), denied, broken_disk, bomb, lambda: b"", lambda: good]
    found = outcomes([Item(str(i), image) for i, image in enumerate(images)], fake_encoder)
    assert [status for status, _ in found] == [
        "missing", "denied", "unreadable", "too_large", "unreadable", "ok",
    ]  # fmt: skip
    assert found[0][1] == "No such file or directory"
    assert outcomes([Item("x", FileBytes("a\0b"))], fake_encoder)[0][0] == "missing"


def test_a_truncated_file_kept_once_is_not_scored_where_that_is_not_allowed(
    tmp_path: Path, fake_encoder: FakeEncoder, settled: None
) -> None:
    (tmp_path / "cut.jpg").write_bytes(encode(draw("red", (200, 200)), "JPEG")[:-200])
    items = [Item("cut", FileBytes(str(tmp_path / "cut.jpg")))]

    def attempt(allow: bool) -> tuple[str, tuple[str, ...]]:
        (batch,) = embed(items, fake_encoder, Store(tmp_path / "s"), allow_truncated=allow)
        return batch.outcomes[0].status, batch.outcomes[0].flags

    assert attempt(False) == ("truncated", ())
    assert attempt(True) == attempt(True) == ("ok", ("truncated",))
    assert attempt(False) == ("truncated", ())
    assert fake_encoder.images_encoded == 1


def test_a_pixel_cap_has_a_namespace_of_its_own(tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    items = [Item("x", lambda: encode(draw("red", (40, 40))))]
    assert outcomes(items, fake_encoder, store=Store(tmp_path / "s"))[0][0] == "ok"
    assert outcomes(items, fake_encoder, store=Store(tmp_path / "s"), max_pixels=100)[0][0] == "too_large"


def test_rows_of_text_alone_and_of_image_alone_are_masked(fake_encoder: FakeEncoder) -> None:
    red = encode(draw("red"))
    items = [Item("a", lambda: red, "red"), Item("b", None, "blue"), Item("c", lambda: red, " "), Item("d", None)]
    (batch,) = embed(items, fake_encoder, needs=BOTH)
    assert [(x.status, x.flags) for x in batch.outcomes] == [
        ("ok", ()), ("ok", ("no_image",)), ("ok", ("no_text",)), ("missing", ()),
    ]  # fmt: skip
    assert batch.features.has_image.tolist() == [True, False, True, False]
    assert batch.features.has_text.tolist() == [True, True, False, False]
    assert batch.features.text is not None and batch.features.text[0].argmax() == 0


def test_texts_alone_open_no_image(fake_encoder: FakeEncoder) -> None:
    stats = Stats()
    items = [Item(str(i), FileBytes("/nowhere"), f"text {i % 3}") for i in range(3000)]
    batches = list(embed(items, fake_encoder, needs=frozenset({"text"}), stats=stats))
    assert all(batch.features.image is None and batch.features.has_text.all() for batch in batches)
    assert (stats.opened, stats.texts_encoded, fake_encoder.texts_encoded) == (0, 3, 3)


def test_texts_are_encoded_once_and_then_come_from_the_store(tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    first = embed_texts(["red", "blue", "red"], fake_encoder, Store(tmp_path / "s"))
    again = embed_texts(["blue", "red", "red"], fake_encoder, Store(tmp_path / "s"))
    assert fake_encoder.texts_encoded == 2
    assert np.array_equal(first[[1, 0, 2]], again)
    assert embed_texts([], fake_encoder).shape == (0, 8)


def test_a_text_without_a_vector_is_named(fake_encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_encoder, "_text_vector", lambda text: np.full(8, np.nan if text == "bad" else 1.0))
    with pytest.raises(ModelError, match="'bad'"):
        embed_texts(["good", "bad"], fake_encoder)
    (batch,) = embed([Item(t, None, t) for t in ("good", "bad")], fake_encoder, needs=frozenset({"text"}))
    assert [outcome.status for outcome in batch.outcomes] == ["ok", "nan"]


@pytest.mark.parametrize(("batch_size", "bound"), [(1, "HELD_BYTES"), (16, "MOST_HELD_BYTES")])
def test_only_so_many_bytes_are_held(
    batch_size: int, bound: str, monkeypatch: pytest.MonkeyPatch, fake_encoder: FakeEncoder
) -> None:
    pictures = [encode(draw((i, 0, 0), (64, 64))) + bytes(100_000) for i in range(40)]
    held, most = 0, 0
    monkeypatch.setattr(sys.modules["cmprompt.embed"], bound, 300_000)

    def source() -> Iterator[Item]:
        nonlocal held, most
        for i, picture in enumerate(pictures):
            held += 1
            most = max(most, held)
            yield Item(str(i), HeldBytes(picture))

    ids = []
    for batch in embed(source(), fake_encoder, batch_size=batch_size):
        held -= len(batch.items)
        ids += [item.id for item in batch.items]
        assert {outcome.status for outcome in batch.outcomes} == {"ok"}
    assert ids == list(map(str, range(40))) and most <= 4


def test_only_so_much_is_read_ahead(tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    taken = 0

    def source() -> Iterator[Item]:
        nonlocal taken
        for i in range(10_000):
            taken += 1
            yield Item(str(i), lambda i=i: encode(draw((i % 256, i // 256, 0), (2, 2))))

    batches = embed(source(), fake_encoder, batch_size=8, decode_threads=2)
    assert len(next(batches).items) == 8
    assert taken < 100
    batches.close()  # type: ignore[attr-defined]


def test_a_dialogue_answers_each_item_before_the_next_is_asked_for(fake_encoder: FakeEncoder) -> None:
    asked: list[int] = []

    def source() -> Iterator[Item]:
        for i in range(3):
            asked.append(i)
            yield Item(str(i), lambda: encode(draw("red")))

    for i, batch in enumerate(embed(source(), fake_encoder, read_ahead=1)):
        assert [item.id for item in batch.items] == [str(i)] and asked == list(range(i + 1))


def test_closing_early_ends_the_threads_and_keeps_what_was_encoded(tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    batches = embed(photos(tmp_path / "p", 300), fake_encoder, Store(tmp_path / "s"), batch_size=16)
    first = next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cmprompt")]
    hashes, _ = Store(tmp_path / "s").matrix(fake_encoder.store_key)
    assert len(hashes) == len(first.items) == 16


def test_an_encoder_with_streams_is_called_by_several_threads_from_the_start(tmp_path: Path) -> None:
    class Streaming(FakeEncoder):
        streams = 2
        together = threading.Barrier(2)

        def encode_images(self, pixels: Array) -> Array:
            self.together.wait(20)  # breaks unless two calls are here at once
            return super().encode_images(pixels)

    items = photos(tmp_path / "p", 64)
    rows, _ = run(items, Streaming(), batch_size=8)
    assert np.array_equal(rows, run(items, FakeEncoder(), batch_size=8)[0])


@pytest.mark.parametrize("asked", [None, 3])
def test_as_many_threads_decode_as_the_encoder_or_the_caller_says(asked: int | None, fake_encoder: FakeEncoder) -> None:
    names: set[str] = set()
    together = threading.Barrier(asked or 2)

    def look() -> bytes:
        names.add(threading.current_thread().name)
        together.wait(20)  # breaks unless so many are here at once
        return encode(draw("red"))

    fake_encoder.threads = 2  # type: ignore[attr-defined]
    _, stats = run([Item(str(i), look) for i in range(12)], fake_encoder, decode_threads=asked)
    assert len(names) == stats.threads == (asked or 2)


def test_the_keys_of_two_models_do_not_mix(tmp_path: Path) -> None:
    items = photos(tmp_path / "p", 3)
    run(items, FakeEncoder("a"), Store(tmp_path / "s"))
    assert run(items, FakeEncoder("b"), Store(tmp_path / "s"))[1].encoded == 3


@pytest.mark.parametrize("what", ["images", "texts"])
def test_a_signal_does_not_wait_for_the_model(what: str, fake_encoder: FakeEncoder) -> None:
    loaded, once = threading.Event(), threading.Lock()

    class Loading(FakeEncoder):
        def load(self) -> None:
            if once.acquire(blocking=False):  # a second signal would end the process
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            loaded.wait(60)

        def encode_images(self, pixels: Array) -> Array:
            self.load()
            return super().encode_images(pixels)

        def encode_texts(self, texts: Sequence[str]) -> Array:
            self.load()
            return super().encode_texts(texts)

    with pytest.raises(Interrupted), stop_signals():
        if what == "images":
            list(embed([Item("x", lambda: encode(draw("red")))], Loading()))
        else:
            embed_texts(["red"], Loading())
    assert not loaded.is_set()
    loaded.set()


class Counting(FakeEncoder):
    """Knows how many came with each call."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[int] = []
        self.texts: list[int] = []

    def encode_images(self, pixels: Array) -> Array:
        self.images.append(len(pixels))
        return super().encode_images(pixels)

    def encode_texts(self, texts: Sequence[str]) -> Array:
        self.texts.append(len(texts))
        return super().encode_texts(texts)


def test_batches_are_full_where_most_contents_are_known(tmp_path: Path) -> None:
    known = photos(tmp_path / "p", 50)
    run(known, FakeEncoder(), Store(tmp_path / "s"))
    mixed = [
        Item(str(i), (lambda i=i: encode(draw((i % 256, i // 256, 99), (8, 8)))) if i % 10 == 0 else
             (lambda i=i: Path(known[i % 50].id).read_bytes()))
        for i in range(1600)
    ]  # fmt: skip
    encoder = Counting()
    run(mixed, encoder, Store(tmp_path / "s"), batch_size=16)
    assert encoder.images == [16] * 10


def test_the_texts_of_pairs_are_encoded_together(tmp_path: Path) -> None:
    pairs = [replace(item, text=f"red {i}") for i, item in enumerate(photos(tmp_path / "p", 300))]
    encoder = Counting()
    batches = list(embed(pairs, encoder, needs=BOTH, batch_size=2))
    texts = np.concatenate([batch.features.text for batch in batches if batch.features.text is not None])
    assert sum(encoder.texts) == 300 and len(encoder.texts) <= 20
    assert np.array_equal(texts, embed_texts([f"red {i}" for i in range(300)], FakeEncoder()))


def test_rows_of_text_alone_come_in_large_blocks() -> None:
    encoder = Counting()
    list(embed([Item(str(i), None, f"red {i}") for i in range(256)], encoder, needs=BOTH, batch_size=2))
    assert len(encoder.texts) <= 4


def test_texts_past_what_is_remembered_are_encoded_once_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmprompt.encoding.TEXTS_REMEMBERED", 20)
    encoder = Counting()
    red = encode(draw("red"))
    pairs = [Item(str(i), lambda: red, f"red {i}") for i in range(200)]
    batches = list(embed(pairs, encoder, needs=BOTH, batch_size=2))
    assert all(batch.features.has_text.all() for batch in batches)
    assert sum(encoder.texts) == 200


def test_a_pair_whose_text_has_no_vector_is_masked_wholly(
    fake_encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_encoder, "_text_vector", lambda text: np.full(8, np.nan if text == "bad" else 1.0))
    items = [Item(text, lambda: encode(draw("red")), text) for text in ("good", "bad")]
    (batch,) = embed(items, fake_encoder, needs=BOTH)
    assert [outcome.status for outcome in batch.outcomes] == ["ok", "nan"]
    assert batch.features.image is not None and not batch.features.image[1].any()
    assert batch.features.has_image.tolist() == batch.features.has_text.tolist() == [True, False]


def test_no_more_memory_is_asked_for_than_a_file_is_long(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"x" * 100_000)
    tracemalloc.start()
    try:
        assert FileBytes(str(path))() == b"x" * 100_000
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()
