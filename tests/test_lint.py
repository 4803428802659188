"""Lint: of wording, of one model's reading, and the command."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from conftest import FakeEncoder

from cmprompt.encoders.tokenizer import ClipTokenizer
from cmprompt.errors import UsageError
from cmprompt.labels import everyday, label_set
from cmprompt.lint import lint
from cmprompt.lint.findings import Finding
from cmprompt.lint.labels import lint_labels
from cmprompt.lint.model import lint_model
from cmprompt.lint.templates import lint_prompts
from cmprompt.prompts import choose_sets, inline_set, load_prompt_set, prompt_set_names
from cmprompt.types import Array


def messages(findings: Sequence[Finding], severity: str) -> str:
    return "\n".join(f"{each.where}: {each.message}" for each in findings if each.severity == severity)


@pytest.mark.parametrize("name", prompt_set_names())
def test_the_sets_that_come_along_are_clean(name: str) -> None:
    assert lint_prompts(name) == []


def test_the_everyday_words_are_clean() -> None:
    assert lint_labels(label_set(everyday()), {"en"}) == []


@pytest.mark.parametrize(
    ("text", "severity", "message"),
    [
        ('templates = ["a {}",\n"a cat"]', "error", "line 2: template 'a cat' has no {}"),
        ('templates = ["a {}",\n"a {} {"]', "error", "line 2: template 'a {} {' has unbalanced braces"),
        ('templates = ["a {}",\n"a {} in {place}"]', "warning", "keeps {place} as it is"),
        ('templates = ["a {}", "a {}"]', "warning", "is there twice"),
        ('templates = ["a {}",\n"a photo without a {}"]', "warning", "line 2: 'a photo without a {}' says 'without'"),
        ('language = "de"\ntemplates = ["kein {}"]', "warning", "'kein {}' says 'kein'"),
        ('templates = ["a {}"]\ntemplats = []', "error", "line 2: unknown key 'templats'; did you mean templates"),
        ('templates = ["a {}", 3]', "error", "3 is not a text"),
        ('cat = ["a description"]', "error", "checked with --labels @FILE"),
        ("templates = [", "error", "not valid TOML"),
    ],
)
def test_what_is_wrong_in_a_prompt_file(tmp_path: Path, text: str, severity: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert message in messages(lint_prompts(str(path)), severity)


def test_lines_are_linted_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# mine\na {}\nkeine {}\na cat\n")
    findings = lint_prompts(str(path))
    assert "line 4: template 'a cat' has no {}" in messages(findings, "error")
    assert "line 3: 'keine {}' says 'keine'" in messages(findings, "warning")


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "no cat"),
        ("en", "not a dog"),
        ("en", "a street without cars"),
        ("en", "a dog that isn’t brown"),  # noqa: RUF001 - the apostrophe that word processors write
        ("es", "una calle sin coches"),
        ("fr", "une rue sans voitures"),
        ("de", "keine Katze"),
        ("zh", "没有猫"),
        ("ja", "猫がいない部屋"),
        ("ar", "شارع بدون سيارات"),
        ("hi", "बिना गाड़ी की सड़क"),
    ],
)
def test_negations(language: str, text: str) -> None:
    findings = lint_labels(label_set([text, "other"]), {language})
    assert "do not understand a negation" in messages(findings, "warning")


@pytest.mark.parametrize("text", ["forget-me-not", "notebook", "knot", "Norway", "cannoli", "sin", "pasta"])
def test_words_that_only_look_negative(text: str) -> None:
    findings = lint_labels(label_set([text, "other"]), {"en"})
    assert findings == []


def test_labels_that_read_alike_and_other_doubts() -> None:
    labels = label_set({"polar_bear": [], "Polar bear": [], "cat # pet": [], "dog": ["fur"], "emu": ["An emu is {}."]})
    findings = lint_labels(labels, {"en"})
    assert "label 'Polar bear': reads as 'polar_bear'" in messages(findings, "error")
    for doubt in ("a comment in a label file", "the description 'fur', used as it is", "has {} in a description"):
        assert doubt in messages(findings, "warning")


def test_long_texts_are_named_with_their_tokens(fake_encoder: FakeEncoder) -> None:
    long = "word " * 80
    findings = lint_model(label_set(["cat", long]), [inline_set(["a {}"])], fake_encoder)
    assert f"'a {long.strip()}' has 83 tokens, but this model reads 77" in messages(findings, "error")
    assert "'a cat'" not in messages(findings, "error")


class ClipTokens(FakeEncoder):
    """Reads as CLIP's byte-level tokenizer does."""

    def fallback_share(self, texts: Sequence[str]) -> float:
        return ClipTokenizer().fallback_share(texts)


@pytest.mark.parametrize(
    ("labels", "known"),
    [
        (["猫", "狗"], False),
        (["قطة", "كلب"], False),
        (["बिल्ली", "कुत्ता"], False),
        (["ねこ", "いぬ"], False),
        (["кошка", "собака"], False),
        (["고양이", "강아지"], False),
        (["éléphant", "garçon", "Straße"], True),
        (["cat", "dog"], True),
    ],
)
def test_scripts_that_clips_tokenizer_does_not_know(labels: list[str], known: bool) -> None:
    chosen = label_set(labels)
    findings = lint_model(chosen, choose_sets([], [], chosen), ClipTokens())
    assert ("does not know the script" in messages(findings, "warning")) is not known


