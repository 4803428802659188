"""The public names are the same things whatever was imported before them."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import cmprompt


@pytest.mark.parametrize("name", cmprompt.__all__)
def test_a_public_name_is_callable_after_the_module_of_that_name(name: str) -> None:
    import cmprompt.embed
    import cmprompt.heads.zero_shot
    import cmprompt.predict

    assert callable(getattr(cmprompt, name))
    assert not inspect.ismodule(getattr(cmprompt, name))
    assert name in dir(cmprompt)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="classify"):
        cmprompt.classify  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, cmprompt; print([m for m in ('numpy', 'torch', 'PIL', 'sklearn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
