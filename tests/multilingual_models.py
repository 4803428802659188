"""Small multilingual models with random weights, their tokenizers trained on our own prompts: nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from small_models import CLIP, HALF, save_model

from cmprompt.prompts import load_prompt_set, prompt_set_names

LABELS = {  # of eight languages: cat, dog, horse
    "en": ("cat", "dog", "horse"),
    "ar": ("قطة", "كلب", "حصان"),
    "de": ("Katze", "Hund", "Pferd"),
    "es": ("gato", "perro", "caballo"),
    "fr": ("chat", "chien", "cheval"),
    "hi": ("बिल्ली", "कुत्ता", "घोड़ा"),
    "ja": ("ねこ", "いぬ", "うま"),
    "zh": ("猫咪", "小狗", "骏马"),
}
PHOTO_SETS = {code: "photo" if code == "en" else f"photo-{code}" for code in LABELS}
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
CONTEXT = 64


def sentences() -> list[str]:
    """Every template of every set with labels in its language."""
    sets = [load_prompt_set(name) for name in prompt_set_names()]
    return [
        template.replace("{}", label)
        for each in sets
        for template in each.templates
        for label in LABELS.get(each.language, LABELS["en"])
    ]


def save_tokenizer(folder: Path, special: list[str], kind: str = "PreTrainedTokenizerFast") -> int:
    """A SentencePiece-like tokenizer with byte fallback in `folder`; its vocabulary's size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=6000, show_progress=False, max_token_length=6, special_tokens=[*special, *bytes_]
    )
    tokenizer.train_from_iterator(sentences(), trainer)
    start, end = "<s>", "</s>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(name, tokenizer.token_to_id(name)) for name in (start, end)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": start, "eos_token": end, "unk_token": "<unk>", "pad_token": "<pad>", "sep_token": end}
    settings = {"tokenizer_class": kind, "model_max_length": CONTEXT, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return int(tokenizer.get_vocab_size())


def save_siglip2(folder: Path) -> str:
    """A tower as SigLIP 2's: its own transformer, the last token read, punctuation stripped."""
    size = save_tokenizer(folder, ["<pad>", "</s>", "<s>", "<unk>"])
    text: dict[str, Any] = {
        "context_length": CONTEXT, "vocab_size": size, "hf_tokenizer_name": "made/here", "width": 32, "heads": 2,
        "layers": 1, "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    }  # fmt: skip
    cfg = {"embed_dim": 32, "init_logit_bias": -10, "custom_text": True, "vision_cfg": VISION, "text_cfg": text}
    return f"local-dir:{save_model(folder, cfg, HALF)}"


def save_xlm_roberta(folder: Path) -> str:
    """A Hugging Face tower: XLM-R, its mean read."""
    from transformers import XLMRobertaConfig

    size = save_tokenizer(folder, ["<s>", "<pad>", "</s>", "<unk>"])
    config = XLMRobertaConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=CONTEXT + 2, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    config.save_pretrained(folder / "text_model")
    text = {
        "hf_model_name": "xlm-roberta-base", "hf_tokenizer_name": "xlm-roberta-base", "hf_pooler_type": "mean_pooler",
        "context_length": CONTEXT,
    }  # fmt: skip
    return f"local-dir:{save_model(folder, {'embed_dim': 32, 'vision_cfg': VISION, 'text_cfg': text}, CLIP)}"


def save_nllb(folder: Path) -> str:
    """A Hugging Face tower: NLLB's encoder, its first token read, which names the language."""
    from transformers import AutoTokenizer, M2M100Config

    save_tokenizer(folder, ["<s>", "<pad>", "</s>", "<unk>"], "NllbTokenizer")
    config = M2M100Config(
        vocab_size=len(AutoTokenizer.from_pretrained(folder)), d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        max_position_embeddings=CONTEXT, init_std=0.5,
    )  # fmt: skip
    config.save_pretrained(folder / "text_model")
    text = {
        "hf_model_name": "facebook/nllb-200-distilled-600M", "hf_tokenizer_name": "facebook/nllb-200-distilled-600M",
        "hf_proj_type": "linear", "hf_pooler_type": "cls_pooler", "context_length": CONTEXT,
    }  # fmt: skip
    return f"local-dir:{save_model(folder, {'embed_dim': 32, 'vision_cfg': VISION, 'text_cfg': text}, CLIP)}"


MODELS = {"SigLIP 2": save_siglip2, "XLM-R": save_xlm_roberta, "NLLB": save_nllb}
