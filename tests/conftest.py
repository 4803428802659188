"""What several test files share: a small deterministic encoder, photos drawn by the test, and the data sets' place."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmprompt.types import Array, Preprocess

# One thread for each test process: two busy ones on two cores are slower than one after the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What a shell ignores for a program behind it (`pytest &`, nohup) is ignored here still, but not by what tests start.
for number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


# What the bundled weights have to reach and do not yet.
not_yet = pytest.mark.xfail(strict=True, reason="the bundled weights do not reach this yet: see their card")


# For the code of a process of its own, which ends where it opens a socket: a thread would swallow an exception.
NO_SOCKETS = """
import os, sys
def refuse(event, arguments):
    if event.startswith("socket."):
        print(f"opened a socket: {event} {arguments}", file=sys.stderr, flush=True)
        os._exit(99)
sys.addaudithook(refuse)
"""


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of the session's own: the user's is neither used nor filled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small model with random weights, as `--model` calls it."""
    from labelled_photos import write_model

    return write_model(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of coloured pictures and their colours."""
    from labelled_photos import write_pictures, write_table

    folder = tmp_path_factory.mktemp("data")
    return write_table(folder / "data.csv", write_pictures(folder))


class FakeEncoder:
    """Sees the mean colour: an image's vector is its mean RGB (and five zeros), a text's is the colour it names."""

    dim = 8
    logit_scale = 10.0
    logit_bias: float | None = None
    context_length = 77
    exact = False
    preprocess = Preprocess(8, "shortest", "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def __init__(self, model_id: str = "fake") -> None:
        self.model_id = model_id
        self.store_key = f"{model_id}/fp32"
        self.images_encoded = 0
        self.texts_encoded = 0

    def encode_images(self, pixels: Array) -> Array:
        self.images_encoded += len(pixels)
        vectors = np.zeros((len(pixels), self.dim), np.float32)
        vectors[:, :3] = pixels.reshape(len(pixels), 3, -1).mean(2) + 1.0
        unit: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def encode_texts(self, texts: Sequence[str]) -> Array:
        self.texts_encoded += len(texts)
        vectors = np.stack([self._text_vector(text) for text in texts])
        unit: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) + 2 for text in texts]

    def fallback_share(self, texts: Sequence[str]) -> float:
        return 0.0

    def _text_vector(self, text: str) -> Array:
        digest = hashlib.sha256(text.encode()).digest()
        vector = np.array([*([0.0] * 3), *(byte / 2550 for byte in digest[:5])], np.float32)
        for axis, colour in enumerate(("red", "green", "blue")):
            vector[axis] = 1.0 if colour in text else 0.01
        return vector


@pytest.fixture
def fake_encoder() -> FakeEncoder:
    return FakeEncoder()


def draw(colour: str | tuple[int, ...] = "red", size: tuple[int, int] = (32, 24), mode: str = "RGB") -> Image.Image:
    """A picture of one colour."""
    return Image.new(mode, size, colour)


def encode(picture: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    """The bytes of `picture` saved as `file_format`."""
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A folder with red.png, green.png and blue.png."""
    folder = tmp_path / "colours"
    folder.mkdir()
    for colour in ("red", "green", "blue"):
        draw(colour).save(folder / f"{colour}.png")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The public image sets; skips where they are absent."""
    folder = Path(os.environ.get("CMPROMPT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; set CMPROMPT_DATA")
    return folder


class Cli:
    """`cmprompt` as a process, with caches and configuration of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CMPROMPT_")},
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "HF_HOME": str(home / "hub"),
        }

    def argv(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "cmprompt", *map(str, arguments)]

    def __call__(self, *arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.argv(*arguments), input=stdin, capture_output=True, env=self.environment, check=False, timeout=300
        )

    def start(self, *arguments: object, **options: object) -> subprocess.Popen[bytes]:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(self.argv(*arguments), env=self.environment, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="session")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """One home for the whole session, so that texts are encoded once."""
    return Cli(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def samples(cli: Cli) -> Path:
    """What `cmprompt examples` writes."""
    folder = cli.home / "samples"
    assert cli("examples", folder).returncode == 0
    return folder


@pytest.fixture(scope="session")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 300 small pictures, no two the same."""
    folder = tmp_path_factory.mktemp("crowd")
    dice = np.random.default_rng(0)
    for number in range(300):
        pixels = dice.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((48, 48)).save(folder / f"{number:04}.png")
    return folder
