"""What CONTRIBUTING promises: one file and one line add a writer, a source, a head, an encoder."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmprompt import registry
from cmprompt.cli.app import run
from cmprompt.errors import UsageError
from cmprompt.heads.io import load_head

TABLES = {name: table for name, table in vars(registry).items() if isinstance(table, dict) and name.isupper()}
KINDS = {name: kinds for name, kinds in vars(registry).items() if isinstance(kinds, tuple) and name.isupper()}


@pytest.mark.parametrize("name", TABLES)
def test_every_line_leads_somewhere(name: str) -> None:
    for known in TABLES[name]:
        assert registry.resolve(TABLES[name], name, known) is not None


@pytest.mark.parametrize("name", KINDS)
def test_what_flags_ask_of_a_kind_names_kinds_that_there_are(name: str) -> None:
    assert set(KINDS[name]) <= {*registry.HEADS, *registry.FUSIONS}


def test_every_table_is_used_and_named_in_contributing() -> None:
    root = Path(__file__).parents[1]
    code = "".join(path.read_text() for path in (root / "cmprompt").rglob("*.py") if path.name != "registry.py")
    contributing = (root / "CONTRIBUTING.md").read_text()
    assert [name for name in TABLES if f"resolve({name}," not in code and f"{name}," not in code] == []
    assert [name for name in TABLES if f"`{name}`" not in contributing] == []


def test_an_unknown_name_is_answered_with_the_near_one() -> None:
    with pytest.raises(UsageError, match="did you mean jsonl"):
        registry.resolve(registry.WRITERS, "format", "json")


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each."""
    monkeypatch.setitem(registry.WRITERS, "shout", "toys:Shout")
    monkeypatch.setitem(registry.SOURCES, ".m3u", "toys:read_m3u")
    monkeypatch.setitem(registry.HEADS, "means", "toys:fit_means")
    monkeypatch.setitem(registry.ENCODERS, "colours", "toys:load_colours")


def test_an_encoder_a_source_and_a_writer(toys: None, colours: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (colours / "list.m3u").write_text("# mine\nred.png\nblue.png\n")
    line = [
        "classify",
        str(colours / "list.m3u"),
        "--model",
        "colours:mean",
        "--labels",
        "red,green,blue",
        "--no-store",
    ]
    assert run([*line, "--format", "shout"]) == 0
    assert capfdbinary.readouterr().out == b"RED RED\nBLUE BLUE\n"
    assert run([*line, "-o", str(colours / "out.shout")]) == 0
    assert (colours / "out.shout").read_bytes() == b"RED RED\nBLUE BLUE\n"


def test_a_writer_takes_the_rows_of_other_commands(toys: None, colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "checked.shout"
    (tmp_path / "t.csv").write_text(
        "image,label\n" + "".join(f"{colours}/{name}.png,{name}\n" for name in ("red", "blue"))
    )
    assert run(["check", str(tmp_path / "t.csv"), "--model", "colours:mean", "--no-store", "-q", "-o", str(out)]) == 0
    assert sorted(out.read_text().splitlines()) == ["BLUE OK", "RED OK"]


@pytest.mark.parametrize("name", ["pair", "tuned", "open_clip", "open_clip:tiny", "pair:"])
def test_the_kind_of_an_encoder_alone_is_no_model(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classify", "a.jpg", "--labels", "cat,dog", "--model", name]) == 2
    assert "unknown model" in capsys.readouterr().err


def test_a_head(toys: None, model: str, table: Path, tmp_path: Path) -> None:
    head = tmp_path / "out.head"
    line = [str(table), "--model", model, "--store", str(tmp_path / "store"), "-o", str(head), "-q"]
    assert run(["finetune", *line, "--head", "means", "--force"]) == 0
    assert load_head(head).labels == ("blue", "green", "red")
