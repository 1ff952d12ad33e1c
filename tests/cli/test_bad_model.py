"""A model folder or a picture by an enemy: one line that names the file and the tensor or key, and no crash."""
import json
import math
import os
import shutil
import struct
import subprocess
import unittest
import zlib

from common import MODEL, RECO, SOURCE, Case, write_png

IMAGES = SOURCE / "tests" / "golden" / "image"


class BadModel(Case):
    def setUp(self):
        super().setUp()
        self.model = self.dir / "model"
        shutil.copytree(MODEL, self.model)
        raw = (self.model / "model.safetensors").read_bytes()
        n = struct.unpack("<Q", raw[:8])[0]
        self.header, self.data = json.loads(raw[8:8 + n]), raw[8 + n:]

    def fails_with(self, *says):
        self.fails("model", "info", self.model, says=says)

    def put(self, text, data=None):
        text = text.encode() if isinstance(text, str) else text
        (self.model / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + (self.data if data is None else data))

    def change(self, name, **fields):
        self.put(json.dumps(self.header | {name: self.header[name] | fields}))

    def by_offset(self):
        names = [n for n in self.header if n != "__metadata__" and self.header[n]["data_offsets"][0] < self.header[n]["data_offsets"][1]]
        return sorted(names, key=lambda n: self.header[n]["data_offsets"])

    def test_pipes(self):
        for name in ("config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.json", "model.safetensors"):
            path = self.model / name
            kept = path.read_bytes() if path.exists() else None
            path.unlink(missing_ok=True)
            os.mkfifo(path)
            self.fails_with(name, "not a regular file")
            path.unlink()
            if kept is not None: path.write_bytes(kept)

    def no_texts(self, *says):
        info = self.json("model", "info", self.model)
        self.assertIsNone(info["tokenizer"])
        for word in says: self.assertIn(word, info["guessed"][-1])
        checked = self.json("model", "check", self.model, "--images", self.pictures(2)[0].parent, "--out", "i")
        self.assertEqual((checked["images"], checked["failures"]), (2, 0))
        (self.dir / "t.txt").write_text("a dog\n")
        self.fails("embed", "--model", self.model, "--texts", "t.txt", "--out", "t", says=says)
        self.assertFalse([p for p in (self.dir / "t").rglob("*") if p.is_file()])

    def test_tokenizers_that_are_not_read(self):
        """They keep no picture from being embedded."""
        for config, key in ({"padding_side": "left"}, "padding_side"), ({"truncation_side": "left"}, "truncation_side"), \
                ({"split_special_tokens": True}, "split_special_tokens"), ({"tokenizer_class": "BertTokenizer"}, "BertTokenizer"):
            (self.model / "tokenizer_config.json").write_text(json.dumps(config))
            self.no_texts("tokenizer_config.json", key)

    def test_no_tokenizer(self):
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json"): (self.model / name).unlink(missing_ok=True)
        self.no_texts("model: no tokenizer", "tokenizer.json")

    def test_offsets(self):
        first, second, *_, last = self.by_offset()
        begin, end = self.header[second]["data_offsets"]
        self.change(second, data_offsets=self.header[first]["data_offsets"][:1] + [self.header[first]["data_offsets"][0] + end - begin])
        self.fails_with("model.safetensors", "overlaps")
        self.header[second]["data_offsets"] = [begin, end]
        del self.header[first]
        self.put(json.dumps(self.header))
        self.fails_with("model.safetensors", second, "gap")

    def test_offsets_out_of_range(self):
        last = self.by_offset()[-1]
        begin, end = self.header[last]["data_offsets"]
        for offsets in ([begin, end + 2], [end, begin], [-1, end], [begin, 2**63], [begin, 1e300], [begin], "x", None, [begin, "9"]):
            self.change(last, data_offsets=offsets)
            self.fails_with("model.safetensors")
        self.change(last, data_offsets=[begin, end + 2])
        self.fails_with(last)

    def test_duplicate_keys(self):
        name = self.by_offset()[0]
        self.put(json.dumps(self.header)[:-1] + f', "{name}": {json.dumps(self.header[name])}}}')
        self.fails_with("model.safetensors", "duplicate", name)

    def test_depth_everywhere(self):
        deep = "[" * 200 + "]" * 200
        self.put('{"x": %s}' % deep)
        self.fails_with("model.safetensors", "levels deep")
        shutil.copy(MODEL / "model.safetensors", self.model)
        for name in ("config.json", "preprocessor_config.json", "vocab.json", "tokenizer_config.json"):
            kept = (self.model / name).read_text()
            (self.model / name).write_text('{"x": %s}' % deep)
            self.fails_with(name)
            (self.model / name).write_text("[" * 100000)
            self.fails_with(name)
            (self.model / name).write_text(kept)

    def test_products_that_overflow(self):
        name = self.by_offset()[0]
        for shape in ([2**62, 4], [2**32, 2**32], [2**63 - 1, 2**63 - 1], [2**64, 1], [-1], [1] * 9, [1.5], "x"):
            self.change(name, shape=shape)
            self.fails_with("model.safetensors", "" if shape == [2**64, 1] else name)

    def test_wrong_dtype(self):
        name = "vision_model.post_layernorm.weight"
        self.change(name, dtype="I16")
        self.fails_with("model.safetensors", name, "I16")
        self.change(name, dtype="F32")
        self.fails_with("model.safetensors", name)

    def test_not_finite(self):
        """In any tensor; also where only the other tower is asked for."""
        (self.dir / "texts.txt").write_text("a cat\n")
        wanted = ("model", "info", self.model), \
            ("embed", "--model", self.model, "--images", IMAGES, "--out", "e"), ("embed", "--model", self.model, "--texts", "texts.txt", "--out", "e")
        bits = {"F16": b"\x01\x7e", "BF16": b"\xc0\x7f", "F32": b"\x00\x00\xc0\x7f"}
        for name in self.by_offset():
            tensor = self.header[name]
            begin, value = tensor["data_offsets"][0], bits.get(tensor["dtype"])
            if not value or name.endswith("position_ids"): continue
            self.put(json.dumps(self.header), self.data[:begin] + value + self.data[begin + len(value):])
            for command in wanted:
                self.fails(*command, says=("model.safetensors", name, "element 0 is not finite"))

    def test_infinities(self):
        name = "vision_model.encoder.layers.0.mlp.fc1.weight"
        end = self.header[name]["data_offsets"][1]
        last = math.prod(self.header[name]["shape"]) - 1
        for dtype, half in (("F16", 0x7c00), ("F16", 0xfc00), ("F16", 0xfe01), ("BF16", 0x7f80), ("BF16", 0xff80), ("BF16", 0xffc0)):
            header = {**self.header, name: {**self.header[name], "dtype": dtype}}
            self.put(json.dumps(header), self.data[:end - 2] + struct.pack("<H", half) + self.data[end:])
            self.fails_with("model.safetensors", name, f"element {last} is not finite")
            largest = (half & 0x8000) | {"F16": 0x7bff, "BF16": 0x7f7f}[dtype]
            self.put(json.dumps(header), self.data[:end - 2] + struct.pack("<H", largest) + self.data[end:])
            self.reco("model", "info", self.model)

    def config(self, part, **values):
        config = json.loads((MODEL / "config.json").read_text())
        (config[part] if part else config).update(values)
        (self.model / "config.json").write_text(json.dumps(config))

    def test_configs(self):
        for part, key, values in (("vision_config", "hidden_size", [0, -1, 1e9, 31, "x", 2**63, 64]), ("vision_config", "patch_size", [0, 100, 4, -8]),
                                  ("vision_config", "image_size", [0, 1, 4097, 32, "24"]), ("vision_config", "num_hidden_layers", [0, 3, 1025]),
                                  ("vision_config", "intermediate_size", [0, 73]), ("text_config", "vocab_size", [0, 519, 2**40]),
                                  ("text_config", "max_position_embeddings", [0, 1, 21, 65537]), ("text_config", "hidden_size", [25, 48]),
                                  (None, "projection_dim", [0, 17, 2**40]), ("text_config", "layer_norm_eps", [-1, 2, 1e400])):
            for value in values:
                self.config(part, **{key: value})
                self.fails_with(str(self.model))
        for text in ("", "[]", "null", "{}", '{"model_type": 3}', '{"model_type": "clip", "vision_config": []', '"x"', "\xff"):
            (self.model / "config.json").write_text(text)
            self.fails_with("config.json" if text != "{}" else "model")

    def test_nulls(self):
        """Where transformers has no default for null, neither has reco."""
        tower = (("hidden_size", "want 1..65536"), ("num_hidden_layers", "want 1..1024"), ("num_attention_heads", "want 1..1024"),
                 ("intermediate_size", "want 1.."), ("layer_norm_eps", "not a number, want 0..1"), ("hidden_act", "not a string"))
        for part, keys in (("vision_config", tower + (("image_size", "want 1..4096"), ("patch_size", "want 1..4096"), ("num_channels", "not 3"))),
                           ("text_config", tower + (("vocab_size", "want 1.."), ("max_position_embeddings", "want 2.."), ("eos_token_id", "want 0.."))),
                           (None, (("projection_dim", "want 1..65536"),))):
            for key, want in keys:
                with self.subTest(f"{part}.{key}"):
                    self.config(part, **{key: None})
                    self.fails_with("config.json: " + (f"{part}.{key}" if part else key), want)
        for part, keys in (("vision_config", ("attention_dropout",)), ("text_config", ("projection_dim", "pad_token_id", "bos_token_id")),
                           (None, ("vision_config_dict", "text_config_dict", "architectures", "quantization_config", "torch_dtype"))):
            self.config(part, **{key: None for key in keys})
            self.reco("model", "info", self.model)

    def forge(self, tower, width):
        header, at = {}, len(self.data)
        for name, entry in self.header.items():
            header[name] = entry
            if name.startswith(f"{tower}_model.") and "norm" in name:
                header[name] = {"dtype": "F16", "shape": [width], "data_offsets": [at, at + 2 * width]}
                begin, end = entry["data_offsets"]
                header["was." + name] = {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
                at += 2 * width
        self.put(json.dumps(header), self.data + bytes(at - len(self.data)))

    def test_absurd_sizes_cost_nothing(self):
        """Sizes that the limits allow and no tensor has: refused before memory is taken for them."""
        for part, values in (("vision_config", {"hidden_size": 65536, "num_attention_heads": 1, "intermediate_size": 1 << 20}),
                             ("text_config", {"hidden_size": 65536, "num_attention_heads": 1, "intermediate_size": 1 << 20}),
                             ("text_config", {"vocab_size": 1 << 24, "max_position_embeddings": 65536}),
                             ("vision_config", {"image_size": 4096, "patch_size": 1}), ("vision_config", {"num_hidden_layers": 1024})):
            self.config(part, **values)
            self.put(json.dumps(self.header))
            if values.get("hidden_size"):  # layer norms of that width are cheap to forge
                self.forge(part.removesuffix("_config"), values["hidden_size"])
            process = subprocess.Popen([RECO, "model", "info", str(self.model)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            error = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.stdout.close()
            process.stderr.close()
            process.returncode = status
            self.assertEqual((os.waitstatus_to_exitcode(status), len(error.splitlines())), (1, 1), error)
            self.assertIn(str(self.model), error)
            self.assertLess(usage.ru_maxrss, 600_000)

    def test_merges(self):
        path = self.model / "merges.txt"
        lines = path.read_text(encoding="utf-8").splitlines()
        for bad in ("onlyone", "a b c", " a", "a ", "", "no-such-symbol a"):
            path.write_text("\n".join([*lines[:5], bad, *lines[5:]]) + "\n", encoding="utf-8")
            self.fails_with("merges.txt:6")
        path.write_bytes(b"#version\na\0b c\n")
        self.fails_with("merges.txt", "NUL")

    def test_vocabulary(self):
        path = self.model / "vocab.json"
        vocab = json.loads(path.read_text())
        token = max(vocab, key=vocab.get)
        middle = next(t for t, i in vocab.items() if i == 100)
        for changed in ({k: v for k, v in vocab.items() if k != middle}, vocab | {middle: 101}, vocab | {middle: -1}, vocab | {middle: "x"},
                        vocab | {middle: 10**12}, {k: v for k, v in vocab.items() if k != token}, {}, []):
            path.write_text(json.dumps(changed))
            self.fails_with("model")
        path.write_text(json.dumps({k: v for k, v in vocab.items() if k != middle}))
        self.fails_with("vocab.json")


class BadPicture(Case):
    def embed(self, names):
        (self.dir / "list.txt").write_text("".join(f"{n}\n" for n in names))
        return self.json("embed", "--model", MODEL, "--images", "list.txt", "--out", "e")

    def test_extreme_shapes(self):
        for name, (w, h) in {"a.png": (1, 1), "b.png": (1, 20000), "c.png": (20000, 1)}.items():
            write_png(self.dir / name, w, h, zlib.compress((b"\0" + b"\x40\x80\xc0" * w) * h))
        result = self.embed(["a.png", "b.png", "c.png", IMAGES / "rgb-16.png", IMAGES / "grey-16.png", IMAGES / "animated.webp"])
        self.assertEqual((result["rows"], result["failures"]), (6, 0))

    def test_truncated(self):
        """Cut at every thousandth byte, and at every hundredth of small ones: told or, for the last bytes, harmless."""
        names = []
        for path in (IMAGES / "rgb.jpg", IMAGES / "rgba.png", IMAGES / "lossy.webp", IMAGES / "rgb-444-progressive.jpg", IMAGES / "rgb-16.png"):
            data = path.read_bytes()
            step = 1000 if len(data) > 20000 else 100
            for size in range(0, len(data), step):
                name = f"{path.stem}-{size}{path.suffix}"
                (self.dir / name).write_bytes(data[:size])
                names.append(name)
        result = self.embed(names)
        self.assertEqual(result["rows"] + result["failures"], len(names))
        self.assertGreater(result["failures"], len(names) * 0.7)
        for failure in result["failed"]:
            self.assertIn(failure["item"], failure["reason"])
            self.assertEqual(len(failure["reason"].splitlines()), 1)


if __name__ == "__main__":
    unittest.main()
