"""Hugging Face's zero-shot-image-classification pipeline over a folder: `path<TAB>label` for each picture.

python hf_pipeline.py MODEL_DIR FOLDER --labels a,b [--batch-size 8] [--bf16]
"""

import argparse
from pathlib import Path

import torch
from transformers import pipeline

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("folder", type=Path)
parser.add_argument("--labels", required=True)
parser.add_argument("--batch-size", type=int, default=1)
parser.add_argument("--bf16", action="store_true")
asked = parser.parse_args()

more = {"dtype": torch.bfloat16} if asked.bf16 else {}
classify = pipeline("zero-shot-image-classification", model=asked.model, **more)
paths = sorted(map(str, asked.folder.iterdir()))
found = classify(
    paths,
    candidate_labels=asked.labels.split(","),
    hypothesis_template="a photo of a {}.",
    batch_size=asked.batch_size,
)
for path, ranked in zip(paths, found, strict=True):
    print(path, ranked[0]["label"], sep="\t")
