"""Names of models that last: what finds an encoder again from another folder, and after `auto` means another one."""

from __future__ import annotations

import os
from typing import Any

from cmprompt.encoders import RECOMMENDED
from cmprompt.encoders.pair import PREFIX, pair_name
from cmprompt.encoders.weights import TINY


def lasting_name(model: str, encoder: Any) -> str:
    """What `load_encoder` must be told to find this `encoder` again, from any folder: `auto` may mean another one by
    then."""
    if model.startswith(PREFIX):
        image, _, text = model.removeprefix(PREFIX).partition("|")
        return pair_name(lasting_name(image, encoder.images), lasting_name(text, encoder.texts), model)
    for prefix in ("local-dir:", "tuned:"):
        if model.startswith(prefix):
            return prefix + os.path.abspath(os.path.expanduser(model.removeprefix(prefix)))
    if model != "auto":
        return model
    folder = getattr(getattr(encoder, "checkpoint", None), "folder", TINY)
    return "tiny" if folder == TINY else RECOMMENDED
