"""An old head as the start of a new fit."""

from __future__ import annotations

import numpy as np
from conftest import FakeEncoder
from heads_data import LABELS, blobs

from cmprompt.cli.fitting import OldHead
from cmprompt.heads.calibrate import cooled


def test_new_labels_come_at_the_temperature_of_the_old_ones() -> None:
    """Otherwise one kind would win for its loudness alone."""
    features, _, prior = blobs(dim=8)
    encoder, texts = FakeEncoder(), {"red": ("red",), "blue": ("blue",), "apple": ("apple",)}
    start = OldHead("h", cooled(cooled(prior, 2.0), 2.0), "fake", {}).extended_by(encoder, texts, "mean", None)
    assert start.labels == (*LABELS, "red", "blue")
    np.testing.assert_allclose(start.logits(features)[:, :3], prior.logits(features) / 4, rtol=1e-4, atol=1e-4)
    text = encoder.logit_scale * features.image @ encoder.encode_texts(["red", "blue"]).T
    np.testing.assert_allclose(start.logits(features)[:, 3:], text / 4, atol=0.01)  # texts are kept as halves
