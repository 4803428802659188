"""`cmprompt search` over a million stored vectors, from a cold process, against the exact answer.

    python benchmarks/search.py --work /tmp/search -o benchmarks/results/search.md

The vectors come from a seeded generator (512-d, fp16); the query's text is embedded by the first run and cached.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cmprompt.encoders import load_encoder
from cmprompt.index.collections import About, Collection, build
from cmprompt.index.query import query_vector
from cmprompt.store import Store
from cmprompt.types import Array, Embedded, Features, Item, Outcome

DIM = 512
BATCH = 8192
TEXT = "a red car in the snow"
SIDE_PX = 32


def make_model(folder: Path) -> None:
    """A small CLIP of random weights whose vectors have 512 numbers: what they say does not matter here."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    cfg = {
        "embed_dim": DIM,
        "vision_cfg": {"image_size": SIDE_PX, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    }
    model = open_clip.CLIP(**cfg)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "attn_mask"}
    save_file(state, folder / "open_clip_model.safetensors")
    moments = {"mean": [0.5] * 3, "std": [0.5] * 3}
    preprocess = {"size": SIDE_PX, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest", **moments}
    config = {"model_cfg": cfg, "preprocess_cfg": {**preprocess, "fill_color": 0}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def vectors(n: int) -> Iterator[Array]:
    dice = np.random.default_rng(0)
    for start in range(0, n, BATCH):
        rows = dice.standard_normal((min(BATCH, n - start), DIM), dtype=np.float32)
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def batches(n: int) -> Iterator[Embedded]:
    start = 0
    for rows in vectors(n):
        items = tuple(Item(f"photo-{start + i:07}.jpg", None) for i in range(len(rows)))
        start += len(rows)
        yield Embedded(items, (Outcome(),) * len(rows), Features.of_images(rows))


def exact_answer(query: Array, n: int) -> list[str]:
    """Every vector in double precision, as the collection keeps it."""
    scores = np.concatenate(
        [rows.astype(np.float16).astype(np.float64) @ query.astype(np.float64) for rows in vectors(n)]
    )
    return [f"photo-{row:07}.jpg" for row in np.argsort(-scores, kind="stable")[:10]]


def run(store: Path) -> tuple[float, float, list[str], float]:
    """Seconds, MB resident, ids, seconds of processor time of one cold process."""
    command = [sys.executable, "-m", "cmprompt", "search", TEXT, "--store", str(store), "--format", "jsonl", "-q"]
    before = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return (
        time.perf_counter() - before,
        used.ru_maxrss / 1e3,
        [json.loads(line)["id"] for line in lines],
        used.ru_utime + used.ru_stime,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("-n", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    model, store = options.work / "model", options.work / "store"
    if not (store / "collections" / "million").is_dir():
        make_model(model)
        encoder = load_encoder(f"local-dir:{model}")
        about = About("million", f"local-dir:{model}", encoder.model_id, DIM, "float16", ())
        build(Store(store).path, about, batches(options.n))
    run(store)  # embeds the text
    runs = [run(store) for _ in range(options.runs)]
    about = Collection(store, "million").about
    query = query_vector(load_encoder(about.model), Store(store), texts=[TEXT])
    expected = exact_answer(query, options.n)
    right = all(ids == expected for _, _, ids, _ in runs)
    seconds = sorted(run[0] for run in runs)
    text = (
        "| vectors | best s | median s | worst s | processor s | resident MB | top 10 is the exact one |\n"
        "|---|---|---|---|---|---|---|\n"
        f"| {about.images:,} x {DIM} | {seconds[0]:.2f} | {seconds[len(seconds) // 2]:.2f} | {seconds[-1]:.2f} "
        f"| {min(run[3] for run in runs):.2f} | {max(run[1] for run in runs):.0f} | {'yes' if right else 'NO'} |\n"
    )
    print(text, f"load average {os.getloadavg()[0]:.1f}")
    if options.output:
        options.output.write_text("# A cold `cmprompt search`\n\n" + text)


if __name__ == "__main__":
    main()
