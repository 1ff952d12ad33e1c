#!/usr/bin/env python3
"""Small goldens of open_clip, SigLIP and single towers, by open_clip and transformers: tests/golden/small/.

Run after make_model.py, whose images and texts they share. Weights are random and large enough that a mistake anywhere
shows. Needs torch, torchvision, Pillow >= 13, open_clip_torch, timm, transformers, sentencepiece, and numpy from PyPI:
    python3 tools/golden/make_families.py [NAME...]
"""
import gzip
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import open_clip
import sentencepiece
import timm
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from transformers import (CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionConfig,
                          CLIPVisionModelWithProjection, SiglipConfig, SiglipModel, SiglipTokenizer)

from make_vocabulary import MERGES, rgb, vocabulary

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "small"
INDEX = json.loads((OUT / "index.json").read_text())
IMAGES, TEXTS = INDEX["images"], INDEX["texts"]


def fill(model, dtype, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for key, p in model.named_parameters():
            if key in ("logit_scale", "logit_bias"):
                continue
            norm = key.endswith("weight") and any(n in key for n in ("norm", "ln_"))
            p.copy_((1 if norm else 0) + (0.3 if p.ndim < 3 or p.shape[-1] > 16 else 0.1) * torch.randn_like(p))
    return model.eval().to(dtype).float()


def write(name, model, ids, pixels, image, text):
    unit = lambda x: torch.nn.functional.normalize(x, dim=-1).numpy()
    with torch.no_grad():
        if ids is not None:
            (OUT / f"{name}-ids.json").write_text(json.dumps(ids.tolist()))
            np.save(OUT / f"{name}-text.npy", unit(text(ids)))
        if pixels is not None:
            np.save(OUT / f"{name}-pixels.npy", pixels.numpy())
            np.save(OUT / f"{name}-image.npy", unit(image(pixels)))


def fresh(name):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def open_clip_folder(name, cfg, preprocess, tokenizer, dtype, seed):
    """cfg and preprocess as they stand in the file; sizes of a timm tower are timm's to shrink."""
    folder = fresh(name)
    tokenizer = tokenizer(folder)
    create = timm.create_model
    timm.create_model = lambda model_name, **kw: create(model_name, embed_dim=36, depth=2, mlp_ratio=1.5, img_size=32, **kw)
    kind = open_clip.model.CustomTextCLIP if cfg.get("custom_text") else open_clip.model.CLIP
    model = fill(kind(**{k: v for k, v in cfg.items() if k != "custom_text"}), dtype, seed)
    timm.create_model = create
    save_file({k: v.to(dtype).contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg, "preprocess_cfg": preprocess}, indent=1))
    size = cfg["vision_cfg"]["image_size"]
    transform = image_transform_v2(PreprocessCfg(size=size, **preprocess), is_train=False)
    pixels = torch.stack([transform(Image.open(OUT / "images" / n)) for n in IMAGES])
    write(name, model, tokenizer(TEXTS), pixels, model.encode_image, model.encode_text)


def pooled_pad():
    """Texts that end with one token and are padded with a higher one, which is what is pooled."""
    folder = fresh("hf-text-pad")
    vocab = vocabulary(folder)
    path = folder / "tokenizer_config.json"
    token = next(t for t, i in json.loads((folder / "vocab.json").read_text()).items() if i == vocab - 3)
    path.write_text(json.dumps(dict(json.loads(path.read_text()), eos_token=token)))
    text = CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=vocab, hidden_size=16, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, hidden_act="quick_gelu", bos_token_id=0, eos_token_id=2, pad_token_id=1, projection_dim=12))
    fill(text, torch.float16, 26).half().save_pretrained(folder)
    text = text.float()
    ids = CLIPTokenizer.from_pretrained(folder)(TEXTS, padding="max_length", truncation=True, max_length=16,
                                                return_tensors="pt")["input_ids"]
    write("hf-text-pad", text, ids, None, None, lambda x: text(input_ids=x).text_embeds)


def small_bpe(context, **kw):
    """open_clip's tokenizer with a small vocabulary: its file of merges has as many letters, and fewer merges."""
    def make(folder):
        vocabulary(folder, "<start_of_text>", "<end_of_text>")
        (folder / "tokenizer_config.json").unlink()
        with tempfile.NamedTemporaryFile(suffix=".gz") as f:
            f.write(gzip.compress(("#version\n" + "\n".join(MERGES)).encode()))
            f.flush()
            return SimpleTokenizer(bpe_path=f.name, context_length=context, **kw)
    return make


def pieces(folder, rule="nmt_nfkc"):
    """A SentencePiece model of 160 pieces, learned from this file."""
    text = pathlib.Path(__file__).read_text().lower().split("\n")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text + TEXTS * 3), model_prefix=str(folder / "spiece"), vocab_size=160,
        character_coverage=1.0, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
        normalization_rule_name=rule)
    (folder / "spiece.vocab").unlink()
    return str(folder / "spiece.model")


