"""Which descriptions won, and labels reported in another language."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from conftest import FakeEncoder

from cmprompt.cli.app import run
from cmprompt.errors import UsageError
from cmprompt.heads.zero_shot import zero_shot
from cmprompt.labels import describe, label_set
from cmprompt.labels.descriptors import Descriptors, tally, with_descriptors
from cmprompt.labels.translation import read_translations, translated
from cmprompt.predict import predict
from cmprompt.types import Embedded, Features, Item, Outcome, Prediction

PROMPTS = {"animal/cat": ("fur", "whiskers"), "animal/dog": ("a tail",), "cup": ("a handle",)}
VECTORS = np.eye(4, dtype=np.float32)
IMAGE = np.array([0.1, 0.7, 0.2, 0.3], np.float32)


def test_the_nearest_texts_of_the_winner_come_first() -> None:
    known = Descriptors.of(PROMPTS, VECTORS)
    found = known.best("animal/cat", IMAGE)
    assert [text for text, _ in found] == ["whiskers", "fur"]
    assert np.allclose([cosine for _, cosine in found], [0.7, 0.1])
    assert known.best("none of these", IMAGE) == known.best(None, IMAGE) == ()


def test_a_label_above_has_the_texts_of_those_below() -> None:
    known = Descriptors.of(PROMPTS, VECTORS, level=1)
    assert [text for text, _ in known.best("animal", IMAGE)] == ["whiskers", "a tail", "fur"]


def test_every_answer_says_what_spoke_for_it(fake_encoder: FakeEncoder) -> None:
    prompts = {"warm": ("a red thing", "an orange thing"), "cold": ("a blue thing",)}
    image = np.array([[1, 0, 0, 0, 0, 0, 0, 0]], np.float32)
    batch = Embedded((Item("a", None), Item("b", None)), (Outcome(), Outcome("missing", "gone")), Features.of_images(
        np.concatenate([image, 0 * image])))  # fmt: skip
    texts = [text for own in prompts.values() for text in own]
    known = Descriptors.of(prompts, fake_encoder.encode_texts(texts))
    head = zero_shot(fake_encoder, prompts)
    first, second = with_descriptors([batch], lambda rows: predict(rows, head), known)
    assert first.label == "warm" and first.descriptors[0][0] == "a red thing"
    assert second.status == "missing" and second.descriptors == ()


def test_how_often_each_text_was_the_nearest() -> None:
    known = Descriptors.of(PROMPTS, VECTORS)
    images = np.stack([IMAGE, IMAGE, IMAGE[::-1]])
    counts = list(tally(["animal/cat", "animal/cat", "animal/cat"], images, known))
    assert counts == [("animal/cat", "whiskers", 2), ("animal/cat", "fur", 1)]


def test_a_file_describes_the_labels_that_are_chosen(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text('{"cat": ["a cat has whiskers"], "cup": ["a cup has a handle"]}')
    assert list(describe(str(path)).phrases) == ["cat", "cup"]
    chosen = describe(str(path), label_set(["cat", "dog"]))
    assert chosen.phrases == {"cat": ("a cat has whiskers",), "dog": ("dog",)} and chosen.verbatim == {"cat"}
    with pytest.raises(UsageError, match="describes none of the labels"):
        describe(str(path), label_set(["sun", "moon"]))


def test_translations_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "zh.txt"
    path.write_text("cat: 猫\ndog: 狗\nkitten: 猫\nwolf: 狼 | 野狼\n", encoding="utf-8")
    assert read_translations(str(path), ["dog", "cat"]) == {"dog": "狗", "cat": "猫"}
    for labels, message in [(["cow"], "no translation of 'cow'"), (["cat", "kitten"], "'猫' is given for two"),
                            (["wolf"], "has 2 translations")]:  # fmt: skip
        with pytest.raises(UsageError, match=message):
            read_translations(str(path), labels)


def test_many_translations_are_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    path.write_text("".join(f"label {n}: translation {n}\n" for n in range(20_000)))
    started = perf_counter()
    assert len(read_translations(str(path))) == 20_000
    assert perf_counter() - started < 2  # comparing each with all before it takes 4 s and more


def test_every_label_is_reported_by_its_translation() -> None:
    found = Prediction(Item("a", None), label="cat", top=(("cat", 0.9), ("none of these", 0.1)), labels=("cat",))
    (said,) = translated([found], {"cat": "猫"})
    assert (said.label, said.top, said.labels) == ("猫", (("猫", 0.9), ("none of these", 0.1)), ("猫",))
    assert next(translated([Prediction(Item("a", None), "missing")], {"cat": "猫"})).label is None


def test_both_from_the_shell(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.json").write_text('{"cat": ["a cat has whiskers", "a cat has fur"], "cup": ["a cup of tea"]}')
    (tmp_path / "de.txt").write_text("cat: Katze\ncup: Tasse\n")
    flags = ["--describe", str(tmp_path / "d.json"), "--translate-labels", str(tmp_path / "de.txt"), "--no-store", "-q"]
    assert run(["classify", str(colours), *flags, "--model", "tiny", "--format", "jsonl"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {each["label"] for each in records} <= {"Katze", "Tasse"}
    texts = {"Katze": {"a cat has whiskers", "a cat has fur"}, "Tasse": {"a cup of tea"}}
    assert all({text for text, _ in each["descriptors"]} == texts[each["label"]] for each in records)
