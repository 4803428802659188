"""clip-retrieval's `inference` over a folder, as published, for machines where the package itself does not install.

    python clip_retrieval_loop.py MODEL_DIR FOLDER OUT [--batch-size 64]

What its reader, mapper and writer do with `--enable_text False` on a processor: a DataLoader with 4 workers, two
warm-up calls of the model with a whole batch, vectors in fp16, one .npy at the end.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip_loop import Pictures
from torch.utils.data import DataLoader

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("folder", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--batch-size", type=int, default=64)
asked = parser.parse_args()

model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{asked.model}")
model.eval()
side = model.visual.image_size[0]
tokens = open_clip.get_tokenizer(f"local-dir:{asked.model}")(["fake"] * asked.batch_size)
rows = []
with torch.no_grad():
    for _ in range(2):
        model.encode_image(torch.zeros(asked.batch_size, 3, side, side))
        model.encode_text(tokens)
    loader = DataLoader(Pictures(asked.folder, transform), asked.batch_size, num_workers=4, prefetch_factor=2)
    for images, _ in loader:
        features = model.encode_image(images)
        features /= features.norm(dim=-1, keepdim=True)
        rows.append(features.cpu().to(torch.float16).numpy())
asked.out.mkdir(parents=True, exist_ok=True)
np.save(asked.out / "img_emb_0.npy", np.concatenate(rows))
print(sum(map(len, rows)), "vectors", file=sys.stderr)
