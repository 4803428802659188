"""Text to token ids: CLIP's byte-pair encoding without torch, and Hugging Face tokenizers through open_clip.

open_clip's own `SimpleTokenizer` imports torch and knows one vocabulary size; this one reads the same merges file from
the installed package and cuts it to the model's `vocab_size`. A test holds the two against each other.
"""

from __future__ import annotations

import gzip
import html
import re
import string
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from heapq import heapify, heappop, heappush
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cmprompt.encoders.weights import read_json
from cmprompt.errors import ModelError, UsageError
from cmprompt.prompts.scripts import is_fallback, nllb_code
from cmprompt.types import Array

CLIP_PATTERN = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # openai/CLIP
BYTES_AND_SPECIALS = 256 * 2 + 2
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")  # what SentencePiece calls a byte
MERGES = 49408 - BYTES_AND_SPECIALS  # of CLIP itself; its file holds more
KEPT_WORDS, KEPT_LETTERS = 1 << 16, 64  # whose tokens are remembered: how many, and the longest
# Of transformers' configurations: code in the folder, another file to read in its place, attention from the hub.
CODE_KEYS = {
    "auto_map", "configuration_files", "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
}  # fmt: skip


class Tokenizer(Protocol):
    """Text to ids."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before truncation, with the start and end tokens."""
        ...

    def batch(self, texts: Sequence[str]) -> Array:
        """(M, context) int64, truncated and padded as open_clip does."""
        ...

    def fallback_share(self, texts: Sequence[str]) -> float:
        """The part of the texts' tokens, 0 to 1, that are bytes, letters alone or unknown (`scripts.is_fallback`)."""
        ...


def tokenizer_of(text_cfg: Mapping[str, Any], folder: Path) -> Tokenizer:
    """The tokenizer that a model's `text_cfg` asks for. `folder` holds the files of a Hugging Face one."""
    options, context = text_cfg.get("tokenizer_kwargs") or {}, text_cfg.get("context_length", 77)
    of_hugging_face = bool(text_cfg.get("hf_tokenizer_name"))
    known = {"clean", "strip_sep_token"} if of_hugging_face else {"clean"}  # what open_clip's own models set
    if not isinstance(options, dict) or not known.issuperset(options):
        raise ModelError(f"tokenizer_kwargs {options!r} is not supported; it may set {', '.join(sorted(known))} here")
    if of_hugging_face:
        return HuggingFaceTokenizer(folder, context, text_cfg.get("tokenizer_mode"), options)
    return ClipTokenizer(text_cfg.get("vocab_size", 49408), context, options.get("clean", "lower"))


