"""What an encoder may do to a batch: run out of memory, choke on one record, return what is no vector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import FakeEncoder, draw, encode

from cmprompt.embed import Stats, embed
from cmprompt.encoders.batches import Batched
from cmprompt.errors import ItemError, ModelError
from cmprompt.store import Store
from cmprompt.types import Array, Item

POISON = 77  # the red of the picture that the encoder cannot take


def photos(count: int, poison: int | None = None) -> list[Item]:
    """Pictures of `count` colours; one of them is poison."""
    reds = [POISON if i == poison else (i if i < POISON else i + 1) for i in range(count)]
    return [Item(str(i), lambda red=red: encode(draw((red, 9, 9), (4, 4)))) for i, red in enumerate(reds)]


class Choking(FakeEncoder):
    """Fails on any batch that holds poison, or is larger than `room`."""

    room = 10_000
    error: Exception = ValueError("no")

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def encode_images(self, pixels: Array) -> Array:
        self.sizes.append(len(pixels))
        if len(pixels) > self.room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if (pixels[:, 0].reshape(len(pixels), -1).mean(1).round() == POISON).any():
            raise self.error
        return super().encode_images(pixels)


class OutOfMemoryError(Exception):
    """Named as in torch and CuPy."""


# The last two as torch's allocator for processors puts it, on Linux and on Windows.
NO_MEMORY = [
    MemoryError(),
    OutOfMemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes."),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4096 bytes."),
]


@pytest.mark.parametrize("error", NO_MEMORY)
def test_a_batch_is_halved_on_what_fails_a_single_image(error: Exception) -> None:
    def run(part: Array) -> Array:
        if len(part) > 3:
            raise error
        return part

    rows = np.arange(8.0)
    assert np.array_equal(Batched(run, 8)(rows), rows)


def statuses(items: list[Item], encoder: FakeEncoder, store: Store | None = None) -> tuple[list[str], Array]:
    batches = list(embed(items, encoder, store, batch_size=16))
    rows = [batch.features.image for batch in batches if batch.features.image is not None]
    return [outcome.status for batch in batches for outcome in batch.outcomes], np.concatenate(rows)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("no"), "unreadable"),
        (ItemError("timeout", "slow"), "timeout"),
        *((error, "out_of_memory") for error in NO_MEMORY),
    ],
)
def test_the_record_that_breaks_its_batch_fails_alone(error: Exception, status: str) -> None:
    encoder = Choking()
    encoder.error = error
    found, rows = statuses(photos(50, poison=21), encoder)
    assert [place for place, one in enumerate(found) if one != "ok"] == [21] and found[21] == status
    expected = statuses(photos(50), FakeEncoder())[1]
    assert np.array_equal(np.delete(rows, 21, 0), np.delete(expected, 21, 0)) and not rows[21].any()


def test_out_of_memory_halves_the_batch_and_goes_on_with_what_fits() -> None:
    encoder = Choking()
    encoder.room = 5
    found, rows = statuses(photos(64), encoder)
    assert set(found) == {"ok"} and np.array_equal(rows, statuses(photos(64), FakeEncoder())[1])
    assert encoder.sizes[0] == 16 and max(encoder.sizes[7:]) <= 5


def test_out_of_memory_for_one_image_is_its_own_failure() -> None:
    encoder = Choking()
    encoder.room = 0
    found, _ = statuses(photos(3), encoder)
    assert found == ["out_of_memory"] * 3


def test_a_model_that_fails_on_everything_ends_the_run() -> None:
    encoder = Choking()
    encoder.encode_images = lambda pixels: pixels @ 0  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="fails on every image"):
        statuses(photos(20), encoder)


def test_an_error_of_the_model_itself_is_not_a_records() -> None:
    encoder = Choking()
    encoder.error = ModelError("weights: hash mismatch")
    with pytest.raises(ModelError, match="hash mismatch"):
        statuses(photos(20, poison=3), encoder)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_what_is_no_unit_vector_is_never_kept(tmp_path: Path, value: float) -> None:
    class Broken(FakeEncoder):
        def encode_images(self, pixels: Array) -> Array:
            rows = super().encode_images(pixels)
            rows[pixels[:, 0, 0, 0] == POISON] = value
            return rows

    found, rows = statuses(photos(30, poison=8), Broken(), Store(tmp_path))
    assert found[8] == "nan" and found.count("ok") == 29 and not rows[8].any()
    assert len(Store(tmp_path).matrix("fake/fp32")[0]) == 29
    assert statuses(photos(30, poison=8), FakeEncoder(), Store(tmp_path))[0] == ["ok"] * 30


def test_copies_of_a_failure_fail_alike_and_nothing_hangs(tmp_path: Path) -> None:
    encoder, stats = Choking(), Stats()
    items = [photos(1, poison=0)[0] if i % 2 else photos(40)[i] for i in range(40)]
    batches = list(embed(items, encoder, Store(tmp_path), batch_size=8, stats=stats))
    found = [outcome.status for batch in batches for outcome in batch.outcomes]
    assert found == ["ok", "unreadable"] * 20 and stats.failed == 20


def test_a_bug_in_a_source_is_not_hidden(fake_encoder: FakeEncoder) -> None:
    with pytest.raises(ZeroDivisionError):
        list(embed([Item("x", lambda: 1 // 0)], fake_encoder))  # type: ignore[arg-type, return-value]
