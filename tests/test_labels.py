"""Labels: specs, files, hierarchies, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cmprompt.errors import UsageError
from cmprompt.labels import LabelSet, describe, everyday, first_parts, label_set, load_labels
from cmprompt.rule import Rule, Threshold


def written(folder: Path, text: str | bytes, name: str = "labels.txt") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return f"@{path}"


def test_commas_part_labels_but_not_under_label() -> None:
    labels = load_labels(["cat, dog", "bird"], ["salt, pepper"])
    assert list(labels.phrases) == ["cat", "dog", "bird", "salt, pepper"]
    assert labels.phrases["salt, pepper"] == ("salt, pepper",)


def test_lines_with_comments_blanks_bom_and_crlf(tmp_path: Path) -> None:
    spec = written(tmp_path, b"\xef\xbb\xbf# pets\r\ncat\r\n\r\n  dog  \r\nC# book\r\nratio 16:9")
    assert list(load_labels([spec]).phrases) == ["cat", "dog", "C# book", "ratio 16:9"]


def test_phrases_of_a_line(tmp_path: Path) -> None:
    labels = load_labels([written(tmp_path, "cat: cat | small kitten\ndog")])
    assert labels.phrases == {"cat": ("cat", "small kitten"), "dog": ("dog",)}
    assert not labels.verbatim and labels.name == "labels"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("d.json", json.dumps({"cat": ["A cat has whiskers."], "dog": "A dog barks.", "emu": []})),
        ("d.toml", 'cat = ["A cat has whiskers."]\ndog = "A dog barks."\nemu = []'),
    ],
)
def test_descriptions_are_used_as_they_are(tmp_path: Path, name: str, text: str) -> None:
    labels = load_labels([written(tmp_path, text, name)])
    assert labels.phrases == {"cat": ("A cat has whiskers.",), "dog": ("A dog barks.",), "emu": ("emu",)}
    assert labels.verbatim == {"cat", "dog"}


def test_thresholds_beside_prompts_or_phrases(tmp_path: Path) -> None:
    text = '[cat]\nprompts = ["A cat."]\nthreshold = "z:1.5"\n[dog]\nthreshold = 0.6\n[emu]\nphrases = ["bird"]'
    labels = load_labels([written(tmp_path, text, "t.toml")])
    assert labels.thresholds == {"cat": "z:1.5", "dog": "0.6"}
    assert labels.phrases == {"cat": ("A cat.",), "dog": ("dog",), "emu": ("bird",)} and labels.verbatim == {"cat"}


@pytest.mark.parametrize("written_as", ["0.00001", "1E-5"])
def test_a_threshold_may_be_as_small_as_json_writes_it(tmp_path: Path, written_as: str) -> None:
    labels = load_labels([written(tmp_path, f'{{"cat": {{"threshold": {written_as}}}, "dog": []}}', "t.json")])
    assert Rule.parse(label_thresholds=labels.thresholds).label_thresholds == {"cat": Threshold("p", 1e-5)}


@pytest.mark.parametrize("limit", ["z:1.5", "cos:0.2"])
def test_one_label_with_a_limit_of_its_own_is_enough(tmp_path: Path, limit: str) -> None:
    labels = load_labels([written(tmp_path, f'{{"cat": {{"threshold": "{limit}"}}}}', "t.json")])
    assert labels.thresholds == {"cat": limit}


def test_json_list_keeps_every_character() -> None:
    strange = ["a {b} c", "{}", "one\ntwo", "x, y", "colon: here", "#1", "@home"]
    assert list(label_set(strange).phrases) == strange


def test_hierarchy_is_read_by_its_leaf() -> None:
    labels = load_labels(["animal/cat,animal/bird/crane,machine/crane,dog"])
    assert [texts[0] for texts in labels.phrases.values()] == ["cat", "crane (bird, animal)", "crane (machine)", "dog"]


def test_blanks_around_a_slash_part_no_branch() -> None:
    labels = load_labels(["animal / cat,animal/dog,plant, animal /bird / crow"])
    assert list(labels.phrases) == ["animal / cat", "animal/dog", "plant", "animal /bird / crow"]
    assert [first_parts(label, 1) for label in labels.phrases] == ["animal", "animal", "plant", "animal"]
    assert [first_parts(label, 2) for label in labels.phrases][2:] == ["plant", "animal/bird"]
    assert first_parts("animal / cat", 2) == "animal / cat"  # as a table has it
    with pytest.raises(UsageError, match="label 'animal/cat' is given twice"):
        load_labels(["animal / cat,animal/cat"])


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("cat\ndog\ncat", "a.txt", "a.txt, line 3: label 'cat' is given twice, first by .*line 1"),
        ("cat\n: kitten", "a.txt", "line 2: an empty label"),
        ("cat\ndog: a |", "a.txt", "line 2: an empty phrase"),
        ("cat\nbird//crow", "a.txt", "line 2: label 'bird//crow' has an empty level"),
        ("\n\nonly", "a.txt", "line 3: one label only, 'only'"),
        ("# nothing", "a.txt", "a.txt: no labels"),
        (b"cat\ncaf\xe9", "a.txt", "a.txt, line 2: byte 0xe9 is not UTF-8"),
        ('{"cat": [], \n"cat": []}', "a.json", "'cat' is given twice"),
        ('{"cat": \n[1], "dog": []}', "a.json", "a.json, line 1: 1 is not a text"),
        ('{"cat": [], "dog": [""]}', "a.json", "an empty label or description"),
        ('["cat", "dog"', "a.json", "not valid JSON: .*line 1"),
        ("[" * 100_000, "a.json", "not valid JSON"),
        ("3", "a.json", "not int"),
        ('cat = ["x"]\ncat = ["y"]', "a.toml", "not valid TOML: .*line 2"),
        ('dog = []\n[cat]\nprompt = ["x"]', "a.toml", "line 2: label 'cat' has the unknown key 'prompt'"),
        ('category = ["a cat"]\n\ncat = [3]', "a.toml", "a.toml, line 3: 3 is not a text"),
        ("dog = []\n'my cat' = [3]", "a.toml", "a.toml, line 2: 3 is not a text"),
        ('{"pet": ["cat"],\n"cat": [3]}', "a.json", "a.json, line 2: 3 is not a text"),
        ('["cat",\n"dog",\n"big cat", "dog"]', "a.json", "a.json, line 2: label 'dog' is given twice"),
        ('{"cat": {"threshold": 0.9}}', "a.json", "one label only, 'cat'"),
        ('{"cat": {"threshold": "high"}, "dog": []}', "a.json", "threshold 'high' is none of"),
        ('{"cat": {"prompts": ["a"], "phrases": ["b"]}, "dog": []}', "a.json", "both prompts"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str | bytes, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_labels([written(tmp_path, text, name)])


@pytest.mark.parametrize(
    ("specs", "literal", "message"),
    [
        ([], [], "no labels"),
        (["cat,,dog"], [], "'cat,,dog': an empty label"),
        (["cat"], ["cat"], "--label: label 'cat' is given twice"),
        (["@evryday"], [], "unknown label list 'evryday'; did you mean everyday"),
        (["@absent/labels.txt"], [], "absent/labels.txt: cannot be read"),
        (["@"], [], "without a name; write @FILE"),
        (["caf\udce9,dog"], [], "is not UTF-8"),
    ],
)
def test_bad_specs(specs: list[str], literal: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_labels(specs, literal)


def test_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path, "cat\ndog")
    assert list(load_labels(["@~/labels.txt"]).phrases) == ["cat", "dog"]


def test_a_folder_is_no_label_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_labels([f"@{tmp_path}"])


def test_descriptions_come_from_a_file_alone() -> None:
    with pytest.raises(UsageError, match=r"^nope: cannot be read \(No such file"):
        describe("nope")


def test_one_label_where_that_makes_sense() -> None:
    assert load_labels(["cat"], minimum=1) == LabelSet({"cat": ("cat",)})


def test_everyday_is_broad_and_without_duplicates() -> None:
    words = everyday()
    stems = {" ".join(part.rstrip("s") for part in word.replace("-", " ").split()) for word in words}
    assert 900 <= len(words) <= 1200 and len(stems) == len(words)
    assert all(word.isascii() and word == word.lower().strip() and len(word) <= 30 for word in words)
    assert tuple(load_labels(["@everyday"]).phrases) == words
