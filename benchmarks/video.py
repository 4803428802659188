"""PyAV against torchcodec: one frame a second, its short side 256 pixels, of some videos, and how far each one comes.

    pip install torchcodec && python benchmarks/video.py ../shared/data/videos/*

Seconds are of the processor, the best of the rounds, which the two take in turns; PyAV as `cmprompt` uses it.
torchcodec needs FFmpeg's libraries from the system, PyAV brings its own. "Frames" is how many can be read one after the
other. With --cut, each file also without the last 40 % of its bytes.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import about, parser, save_page, table, versions

from cmprompt.errors import ItemError
from cmprompt.sources.video import Sampling, decoded, read_video
from cmprompt.types import Array, Frame

DECODERS = ("PyAV", "torchcodec")
SHORT_SIDE_PX = 256
KEPT = 0.6


def pyav_samples(path: str) -> Iterator[Array]:
    for item in read_video(path, Sampling(fps=1.0, short_side_px=SHORT_SIDE_PX)):
        assert item.image is not None
        frame = item.image()
        assert isinstance(frame, Frame)
        yield frame.pixels


def torchcodec_samples(path: str) -> Iterator[Array]:
    from torchcodec.decoders import VideoDecoder
    from torchvision.transforms.functional import resize

    decoder = VideoDecoder(path)
    start, end = decoder.metadata.begin_stream_seconds or 0.0, decoder.metadata.end_stream_seconds or 0.0
    second = 0
    while start + second < end:
        frame = decoder.get_frame_played_at(start + second).data
        yield resize(frame, [SHORT_SIDE_PX]).numpy()
        second += 1


def pyav_frames(path: str) -> Iterator[object]:
    return decoded(path)


def torchcodec_frames(path: str) -> Iterator[object]:
    from torchcodec.decoders import VideoDecoder

    yield from VideoDecoder(path)


def count(frames: Iterator[object]) -> str:
    """How many come, and whether something goes wrong after them."""
    number = 0
    try:
        for _ in frames:
            number += 1
    except (ItemError, RuntimeError, OSError):
        return f"{number}, then an error"
    return str(number)


def seconds(samples: Callable[[str], Iterator[Array]], path: str) -> float:
    """Processor time until the end, or until something goes wrong."""
    started = time.process_time()
    count(samples(path))
    return time.process_time() - started


def measured(path: Path, rounds: int) -> dict[str, object]:
    """The seconds of every run of each, and how far each one comes."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for place in (0, 1) if number % 2 else (1, 0):
            times[place].append(seconds((pyav_samples, torchcodec_samples)[place], str(path)))
    frames = count(pyav_frames(str(path))), count(torchcodec_frames(str(path)))
    return {"video": path.name, "times": dict(zip(DECODERS, times, strict=True)), "frames": frames}


def row(found: Mapping[str, Any]) -> list[object]:
    """One line of the table."""
    return [found["video"], *(f"{min(taken):.3f}" for taken in found["times"].values()), *found["frames"]]


def cut(path: Path, folder: Path) -> Path:
    """The file without its end."""
    data, short = path.read_bytes(), folder / f"cut-{path.name}"
    short.write_bytes(data[: int(KEPT * len(data))])
    return short


def main() -> None:
    options = parser(__doc__, rounds=5)
    options.add_argument("videos", nargs="+", type=Path)
    options.add_argument("--cut", action="store_true")
    asked = options.parse_args()
    facts = about(decoders=versions(("av", "torchcodec")))
    with tempfile.TemporaryDirectory() as folder:
        shorter = [cut(path, Path(folder)) for path in asked.videos] if asked.cut else []
        found = [measured(path, asked.rounds) for path in [*asked.videos, *shorter]]
    names = ("video", *(f"{name} s" for name in DECODERS), *(f"{name} frames" for name in DECODERS))
    body = table(names, map(row, found))
    print(save_page("video", "Decoding videos", body, {"videos": found}, facts, asked.out))


if __name__ == "__main__":
    main()
