"""The table of checkpoints, held against open_clip's own."""

from __future__ import annotations

import re
import subprocess
import sys

import open_clip
import pytest
from open_clip.pretrained import get_pretrained_cfg

from cmprompt import hub, zoo
from cmprompt.errors import ModelError, UsageError


@pytest.mark.parametrize("model", zoo.ZOO, ids=lambda model: model.name)
def test_each_alias_is_what_open_clip_calls_it(model: zoo.Model) -> None:
    table = get_pretrained_cfg(model.architecture, model.tag)
    config = open_clip.get_model_config(model.architecture)
    assert table["hf_hub"].rstrip("/") == model.repo
    assert config["vision_cfg"].get("image_size", 224) == model.size_px
    assert config["text_cfg"].get("context_length", 77) == model.context
    hub.check_quick_gelu(model, config, table)


def test_pins_are_whole_and_each_its_own() -> None:
    revisions = [model.pin.revision for model in zoo.ZOO if model.pin]
    hashes = [model.pin.sha256 for model in zoo.ZOO if model.pin and model.pin.sha256]
    assert all(re.fullmatch("[0-9a-f]{40}", revision) for revision in revisions)
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in hashes)
    assert len(set(revisions)) == len(revisions) and len(set(hashes)) == len(hashes)
    assert zoo.ZOO[0].pin and zoo.ZOO[0].pin.sha256  # the recommended one


def test_published_accuracies() -> None:
    """The figures of open_clip's results table and the models' cards."""
    published = {"ViT-B-32-256": 72.8, "ViT-B-16": 73.5, "ViT-L-14": 79.2, "ViT-B-32-openai": 63.3}
    assert {name: zoo.find(name).imagenet for name in published} == published


@pytest.mark.parametrize(
    ("repo", "licence"),
    [
        ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", zoo.MIT),
        ("timm/vit_base_patch32_clip_224.openai", zoo.MIT),
        ("timm/vit_base_patch32_clip_224.metaclip_400m", zoo.CC_BY_NC),
        ("timm/ViT-B-16-SigLIP2-256", zoo.APACHE),
        ("visheratin/nllb-siglip-mrl-base", zoo.CC_BY_NC),
        ("apple/DFN2B-CLIP-ViT-B-16", zoo.APPLE),
        ("timm/MobileCLIP2-S0-OpenCLIP", zoo.APPLE),
        ("someone/else", zoo.UNSTATED),
    ],
)
def test_licences(repo: str, licence: str) -> None:
    assert zoo.licence_of(repo) == licence


def test_non_commercial_weights_must_be_accepted() -> None:
    mobile = zoo.find("mobileclip-s1")
    zoo.check_licence(mobile, accepted=True)
    with pytest.raises(UsageError, match="--accept-licence"):
        zoo.check_licence(mobile, accepted=False)


@pytest.mark.parametrize(
    ("name", "repo"),
    [
        ("vit-b-32-256", "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K"),
        ("ViT-B-16/openai", "timm/vit_base_patch16_clip_224.openai"),
        ("vit-h-14/LAION2B-s32b-b79k", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"),
        ("PE-Core-S-16-384", "timm/PE-Core-S-16-384"),
        ("hf-hub:someone/clip", "someone/clip"),
    ],
)
def test_names(name: str, repo: str) -> None:
    assert zoo.find(name).repo == repo


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ViT-B32", "did you mean ViT-B-32"),
        ("PE-Core-B16", "PE-Core-B-16"),
        ("ViT-H-14", "several weights; known: ViT-H-14/"),
        ("ViT-B-16/laion3b", "no weights 'laion3b'; known: ViT-B-16/"),
        ("hf-hub:clip", "ORGANISATION/REPOSITORY"),
    ],
)
def test_wrong_names_say_what_is_there(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        zoo.find(name)


def test_the_wrong_activation_is_an_error() -> None:
    table = get_pretrained_cfg("ViT-B-32", "openai")
    with pytest.raises(ModelError, match="use ViT-B-32-quickgelu/openai"):
        hub.check_quick_gelu(zoo.find("ViT-B-32/openai"), open_clip.get_model_config("ViT-B-32"), table)


def test_known_names_cost_no_torch() -> None:
    names = "zoo.find('ViT-B-32'), zoo.canonical('ViT-H-14/x')"
    script = f"import sys; from cmprompt import zoo; {names}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
