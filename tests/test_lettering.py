"""Words on pictures: letters that Pillow's font lacks, and words that are too long."""

from __future__ import annotations

import pytest
from PIL import ImageFont

from cmprompt import lettering
from cmprompt.lettering import fitted, font_for, missing


def test_letters_that_a_font_lacks_are_counted() -> None:
    own = ImageFont.load_default(14)
    assert missing(own, "a cat, 0.62") == 0
    assert missing(own, "猫 cat 狗猫") == 2


def test_a_font_of_the_machine_stands_in_for_letters_that_are_lacking() -> None:
    there = [name for name in lettering.SYSTEM_FONTS if is_here(name)]
    if all(missing(ImageFont.truetype(name, 14), "猫") for name in there):
        pytest.skip("no font here has Chinese letters")
    assert missing(font_for("猫", 14), "猫") == 0


def test_where_no_font_is_installed_pillows_own_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "SYSTEM_FONTS", ("no such font.ttf",))
    assert missing(font_for("猫", 14), "猫") == 1


def test_words_are_cut_to_a_width() -> None:
    font = ImageFont.load_default(14)
    assert fitted("cat", font, 100) == "cat"
    short = fitted("a cat that is rather long" * 9, font, 100)
    assert short.startswith("a cat") and short.endswith("...") and font.getlength(short) <= 100


def is_here(name: str) -> bool:
    try:
        ImageFont.truetype(name, 14)
    except OSError:
        return False
    return True
