"""Model folders other than a whole CLIPModel: what `model info` says, what is embedded, and what is refused."""
import json
import shutil
import struct
import unittest

import common
from common import Case

SMALL = common.MODEL.parent


class Families(Case):
    def copy(self, name):
        self.model = self.dir / name
        if not self.model.exists():
            shutil.copytree(SMALL / name, self.model)
        return self.model

    def info(self, name):
        return self.json("model", "info", SMALL / name)

    def refused(self, name, change, *says, file=None, names=None):
        """A folder whose configuration was changed is refused in one line that says so."""
        shutil.rmtree(self.dir / name, ignore_errors=True)
        path = self.copy(name) / (file or ("open_clip_config.json" if name.startswith("openclip") else "config.json"))
        config = json.loads(path.read_text())
        change(config)
        path.write_text(json.dumps(config))
        self.fails("model", "info", self.model, says=(names or path.name,) + says)

    def tensors(self, name, change):
        path = self.copy(name) / "open_clip_model.safetensors"
        raw = path.read_bytes()
        n = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8:8 + n])
        change(header)
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + n:])

    def test_info_of_open_clip(self):
        info = self.info("openclip-longest")
        self.assertEqual((info["family"], info["has_image"], info["has_text"]), ("open_clip", True, True))
        self.assertEqual(info["image"], {"width": 48, "layers": 2, "heads": 4, "mlp": 120, "activation": "quick_gelu"})
        self.assertEqual(info["context"], 13)
        pre = info["preprocess"]
        self.assertEqual((pre["resize_mode"], pre["interpolation"], pre["size"], pre["fill_color"], pre["convert_to_rgb"]),
                         ("longest", "bilinear", 30, 100, "after cropping"))
        self.assertEqual([round(v, 6) for v in pre["mean"] + pre["std"]], [0.5, 0.4, 0.3, 0.2, 0.3, 0.4])
        self.assertEqual(info["tokenizer"], {"kind": "bpe", "rules": "open_clip lower", "built_in": False, "vocabulary": 520,
                                             "bos": 518, "eos": 519, "pad": 0, "padded": False, "pads_left": False})
        self.assertEqual(len(info["guessed"]), 1)

    def test_iota_below_parts_words(self):
        """As in open_clip, whose expression drops U+0345."""
        (self.dir / "t.txt").write_text("a\u0345b \u0345 c\na b c\n", encoding="utf-8")
        self.reco("model", "check", SMALL / "openclip-longest", "--texts", "t.txt", "--out", "c")
        _, rows = common.npy(self.dir / "c/ids.npy")
        self.assertEqual(rows[0], rows[1])
        self.reco("model", "check", SMALL / "hf-quickgelu", "--texts", "t.txt", "--out", "h")
        _, rows = common.npy(self.dir / "h/ids.npy")
        self.assertNotEqual(rows[0], rows[1])

    def test_info_of_siglip(self):
        info = self.info("hf-siglip")
        self.assertEqual((info["family"], info["logit_scale"], info["logit_bias"]), ("hf-siglip", 1.0, 0.0))
        self.assertEqual(info["image"]["activation"], "gelu_pytorch_tanh")
        self.assertEqual((info["preprocess"]["resize_mode"], info["preprocess"]["crop"]), ("squash", 0))
        self.assertEqual(info["tokenizer"]["kind"], "sentencepiece")
        self.assertEqual((info["tokenizer"]["bos"], info["tokenizer"]["pad"], info["tokenizer"]["padded"]), (None, 1, True))

    def test_one_tower(self):
        vision, text = self.info("hf-vision"), self.info("hf-text")
        self.assertEqual((vision["has_image"], vision["has_text"], vision["text"], vision["tokenizer"], vision["logit_scale"]),
                         (True, False, None, None, None))
        self.assertEqual((text["has_image"], text["has_text"], text["image"], text["preprocess"]), (False, True, None, None))
        (self.dir / "texts.txt").write_text("a cat\n")
        self.reco("embed", "--model", SMALL / "hf-text", "--texts", self.dir / "texts.txt", "--out", self.dir / "t")
        self.reco("embed", "--model", SMALL / "hf-vision", "--images", SMALL / "images", "--out", self.dir / "v")
        self.fails("embed", "--model", SMALL / "hf-vision", "--texts", self.dir / "texts.txt", "--out", self.dir / "n",
                   says=("no text tower",))
        self.fails("embed", "--model", SMALL / "hf-text", "--images", SMALL / "images", "--out", self.dir / "m",
                   says=("no image tower",))

    def test_one_tower_under_a_whole_configuration(self):
        model = self.copy("hf-quickgelu")
        path = model / "model.safetensors"
        raw = path.read_bytes()
        n = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8:8 + n])
        kept, data = {}, b""
        for name, t in header.items():
            if name.startswith("vision_model.") or name == "visual_projection.weight":
                begin, end = t["data_offsets"]
                kept[name] = dict(t, data_offsets=[len(data), len(data) + end - begin])
                data += raw[8 + n + begin:8 + n + end]
        text = json.dumps(kept).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)
        info = self.json("model", "info", model)
        self.assertEqual((info["has_image"], info["has_text"]), (True, False))
        self.assertTrue(any("a text tower, which the weights lack" in g for g in info["guessed"]), info["guessed"])

    def test_preprocessing_that_is_missing_is_guessed(self):
        model = self.copy("hf-quickgelu")
        with_file = self.json("model", "info", model)
        (model / "preprocessor_config.json").unlink()
        info = self.json("model", "info", model)
        self.assertEqual(info["preprocess"], with_file["preprocess"])
        self.assertTrue(any("preprocessor_config.json" in g for g in info["guessed"]), info["guessed"])

    def test_forms_of_one_preprocessing(self):
        for name, changes in (("hf-quickgelu", ({"size": 24}, {"crop_size": 24}, {"crop_size": [24, 24]}, {"image_processor_type": "CLIPImageProcessorFast"},
                                                {"image_processor_type": "CLIPImageProcessorPil"}, {"do_pad": None, "do_pad_size": None},
                                                {"image_processor_type": None, "feature_extractor_type": "CLIPFeatureExtractor"},
                                                {"size": {"shortest_edge": 24, "longest_edge": None}}, {"do_convert_rgb": None})),
                              ("hf-siglip", ({"image_processor_type": "SiglipImageProcessorFast"}, {"size": [24, 24]}, {"do_center_crop": None}))):
            pre = self.info(name)["preprocess"]
            for change in changes:
                with self.subTest(change):
                    self.assertEqual(self.json("model", "info", self.changed(name, "preprocessor_config.json", lambda c: c.update(change)))["preprocess"], pre)
                shutil.rmtree(self.model)

    def test_defaults_of_a_file_are_those_of_transformers(self):
        """224 whatever the model's size, and so refused here; without any file the model's size is the only sense."""
        self.changed("hf-quickgelu", "preprocessor_config.json", lambda c: c.pop("crop_size"))
        self.fails("model", "info", self.model, says=("preprocessor_config.json", "224"))
        shutil.rmtree(self.model)
        info = self.json("model", "info", self.changed("hf-quickgelu", "preprocessor_config.json", lambda c: c.pop("size")))
        self.assertEqual((info["preprocess"]["size"], info["preprocess"]["crop"]), (224, 24))
        self.assertTrue(any(g.startswith("size: shortest edge to 224") for g in info["guessed"]), info["guessed"])

    def test_processor_config_of_newer_transformers(self):
        model = self.copy("hf-quickgelu")
        old = json.loads((model / "preprocessor_config.json").read_text())
        (model / "preprocessor_config.json").unlink()
        (model / "processor_config.json").write_text(json.dumps({"image_processor": dict(old, image_mean=[0.1, 0.2, 0.3])}))
        mean = self.json("model", "info", model)["preprocess"]["mean"]
        self.assertEqual([round(v, 6) for v in mean], [0.1, 0.2, 0.3])

    def test_open_clip_features_that_change_the_numbers(self):
        vision = lambda **kw: lambda c: c["model_cfg"]["vision_cfg"].update(kw)
        text = lambda **kw: lambda c: c["model_cfg"]["text_cfg"].update(kw)
        for change, key in ((vision(attentional_pool=True), "attentional_pool"), (vision(layers=[3, 4, 6, 3]), "ResNet"),
                            (vision(pool_type="none"), "pool_type"), (vision(qk_norm=True), "qk_norm"),
                            (vision(timm_model_name="convnext_base"), "convnext_base"),
                            (vision(timm_model_name="vit_base_patch16_siglip_224_x"), "timm_model_name"),
                            (vision(act_kwargs={"approximate": "tanh"}), "act_kwargs"),
                            (vision(norm_kwargs={"bias": False}), "norm_kwargs"), (vision(norm_kwargs=[1e-6]), "norm_kwargs"),
                            (vision(norm_kwargs={"eps": "1e-6"}), "norm_kwargs"), (text(act_kwargs={"approximate": True}), "act_kwargs"),
                            (text(hf_model_name="roberta-base"), "hf_model_name"), (text(embed_cls=True), "embed_cls"),
                            (text(pool_type="mean"), "pool_type"), (text(proj_type="mlp"), "proj_type"),
                            (vision(global_average_pool=True), "vision_cfg.global_average_pool"),
                            (text(frobnication=0.5), "text_cfg.frobnication"),
                            (lambda c: c["model_cfg"].update(third_tower={"width": 3}), "third_tower"),
                            (vision(timm_model_name="vit_so400m_patch14_clip_224"), "vit_so400m_patch14_clip_224"),
                            (vision(timm_model_name="vit_base_patch16_clip_224", timm_pool="avg"), "timm_pool"),
                            (vision(timm_model_name="vit_base_patch16_clip_224", timm_pool="token"), "timm_proj"),
                            (lambda c: c["model_cfg"].update(multimodal_cfg={}), "multimodal_cfg")):
            with self.subTest(key):
                self.refused("openclip-longest", change, key)

    def changed(self, name, file, change):
        path = self.copy(name) / file
        config = json.loads(path.read_text())
        change(config)
        path.write_text(json.dumps(config))
        return self.model

    def embedded(self, model, kind="--images"):
        """The bytes of the embeddings of the small pictures, or of a caption."""
        out = self.dir / "embedded"
        shutil.rmtree(out, ignore_errors=True)
        (self.dir / "texts.txt").write_text("a cat\n")
        source = SMALL / "images" if kind == "--images" else self.dir / "texts.txt"
        self.reco("embed", "--model", model, kind, source, "--out", out, "--precision", "f32")
        return [p.read_bytes() for p in sorted(out.rglob("*.npy"))]

    def test_open_clip_keys_that_change_nothing(self):
        before = self.embedded(SMALL / "openclip-longest")
        def change(c):
            c["model_cfg"]["vision_cfg"].update(patch_dropout=0.5, output_tokens=True, timm_drop=0.1, attn_pooler_heads=8,
                                                attentional_pool=False, qk_norm=None, later_key=False)
            c["model_cfg"].update(init_logit_scale=2.0, custom_text=False, output_dict=True)
        self.assertEqual(self.embedded(self.changed("openclip-longest", "open_clip_config.json", change)), before)

    def test_open_clip_tokenizers_that_are_not_read(self):
        for change, key in (({"tokenizer_kwargs": {"clean": "none"}}, "tokenizer_kwargs.clean"),
                            ({"tokenizer_kwargs": {"reduction_mask": "simple"}}, "tokenizer_kwargs.reduction_mask"),
                            ({"tokenizer_kwargs": {"strip_sep_token": True}}, "tokenizer_kwargs.strip_sep_token"),
                            ({"tokenizer_mode": "clips"}, "tokenizer_mode")):
            shutil.rmtree(self.dir / "openclip-longest", ignore_errors=True)
            model = self.changed("openclip-longest", "open_clip_config.json", lambda c: c["model_cfg"]["text_cfg"].update(change))
            with self.subTest(key):
                info = self.json("model", "info", model)
                self.assertIsNone(info["tokenizer"])
                self.assertTrue(any("texts cannot be embedded" in g and key in g for g in info["guessed"]), info["guessed"])
                self.assertEqual(self.embedded(model), self.embedded(SMALL / "openclip-longest"))
                self.fails("embed", "--model", model, "--texts", self.dir / "texts.txt", "--out", self.dir / "o", says=(key,))

    def test_open_clip_tensors_that_no_layer_takes(self):
        self.tensors("openclip-longest", lambda h: h.__setitem__("visual.surprise", {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}))
        self.fails("model", "info", self.model, says=("open_clip_model.safetensors", "visual.surprise"))
        self.refused("openclip-squash", lambda c: c["model_cfg"]["vision_cfg"].pop("ls_init_value"), "ls_1.gamma",
                     file="open_clip_config.json", names="open_clip_model.safetensors")
        self.refused("openclip-longest", lambda c: c["model_cfg"]["vision_cfg"].update(ls_init_value=1e-4), "ls_1.gamma",
                     names="open_clip_model.safetensors")

    def test_weights_under_other_names(self):
        before = self.embedded(SMALL / "openclip-longest")
        model = self.copy("openclip-longest")
        for name in ("open_clip_pytorch_model.safetensors", "model.safetensors"):
            next(model.glob("*.safetensors")).rename(model / name)
            self.assertEqual(self.embedded(model), before)

    def test_open_clip_beside_hugging_face(self):
        """Folders of the hub have both; a part of it may have been fetched."""
        model = self.copy("hf-quickgelu")
        shutil.copy(SMALL / "openclip-longest" / "open_clip_config.json", model)
        info = self.json("model", "info", model)
        self.assertEqual(info["family"], "hf-clip")
        self.assertTrue(any("open_clip_config.json" in g for g in info["guessed"]), info["guessed"])
        shutil.copy(SMALL / "openclip-longest" / "open_clip_model.safetensors", model)
        self.assertEqual(self.json("model", "info", model)["family"], "open_clip")

    def test_pickles(self):
        for name, wanted, found in (("hf-quickgelu", "model.safetensors", "pytorch_model.bin"),
                                    ("hf-quickgelu", "model.safetensors", "pytorch_model.bin.index.json"),
                                    ("openclip-longest", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")):
            shutil.rmtree(self.dir / name, ignore_errors=True)
            model = self.copy(name)
            (model / wanted).rename(model / found)
            self.fails("model", "info", model, says=(name, found, "convert it to " + wanted))
            (model / found).unlink()
            self.fails("model", "info", model, says=("no " + wanted,))
            (model / "model.fp16.safetensors").touch()
            self.fails("model", "info", model, says=("no " + wanted, "rename", "model.fp16.safetensors"))

    def strip(self, name, prefix):
        path = self.copy(name) / "model.safetensors"
        raw = path.read_bytes()
        n = struct.unpack("<Q", raw[:8])[0]
        header = {k.removeprefix(prefix): v for k, v in json.loads(raw[8:8 + n]).items()}
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + n:])
        return self.model

    def test_tower_at_the_top(self):
        """transformers 5 saves a tower alone without its prefix."""
        self.assertEqual(self.embedded(self.strip("hf-text", "text_model."), "--texts"), self.embedded(SMALL / "hf-text", "--texts"))
        def vision_alone(config):
            config.update(config.pop("vision_config"), model_type="siglip_vision_model")
            config.pop("text_config")
        self.strip("hf-siglip", "vision_model.")
        self.assertEqual(self.embedded(self.changed("hf-siglip", "config.json", vision_alone)), self.embedded(SMALL / "hf-siglip"))
        left = [g for g in self.json("model", "info", self.model)["guessed"] if "ignored" in g]
        self.assertEqual(len(left), 1)  # the text tower's tensors
        self.assertIn("tensors belong to no layer", left[0])

    def test_a_pad_that_is_pooled(self):
        """The first pad has the highest id, or the id that the configuration takes for the end: the same token of the same text."""
        before = self.embedded(SMALL / "hf-text-pad", "--texts")
        self.assertTrue(self.info("hf-text-pad")["tokenizer"]["padded"])
        model = self.changed("hf-text-pad", "config.json", lambda c: c.update(eos_token_id=519))
        self.assertEqual(self.embedded(model, "--texts"), before)
        ended = self.changed("hf-text-pad", "config.json", lambda c: c.update(eos_token_id=517))  # the tokenizer's own
        self.assertNotEqual(self.embedded(ended, "--texts"), before)
        self.assertFalse(self.json("model", "info", ended)["tokenizer"]["padded"])

    def test_tower_without_projection(self):
        self.strip("hf-text", "text_projection.")
        self.fails("model", "info", self.model, says=("model.safetensors", "text_projection.weight", "CLIPTextModel"))

    def test_open_clip_configuration_that_is_wrong(self):
        vision = lambda **kw: lambda c: c["model_cfg"]["vision_cfg"].update(kw)
        text = lambda **kw: lambda c: c["model_cfg"]["text_cfg"].update(kw)
        pre = lambda **kw: lambda c: c["preprocess_cfg"].update(kw)
        for change, says in ((vision(width="48"), "vision_cfg.width"), (vision(width=1 << 40), "vision_cfg.width"),
                             (vision(head_width=9), "head_width"), (vision(head_width=64), "head_width"),
                             (vision(image_size=[30, 31]), "image_size"), (vision(image_size=5), "image_size"),
                             (vision(mlp_ratio=-1), "mlp_ratio"), (vision(layers=0), "layers"),
                             (text(heads=5), "heads"), (text(context_length=0), "context_length"),
                             (text(no_causal_mask=3), "no_causal_mask"),
                             (pre(resize_mode="stretch"), "stretch"), (pre(interpolation="lanczos"), "lanczos"),
                             (pre(mean=[1, 2]), "mean"), (pre(std=[1, 0, 1]), "std"), (pre(fill_color=256), "fill_color"),
                             (pre(mode="L"), "mode"), (lambda c: c["model_cfg"].pop("embed_dim"), "embed_dim"),
                             (lambda c: c["model_cfg"].pop("text_cfg"), "text_cfg"),
                             (lambda c: c.update(model_cfg=[1]), "model_cfg"),
                             (lambda c: c.update(preprocess_cfg=7), "preprocess_cfg")):
            with self.subTest(says):
                self.refused("openclip-longest", change, says)

    def test_open_clip_sizes_against_tensors(self):
        for key, section, value, tensor in (("layers", "vision_cfg", 3, "visual.transformer.resblocks.2"),
                                            ("width", "text_cfg", 34, "transformer.resblocks.0.ln_1.weight"),
                                            ("context_length", "text_cfg", 14, "positional_embedding"),
                                            ("patch_size", "vision_cfg", 15, "visual.positional_embedding"),
                                            ("mlp_ratio", "vision_cfg", 2, "mlp.c_fc")):
            shutil.rmtree(self.dir / "openclip-longest", ignore_errors=True)
            path = self.copy("openclip-longest") / "open_clip_config.json"
            config = json.loads(path.read_text())
            config["model_cfg"][section][key] = value
            path.write_text(json.dumps(config))
            with self.subTest(key):
                self.fails("model", "info", self.model, says=("open_clip_model.safetensors", tensor))

    def test_open_clip_tensors(self):
        def rename(header):
            header["renamed"] = header.pop("visual.proj")
        self.tensors("openclip-longest", rename)
        self.fails("model", "info", self.model, says=("open_clip_model.safetensors", "visual.proj"))
        def timm(header):
            header["renamed"] = header.pop("visual.trunk.patch_embed.proj.weight")
        self.tensors("openclip-siglip", timm)
        self.fails("model", "info", self.model, says=("open_clip_model.safetensors", "visual.trunk.patch_embed.proj.weight"))
        (self.model / "open_clip_model.safetensors").unlink()
        self.fails("model", "info", self.model, says=("open_clip_model.safetensors",))

    def test_activations_of_one_formula(self):
        before = self.embedded(SMALL / "hf-siglip")
        for name in ("gelu_new", "gelu_fast"):
            model = self.changed("hf-siglip", "config.json", lambda c: c["vision_config"].update(hidden_act=name))
            self.assertEqual(self.embedded(model), before)
            self.assertEqual(self.json("model", "info", model)["image"]["activation"], name)

    def test_siglip_that_is_wrong(self):
        for change, says in ((lambda c: c["vision_config"].update(vision_use_head=False), "vision_use_head"),
                             (lambda c: c["text_config"].update(projection_size=20), "projection_size"),
                             (lambda c: c.update(model_type="siglip2"), "siglip2"),
                             (lambda c: c.update(architectures=["EvaCLIPModel"]), "EvaCLIPModel"),
                             (lambda c: c.update(architectures=[3]), "architectures"),
                             (lambda c: c["vision_config"].update(hidden_act="relu"), "relu"),
                             (lambda c: c["vision_config"].update(vision_use_head=None), "vision_use_head"),
                             (lambda c: c.update(text_config=3), "text_config")):
            with self.subTest(says):
                self.refused("hf-siglip", change, says)

    def test_siglip_without_a_projection_size(self):
        before = self.embedded(SMALL / "hf-siglip")
        self.assertEqual(self.embedded(self.changed("hf-siglip", "config.json", lambda c: c["text_config"].update(projection_size=None))), before)

    def test_siglip_tokenizer_that_is_wrong(self):
        model = self.copy("hf-siglip")
        whole = (model / "spiece.model").read_bytes()
        for size in (0, 1, 50, len(whole) // 2):
            (model / "spiece.model").write_bytes(whole[:size])
            self.fails("model", "info", model, says=("spiece.model",))
        (model / "spiece.model").unlink()
        info = self.json("model", "info", model)  # pictures can still be embedded
        self.assertIsNone(info["tokenizer"])
        self.assertIn("spiece.model", info["guessed"][-1])
        (model / "spiece.model").write_bytes(whole)
        config = json.loads((model / "tokenizer_config.json").read_text())
        (model / "tokenizer_config.json").write_text(json.dumps(dict(config, pad_token="<nothing>")))
        self.fails("model", "info", model, says=("tokenizer_config.json", "pad_token", "<nothing>"))
        (model / "tokenizer_config.json").write_text(json.dumps(dict(config, tokenizer_class="BertTokenizer")))
        info = self.json("model", "info", model)
        self.assertIsNone(info["tokenizer"])
        self.assertIn("BertTokenizer", info["guessed"][-1])

    def test_siglip_special_tokens(self):
        """Ids of transformers 5.24's SiglipTokenizer (4.46 and 4.57 give the same) for the same files."""
        model = self.copy("hf-siglip")
        path = model / "tokenizer_config.json"
        config = json.loads(path.read_text())

        def first(text, n, pieces=b"", **change):
            (model / "spiece.model").write_bytes((SMALL / "hf-siglip" / "spiece.model").read_bytes() + pieces)
            path.write_text(json.dumps(dict(config, **change)))
            return [int(i) for i in self.ids(model, text)[0]][:n]

        def added(token, **more):
            return {"added_tokens_decoder": {"61": dict({"content": token, "normalized": False, "special": True}, **more)}}

        self.assertEqual(first("a true x", 5), [3, 18, 3, 61, 3])
        self.assertEqual(first("a true x", 4, **added("true")), [3, 18, 61, 35])
        self.assertEqual(first("a TRUE x", 4, **added("TRUE", special=False, normalized=True)), [3, 18, 61, 35])
        self.assertEqual(first("a true x", 4, bos_token="true"), [3, 18, 61, 35])
        self.assertEqual(first("a", 4, pad_token="<unk>"), [3, 18, 1, 2])
        # normalizer_spec.remove_extra_whitespaces = false: the space before stays, but not before a special token
        self.assertEqual(first("true", 3, b"\x1a\x02\x20\x00", bos_token="true"), [61, 1, 1])
        self.assertEqual(first("true", 4, b"\x1a\x02\x20\x00", **added("true")), [3, 61, 1, 1])
        (model / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "<pad>"}}))
        bare = {k: v for k, v in config.items() if k != "pad_token"}
        path.write_text(json.dumps(dict(bare, model_max_length=1000000000000000019884624838656)))
        self.assertEqual([int(i) for i in self.ids(model, "a")[0]][:4], [3, 18, 1, 0])
        for change, says in (({"added_tokens_decoder": {"160": {"content": "<ctl>"}}}, "160"), (added("true", single_word=True), "single_word"),
                             ({"sp_model_kwargs": {"reverse": True}}, "sp_model_kwargs")):
            path.write_text(json.dumps(dict(config, **change)))
            self.fails("model", "check", model, "--texts", self.dir / "texts.txt", "--out", self.dir / "c",
                       says=("tokenizer_config.json", says))

    def tokenizer_json(self, config, **change):
        """hf-siglip with a small Unigram in the place of its SentencePiece model."""
        model = self.copy("hf-siglip")
        (model / "spiece.model").unlink(missing_ok=True)
        pieces = [["<pad>", 0], ["</s>", 0], ["<unk>", 0], ["\u2581", -2]] + [[c, -5] for c in "abcdefghijklmnopqrstuvwxyz"]
        pieces += [["\u2581the", -1.5], ["dog", -2.5]]
        end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
        doc = {"version": "1.0", "added_tokens": [{"id": 1, "content": "</s>", "special": True}],
               "normalizer": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "Strip", "strip_left": True,
                                                                                          "strip_right": True}]},
               "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
               "post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, end],
                                  "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
               "model": {"type": "Unigram", "unk_id": 2, "vocab": pieces, "byte_fallback": False}}
        (model / "tokenizer.json").write_text(json.dumps(dict(doc, **change)))
        (model / "tokenizer_config.json").write_text(json.dumps(dict({"pad_token": "<pad>", "eos_token": "</s>"}, **config)))
        return model

    def ids(self, model, *texts):
        (self.dir / "texts.txt").write_text("".join(t + "\n" for t in texts))
        shutil.rmtree(self.dir / "check", ignore_errors=True)
        self.reco("model", "check", model, "--texts", self.dir / "texts.txt", "--out", self.dir / "check")
        return common.npy(self.dir / "check" / "ids.npy")[1]

    def test_tokenizer_json(self):
        model = self.tokenizer_json({"tokenizer_class": "PreTrainedTokenizerFast"})
        self.assertEqual(self.json("model", "info", model)["tokenizer"],
                         {"kind": "unigram", "rules": "hf", "built_in": False, "vocabulary": 32, "bos": None, "eos": 1, "pad": 0,
                          "padded": True, "pads_left": False})
        self.assertIn("tokenizer    unigram, rules hf, 32 entries, end 1, pad 0, padded\n", self.reco("model", "info", model).stdout)
        rows = self.ids(model, "The dog!", "a</s> b")
        self.assertEqual([list(r) for r in rows], [[30, 3, 31, 2, 1] + [0] * 11, [3, 4, 1, 3, 5, 1] + [0] * 10])
        model = self.tokenizer_json({"tokenizer_class": "T5TokenizerFast", "padding_side": "left"})
        self.assertIn("tokenizer    unigram, rules t5, 32 entries, end 1, pad 0, padded on the left\n", self.reco("model", "info", model).stdout)
        self.assertEqual([list(r) for r in self.ids(model, "The dog")], [[0] * 9 + [3, 2, 11, 8, 3, 31, 1]])
        model = self.tokenizer_json({"tokenizer_class": "SiglipTokenizer"})
        self.assertEqual([list(r) for r in self.ids(model, "The, DOG!")], [[30, 3, 31, 1] + [0] * 12])

    def test_tokenizer_json_that_is_wrong(self):
        model = self.tokenizer_json({"tokenizer_class": "TokenizersBackend"}, normalizer={"type": "NFKD"})
        info = self.json("model", "info", model)  # pictures can still be embedded
        self.assertIsNone(info["tokenizer"])
        self.assertIn('tokenizer.json: normalizer: type "NFKD" is not supported', info["guessed"][-1])
        (self.dir / "texts.txt").write_text("a\n")
        self.fails("model", "check", model, "--texts", self.dir / "texts.txt", "--out", self.dir / "check",
                   says=("tokenizer.json", "normalizer", "NFKD"))
        model = self.tokenizer_json({"tokenizer_class": "TokenizersBackend"}, model={"type": "Unigram", "vocab": [["a", "b"]]})
        self.fails("model", "info", model, says=("tokenizer.json", "model.vocab[0]"))
        many = [["</s>" if i == 1 else "<pad>" if i == 0 else f"p{i}", -1] for i in range(161)]
        model = self.tokenizer_json({"tokenizer_class": "T5Tokenizer"}, model={"type": "Unigram", "unk_id": 2, "vocab": many})
        self.fails("model", "info", model, says=("161 entries", "vocab_size 160"))

    def test_added_tokens_beyond_the_vocabulary(self):
        """transformers loads these, and fails on a text with such a token."""
        plain = self.ids(SMALL / "hf-quickgelu", "a <mask> b", "a")
        for change in ({"mask_token": "<mask>"}, {"extra_special_tokens": ["<mask>", "<more>"]}):
            model = self.changed("hf-quickgelu", "tokenizer_config.json", lambda c: c.update(change))
            info = self.json("model", "info", model)
            self.assertEqual(info["tokenizer"]["vocabulary"], 520)
            self.assertIn("beyond vocab_size 520", info["guessed"][-1])
            self.assertEqual(self.ids(model, "a <mask> b", "a"), plain)
        model = self.changed("hf-quickgelu", "tokenizer_config.json", lambda c: c.update(
            pad_token="<pad>", added_tokens_decoder={"520": {"content": "<pad>", "special": True}}))
        self.fails("model", "info", model, says=("entries", "vocab_size 520"))

    def test_hf_tokenizer_name_of_clip(self):
        model = self.copy("openclip-longest")
        config = json.loads((model / "open_clip_config.json").read_text())
        config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "some/where"
        (model / "open_clip_config.json").write_text(json.dumps(config))
        (model / "tokenizer_config.json").write_text(json.dumps(
            {"tokenizer_class": "CLIPTokenizer", "bos_token": "<start_of_text>", "eos_token": "<end_of_text>",
             "unk_token": "<end_of_text>", "pad_token": "!"}))
        self.assertEqual(self.json("model", "info", model)["tokenizer"],
                         {"kind": "bpe", "rules": "open_clip whitespace", "built_in": False, "vocabulary": 520, "bos": 518,
                          "eos": 519, "pad": 0, "padded": False, "pads_left": False})
        rows = self.ids(model, "a &lt;end_of_text&gt;")
        self.assertEqual(list(rows[0])[2:4], [519, 519])  # found whole in a text, which CLIP's own tokenizer does not

    def test_preprocessor_that_is_wrong(self):
        for change, says in ((lambda c: c.update(image_processor_type="ViTImageProcessor"), "ViTImageProcessor"),
                             (lambda c: c.update(size={"height": 24, "width": 25}), "size"),
                             (lambda c: c.update(image_mean=[0.5, "x", 0.5]), "image_mean"),
                             (lambda c: c.update(image_processor_type="Siglip2ImageProcessor"), "Siglip2ImageProcessor"),
                             (lambda c: c.update(size={"shortest_edge": 24, "longest_edge": 30}), "longest_edge"),
                             (lambda c: c.update(size={"height": 24}), "size"), (lambda c: c.update(size={}), "size"),
                             (lambda c: c.update(size="24"), "size"), (lambda c: c.update(size=24), "do_center_crop"),
                             (lambda c: c.update(size={"height": 2**40, "width": 24}), "size"),
                             (lambda c: c.update(do_center_crop=True, crop_size={"height": 24, "width": 25}), "crop_size"),
                             (lambda c: c.update(do_center_crop=True, crop_size={"shortest_edge": 24}), "crop_size"),
                             (lambda c: c.update(rescale_factor="1/255"), "rescale_factor"),
                             (lambda c: c.update(do_resize=False), "do_resize"), (lambda c: c.update(do_pad=True), "do_pad"),
                             (lambda c: c.update(do_resize="yes"), "do_resize"), (lambda c: c.update(resample=1), "resample")):
            with self.subTest(says):
                self.refused("hf-siglip", change, says, file="preprocessor_config.json")


if __name__ == "__main__":
    unittest.main()
