"""The known shares of labels, as `--prior` reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmprompt.errors import UsageError
from cmprompt.tasks.adapt import read_shares

LABELS = ("beach", "a, b")


def read(tmp_path: Path, text: str | bytes) -> list[float]:
    path = tmp_path / "shares"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found: list[float] = read_shares(str(path), LABELS).tolist()
    return found


@pytest.mark.parametrize(
    "text",
    ["a, b,1\n\nbeach , 3\n", "beach\t3\r\na, b\t1\r\n", ' {"a, b": 1, "beach": "3"}\n', "\ufeffbeach,3\na, b,1"],
    ids=["lines", "tabs", "json", "mark"],
)
def test_shares_come_in_the_order_of_the_labels(text: str, tmp_path: Path) -> None:
    assert read(tmp_path, text) == [3.0, 1.0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"caf\xe9,1", "cannot read --prior"),
        ("label,share\nbeach,3", r"line 1: 'label,share' is not like: beach,0\.3"),
        ("beach,3\nforest", "line 2: 'forest' is not like"),
        ('{"beach": 3', "not a JSON object of numbers"),
        ('{"beach": null}', "not a JSON object of numbers"),
        ('{"beach": {"a, b": 1}}', "not a JSON object of numbers"),
        ('{"beach": 1' + "0" * 400 + "}", "not a JSON object of numbers"),
        ('{"beach": ' + "[" * 100_000, "not a JSON object of numbers"),
        ("beach,3\nbeach,1\na, b,1", "'beach' is given twice"),
        ('{"beach": 3, "beach": 1, "a, b": 1}', "'beach' is given twice"),
        ("beach,3", "'a, b' is missing; give every label"),
        ("{}", "is missing; give every label"),
        ("beach,3\na, b,1\nforest,1", "'forest' is no label; give every label"),
        ("beach,nan\na, b,1", "shares are numbers of at least 0"),
        ('{"beach": NaN, "a, b": 1}', "shares are numbers of at least 0"),
        ("beach,inf\na, b,1", "shares are numbers of at least 0"),
        ("beach,-1\na, b,1", "shares are numbers of at least 0"),
        ("beach,0\na, b,0", "and not all 0"),
    ],
)
def test_what_is_wrong_with_shares_is_said(text: str | bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        read(tmp_path, text)


def test_shares_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read --prior .*No such file"):
        read_shares(str(tmp_path / "gone"), LABELS)
