"""A table's rows in order of suspicion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from conftest import FakeEncoder

from cmprompt.embed import embed
from cmprompt.errors import ItemError, UsageError
from cmprompt.tasks.suspects import Suspects, find_suspects
from cmprompt.types import Array, Frame, Item

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
BOTH = frozenset({"image", "text"})


def picture(colour: str, seed: int) -> Frame:
    noise = np.random.default_rng(seed).integers(0, 90, (8, 8, 3))
    return Frame(np.clip(np.array(COLOURS[colour]) // 2 + noise, 0, 255).astype(np.uint8))


def item(name: str, colour: str, seed: int, text: str | None = None, label: str | None = None) -> Item:
    return Item(name, lambda: picture(colour, seed), text, label)


def check(items: list[Item]) -> Suspects:
    return find_suspects(embed(items, FakeEncoder(), needs=BOTH))


def test_a_wrong_label_comes_first_with_the_right_one() -> None:
    names = ["red", "green", "blue"] * 10
    items = [item(f"{i}", name, i, label=name) for i, name in enumerate(names)]
    items[4] = item("wrong", "green", 4, label="blue")
    found = check(items)
    assert found.records[0]["id"] == "wrong"
    assert found.records[0]["flagged"]
    assert found.records[0]["better_label"] == "green"
    assert found.flagged == 1


def test_a_wrong_label_on_a_picture_of_several_rows_is_not_vouched_for_by_itself() -> None:
    names = ["red", "green", "blue"] * 10
    items = [item(f"{i}", name, i, text=f"{name} {i}", label=name) for i, name in enumerate(names)]
    items += [item("wrong", "green", 99, text=f"green {n}", label="blue") for n in "abcde"]
    found = check(items)
    wrong = [record for record in found.records if record["id"] == "wrong"]
    assert [record["better_label"] for record in wrong] == ["green"] * 5
    assert all(record["flagged"] for record in wrong)


def test_a_pair_that_does_not_fit_has_a_better_text() -> None:
    names = ["red", "green", "blue"] * 10
    items = [item(f"{i}", name, i, text=f"{name} thing {i}") for i, name in enumerate(names)]
    items[4] = item("wrong", "green", 4, text="blue thing 4")
    first = check(items).records[0]
    assert first["id"] == "wrong"
    assert first["better_text"].startswith("green")
    assert first["rank"] > 5


class LowerCaseEncoder(FakeEncoder):
    """Reads texts as CLIP does, whatever their case."""

    def encode_texts(self, texts: Sequence[str]) -> Array:
        return super().encode_texts([text.lower() for text in texts])


def test_texts_that_differ_in_case_are_one() -> None:
    names = ["red", "green", "blue"] * 10
    texts = [f"{name} thing {i}" for i, name in enumerate(names)]
    lower = [item(f"{i}", name, i, text) for i, (name, text) in enumerate(zip(names, texts, strict=True))]
    upper = [replace(each, id=f"upper {each.id}", text=(each.text or "").upper()) for each in lower]

    def found(items: list[Item]) -> Suspects:
        return find_suspects(embed(items, LowerCaseEncoder(), needs=BOTH))

    once, twice = ({row["id"]: row for row in found(items).records} for items in (lower, lower + upper))
    for row in once.values():
        assert twice[row["id"]] | {"suspicion": 0, "flagged": False} == row | {"suspicion": 0, "flagged": False}
    assert {twice[f"upper {name}"]["rank"] - once[name]["rank"] for name in once} == {0}


def test_the_notice_counts_texts_that_differ_in_case_once() -> None:
    items = [item(f"{i}", "red", i, text) for i, text in enumerate(["red", "RED", "Red"])]
    assert "1 different text is too few" in find_suspects(embed(items, LowerCaseEncoder(), needs=BOTH)).notices[0]


def test_every_row_has_a_record_failures_last() -> None:
    def gone() -> bytes:
        raise ItemError("truncated", "cut off")

    names = ["red", "green"] * 3
    items = [item(f"{i}", name, i, text=name, label=name) for i, name in enumerate(names)]
    found = check([Item("bad", gone, "red", "red"), *items, Item("no image", None, "red", "red")])
    assert len(found.records) == 8
    assert [record["status"] for record in found.records] == ["ok"] * 6 + ["truncated", "missing"]
    assert found.failed == 2


def test_pictures_that_all_fail_are_records() -> None:
    def gone() -> bytes:
        raise ItemError("missing", "no such file")

    found = check([Item("a", gone, "red"), Item("b", gone, None, "blue"), Item("c", None, "green")])
    assert [record["status"] for record in found.records] == ["missing"] * 3
    assert (found.failed, found.notices) == (3, [])


def test_texts_and_labels_without_pictures_have_nothing_to_check() -> None:
    with pytest.raises(UsageError, match=r"no row has a picture; name the column by --image-col"):
        check([Item("a", None, "red", "red"), Item("b", None, "blue", "blue")])


def test_a_table_of_images_alone_has_nothing_to_check() -> None:
    with pytest.raises(UsageError, match="nothing to check"):
        check([item("a", "red", 0)])