class ClipTokenizer:
    """CLIP's byte-pair encoding, its merges cut to `vocab_size`."""

    def __init__(self, vocab_size: int = 49408, context: int = 77, clean: str = "lower") -> None:
        merges = read_merges(max(0, vocab_size - BYTES_AND_SPECIALS))
        letters = list(byte_letters().values())
        words = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges)]
        self.context = context
        self.start, self.end = len(words), len(words) + 1
        self._ids = {word: i for i, word in enumerate(words)}
        self._ranks = {pair: i for i, pair in enumerate(merges)}
        self._special = {"<start_of_text>": (self.start,), "<end_of_text>": (self.end,)}
        self._known: dict[str, tuple[int, ...]] = dict(self._special)
        self._clean = clean

    def encode(self, text: str) -> list[int]:
        """The ids of one text between the start and end tokens, however many."""
        pieces = clip_pattern().findall(clean_text(text, self._clean))
        return [self.start, *(token for piece in pieces for token in self._word(piece)), self.end]

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(self.encode(text)) for text in texts]

    def batch(self, texts: Sequence[str]) -> Array:
        rows = np.zeros((len(texts), self.context), np.int64)  # (M, L)
        for row, text in zip(rows, texts, strict=True):
            ids = self.encode(text)
            if len(ids) > self.context:
                ids = [*ids[: self.context - 1], self.end]
            row[: len(ids)] = ids
        return rows

    def fallback_share(self, texts: Sequence[str]) -> float:
        tokens = [token for text in texts for token in self.encode(text)[1:-1]]
        return _share([is_fallback(self._pieces[token]) for token in tokens])

    @cached_property
    def _pieces(self) -> dict[int, str]:
        """The text of each token; bytes that are no whole letter as the replacement character."""
        bytes_of = {letter: byte for byte, letter in byte_letters().items()}
        return {
            token: bytes(bytes_of[letter] for letter in word.removesuffix("</w>")).decode("utf-8", "replace")
            for word, token in self._ids.items()
        }

    def _word(self, piece: str) -> tuple[int, ...]:
        known = self._known.get(piece)
        if known is None:
            letters = byte_letters()
            known = tuple(self._ids[part] for part in self._merge([letters[byte] for byte in piece.encode()]))
            if len(self._known) >= KEPT_WORDS:
                self._known = dict(self._special)
            if len(piece) <= KEPT_LETTERS:
                self._known[piece] = known
        return known

    def _merge(self, letters: list[str]) -> list[str]:
        """Join the pair that was learned first, the leftmost of them first, until none is known.

        CLIP joins every such pair before it looks again. That is the same: each part is learned once, after its halves.
        The parts lie in a ring that an empty one closes; one that has been joined to the part before it is empty.
        """
        parts = [*letters[:-1], letters[-1] + "</w>", ""]
        after, before = [*range(1, len(parts)), 0], [len(parts) - 1, *range(len(parts) - 1)]
        pairs = [(self._ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in self._ranks]
        heapify(pairs)
        while pairs:
            rank, i = heappop(pairs)
            right = after[i]
            if self._ranks.get((parts[i], parts[right])) != rank:
                continue  # one of the two has been joined to another since
            parts[i], parts[right] = parts[i] + parts[right], ""
            after[i] = after[right]
            before[after[i]] = i
            for left in (before[i], i):
                pair = parts[left], parts[after[left]]
                if pair in self._ranks:
                    heappush(pairs, (self._ranks[pair], left))
        return [part for part in parts if part]


def _share(marks: Sequence[bool]) -> float:
    return sum(marks) / len(marks) if marks else 0.0


@cache
def clip_pattern() -> Any:
    import regex  # type: ignore[import-untyped]

    return regex.compile(CLIP_PATTERN, regex.IGNORECASE)


@cache
def byte_letters() -> dict[int, str]:
    """A printable letter for each byte, in the order of CLIP's vocabulary: printable bytes stand for themselves."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}


@cache
def read_merges(count: int) -> list[tuple[str, str]]:
    """CLIP's first `count` merges from the file that open_clip installs; finding it does not import the package.

    The file is unpacked only as far as it is read: a small vocabulary costs a fraction of the whole.
    """
    spec = find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise ModelError(
            "open_clip is not installed, whose merges file CLIP's tokenizer needs: pip install open-clip-torch"
        )
    path = Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [(a, b) for a, b in (line.split() for line in islice(lines, 1, 1 + min(count, MERGES)))]


def clean_text(text: str, how: str) -> str:
    """open_clip's `lower` (CLIP), `canonicalize` (SigLIP: no punctuation, lower case) or `whitespace`."""
    if not _is_plain(text):
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    if how == "canonicalize":
        text = text.strip().replace("_", " ").translate(str.maketrans("", "", string.punctuation))
    text = " ".join(text.split())
    return text if how == "whitespace" else text.lower()


def _is_plain(text: str) -> bool:
    """Printable ASCII without an HTML entity: nothing to mend, so that ftfy need not be imported for it."""
    return text.isascii() and text.isprintable() and "&" not in text


def require_transformers(what: str) -> None:
    """Raises UsageError that names the extra where it is not installed."""
    if find_spec("transformers") is None:
        raise UsageError(f'this model\'s {what} needs transformers: pip install "cmprompt[multilingual]"')


def refuse_code(path: Path) -> None:
    """Raises ModelError where a configuration tells transformers to run code that came with the model."""
    if path.is_file() and (found := sorted(CODE_KEYS.intersection(read_json(path)))):
        raise ModelError(
            f"{path} sets {', '.join(found)}, by which a model brings code; that never runs. "
            "Take it out if the model does without"
        )


class HuggingFaceTokenizer:
    """SigLIP's, XLM-R's and NLLB's tokenizers, read from the model's folder through open_clip's wrapper."""

    def __init__(self, folder: Path, context: int, mode: str | None, options: Mapping[str, Any]) -> None:
        require_transformers("tokenizer")
        refuse_code(folder / "tokenizer_config.json")
        from open_clip.tokenizer import HFTokenizer

        try:
            self._wrapped = HFTokenizer(str(folder), context, tokenizer_mode=mode, trust_remote_code=False, **options)
        except (OSError, ValueError, AssertionError) as error:
            lines = " ".join(str(error).split())
            raise ModelError(f"the tokenizer's files in {folder} cannot be read: {lines[:400]}") from error

    def count(self, texts: Sequence[str]) -> list[int]:
        cleaned = [self._wrapped.clean_fn(text) for text in texts]
        return [len(ids) for ids in self._wrapped.tokenizer(cleaned, truncation=False).input_ids]

    def batch(self, texts: Sequence[str]) -> Array:
        rows: Array = self._wrapped(list(texts)).numpy()
        inner = self._wrapped.tokenizer
        if type(inner).__name__.startswith("Nllb"):  # its text tower reads the first token, which names a language
            codes = np.array(inner.convert_tokens_to_ids([nllb_code(text) for text in texts]), np.int64)
            rows[:, 0] = np.where(rows[:, 0] == inner.cur_lang_code, codes, rows[:, 0])
        return rows

    def fallback_share(self, texts: Sequence[str]) -> float:
        inner = self._wrapped.tokenizer
        cleaned = [self._wrapped.clean_fn(text) for text in texts]
        tokens = [token for ids in inner(cleaned, add_special_tokens=False).input_ids for token in ids]
        names = inner.convert_ids_to_tokens(tokens)
        marks = [
            token == inner.unk_token_id or bool(BYTE_TOKEN.fullmatch(name)) or is_fallback(inner.decode([token]))
            for token, name in zip(tokens, names, strict=True)
        ]
        return _share(marks)
