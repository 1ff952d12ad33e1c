"""What people have in the place of a model folder: named for what it is, with what to do; what only lies or is named otherwise loads."""
import json
import os
import shutil
import struct
import unittest

from common import MODEL, SOURCE, Case

OPEN_CLIP = SOURCE / "tests" / "golden" / "small" / "openclip-longest"
TOWER = SOURCE / "tests" / "golden" / "small" / "hf-text"
SIGLIP = SOURCE / "tests" / "golden" / "small" / "hf-siglip"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 3878912\n"
PAGE = b"\n<!-- x --><!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"


def load(path):
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    return {k: (v["dtype"], v["shape"], raw[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]])
            for k, v in header.items() if k != "__metadata__"}


def save(path, tensors, metadata=None):
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, (dtype, shape, part) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class Wrong(Case):
    def copy(self, source=MODEL, name="m"):
        shutil.rmtree(self.dir / name, ignore_errors=True)
        return shutil.copytree(source, self.dir / name)

    def named(self, model, *says):
        self.fails("model", "info", model, says=says)

    def test_other_content(self):
        """A pointer, a page or nothing in the place of any file that is read."""
        for source in (MODEL, OPEN_CLIP, SIGLIP):
            for path in sorted(p for p in source.iterdir() if p.suffix in (".json", ".safetensors", ".txt", ".model")):
                if path.name in ("preprocessor_config.json", "golden.json", "reference.json", "texts.json"): continue
                if source == OPEN_CLIP and path.suffix != ".safetensors" and path.name != "open_clip_config.json": continue
                for content, *says in ((POINTER, "git-lfs pointer", "git lfs pull"), (PAGE, "HTML page", "fetch it again")):
                    model = self.copy(source)
                    (model / path.name).write_bytes(content)
                    done = self.run_raw("model", "info", model)
                    if done.returncode == 0: continue  # a file that is not read
                    self.named(model, path.name, *says)

    def test_weights(self):
        model = self.copy()
        weights = model / "model.safetensors"
        whole = weights.read_bytes()
        for content, *says in ((POINTER, "is a git-lfs pointer", "git lfs pull"),
                               (PAGE, "is an HTML page"),
                               (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is an XML page"),
                               (b"Invalid username or password.", "is text", "Invalid username"),
                               (b'{"error":"Repository not found"}', "is text", "Repository not found"),
                               (b"", "is empty"),
                               (b"PK\3\4" + bytes(26) + b"clip/data.pkl" + bytes(200), "zip archive", "save it as safetensors"),
                               (b"PK\3\4" + bytes(26) + b"clip/config.json" + bytes(200), "archive", "unpack it"),
                               (bytes(257) + b"ustar" + bytes(300), "archive", "unpack it"),
                               (b"\x80\2}q\0(X\5" + bytes(100), "pickle", "save it as safetensors"),
                               (b"GGUF\3\0\0\0" + bytes(100), "GGUF"),
                               (b"\x1f\x8b\x08" + bytes(100), "archive", "unpack it"),
                               (whole[:-1], "cut off"), (whole[:len(whole) // 2], "cut off", "fetch it again"), (whole[:200], "cut off")):
            weights.write_bytes(content)
            self.named(model, "model.safetensors: ", *says)
        for name in ("vocab.json", "merges.txt"):
            model = self.copy()
            (model / name).write_bytes(POINTER)
            self.named(model, f"{name}: is a git-lfs pointer")

    def test_other_formats(self):
        for name, *says in (("pytorch_model.bin", "PyTorch's pickle", "convert it to model.safetensors"), ("clip.pt", "pickle"), ("last.ckpt", "pickle"),
                            ("weights.pth", "pickle"), ("model.onnx", "ONNX"), ("clip.gguf", "GGUF"), ("tf_model.h5", "TensorFlow"),
                            ("flax_model.msgpack", "Flax"), ("model.safetensors.incomplete", "not finished"),
                            ("model-00001-of-00002.safetensors", "shard", "index")):
            for config in (True, False):
                model = self.copy()
                (model / "model.safetensors").unlink()
                (model / name).write_bytes(b"x" * 64)
                (model / "training_args.bin").write_bytes(b"x")
                if not config: (model / "config.json").unlink()
                self.named(model, name, *(says if config or not name.endswith(".safetensors") else ("no config.json",)))
                if not config: self.named(model / name, name, *(says if "shard" not in says else ()))

    def test_folders(self):
        (self.dir / "empty").mkdir()
        self.named("empty", "empty: is empty", "config.json")
        model = self.copy()
        (model / "config.json").unlink()
        self.named("m", "m: holds model.safetensors", "no config.json")
        self.named("m/model.safetensors", "not a folder", "want a model folder")
        self.named(MODEL / "model.safetensors", "want the model folder that contains it: " + str(MODEL))
        self.named("nowhere", "no such folder")
        self.named("openai/clip-vit-base-patch32", "no such folder", "reco model pull")
        self.copy(name="outer/clip")
        self.named("outer", "outer/clip in it is one")
        (self.dir / "pictures").mkdir()
        (self.dir / "pictures" / "a.png").write_bytes(b"x")
        self.named("pictures", "no config.json", "not a model folder")
        model = self.copy()
        (model / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
        self.named("m", "config.json", '"bert"', "want clip or siglip")

    def test_adapters_and_pipelines(self):
        (self.dir / "lora").mkdir()
        (self.dir / "lora/adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "openai/clip\\u0007"}')
        shutil.copy(MODEL / "model.safetensors", self.dir / "lora/adapter_model.safetensors")
        self.named("lora", "PEFT adapter (LORA) for openai/clip?", "merge")
        model = self.copy()  # transformers would load it over the weights
        shutil.copy(self.dir / "lora/adapter_config.json", model)
        self.named("m", "PEFT adapter")
        model = self.copy()
        tensors = load(model / "model.safetensors")
        save(model / "model.safetensors", {"base_model.model." + k.replace("fc1.weight", "fc1.base_layer.weight"): v for k, v in tensors.items()})
        self.named("m", "fc1.weight", "adapter", "merge it")
        (self.dir / "sd/unet").mkdir(parents=True)
        (self.dir / "sd/model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
        self.named("sd", "diffusers", "StableDiffusionPipeline", "want a CLIP")

    def fingerprint(self, model):
        return self.json("model", "info", model)["fingerprint"]

    def test_hub_cache(self):
        cache = self.dir / "hub/models--x--y"
        for name in ("aaa", "bbb"):
            (cache / "snapshots" / name).mkdir(parents=True)
            (cache / "blobs").mkdir(exist_ok=True)
            for path in MODEL.iterdir():
                if not path.is_file(): continue
                shutil.copy(path, cache / "blobs" / path.name)
                (cache / "snapshots" / name / path.name).symlink_to(f"../../blobs/{path.name}")
        self.named(cache, "hub's cache", f"{cache}/snapshots/aaa")
        (cache / "refs").mkdir()
        for reference in ("ccc", "", "../..", "/"):
            (cache / "refs/main").write_text(reference)
            self.named(cache, "hub's cache", f"{cache}/snapshots/aaa")
        (cache / "refs/main").write_text("bbb\n")
        info = self.json("model", "info", cache)
        self.assertEqual(info["fingerprint"], self.fingerprint(MODEL))
        self.assertTrue(any("snapshots/bbb" in g for g in info["guessed"]))
        self.assertEqual(self.fingerprint(cache / "snapshots/aaa"), info["fingerprint"])
        self.named(self.dir / "hub", "models--x--y in it is one")
        shutil.rmtree(cache / "blobs")
        self.named(cache, "is a link to ../../blobs/", "does not exist")

    def test_sentence_transformers(self):
        self.copy(name="st/0_CLIPModel")
        modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
        for text in (None, modules, [*modules, {"idx": 1, "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"}]):
            if text: (self.dir / "st/modules.json").write_text(json.dumps(text))
            info = self.json("model", "info", "st")
            self.assertEqual((info["name"], info["fingerprint"]), ("st", self.fingerprint(MODEL)))
            self.assertTrue(any("0_CLIPModel" in g for g in info["guessed"]))
        for text, *says in (([*modules, {"path": "1_Dense", "type": "sentence_transformers.models.Dense"}], "Dense"),
                            ([{"path": "", "type": "sentence_transformers.models.Transformer"}], "Transformer"),
                            ([{"path": "../../etc", "type": "x.CLIPModel"}], "../../etc"), ([{"path": "/etc", "type": "x.CLIPModel"}], "/etc"),
                            ([{"path": "0_Nothing", "type": "x.CLIPModel"}], "0_Nothing"), ([], "no module"), ({}, "list"), ([1], "without a type")):
            (self.dir / "st/modules.json").write_text(json.dumps(text))
            self.named("st", *says)

    def embedded(self, model):
        (self.dir / "t.txt").write_text("a red disc\n")
        self.reco("embed", "--model", model, "--texts", "t.txt", "--out", "e", "--dtype", "float32", "--precision", "f32")
        return (self.dir / "e/text_emb/text_emb_0.npy").read_bytes()

    def test_names_of_training_code(self):
        for source, file in ((MODEL, "model.safetensors"), (OPEN_CLIP, "open_clip_model.safetensors"), (TOWER, "model.safetensors")):
            tensors, want, rows = load(source / file), self.fingerprint(source), self.embedded(source)
            inner = next(k for k in tensors if ".weight" in k).split(".")[0] + "."
            for prefix in ("module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.", "model._orig_mod.", "state_dict.model.clip."):
                model = self.copy(source)
                save(model / file, {prefix + k: v for k, v in tensors.items()})
                info = self.json("model", "info", model)
                self.assertEqual(info["fingerprint"], want, prefix)
                self.assertTrue(any("training code" in g for g in info["guessed"]))
                self.assertEqual(self.embedded(model), rows)
            save(model / file, {(inner + "_orig_mod." + k[len(inner):] if k.startswith(inner) else k): v for k, v in tensors.items()})
            self.assertEqual(self.fingerprint(model), want)
            other = {"optimizer.state.0.exp_avg": ("F32", [2], bytes(8)), "epoch": ("I64", [], bytes(8)), "criterion.logit_scale": ("F32", [], bytes(4))}
            save(model / file, {**{"state_dict." + k: v for k, v in tensors.items()}, **other})
            info = self.json("model", "info", model)
            self.assertEqual(info["fingerprint"], want)
            self.assertTrue(any(g.startswith("3 tensors outside the model") for g in info["guessed"]), info["guessed"])
            save(model / file, {**{"model." + k: v for k, v in tensors.items()}, **{"ema." + k: v for k, v in tensors.items()}})
            self.named(model, file, "several models", '"model."', '"ema."')
            name = sorted(tensors)[0]
            save(model / file, {**{"module." + k: v for k, v in tensors.items()}, name: tensors[name]})
            self.named(model, file, name)

    def test_types(self):
        model = self.copy()
        tensors, rows = load(MODEL / "model.safetensors"), self.embedded(MODEL)
        code = {"F16": ("e", 2), "F32": ("f", 4)}

        def wide(dtype, shape, data):
            letter, size = code[dtype]
            return "F64", shape, struct.pack(f"<{len(data) // size}d", *struct.unpack(f"<{len(data) // size}{letter}", data))

        save(model / "model.safetensors", {k: wide(*v) if v[0] in code else v for k, v in tensors.items()}, {"format": "pt", "note": "x" * 10000})
        self.assertEqual(self.embedded(model), rows)
        self.assertEqual(self.json("model", "info", model)["weights"], "F64")
        last = next(k for k in tensors if k.endswith("fc1.weight"))
        dtype, shape, data = wide(*tensors[last])
        save(model / "model.safetensors", {**tensors, last: (dtype, shape, data[:-8] + struct.pack("<d", 1e300))})
        self.named(model, last, "not finite")
        save(model / "model.safetensors", {**tensors, last: ("F8_E4M3", shape, data[:len(data) // 8])})
        self.named(model, last, "F8_E4M3", "want F32, F16, BF16 or F64")
        save(model / "model.safetensors", {**tensors, "text_model.embeddings.position_ids": ("I64", [1, 24], bytes(192))})
        self.assertEqual(self.embedded(model), rows)


if __name__ == "__main__":
    unittest.main()
