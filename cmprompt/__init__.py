"""Prompt-driven zero-shot image classification. The public names load on first use (PEP 562)."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmprompt.classifier import PromptClassifier
    from cmprompt.embed import embed
    from cmprompt.encoders import load_encoder
    from cmprompt.heads.fit import fit
    from cmprompt.heads.zero_shot import zero_shot
    from cmprompt.predict import predict

__version__ = "0.1.0"
__all__ = ["PromptClassifier", "embed", "fit", "load_encoder", "predict", "zero_shot"]

_PUBLIC = {
    "PromptClassifier": "cmprompt.classifier",
    "embed": "cmprompt.embed",
    "fit": "cmprompt.heads.fit",
    "load_encoder": "cmprompt.encoders",
    "predict": "cmprompt.predict",
    "zero_shot": "cmprompt.heads.zero_shot",
}


class _Package(ModuleType):
    """Importing the module `cmprompt.embed` must not put it in the place of the function `cmprompt.embed`."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cmprompt' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
