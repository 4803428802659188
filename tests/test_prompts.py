"""Template sets and their expansion."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cmprompt.errors import UsageError
from cmprompt.labels import label_set, prompts_dir
from cmprompt.prompts import (
    DEFAULT_SET,
    OPEN_CLIP_SETS,
    choose_sets,
    expand,
    inline_set,
    load_prompt_set,
    photo_set,
    prompt_hash,
    prompt_set_names,
    with_question,
)

OWN = sorted({path.stem for path in prompts_dir().glob("*.toml")})
LANGUAGES = ("zh", "es", "fr", "de", "ja", "ar", "hi")


@pytest.mark.parametrize("name", OWN)
def test_our_sets_load_and_hold_no_duplicates(name: str) -> None:
    prompt_set = load_prompt_set(name)
    assert prompt_set.name == name and prompt_set.description and not prompt_set.verbatim
    assert len(set(prompt_set.templates)) == len(prompt_set.templates)


def test_the_promised_sets_are_there() -> None:
    promised = (
        "photo plain sketch drawing art satellite medical texture food product document action scene vehicle animal"
    )
    assert {*promised.split(), "low-quality", "video", *(f"photo-{code}" for code in LANGUAGES)} <= set(OWN)
    assert all(load_prompt_set(f"photo-{code}").language == code for code in LANGUAGES)


@pytest.mark.parametrize("name", OPEN_CLIP_SETS)
def test_open_clip_sets_equal_open_clips(name: str) -> None:
    import open_clip

    theirs = getattr(open_clip, OPEN_CLIP_SETS[name][0])
    labels = label_set(["apple", "polar_bear", "a {b}"])
    expected = {label: tuple(template(label) for template in theirs) for label in labels.phrases}
    assert expand(labels, [load_prompt_set(name)]) == expected


def test_naming_a_set_imports_neither_torch_nor_open_clip() -> None:
    code = (
        "import sys; from cmprompt.prompts import *; load_prompt_set('openai-imagenet'); load_prompt_set('photo');"
        "import cmprompt.lint; assert not {'torch', 'open_clip', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_expansion_is_class_major_and_sets_follow_each_other() -> None:
    labels = label_set({"b": {"phrases": ["b1", "b2"]}, "a": []})
    texts = expand(labels, [inline_set(["x {}", "y {}"]), inline_set(["z {}"])])
    assert list(texts) == ["b", "a"]
    assert texts["b"] == ("x b1", "y b1", "z b1", "x b2", "y b2", "z b2") and texts["a"] == ("x a", "y a", "z a")


def test_only_our_own_sets_are_adjusted(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('templates = ["a {}"]')
    labels = label_set(["red_apple", "red_ox"])
    for verbatim in (inline_set(["a {}"]), load_prompt_set(str(tmp_path / "mine.toml"))):
        assert expand(labels, [verbatim])["red_apple"] == ("a red_apple",)
    assert expand(label_set(["eel", "big_ox"]), [load_prompt_set("photo")])["eel"][0] == "a photo of an eel."


def test_descriptions_stay_out_of_templates() -> None:
    labels = label_set({"cat": ["A cat has whiskers."], "dog": []})
    assert expand(labels, [inline_set(["x {}"])]) == {"cat": ("A cat has whiskers.",), "dog": ("x dog",)}
    with pytest.raises(UsageError, match="label 'dog' has no text"):
        expand(labels, [])


def test_hash_knows_texts_labels_and_order() -> None:
    mappings = [
        {"a": ["x"], "b": ["y"]},
        {"b": ["y"], "a": ["x"]},
        {"a": ["y"], "b": ["y"]},
        {"a": ["x", "y"], "b": []},
    ]
    assert len({prompt_hash(each) for each in mappings}) == 4
    assert prompt_hash({"a": ("x",), "b": ("y",)}) == prompt_hash(mappings[0]) and len(prompt_hash({})) == 64


@pytest.mark.parametrize(
    ("labels", "language", "name"),
    [
        (["cat", "dog"], "auto", DEFAULT_SET),
        (["猫", "狗"], "auto", "photo-zh"),
        (["ねこ", "犬", "うま"], "auto", "photo-ja"),
        (["قطة", "كلب"], "auto", "photo-ar"),
        (["बिल्ली", "कुत्ता"], "auto", "photo-hi"),
        (["gato", "perro"], "es", "photo-es"),
        (["кошка", "собака"], "auto", "plain"),
        (["고양이", "개", "cat"], "auto", "plain"),
        (["кошка", "собака"], "en", DEFAULT_SET),
    ],
)
def test_photo_prompts_of_a_language(labels: list[str], language: str, name: str) -> None:
    assert photo_set(label_set(labels), language) == name


def test_choosing_sets() -> None:
    labels = label_set(["cat", "dog"])
    assert [each.name for each in choose_sets([], [], labels)] == [DEFAULT_SET]
    assert [each.name for each in choose_sets(["art", "openai-simple"], ["{}"], labels)] == [
        "art",
        "openai-simple",
        "inline",
    ]
    with pytest.raises(UsageError, match="unknown language 'xx'"):
        choose_sets([], [], labels, language="xx")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", 'templates = ["a {}",\n"a cat"]', "a.toml, line 2: template 'a cat' has no {}"),
        ("a.toml", 'templates = ["",\n"a {}"]', "a.toml: template '' has no {}"),
        ("a.toml", 'name = "a"\ntemplate = ["a {}"]', "a.toml, line 2: unknown key 'template'; did you mean templates"),
        ("a.toml", 'name = "a"', "needs templates"),
        ("a.toml", "templates = []", "no templates"),
        ("a.toml", "name = 3\ntemplates = ['{}']", "name is a text"),
        ("a.toml", "templates = [", "not valid TOML"),
        ("a.txt", "a {}\n# done\na cat", "template 'a cat' has no {}"),
        ("a.txt", "# nothing", "no templates"),
    ],
)
def test_bad_prompt_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        load_prompt_set(str(tmp_path / name))


def test_lines_make_a_prompt_file(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes(b"\xef\xbb\xbf# mine\r\na {}\r\n\r\nthe {}\r\n")
    prompt_set = load_prompt_set(str(tmp_path / "mine.txt"))
    assert prompt_set.templates == ("a {}", "the {}") and prompt_set.name == "mine" and prompt_set.verbatim


def test_unknown_names_list_the_near_ones() -> None:
    with pytest.raises(UsageError, match="unknown prompt set 'skech'; did you mean sketch"):
        load_prompt_set("skech")
    with pytest.raises(UsageError, match="unknown prompt set ''; known: "):
        load_prompt_set("")
    with pytest.raises(UsageError, match=r"absent\.toml: cannot be read"):
        load_prompt_set("absent.toml")
    with pytest.raises(UsageError, match="--template: template 'a cat' has no"):
        inline_set(["a cat"])
    with pytest.raises(UsageError, match="--template: template '' has no"):
        inline_set(["a {}", ""])


def test_questions_are_put_into_their_set() -> None:
    labels = label_set(["umbrella", "bag"])
    with pytest.raises(UsageError, match="--question"):
        expand(labels, [load_prompt_set("question")])
    texts = expand(labels, [with_question(load_prompt_set("question"), "What is the man holding?")])
    assert all("the man is holding an umbrella" in text for text in texts["umbrella"])


def test_names_hold_every_set_once() -> None:
    assert prompt_set_names() == sorted({*OWN, *OPEN_CLIP_SETS})
