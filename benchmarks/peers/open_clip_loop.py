"""A folder through open_clip in fp32, as scripts do it: `path<TAB>label` for each picture.

python open_clip_loop.py MODEL_DIR FOLDER --labels a,b [--batch-size 64] [--workers 4]

With workers it is the loop of CLIP_benchmark's zero-shot evaluation: a DataLoader whose workers run the transform, its
defaults being 64 pictures and 4 workers; without, one process does all of it.
"""

import argparse
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset


class Pictures(Dataset):
    """The pictures of a folder, through the model's transform."""

    def __init__(self, folder: Path, transform) -> None:
        self.paths = sorted(map(str, folder.iterdir()))
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int):
        return self.transform(Image.open(self.paths[place])), place


def main() -> None:
    """Build the classifier, then go over the folder in batches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fp16", action="store_true")
    asked = parser.parse_args()
    labels = asked.labels.split(",")
    precision = "fp16" if asked.fp16 else "fp32"
    model, _, transform = open_clip.create_model_and_transforms(
        f"local-dir:{asked.model}", device=asked.device, precision=precision
    )
    tokens = open_clip.get_tokenizer(f"local-dir:{asked.model}")([f"a photo of a {label}." for label in labels])
    pictures = Pictures(asked.folder, transform)
    loader = DataLoader(pictures, batch_size=asked.batch_size, num_workers=asked.workers)
    with torch.no_grad():
        weight = F.normalize(model.eval().encode_text(tokens.to(asked.device)), dim=-1).T
        for images, places in loader:
            images = images.to(asked.device, weight.dtype)
            logits = 100.0 * F.normalize(model.encode_image(images), dim=-1) @ weight
            for place, best in zip(places.tolist(), logits.argmax(1).tolist(), strict=True):
                print(pictures.paths[place], labels[best], sep="\t")


if __name__ == "__main__":
    main()