def siglip(name, act, dtype, seed, context):
    folder = fresh(name)
    tokenizer = SiglipTokenizer(pieces(folder), model_max_length=context)
    tokenizer.save_pretrained(folder)
    common = dict(num_hidden_layers=2, num_attention_heads=3, hidden_act=act)
    model = SiglipModel(SiglipConfig(
        text_config=dict(vocab_size=160, hidden_size=48, intermediate_size=40, max_position_embeddings=context, **common),
        vision_config=dict(hidden_size=48, intermediate_size=72, image_size=24, patch_size=8, **common)))
    fill(model, dtype, seed).to(dtype).save_pretrained(folder)
    model = model.float()
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "SiglipImageProcessor", "do_resize": True, "size": {"height": 24, "width": 24}, "resample": 3,
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    # As SiglipImageProcessor does with RGB pictures; it leaves out the conversion that the processor of CLIP makes.
    pixels = torch.stack([torch.tensor(np.asarray(Image.fromarray(rgb(OUT / "images" / n)).resize((24, 24), Image.BICUBIC))
                                       * np.float64(1 / 255), dtype=torch.float32).permute(2, 0, 1) for n in IMAGES])
    pixels = (pixels - 0.5) / 0.5
    ids = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=context, return_tensors="pt")["input_ids"]
    write(name, model, ids, pixels, lambda x: model.get_image_features(pixel_values=x),
          lambda x: model.get_text_features(input_ids=x))


def towers():
    """One tower each, of another shape than the whole models."""
    pixels = torch.tensor(np.load(OUT / "hf-quickgelu-pixels.npy"))
    folder = fresh("hf-vision")
    vision = CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, image_size=24, patch_size=6,
        hidden_act="gelu", projection_dim=20))
    fill(vision, torch.float16, 11).half().save_pretrained(folder, max_shard_size="9KB")
    shutil.copy(OUT / "hf-quickgelu" / "preprocessor_config.json", folder)
    vision = vision.float()
    write("hf-vision", vision, None, pixels, lambda x: vision(pixel_values=x).image_embeds, None)
    folder = fresh("hf-text")
    vocab = vocabulary(folder)
    text = CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=vocab, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, hidden_act="quick_gelu", bos_token_id=vocab - 2, eos_token_id=vocab - 1,
        pad_token_id=vocab - 1, projection_dim=20))
    fill(text, torch.float32, 12).save_pretrained(folder)
    ids = CLIPTokenizer.from_pretrained(folder)(TEXTS, padding="max_length", truncation=True, max_length=16,
                                                return_tensors="pt")["input_ids"]
    write("hf-text", text, ids, None, None, lambda x: text(input_ids=x).text_embeds)


def t5(folder):
    """A folder whose tokenizer is T5's, which open_clip's SigLIP models have."""
    pieces(folder, "identity")  # of no great size
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>", "extra_ids": 0,
        "legacy": False}))
    return HFTokenizer(str(folder), context_length=18, clean="canonicalize", use_fast=False)


VOCAB = 520
HALF = dict(mode="RGB", mean=[0.5] * 3, std=[0.5] * 3, interpolation="bicubic", resize_mode="squash", fill_color=0)
OPEN_CLIP = {
    "openclip-longest": (
        dict(embed_dim=20, quick_gelu=True,
             vision_cfg=dict(image_size=30, layers=2, width=48, head_width=12, patch_size=10, mlp_ratio=2.5),
             text_cfg=dict(context_length=13, vocab_size=VOCAB, width=32, heads=2, layers=2)),
        dict(mode="RGB", mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4], interpolation="bilinear", resize_mode="longest",
             fill_color=100),
        small_bpe(13), torch.float16, 21),
    "openclip-squash": (
        dict(embed_dim=20, quick_gelu=False, custom_text=True,
             vision_cfg=dict(image_size=32, layers=2, width=32, head_width=16, patch_size=8, ls_init_value=0.5, no_ln_pre=True,
                             pool_type="avg", final_ln_after_pool=True),
             text_cfg=dict(context_length=20, vocab_size=VOCAB, width=32, heads=4, layers=2, no_causal_mask=True, proj_bias=True,
                           pool_type="last", norm_kwargs={"eps": 1e-6}, act_kwargs={"approximate": "tanh"},
                           tokenizer_kwargs={"clean": "canonicalize"})),
        HALF, small_bpe(20, clean="canonicalize"), torch.bfloat16, 22),
    "openclip-siglip": (
        dict(embed_dim=36, init_logit_bias=-10, custom_text=True,
             vision_cfg=dict(image_size=32, timm_model_name="vit_base_patch16_siglip_224", timm_model_pretrained=False,
                             timm_pool="map", timm_proj="none"),
             text_cfg=dict(context_length=18, vocab_size=160, hf_tokenizer_name="x/y", tokenizer_kwargs={"clean": "canonicalize"},
                           width=36, heads=3, layers=2, no_causal_mask=True, proj_bias=True, pool_type="last",
                           norm_kwargs={"eps": 1e-6})),
        HALF, t5, torch.float16, 23),
    # A projection with a bias, of another width; captions that see their padding but end where the highest token is.
    "openclip-timm": (
        dict(embed_dim=20, custom_text=True,
             vision_cfg=dict(image_size=32, timm_model_name="vit_base_patch16_clip_quickgelu_224", timm_pool="token",
                             timm_proj=None, timm_drop=0.0, timm_drop_path=0.1, patch_dropout=0.1),
             text_cfg=dict(context_length=15, vocab_size=VOCAB, width=24, heads=3, layers=2, mlp_ratio=1.7, ls_init_value=0.3,
                           no_causal_mask=True, proj_type="linear", pad_id=0, final_ln_after_pool=True)),
        dict(mode="RGB", mean=[0.0] * 3, std=[1.0] * 3, interpolation="bilinear", resize_mode="shortest"),
        small_bpe(15), torch.float16, 25),
}
for name in sys.argv[1:] or [*OPEN_CLIP, "hf-siglip", "towers", "hf-text-pad"]:
    if name in OPEN_CLIP:
        open_clip_folder(name, *OPEN_CLIP[name])
    elif name == "hf-siglip":
        siglip("hf-siglip", "gelu_pytorch_tanh", torch.float16, 24, 16)
    elif name == "hf-text-pad":
        pooled_pad()
    else:
        towers()
