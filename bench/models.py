"""Models, pictures and captions to measure with: random weights of the true sizes, no download.

    python bench/models.py OUT [vit-b-32 vit-l-14 pixels images captions]

Weights are drawn as trained ones look, not as a plain initialisation does: rows and columns of different scale, a few
heavy entries, and a handful of residual channels ten times as loud as the rest (whose LayerNorm gains are small, as
training makes them). A quantised encoder that is judged with plain Gaussian weights looks better than it is.

Every model is written twice with the same tensors in F16: OUT/NAME as a Hugging Face folder, OUT/NAME-open-clip as an
open_clip one. The vocabulary is the one that the open_clip package carries."""
import gzip
import importlib.util
import json
import pathlib
import shutil
import sys

import numpy as np
from safetensors.numpy import save_file

SIZES = {
    "vit-b-32": dict(d=512, patch=32, image=(768, 12, 12, 3072), text=(512, 12, 8, 2048)),
    "vit-l-14": dict(d=768, patch=14, image=(1024, 24, 16, 4096), text=(768, 12, 12, 3072)),
}
SIDE, CONTEXT, VOCAB = 224, 77, 49408
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
FILES, CAPTIONS, PIXELS = 1000, 2000, 64


class Draw:
    def __init__(self, seed, width):
        self.rng = np.random.default_rng(seed)
        self.loud = self.rng.choice(width, max(4, width // 128), replace=False)

    def normal(self, shape, std):
        return self.rng.standard_normal(shape, dtype=np.float32) * np.float32(std)

    def matrix(self, rows, columns, std, loud_rows=False):
        w = self.normal((rows, columns), std)
        w *= np.exp(self.normal((rows, 1), 0.25))
        w *= np.exp(self.normal((1, columns), 0.25))
        heavy = self.rng.integers(0, w.size, w.size // 5000)
        w.reshape(-1)[heavy] *= 5
        if loud_rows:
            w[self.loud] *= 4
        return w

    def gain(self, width):
        g = np.exp(self.normal(width, 0.25))
        g[self.loud] *= 0.3
        return g

    def loud_bias(self, width, std):
        b = self.normal(width, std)
        b[self.loud] += self.normal(len(self.loud), 20 * std)
        return b


def block(draw, tensors, name, width, layers, mlp):
    """The scales of OpenAI's initialisation."""
    std, out_std, fc_std = width**-0.5, width**-0.5 * (2 * layers)**-0.5, (2 * width)**-0.5
    for part in ("q", "k", "v"):
        # Sharper attention than at the start of training: a trained model looks somewhere.
        tensors[f"{name}.self_attn.{part}_proj.weight"] = draw.matrix(width, width, std * (1 if part == "v" else 1.3))
        tensors[f"{name}.self_attn.{part}_proj.bias"] = draw.normal(width, 0.05)
    tensors[f"{name}.self_attn.out_proj.weight"] = draw.matrix(width, width, out_std * 2, loud_rows=True)
    tensors[f"{name}.self_attn.out_proj.bias"] = draw.loud_bias(width, 0.02)
    tensors[f"{name}.mlp.fc1.weight"] = draw.matrix(mlp, width, fc_std)
    tensors[f"{name}.mlp.fc1.bias"] = draw.normal(mlp, 0.1)
    tensors[f"{name}.mlp.fc2.weight"] = draw.matrix(width, mlp, out_std * 2, loud_rows=True)
    tensors[f"{name}.mlp.fc2.bias"] = draw.loud_bias(width, 0.02)
    for norm in ("layer_norm1", "layer_norm2"):
        tensors[f"{name}.{norm}.weight"] = draw.gain(width)
        tensors[f"{name}.{norm}.bias"] = draw.normal(width, 0.05)


def weights(size, seed):
    """Hugging Face names."""
    t = {}
    width, layers, _, mlp = size["image"]
    draw = Draw(seed, width)
    v = "vision_model."
    t[v + "embeddings.class_embedding"] = draw.loud_bias(width, 0.1)
    t[v + "embeddings.patch_embedding.weight"] = draw.normal((width, 3, size["patch"], size["patch"]), 0.6 / size["patch"])
    t[v + "embeddings.position_embedding.weight"] = draw.normal(((SIDE // size["patch"])**2 + 1, width), 0.1)
    for norm in ("pre_layrnorm", "post_layernorm"):  # the name has this spelling
        t[f"{v}{norm}.weight"], t[f"{v}{norm}.bias"] = draw.gain(width), draw.normal(width, 0.05)
    for i in range(layers):
        block(draw, t, f"{v}encoder.layers.{i}", width, layers, mlp)
    t["visual_projection.weight"] = draw.matrix(size["d"], width, width**-0.5)
    width, layers, _, mlp = size["text"]
    draw = Draw(seed + 1, width)
    x = "text_model."
    t[x + "embeddings.token_embedding.weight"] = draw.normal((VOCAB, width), 0.4)
    t[x + "embeddings.position_embedding.weight"] = draw.normal((CONTEXT, width), 0.1)
    for i in range(layers):
        block(draw, t, f"{x}encoder.layers.{i}", width, layers, mlp)
    t[x + "final_layer_norm.weight"], t[x + "final_layer_norm.bias"] = draw.gain(width), draw.normal(width, 0.05)
    t["text_projection.weight"] = draw.matrix(size["d"], width, width**-0.5)
    t["logit_scale"] = np.float32(np.log(100.0))
    return {name: np.asarray(value).astype(np.float16) for name, value in t.items()}


def open_clip_names(t):
    out = {"logit_scale": t["logit_scale"],
           "positional_embedding": t["text_model.embeddings.position_embedding.weight"],
           "token_embedding.weight": t["text_model.embeddings.token_embedding.weight"],
           "text_projection": t["text_projection.weight"].T,
           "visual.proj": t["visual_projection.weight"].T,
           "visual.class_embedding": t["vision_model.embeddings.class_embedding"],
           "visual.positional_embedding": t["vision_model.embeddings.position_embedding.weight"],
           "visual.conv1.weight": t["vision_model.embeddings.patch_embedding.weight"]}
    for part in ("weight", "bias"):
        out[f"ln_final.{part}"] = t[f"text_model.final_layer_norm.{part}"]
        out[f"visual.ln_pre.{part}"] = t[f"vision_model.pre_layrnorm.{part}"]
        out[f"visual.ln_post.{part}"] = t[f"vision_model.post_layernorm.{part}"]
        for hf, oc in (("vision_model.", "visual."), ("text_model.", "")):
            i = 0
            while f"{hf}encoder.layers.{i}.mlp.fc1.weight" in t:
                a, b = f"{hf}encoder.layers.{i}", f"{oc}transformer.resblocks.{i}"
                out[f"{b}.attn.in_proj_{part}"] = np.concatenate([t[f"{a}.self_attn.{p}_proj.{part}"] for p in "qkv"])
                for x, y in (("self_attn.out_proj", "attn.out_proj"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
                             ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2")):
                    out[f"{b}.{y}.{part}"] = t[f"{a}.{x}.{part}"]
                i += 1
    return {name: np.ascontiguousarray(value) for name, value in out.items()}


def vocabulary():
    """(tokens, merges) as in OpenAI's file: every byte, every byte at a word's end, the merges, two special tokens."""
    package = importlib.util.find_spec("open_clip").submodule_search_locations[0]
    with gzip.open(pathlib.Path(package) / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    merges = lines[1:VOCAB - 512 - 2 + 1]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    letters = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]
    tokens = letters + [c + "</w>" for c in letters] + ["".join(m.split()) for m in merges]
    return tokens + ["<|startoftext|>", "<|endoftext|>"], merges


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")


def write_model(out, name):
    size = SIZES[name]
    tensors = weights(size, seed=list(SIZES).index(name) * 10 + 1)
    hf, oc = out / f"{name}.part", out / f"{name}-open-clip.part"
    for folder in (hf, oc):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    save_file(tensors, hf / "model.safetensors", metadata={"format": "pt"})
    save_file(open_clip_names(tensors), oc / "open_clip_model.safetensors", metadata={"format": "pt"})
    tokens, merges = vocabulary()
    for folder in (hf, oc):
        write_json(folder / "vocab.json", {token: i for i, token in enumerate(tokens)})
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")

    def tower(kind, key):
        width, layers, heads, mlp = size[key]
        return dict(model_type=kind, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
                    intermediate_size=mlp, hidden_act="quick_gelu", layer_norm_eps=1e-5, projection_dim=size["d"])

    write_json(hf / "config.json", dict(
        architectures=["CLIPModel"], model_type="clip", projection_dim=size["d"], logit_scale_init_value=2.6592,
        torch_dtype="float16",
        vision_config=dict(tower("clip_vision_model", "image"), image_size=SIDE, patch_size=size["patch"]),
        text_config=dict(tower("clip_text_model", "text"), vocab_size=VOCAB, max_position_embeddings=CONTEXT,
                         bos_token_id=VOCAB - 2, eos_token_id=VOCAB - 1, pad_token_id=VOCAB - 1)))
    write_json(hf / "preprocessor_config.json", dict(
        crop_size=dict(height=SIDE, width=SIDE), size=dict(shortest_edge=SIDE), do_center_crop=True, do_convert_rgb=True,
        do_normalize=True, do_rescale=True, do_resize=True, image_mean=MEAN, image_std=STD, resample=3,
        rescale_factor=1 / 255, image_processor_type="CLIPImageProcessor"))
    write_json(hf / "tokenizer_config.json", dict(tokenizer_class="CLIPTokenizer", bos_token=tokens[-2],
                                                  eos_token=tokens[-1], pad_token=tokens[-1], unk_token=tokens[-1],
                                                  model_max_length=CONTEXT))
    width, layers, _, _ = size["image"]
    write_json(oc / "open_clip_config.json", dict(
        model_cfg=dict(embed_dim=size["d"], quick_gelu=True,
                       vision_cfg=dict(image_size=SIDE, layers=layers, width=width, patch_size=size["patch"],
                                       head_width=width // size["image"][2]),
                       text_cfg=dict(context_length=CONTEXT, vocab_size=VOCAB, width=size["text"][0],
                                     heads=size["text"][2], layers=size["text"][1])),
        preprocess_cfg=dict(mean=MEAN, std=STD, interpolation="bicubic", resize_mode="shortest")))
    for folder in (hf, oc):
        folder.rename(folder.with_suffix(""))


def picture(rng):
    """Smooth noise at several scales, and shapes: [375][500][3] u8, of the entropy of a photograph."""
    from PIL import Image, ImageDraw, ImageFilter
    height, width = 375, 500
    canvas = np.zeros((height, width, 3), np.float32)
    for step, weight in ((96, 70), (32, 30), (12, 16), (4, 9), (1, 4)):
        coarse = rng.standard_normal((height // step + 2, width // step + 2, 3))
        coarse = 0.7 * coarse.mean(2, keepdims=True) * 3**0.5 + 0.3 * coarse
        layers = [Image.fromarray(coarse[:, :, c].astype(np.float32)).resize((width, height), Image.BICUBIC) for c in range(3)]
        canvas += weight * np.stack([np.asarray(layer) for layer in layers], 2)
    image = Image.fromarray(np.clip(canvas + 118 + rng.normal(0, 20, 3), 0, 255).astype(np.uint8))
    shapes = image.copy()
    draw = ImageDraw.Draw(shapes)
    for _ in range(rng.integers(3, 10)):
        x, y, w, h = (int(v) for v in (rng.integers(0, width), rng.integers(0, height), rng.integers(20, 200), rng.integers(20, 200)))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)((x, y, x + w, y + h), fill=colour)
    return Image.blend(image, shapes.filter(ImageFilter.GaussianBlur(0.7)), 0.6)


def write_images(out):
    part = out / "images.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    rng = np.random.default_rng(5)
    for i in range(FILES):
        picture(rng).save(part / f"{i:04d}.jpg", quality=int(rng.integers(84, 93)))
    part.rename(out / "images")


def write_pixels(out):
    """[PIXELS][3][SIDE][SIDE] f32, as the towers eat them."""
    from PIL import Image
    rng = np.random.default_rng(6)
    rows = []
    for _ in range(PIXELS):
        image = picture(rng).resize((299, 224), Image.BICUBIC).crop((37, 0, 37 + SIDE, SIDE))
        rows.append(((np.asarray(image, np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1).astype(np.float32))
    np.stack(rows).tofile(out / "pixels.part")
    (out / "pixels.part").rename(out / "pixels.f32")


def write_captions(out):
    """8 to 20 tokens beside the begin and end tokens: every word is one token."""
    tokens, _ = vocabulary()
    words = [t[:-4] for t in tokens[512:20000] if t.endswith("</w>") and t[:-4].isascii() and t[:-4].isalpha()]
    rng = np.random.default_rng(7)
    frequency = 1 / (np.arange(len(words)) + 20.0)
    frequency /= frequency.sum()
    lines = [" ".join(rng.choice(words, rng.integers(8, 21), p=frequency)) for _ in range(CAPTIONS)]
    (out / "captions.part").write_text("\n".join(lines) + "\n")
    (out / "captions.part").rename(out / "captions.txt")


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    writers = {**{name: lambda n=name: write_model(out, n) for name in SIZES}, "pixels": lambda: write_pixels(out),
               "images": lambda: write_images(out), "captions": lambda: write_captions(out)}
    made = {"pixels": "pixels.f32", "captions": "captions.txt"}
    for name in sys.argv[2:] or writers:
        if name not in writers:
            sys.exit(f"models.py: {name}: want one of {', '.join(writers)}")
        if not (out / made.get(name, name)).exists():
            print(f"making {out / made.get(name, name)}", file=sys.stderr)
            writers[name]()


if __name__ == "__main__":
    main()
