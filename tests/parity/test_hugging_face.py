"""Tokenizers and text towers that come from transformers, with small ones made here: the same as through open_clip."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from small_models import CLIP, HALF, SMALL, save_model

from cmprompt import load_encoder
from cmprompt.encoders.towers import build

pytest.importorskip("transformers", reason="needs cmprompt[multilingual]")
TEXTS = ("A Photo, of a cat!", "a_dog", "a " * 60)


def save_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer of 300 words that ends each text with </s>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<pad>", "</s>", "<unk>"], show_progress=False)
    tokenizer.train_from_iterator(["a photo of a cat", "a dog in the rain"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    specials = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **specials).save_pretrained(folder)


@torch.inference_mode()
def test_siglip_with_a_tokenizer_of_its_own(tmp_path: Path) -> None:
    siglip = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "vocab_size": 300}
    own = {"hf_tokenizer_name": "someone/tokenizer", "tokenizer_kwargs": {"clean": "canonicalize"}}
    text_cfg = {**SMALL["text_cfg"], **siglip, **own}
    save_model(tmp_path, {**SMALL, "custom_text": True, "init_logit_bias": -10, "text_cfg": text_cfg}, HALF)
    save_tokenizer(tmp_path)
    ours = load_encoder(f"local-dir:{tmp_path}", device="cpu", exact=True)
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(list(TEXTS))
    expected = model.eval().encode_text(tokens, normalize=True).numpy()
    assert np.abs(ours.encode_texts(TEXTS) - expected).max() <= 1e-5
    assert ours.logit_bias == -10 and ours.count_tokens(TEXTS)[2] == 61


@torch.inference_mode()
def test_a_text_tower_is_built_from_the_models_own_folder(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from transformers import XLMRobertaConfig

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    XLMRobertaConfig(vocab_size=300, **shape).save_pretrained(tmp_path / "text_model")
    config = {**SMALL, "text_cfg": {"hf_model_name": "xlm-roberta-base", "hf_tokenizer_name": "xlm-roberta-base"}}
    torch.manual_seed(0)
    model = build(config, tmp_path).eval()
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": CLIP}))
    save_tokenizer(tmp_path)
    ours = load_encoder(f"local-dir:{tmp_path}", device="cpu", exact=True)
    expected = model.encode_text(torch.from_numpy(ours.tokenizer.batch(TEXTS)), normalize=True)  # type: ignore[attr-defined]
    assert np.abs(ours.encode_texts(TEXTS) - expected.numpy()).max() <= 1e-5
