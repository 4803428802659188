"""Articles and underscores."""

from __future__ import annotations

import pytest

from cmprompt.prompts.wording import fill, fill_adjusted


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("dog", "a dog"),
        ("apple", "an apple"),
        ("polar_bear", "a polar bear"),
        ("hourglass", "an hourglass"),
        ("horse", "a horse"),
        ("umbrella", "an umbrella"),
        ("unicorn", "a unicorn"),
        ("unidentified object", "an unidentified object"),
        ("university", "a university"),
        ("urn", "an urn"),
        ("used car", "a used car"),
        ("European bison", "a European bison"),
        ("one-way street", "a one-way street"),
        ("onion", "an onion"),
        ("x-ray image", "an x-ray image"),
        ("MRI scan", "an MRI scan"),
        ("SUV", "an SUV"),
        ("HAT", "a HAT"),
        ("the Eiffel Tower", "the Eiffel Tower"),
        ("an owl", "an owl"),
        ("scissors", "a scissors"),
        ("{}", "a {}"),
    ],
)
def test_english_articles(phrase: str, expected: str) -> None:
    assert fill_adjusted("a photo of a {}.", phrase, "en") == f"a photo of {expected}."


def test_an_article_further_off_is_left() -> None:
    assert fill_adjusted("a small {}, or A {}", "eel", "en") == "a small eel, or An eel"


@pytest.mark.parametrize(("phrase", "expected"), [("avion", "d'avion"), ("chat", "de chat"), ("hibou", "de hibou")])
def test_french_elision(phrase: str, expected: str) -> None:
    assert fill_adjusted("une photo de {}.", phrase, "fr") == f"une photo {expected}."


def test_other_languages_are_left() -> None:
    assert fill_adjusted("una foto de {}.", "a_b", "es") == "una foto de a b."


def test_fill_is_verbatim() -> None:
    assert fill("a {} and a {}", "red_apple {}") == "a red_apple {} and a red_apple {}"
