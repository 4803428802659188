"""Which file imports which, read from the sources, imports inside functions included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def files() -> dict[str, Path]:
    """The package's modules by name."""
    paths = (ROOT / "cmprompt").rglob("*.py")
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """What of `modules` one file names in its imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in modules else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


MODULES = files()
ARROWS = {
    name: {other for other in imported(path, MODULES) if other in MODULES and other != name}
    for name, path in MODULES.items()
}


def test_no_two_files_import_each_other() -> None:
    try:
        TopologicalSorter(ARROWS).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("name", ["cmprompt.errors", "cmprompt.types", "cmprompt.registry", "cmprompt.metrics"])
def test_the_ground_floor_rests_on_nothing_else(name: str) -> None:
    assert ARROWS[name] <= {"cmprompt.errors", "cmprompt.types"}


def test_only_the_command_line_imports_the_command_line() -> None:
    def is_inside(name: str) -> bool:
        return f"{name}.".startswith(("cmprompt.cli.", "cmprompt.__main__."))

    assert [name for name in ARROWS if not is_inside(name) and any(map(is_inside, ARROWS[name]))] == []
