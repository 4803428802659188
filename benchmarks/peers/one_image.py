"""The script that everyone writes first: one picture, some labels, open_clip.

    python one_image.py MODEL_DIR IMAGE --labels a,b [--vocabulary N]

`--vocabulary` cuts CLIP's tokenizer to the model's size, which open_clip does not do by itself.
"""

import argparse

import open_clip
import torch
from PIL import Image

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("image")
parser.add_argument("--labels", required=True)
parser.add_argument("--vocabulary", type=int)
asked = parser.parse_args()

model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{asked.model}")
model.eval()
tokenizer = open_clip.get_tokenizer(f"local-dir:{asked.model}")
labels = asked.labels.split(",")
image = preprocess(Image.open(asked.image)).unsqueeze(0)
text = tokenizer([f"a photo of a {label}." for label in labels])
if asked.vocabulary:  # rare words then have other ids than the model was trained with, at the same cost
    text = text.clamp(max=asked.vocabulary - 1)
with torch.no_grad():
    image_features = model.encode_image(image)
    text_features = model.encode_text(text)
    image_features /= image_features.norm(dim=-1, keepdim=True)
    text_features /= text_features.norm(dim=-1, keepdim=True)
    text_probs = (100.0 * image_features @ text_features.T).softmax(dim=-1)
print(labels[text_probs.argmax().item()], text_probs.max().item(), sep="\t")
