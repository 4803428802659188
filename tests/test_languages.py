"""Eight languages: through multilingual towers made for the test, and where a tokenizer does not know the script."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from conftest import FakeEncoder

from cmprompt.cli.app import run
from cmprompt.encoders import load_encoder
from cmprompt.encoders.tokenizer import ClipTokenizer
from cmprompt.labels import label_set
from cmprompt.lint.languages import lint_languages
from cmprompt.prompts.scripts import foreign_words, is_fallback, nllb_code, unread
from cmprompt.types import Array, Encoder

pytest.importorskip("transformers", reason='multilingual models need the extra: pip install "cmprompt[multilingual]"')
from multilingual_models import LABELS, MODELS, PHOTO_SETS


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return MODELS[request.param](tmp_path_factory.mktemp("multilingual"))


@pytest.fixture(scope="module")
def encoder(model: str) -> Encoder:
    return load_encoder(model, device="cpu")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a socket is opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("code", LABELS)
def test_the_whole_road(code: str, model: str, colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--labels", ",".join(LABELS[code]), "--language", code, "--model", model]
    assert run(["classify", str(colours), *flags, "--store", str(colours.parent / "store"), "--format", "jsonl"]) == 0
    shown = capsys.readouterr()
    records = [json.loads(line) for line in shown.out.splitlines()]
    assert len(records) == 3 and {each["label"] for each in records} <= set(LABELS[code])
    assert "does not know the script" not in shown.err


@pytest.mark.parametrize("code", LABELS)
def test_prompts_of_eight_languages_pass_lint(code: str, encoder: Encoder) -> None:
    from cmprompt.lint import lint

    findings = lint([PHOTO_SETS[code]], [",".join(LABELS[code])], encoder=encoder, language=code)
    alike = [each for each in findings if each.where.startswith("labels ")]  # random weights tell nothing apart
    assert findings == alike


def test_a_text_is_read_in_full_and_padded(encoder: Encoder) -> None:
    short, long = encoder.count_tokens(["猫咪", "一张猫咪的照片。"])
    assert short < long < encoder.context_length
    alone, together = encoder.encode_texts(["猫咪"]), encoder.encode_texts(["a photo of a cat", "猫咪"])
    assert abs(alone[0] - together[1]).max() < 1e-6


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a photo of a cat", "eng_Latn"),
        ("一张猫咪的照片", "zho_Hans"),
        ("犬の写真", "jpn_Jpan"),
        ("фото кота", "rus_Cyrl"),
        ("고양이 사진", "kor_Hang"),
        ("صورة قطة", "arb_Arab"),
        ("बिल्ली की तस्वीर", "hin_Deva"),
    ],
)
def test_the_script_says_which_language_a_text_is_in(text: str, code: str) -> None:
    assert nllb_code(text) == code


def test_nllb_is_told_the_language_of_each_text(tmp_path: Path) -> None:
    texts = ["a photo of a cat", "一张猫咪的照片"]
    tokenizer = load_encoder(MODELS["NLLB"](tmp_path), device="cpu").tokenizer  # type: ignore[attr-defined]
    inner = tokenizer._wrapped.tokenizer
    assert inner.convert_ids_to_tokens(tokenizer.batch(texts)[:, 0]) == ["eng_Latn", "zho_Hans"]
    inner.src_lang = "zho_Hans"
    assert tokenizer.batch(texts)[1].tolist() == inner(texts[1], padding="max_length", max_length=64).input_ids


def test_the_script_says_which_prompts(model: str, colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classify", str(colours), "--labels", "猫咪,小狗", "--model", model, "--dry-run"]) == 0
    assert "一张猫咪的照片。" in capsys.readouterr().out


def test_translations_are_measured(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{a}: {b}" for a, b in zip(LABELS["en"], LABELS["zh"], strict=True)]
    (tmp_path / "zh.txt").write_text("\n".join(lines), encoding="utf-8")
    flags = ["--labels", "cat,dog,horse", "--translate-labels", str(tmp_path / "zh.txt")]
    assert run(["prompts", "lint", *flags, "--model", model]) == 0
    assert "of 3 labels lie nearest to their own" in capsys.readouterr().out
    assert run(["prompts", "lint", *flags]) == 2


class Bilingual(FakeEncoder):
    """Knows that 红 is red and takes 绿 for blue."""

    def _text_vector(self, text: str) -> Array:
        for sign, colour in (("红", "red"), ("绿", "blue"), ("蓝", "blue green")):
            text = text.replace(sign, colour)
        return super()._text_vector(text)


def test_a_label_that_means_something_else_there() -> None:
    names = {"red": "红", "green": "绿", "blue": "蓝"}
    note, *warnings = lint_languages(label_set(["red", "green", "blue"]), names, Bilingual())
    assert note.severity == "note" and "1 of 3 labels" in note.message
    assert [each.where for each in warnings] == ["label 'green'", "label 'blue'"]


def test_an_english_model_is_said_not_to_know_a_script(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classify", str(colours), "--labels", "猫,狗", "--model", "tiny", "--no-store"]) == 0
    assert "does not know the script" in capsys.readouterr().err
    assert run(["classify", str(colours), "--labels", "chat,chien", "--model", "tiny", "--no-store"]) == 0
    assert "script" not in capsys.readouterr().err


def test_labels_in_letters_without_prompts_stand_alone(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["classify", str(colours), "--labels", "кот,пёс", "--model", "tiny", "--no-store"]
    assert run(asked) == 0
    assert capsys.readouterr().err.count("no prompt set is written in the letters of these labels") == 1
    assert run([*asked, "--template", "фото {}"]) == 0
    assert "no prompt set" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("piece", "fallback"),
    [
        ("\ufffd", True),
        ("к", True),
        ("ि", True),
        ("к ", True),
        ("кот", False),
        ("猫", False),
        ("a", False),
        ("é", False),
    ],
)
def test_what_a_tokenizer_makes_of_letters_that_it_does_not_know(piece: str, fallback: bool) -> None:
    assert is_fallback(piece) is fallback


class Tokens(FakeEncoder):
    def fallback_share(self, texts: Sequence[str]) -> float:
        return ClipTokenizer().fallback_share(texts)


def test_only_words_of_other_scripts_are_judged() -> None:
    assert foreign_words(["a photo of a кот", "кот, naïve"]) == ["кот", "кот,"]
    assert unread(["a photo of a naïve cat"], Tokens()) is None
    word, share = unread(["a photo of a кот"], Tokens()) or ("", 0.0)
    assert word == "кот" and share > 0.8
