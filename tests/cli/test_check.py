"""reco model check against the goldens, and its ways to fail; also captions that are not UTF-8."""
import json
import os
import shutil
import unittest

from common import MODEL, SOURCE, Case, array, jsonl, npy

SMALL = SOURCE / "tests" / "golden" / "small"
INDEX = json.loads((SMALL / "index.json").read_text())


class Check(Case):
    def setUp(self):
        super().setUp()
        (self.dir / "list.txt").write_text("".join(f"{SMALL / 'images' / name}\n" for name in INDEX["images"]))
        (self.dir / "texts.txt").write_text("".join(t + "\n" for t in INDEX["texts"]), encoding="utf-8")

    def check(self, *more, **options):
        return self.json("model", "check", MODEL, "--out", "c", "--precision", "f32", *more, **options)

    def assert_same_rows(self, ours, golden):
        self.assertEqual(len(ours), len(golden))
        for a, b in zip(ours, golden):
            self.assertGreater(sum(x * y for x, y in zip(a, b)), 0.99999)

    def test_golden(self):
        result = self.check("--images", "list.txt", "--texts", "texts.txt", "--batch", "3")
        self.assertEqual((result["images"], result["texts"], result["failures"], result["repaired"]), (8, 5, 0, 0))
        self.assertEqual(array(self.dir / "c/pixels.npy")[:2], ("<f4", (8, 3, 24, 24)))
        self.assertEqual(array(self.dir / "c/pixels.npy"), array(SMALL / "hf-quickgelu-pixels.npy"))
        ids = json.loads((SMALL / "hf-quickgelu-ids.json").read_text())
        descr, rows = npy(self.dir / "c/ids.npy")
        self.assertEqual(descr, "<i8")
        self.assertEqual([list(r) for r in rows], ids)
        for side in ("image", "text"):
            descr, rows = npy(self.dir / f"c/{side}.npy")
            self.assertEqual(descr, "<f4")
            self.assert_same_rows(rows, npy(SMALL / f"hf-quickgelu-{side}.npy")[1])
        summary = json.loads((self.dir / "c/check.json").read_text(encoding="utf-8"))
        self.assertEqual(summary["images"], [str(SMALL / "images" / name) for name in INDEX["images"]])
        self.assertEqual((summary["texts"], summary["failures"]), (INDEX["texts"], []))
        info = self.json("model", "info", MODEL)
        self.assertEqual({k: summary["model"][k] for k in ("name", "family", "dimensions", "image_size", "context", "fingerprint")},
                         {k: info[k] for k in ("name", "family", "dimensions", "image_size", "context", "fingerprint")})
        self.assertEqual(summary["model"]["precision"], "f32")

    def test_one_side(self):
        self.check("--texts", "texts.txt")
        self.assertEqual(sorted(p.name for p in (self.dir / "c").iterdir()), ["check.json", "ids.npy", "text.npy"])
        self.reco("model", "check", MODEL, "--out", "c", code=2)
        self.reco("model", "check", MODEL, "--texts", "texts.txt", code=2)
        self.reco("model", "check", "--texts", "texts.txt", "--out", "c", code=2)

    def test_failures(self):
        (self.dir / "text.png").write_text("no picture")
        paths = [SMALL / "images" / "rgb.jpg", self.dir / "text.png", SMALL / "images" / "grey.jpg", self.dir / "missing.png"]
        (self.dir / "list.txt").write_text("".join(f"{p}\n" for p in paths))
        result = self.check("--images", "list.txt")
        self.assertEqual((result["images"], result["failures"]), (2, 2))
        summary = json.loads((self.dir / "c/check.json").read_text())
        self.assertEqual(summary["images"], [str(paths[0]), str(paths[2])])
        self.assertEqual([(f["row"], f["item"]) for f in summary["failures"]], [(1, str(paths[1])), (3, str(paths[3]))])
        self.assertEqual([f["item"] for f in result["failed"]], [str(paths[1]), str(paths[3])])
        self.assertEqual(array(self.dir / "c/pixels.npy")[1], (2, 3, 24, 24))
        self.check("--images", "list.txt", "--strict", code=1)

    def test_an_old_summary_goes_first(self):
        self.check("--texts", "texts.txt")
        self.fails("model", "check", MODEL, "--texts", "no-such-file", "--out", "c", says=["no-such-file"])
        self.assertFalse((self.dir / "c/check.json").exists())

    def test_captions_that_are_not_utf8(self):
        raw = [b"plain", b"caf\xe9", b"\xff\xfe", "caf\u00e9".encode(), b"\xe2\x82", b"\xed\xa0\x80x", b"\xf0\x9f\x98 y"]
        texts = [r.decode("utf-8", "replace") for r in raw]  # as Python replaces
        bad = sum(r.decode("utf-8", "ignore") != t for r, t in zip(raw, texts))
        self.assertEqual(bad, 5)
        (self.dir / "raw.txt").write_bytes(b"\n".join(raw))
        (self.dir / "clean.txt").write_text("\n".join(texts), encoding="utf-8")
        result = self.check("--texts", "raw.txt")
        self.assertEqual((result["texts"], result["repaired"]), (7, 5))
        ids = array(self.dir / "c/ids.npy")
        self.assertEqual(json.loads((self.dir / "c/check.json").read_text(encoding="utf-8"))["texts"], texts)
        self.assertEqual(self.check("--texts", "clean.txt")["repaired"], 0)
        self.assertEqual(array(self.dir / "c/ids.npy"), ids)
        done = self.reco("embed", "--model", MODEL, "--texts", "raw.txt", "--out", "e")
        self.assertEqual(done.stderr, "reco: warning: 5 captions are not UTF-8, embedded with U+FFFD for the invalid bytes\n")
        self.assertEqual([row["caption"] for row in jsonl(self.dir / "e/metadata/metadata_0.jsonl")], texts)
        result = self.json("embed", "--model", MODEL, "--texts", "raw.txt", "--out", "e")
        self.assertEqual((result["rows"], result["repaired"]), (7, 5))
        rows = npy(self.dir / "e/text_emb/text_emb_0.npy")
        self.reco("embed", "--model", MODEL, "--texts", "clean.txt", "--out", "f")
        self.assertEqual(npy(self.dir / "f/text_emb/text_emb_0.npy"), rows)

    def test_captions_with_a_nul(self):
        (self.dir / "raw.txt").write_bytes(b"a\nb\0c\nd\n")
        result = self.check("--texts", "raw.txt")
        self.assertEqual((result["texts"], result["failures"]), (2, 1))
        summary = json.loads((self.dir / "c/check.json").read_text(encoding="utf-8"))
        self.assertEqual((summary["texts"], [(f["row"], f["reason"]) for f in summary["failures"]]),
                         (["a", "d"], [(1, "holds a NUL byte")]))

    def test_length_that_is_not_known(self):
        """As transformers writes it, and numbers in text and numbers that are none of the kind."""
        shutil.copytree(MODEL, self.dir / "m")
        path = self.dir / "m" / "tokenizer_config.json"
        config = json.loads(path.read_text()) if path.exists() else {}
        self.check("--texts", "texts.txt")
        ids = array(self.dir / "c/ids.npy")
        for more in ({"model_max_length": 1000000000000000019884624838656}, {"a": [-10**30, 1.5, 10.0**40, "\\\"", 10**18, "9" * 30]}):
            path.write_text(json.dumps(dict(config, **more)))
            self.json("model", "check", "m", "--out", "c", "--precision", "f32", "--texts", "texts.txt")
            self.assertEqual(array(self.dir / "c/ids.npy"), ids)

    def test_tokens_that_were_added(self):
        """vocab.json without its last token, which tokenizer_config.json adds, as transformers 4 saves it."""
        shutil.copytree(MODEL, self.dir / "m")
        (self.dir / "m" / "tokenizer.json").unlink(missing_ok=True)
        path, vocabulary = self.dir / "m" / "tokenizer_config.json", self.dir / "m" / "vocab.json"
        config, vocab = json.loads(path.read_text()), json.loads(vocabulary.read_text())
        (self.dir / "texts.txt").write_text("a cat\na <|endoftext|> b\n")
        self.check("--texts", "texts.txt")
        ids = array(self.dir / "c/ids.npy")
        last = vocab.pop("<|endoftext|>")
        self.assertEqual(last, len(vocab))
        vocabulary.write_text(json.dumps(vocab))
        for key, code in ((last, 0), (3, 1), ("x", 1)):
            config["added_tokens_decoder"] = {key: {"content": "<|endoftext|>", "normalized": False, "special": True}}
            path.write_text(json.dumps(config))
            command = ["model", "check", "m", "--out", "c", "--precision", "f32", "--texts", "texts.txt"]
            if code:
                self.fails(*command, says=("tokenizer_config.json: added_tokens_decoder", "<|endoftext|>", str(key)))
            else:
                self.reco(*command)
                self.assertEqual(array(self.dir / "c/ids.npy"), ids)
                self.assertEqual(self.json("model", "info", "m")["tokenizer"]["vocabulary"], last + 1)

    def test_names_that_are_not_utf8(self):
        shutil.copytree(MODEL, self.dir / os.fsdecode(b"m\xff"))
        pictures = os.fsdecode(b"i\xff")
        (self.dir / pictures).mkdir()
        shutil.copy(SMALL / "images" / "rgb.jpg", self.dir / pictures / os.fsdecode(b"p\xff.jpg"))
        self.assertEqual(self.json("model", "info", os.fsdecode(b"m\xff"))["name"], "m\ufffd")
        result = self.json("model", "check", os.fsdecode(b"m\xff"), "--images", pictures, "--out", os.fsdecode(b"o\xff"))
        self.assertEqual((result["images"], result["out"]), (1, "o\ufffd"))
        summary = json.loads((self.dir / os.fsdecode(b"o\xff") / "check.json").read_text(encoding="utf-8"))
        self.assertEqual((summary["model"]["name"], summary["images"]), ("m\ufffd", ["i\ufffd/p\ufffd.jpg"]))
        result = self.json("embed", "--model", MODEL, "--images", pictures, "--out", os.fsdecode(b"e\xff"))
        self.assertEqual(result["out"], "e\ufffd")


if __name__ == "__main__":
    unittest.main()
