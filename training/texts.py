"""Tokens, templates and the many phrases the text tower learns from its teachers."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode

TEMPLATES = (
    *("{}", "a {}", "a photo of a {}.", "a photo of a {}.", "a photo of the {}.", "{}s", "a picture of a {}"),
    *("a blurry photo of a {}.", "a close-up photo of a {}.", "there is a {} in the photo", "a photo of many {}s."),
    *("itap of a {}.", "a bad photo of the {}.", "a photo of the large {}.", "a photo of the small {}."),
    *("art of the {}.", "a {} in a video game.", "a origami {}.", "a good photo of a {}.", "a photo of {}"),
    *(
        "a low resolution photo of the {}.",
        "a cropped photo of a {}.",
        "an image of {}",
        "the {}",
        "a bright photo of a {}.",
    ),
    *("a {} in its usual surroundings.", "a snapshot with a {} in it.", "a clear picture showing the {}."),
)
EVERYDAY = Path(__file__).parents[1] / "prompts/everyday.txt"
WORD = re.compile(r"^[a-z]{3,}$")


def tokenizer(vocab_size: int, context_length: int) -> SimpleTokenizer:
    """CLIP's tokenizer cut to its first `vocab_size - 514` merges."""
    whole = open_clip.get_tokenizer("ViT-B-32", context_length=context_length)
    merges = sorted(whole.bpe_ranks, key=whole.bpe_ranks.get)[: vocab_size - 514]
    letters = list(bytes_to_unicode().values())
    vocab = [*letters, *(v + "</w>" for v in letters), *("".join(m) for m in merges)]
    specials = ["<start_of_text>", "<end_of_text>"]
    whole.encoder = {token: row for row, token in enumerate([*vocab, *specials])}
    whole.decoder = {row: token for token, row in whole.encoder.items()}
    whole.bpe_ranks = {merge: rank for rank, merge in enumerate(merges)}
    whole.cache = {token: token for token in specials}
    whole.vocab_size = len(whole.encoder)
    whole.all_special_ids = [whole.encoder[token] for token in specials]
    whole.sot_token_id, whole.eot_token_id = whole.all_special_ids
    return whole


class Tokens:
    """Texts to ids, each text tokenised once; a batch is as wide as its longest text."""

    def __init__(self, vocab_size: int, context_length: int) -> None:
        self.tokenizer = tokenizer(vocab_size, context_length)
        self.context_length = context_length
        self.known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        if text not in self.known:
            body = self.tokenizer.encode(text)[: self.context_length - 2]
            self.known[text] = [self.tokenizer.sot_token_id, *body, self.tokenizer.eot_token_id]
        return self.known[text]

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """(M, L) int64, L the longest of them."""
        rows = [self.ids(text) for text in texts]
        out = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        for row, ids in enumerate(rows):
            out[row, : len(ids)] = torch.tensor(ids)
        return out


def phrase(wordings: Sequence[str], rng: np.random.Generator) -> str:
    """One wording in one template; the first wording, the name itself, half of the time."""
    word = wordings[0] if rng.random() < 0.5 else wordings[rng.integers(len(wordings))]
    text = TEMPLATES[rng.integers(len(TEMPLATES))].format(word)
    return re.sub(r"\ba (?=[aeiou])", "an ", text) if rng.random() < 0.5 else text


def vocabulary(captions: Sequence[str], words: int = 12_000) -> list[str]:
    """CLIP's commonest whole words, the everyday ones, and the word pairs and triples of captions."""
    ranks = open_clip.get_tokenizer("ViT-B-32").encoder
    common = [t.removesuffix("</w>") for t in ranks if t.endswith("</w>") and WORD.match(t.removesuffix("</w>"))]
    pairs: Counter[str] = Counter()
    for caption in captions:
        split = re.findall("[a-z]+", caption.lower())
        pairs.update(" ".join(split[i : i + n]) for n in (2, 3) for i in range(len(split) - n + 1))
    frequent = [pair for pair, count in pairs.most_common(8_000) if count > 2]
    everyday = [line for line in EVERYDAY.read_text().splitlines() if line and not line.startswith("#")]
    return list(dict.fromkeys([*everyday, *common[:words], *frequent]))