class ReplayEncoder(FakeEncoder):
    """Real CLIP ViT-B/32 vectors of "a NAME"; other words borrow the vector of some name or other."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        table = np.load(folder / "text-embeddings.npz")
        self.rows = {f"a {name}": row for name, row in zip(table["names"], table["a_name"], strict=True)}

    def encode_texts(self, texts: Sequence[str]) -> Array:
        others = list(self.rows.values())
        found = [self.rows.get(text, others[37 * i % len(others)]) for i, text in enumerate(texts)]
        vectors = np.stack(found).astype(np.float32)
        unit: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def test_near_synonyms_of_real_clip(data_dir: Path) -> None:
    names = ["sofa", "couch", "coat", "jacket", "lion", "tiger", "cat", "dog", "fork", "spoon", "elephant"]
    encoder = ReplayEncoder(data_dir / "clip-vitb32-replay")
    findings = lint_model(label_set(names), [inline_set(["a {}"])], encoder)
    assert [each.where for each in findings] == ["labels 'sofa' and 'couch'", "labels 'coat' and 'jacket'"]
    assert "cosine 0.94" in findings[0].message and findings[0].severity == "warning"


class Scattered(FakeEncoder):
    """Each text has a direction of its own, but for twins."""

    dim = 32

    def encode_texts(self, texts: Sequence[str]) -> Array:
        seeds = [crc32(text.removesuffix(" twin").encode()) for text in texts]
        vectors = np.stack([np.random.default_rng(seed).normal(size=32) for seed in seeds])
        unit: Array = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        return unit


def test_near_synonyms_among_many_labels_are_found_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmprompt.lint.model.BLOCK_CELLS", 1 << 16)
    names = [f"thing {n}" for n in range(1500)]
    labels = label_set([*names, "thing 7 twin", "thing 1400 twin"])
    tracemalloc.start()
    findings = lint_model(labels, [inline_set(["a {}"])], Scattered())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    same = {each.where for each in findings if each.severity == "error"}
    assert same == {"labels 'thing 7' and 'thing 7 twin'", "labels 'thing 1400' and 'thing 1400 twin'"}
    assert most < 2 * 4 * len(labels) ** 2  # two tables of all pairs


def test_labels_with_one_vector_are_an_error(fake_encoder: FakeEncoder) -> None:
    labels = label_set({"cat": ["a red thing"], "dog": ["a red thing"], "sky": ["a blue thing"]})
    findings = lint_model(labels, [inline_set(["{}"])], fake_encoder)
    assert "labels 'cat' and 'dog': are one to this model" in messages(findings, "error")


def test_the_question_set_is_linted_with_a_model(fake_encoder: FakeEncoder) -> None:
    assert lint_model(label_set([], minimum=0), [load_prompt_set("question")], fake_encoder) == []


def test_lint_joins_prompts_and_labels(tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    (tmp_path / "mine.txt").write_text("a cat\n")
    findings = lint([str(tmp_path / "mine.txt")], ["cat,no dog"], encoder=fake_encoder)
    assert "has no {}" in messages(findings, "error") and "'no dog' says 'no'" in messages(findings, "warning")
    assert "label 'cat' is given twice" in messages(lint([], ["cat,cat"]), "error")
    with pytest.raises(UsageError, match="unknown prompt set 'phto'"):
        lint(["phto"])


def test_labels_in_another_script_than_the_templates() -> None:
    assert "the labels look like zh; take photo-zh" in messages(lint(["photo"], ["猫,狗"]), "warning")
    assert lint([], ["猫,狗"]) == [] and lint(["photo-zh"], ["猫,狗"]) == [] and lint(["art"], ["cat,dog"]) == []


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    from cmprompt.cli.app import run

    status = run(["prompts", *arguments])
    return status, capsys.readouterr().out


def test_the_command_exits_1_for_errors_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("a {}\nno {}\n")
    status, out = run(capsys, "lint", str(path))
    assert status == 0 and out.startswith(f"warning: {path}, line 2: ")
    path.write_text("a cat\n")
    assert run(capsys, "lint", str(path)) == (1, f"error: {path}, line 1: template 'a cat' has no {{}} for the label\n")
    assert run(capsys, "lint")[0] == 2 and run(capsys, "lint", "phto")[0] == 2


def test_every_line_on_stderr_has_our_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cmprompt.cli.app import run

    path = tmp_path / "mine.txt"
    path.write_text("a {}\nno {}\n")
    assert run(["prompts", "lint", str(path), "--model", "auto"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("cmprompt: ") for line in lines)
    assert lines[-1] == "cmprompt: 0 errors, 1 warning"


def test_list_and_show_through_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    status, out = run(capsys, "list")
    rows = [line.split("\t") for line in out.splitlines()]
    assert status == 0 and [row[0] for row in rows] == prompt_set_names() and {len(row) for row in rows} == {4}
    assert run(capsys, "show", "sketch")[1].splitlines() == list(load_prompt_set("sketch").templates)
    assert run(capsys, "show", "everyday")[1].splitlines() == list(everyday())
    assert run(capsys, "show", "skech")[0] == 2
