#!/usr/bin/env python3
"""Small goldens of both towers, preprocessing and tokens, made by transformers: tests/golden/small/.

Weights are random and large enough that a mistake anywhere shows. Needs torch, transformers, pillow and numpy from PyPI:
    python3 tools/golden/make_model.py
"""
import json
import pathlib
import shutil

import numpy as np
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from make_vocabulary import rgb, vocabulary

ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
OUT = ROOT / "small"
IMAGES = ["rgb.jpg", "cmyk.jpg", "palette-4-alpha.png", "rgba.png", "grey.jpg", "lossy.webp", "tall.png", "one.png"]
TEXTS = ["a photo of a cat", "it's the 2nd  café!", "x", "a b c d e f g h i j k l m n o p q r s t u v w x y z and on", ""]


def make(name, act, dtype, seed):
    folder = OUT / name
    folder.mkdir(parents=True)
    vocab = vocabulary(folder)
    torch.manual_seed(seed)
    config = CLIPConfig(
        text_config=dict(vocab_size=vocab, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
                         num_attention_heads=3, max_position_embeddings=20, hidden_act=act, bos_token_id=vocab - 2,
                         eos_token_id=vocab - 1, pad_token_id=vocab - 1, projection_dim=16),
        vision_config=dict(hidden_size=32, intermediate_size=72, num_hidden_layers=2, num_attention_heads=2,
                           image_size=24, patch_size=8, hidden_act=act, projection_dim=16),
        projection_dim=16)
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if key != "logit_scale":
                p.copy_((1 if key.endswith("norm.weight") or "layer_norm" in key and key.endswith("weight") else 0)
                        + 0.3 * torch.randn_like(p))
    model = model.to(dtype)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    processor = CLIPImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    processor.save_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    ids = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=20)["input_ids"]
    (OUT / f"{name}-ids.json").write_text(json.dumps(ids))
    pixels = np.concatenate([  # RGB arrays: a picture one pixel high must not be taken for channels first
        processor(rgb(OUT / "images" / n), return_tensors="np", input_data_format="channels_last")["pixel_values"]
                             for n in IMAGES]).astype(np.float32)
    np.save(OUT / f"{name}-pixels.npy", pixels)
    model = model.float()
    unit = lambda x: torch.nn.functional.normalize(x, dim=-1).numpy()
    with torch.no_grad():
        np.save(OUT / f"{name}-image.npy", unit(model.get_image_features(pixel_values=torch.tensor(pixels))))
        np.save(OUT / f"{name}-text.npy", unit(model.get_text_features(
            input_ids=torch.tensor(ids), attention_mask=torch.ones(len(ids), 20, dtype=torch.long))))


shutil.rmtree(OUT, ignore_errors=True)
(OUT / "images").mkdir(parents=True)
for n in IMAGES:
    shutil.copy(ROOT / "image" / n, OUT / "images" / n)
(OUT / "index.json").write_text(json.dumps({"images": IMAGES, "texts": TEXTS}, ensure_ascii=False, indent=1))
make("hf-quickgelu", "quick_gelu", torch.float16, 1)
make("hf-gelu-bf16", "gelu", torch.bfloat16, 2)
