"""Writes the pocket CLIP as a folder in Hugging Face's form."""
import json
import pathlib

import torch
from safetensors.torch import save_file

from bpe import END, START
from model import SHAPE

MEAN, STD = [0.75] * 3, [0.35] * 3


def config(tokenizer):
    def tower(part):
        shape = SHAPE[part]
        return {"hidden_size": shape["width"], "intermediate_size": 4 * shape["width"],
                "num_hidden_layers": shape["layers"], "num_attention_heads": shape["heads"],
                "projection_dim": SHAPE["dimensions"], "hidden_act": "quick_gelu",
                "layer_norm_eps": 1e-5, "attention_dropout": 0.0}

    return {
        "architectures": ["CLIPModel"], "model_type": "clip", "torch_dtype": "float16",
        "projection_dim": SHAPE["dimensions"], "logit_scale_init_value": 2.6592,
        "text_config": {
            "model_type": "clip_text_model", **tower("text"), "vocab_size": tokenizer.size,
            "max_position_embeddings": SHAPE["context"], "bos_token_id": tokenizer.start,
            "eos_token_id": tokenizer.end, "pad_token_id": tokenizer.end},
        "vision_config": {
            "model_type": "clip_vision_model", **tower("image"), "image_size": SHAPE["side"],
            "patch_size": SHAPE["patch"], "num_channels": 3}}


def preprocessor():
    side = SHAPE["side"]
    return {
        "image_processor_type": "CLIPImageProcessor", "feature_extractor_type":
        "CLIPFeatureExtractor", "do_convert_rgb": True, "do_resize": True,
        "size": {"shortest_edge": side}, "resample": 3, "do_center_crop": True,
        "crop_size": {"height": side, "width": side}, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": MEAN, "image_std": STD}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_model(folder, weights, tokenizer, captions, seen):
    """weights: parameters by name, as the model holds them; captions and seen: lists of lines."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    halves = {name: weight.detach().to(torch.float16).contiguous()
              for name, weight in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", config(tokenizer))
    write_json(folder / "preprocessor_config.json", preprocessor())
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "CLIPTokenizer", "bos_token": START, "eos_token": END,
        "pad_token": END, "unk_token": END, "do_lower_case": True, "errors": "replace",
        "add_prefix_space": False, "model_max_length": SHAPE["context"]})
    write_json(folder / "special_tokens_map.json", {
        "bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END})
    write_json(folder / "vocab.json", tokenizer.ids)
    merges = "".join(f"{left} {right}\n" for left, right in tokenizer.merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")
    for name, lines in (("captions.txt", captions), ("seen.txt", seen)):
        (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
