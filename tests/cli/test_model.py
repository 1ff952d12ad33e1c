import json
import shutil
import struct
import unittest

from common import MODEL, Case


class Model(Case):
    def setUp(self):
        super().setUp()
        self.model = self.dir / "model"
        shutil.copytree(MODEL, self.model)

    def fails_with(self, *says):
        self.fails("model", "info", self.model, says=says)

    def weights(self, change):
        """Rewrite the weights: change(header dictionary, data) gives the new ones."""
        path = self.model / "model.safetensors"
        raw = path.read_bytes()
        n = struct.unpack("<Q", raw[:8])[0]
        header, data = change(json.loads(raw[8:8 + n]), raw[8 + n:])
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)

    def config(self, change):
        path = self.model / "config.json"
        config = json.loads(path.read_text())
        change(config)
        path.write_text(json.dumps(config))

    def test_info(self):
        info = self.json("model", "info", self.model)
        self.assertEqual((info["family"], info["dimensions"], info["image_size"], info["weights"]), ("hf-clip", 16, 24, "F16"))
        self.assertEqual(info["image"], {"width": 32, "layers": 2, "heads": 2, "mlp": 72, "activation": "quick_gelu"})
        self.assertEqual(len(info["fingerprint"]), 32)
        self.assertEqual(info["fingerprint"], self.json("model", "info", MODEL)["fingerprint"])

    def test_missing_files(self):
        for name in ("config.json", "model.safetensors", "vocab.json", "merges.txt"):
            kept = (self.model / name).read_bytes()
            (self.model / name).unlink()
            self.fails_with(name)
            (self.model / name).write_bytes(kept)

    def test_truncated_weights(self):
        path = self.model / "model.safetensors"
        raw = path.read_bytes()
        for size in (0, 4, 8, 100, len(raw) // 2, len(raw) - 1):
            path.write_bytes(raw[:size])
            self.fails_with("model.safetensors")

    def test_header_length(self):
        path = self.model / "model.safetensors"
        path.write_bytes(struct.pack("<Q", 1 << 60) + path.read_bytes()[8:])
        self.fails_with("model.safetensors", str(1 << 60))

    def test_wrong_shape(self):
        def change(header, data):
            shape = header["visual_projection.weight"]["shape"]
            header["visual_projection.weight"]["shape"] = shape[::-1]
            return header, data
        self.weights(change)
        self.fails_with("model.safetensors", "visual_projection.weight", "[32,16]", "[16,32]")

    def test_unknown_dtype(self):
        def change(header, data):
            header["logit_scale"]["dtype"] = "F17"
            return header, data
        self.weights(change)
        self.fails_with("model.safetensors", "logit_scale", "F17")

    def test_missing_tensor(self):
        def change(header, data):
            header["renamed"] = header.pop("text_model.final_layer_norm.bias")
            return header, data
        self.weights(change)
        self.fails_with("model.safetensors", "text_model.final_layer_norm.bias")

    def test_not_a_number(self):
        def change(header, data):
            begin = header["vision_model.post_layernorm.weight"]["data_offsets"][0]
            return header, data[:begin + 6] + b"\x00\x7e" + data[begin + 8:]
        self.weights(change)
        self.fails_with("vision_model.post_layernorm.weight", "element 3")

    def test_unknown_activation(self):
        self.config(lambda c: c["vision_config"].update(hidden_act="mystery"))
        self.fails_with("config.json", "mystery", "quick_gelu or gelu")

    def test_heads_that_do_not_divide(self):
        self.config(lambda c: c["text_config"].update(num_attention_heads=7))
        self.fails_with("config.json", "7 heads")

    def test_sizes_that_disagree(self):
        self.config(lambda c: c["text_config"].update(intermediate_size=41))
        self.fails_with("model.safetensors", "mlp.fc1")

    def test_bad_json(self):
        (self.model / "config.json").write_text('{"model_type": "clip", ')
        self.fails_with("config.json")
        (self.model / "config.json").write_text('{"model_type": "bert"}')
        self.fails_with("config.json", "bert")


if __name__ == "__main__":
    unittest.main()
