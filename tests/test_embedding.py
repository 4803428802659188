"""The word embedding that is learned with a head."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import FakeEncoder

from cmprompt.encoders.embedding import KINDS, EmbeddingTexts, Unlearned
from cmprompt.encoders.pair import PairEncoder, load_pair
from cmprompt.encoders.vocabulary import LENGTH, UNKNOWN, VOCABULARY, vocabulary_of, word_ids
from cmprompt.errors import UsageError
from cmprompt.heads.fit import fit
from cmprompt.heads.tuned import Tuned
from cmprompt.types import Features, Item

WORDS = ("red", "left", "blue")


def untrained(kind: str) -> EmbeddingTexts:
    from cmprompt.encoders.reader import Reader

    return EmbeddingTexts(kind, WORDS, {name: t.numpy() for name, t in Reader(kind, 3).state_dict().items()}, "0" * 64)


def test_the_vocabulary_is_the_most_frequent_words() -> None:
    assert vocabulary_of(["b a a", "A c, b"]) == ("a", "b", "c")
    assert len(vocabulary_of(f"w{number}" for number in range(VOCABULARY + 5))) == VOCABULARY


def test_unknown_words_and_texts_without_words_have_a_row_of_their_own() -> None:
    ids = word_ids(["red green", "...", "left " * 100], WORDS)
    assert ids.shape == (3, LENGTH) and ids[0, :3].tolist() == [2, UNKNOWN, 0]
    assert ids[1, :2].tolist() == [UNKNOWN, 0] and (ids[2] == 3).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_texts_numbers_do_not_depend_on_its_company(kind: str) -> None:
    encoder = untrained(kind)
    texts = ["red left blue", "red", " ".join(["left"] * 20), "unheard of"]
    together = encoder.encode_texts(texts)
    assert together.shape == (4, 512) and np.isfinite(together).all()
    assert b"".join(encoder.encode_texts([text]).tobytes() for text in texts) == together.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_pooled_one_does_not_see_the_order(kind: str) -> None:
    one, other = untrained(kind).encode_texts(["red left blue", "blue left red"])
    assert np.allclose(one, other, atol=1e-5) == (kind == "pooled")


@pytest.mark.parametrize("kind", KINDS[1:])
def test_it_learns_what_stands_in_the_order_of_words(kind: str) -> None:
    texts = ["red left blue", "blue left red"] * 12
    items = [Item(str(number), None, text) for number, text in enumerate(texts)]
    encoder = PairEncoder(FakeEncoder(), Unlearned(kind))
    here = np.ones(24, bool)
    features = Features(None, encoder.encode_texts(texts), ~here, here)
    options = {"batch": 8, "rate": 3e-3, "epochs": 12, "least_steps": 0}
    head = fit("linear", features, ["ab", "ba"] * 12, encoder=encoder, items=items, use="text", **options)
    assert isinstance(head, Tuned)
    seen = Features(None, head.encoder.encode_texts(["blue left red", "red left blue"]), ~here[:2], here[:2])
    assert head.logits(seen).argmax(1).tolist() == [1, 0]


def test_before_it_is_trained_it_tells_texts_apart() -> None:
    rows = Unlearned().encode_texts(["a", "b", "a"])
    assert np.array_equal(rows[0], rows[2]) and rows[0] @ rows[1] < 0.99


def test_an_unknown_kind_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="gru, pooled, transformer"):
        load_pair("pair:classic|embedding:nothing", "cpu", lambda name: FakeEncoder())
