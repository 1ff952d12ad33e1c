"""Who made embeddings: reco.json, --encoder, and what is refused for it."""
import json
import math
import random
import shutil
import unittest

from common import MODEL, OTHER_MODEL, HOOK, Case, npy, write_npy


class Provenance(Case):
    def setUp(self):
        super().setUp()
        self.pictures(6)
        (self.dir / "texts.txt").write_text("".join(f"thing {i}\n" for i in range(6)))

    def embed(self, out, model=MODEL, sides=("images", "texts"), **options):
        for side in sides:
            self.reco("embed", "--model", model, f"--{side}", "pictures" if side == "images" else "texts.txt", "--out", out, **options)

    def says(self, folder):
        return json.loads((self.dir / folder / "reco.json").read_text())

    def test_embed_says_who_made_it(self):
        self.embed("e", sides=["images"])
        one = self.says("e")
        self.assertEqual((one["format"], one["encoder"], one["dimensions"], one["sides"]), ("reco-embeddings-1", "hf-quickgelu", 16, ["image"]))
        self.assertEqual(one["fingerprint"], self.json("model", "info", MODEL)["fingerprint"])
        self.assertEqual(list(one["precision"]), ["image"])
        self.assertGreater(one["logit_scale"], 0)
        self.reco("embed", "--model", MODEL, "--texts", "texts.txt", "--out", "e", "--precision", "f32")
        both = self.says("e")
        self.assertEqual((both["sides"], both["precision"]["text"]), (["image", "text"], "f32"))
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        info = self.json("bank", "info", "b")
        self.assertEqual((info["encoder"], info["fingerprint"]), ("hf-quickgelu", one["fingerprint"]))
        self.assertEqual([r["meta"] for r in self.rows("b")], [None] * 6)  # no key of ours among the user's

    def test_two_sides_of_two_models(self):
        self.embed("e", sides=["images"])
        before = (self.dir / "e/img_emb/img_emb_0.npy").read_bytes()
        self.fails("embed", "--model", OTHER_MODEL, "--texts", "texts.txt", "--out", "e", says=["hf-quickgelu", "hf-gelu-bf16"])
        self.assertFalse((self.dir / "e/text_emb").exists())
        # The one side alone may be made anew by another model: then the folder is of that one.
        self.embed("e", OTHER_MODEL, ["images"])
        self.assertNotEqual(before, (self.dir / "e/img_emb/img_emb_0.npy").read_bytes())
        self.assertEqual(self.says("e")["encoder"], "hf-gelu-bf16")

    def test_another_model_is_refused(self):
        self.embed("e")
        self.embed("o", OTHER_MODEL)
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        both = ["hf-quickgelu", "hf-gelu-bf16"]
        self.fails("bank", "add", "--embeddings", "o", "b", says=both)
        self.fails("refine", "--bank", "b", "--fusion", "mean", "--embeddings", "o", "--out", "r", says=both)
        self.assertFalse((self.dir / "r").exists())
        self.fails("train", "--bank", "b", "--embeddings", "o", "--out", "f.safetensors", says=both)
        for query in ("o/img_emb/img_emb_0.npy", "o/q.npy"):
            if query.endswith("q.npy"):
                shutil.copy(self.dir / "o/img_emb/img_emb_0.npy", self.dir / query)
            self.fails("search", "--bank", "b", "--queries", query, "--side", "image", "--out", "h", says=both)
        self.reco("search", "--bank", "b", "--queries", "e/img_emb/img_emb_0.npy", "--side", "image", "--out", "h")
        self.reco("bank", "build", "--embeddings", "o", "--out", "ob")
        self.fails("train", "--bank", "b", "--embeddings", "ob", "--out", "f.safetensors", says=both)
        self.reco("refine", "--bank", "b", "--fusion", "mean", "--embeddings", "e", "--out", "r")
        self.assertEqual(self.says("r")["encoder"], "hf-quickgelu")
        self.assertEqual(self.says("r")["refined"], ["image", "text"])
        again = self.reco("refine", "--bank", "b", "--fusion", "mean", "--embeddings", "r", "--out", "rr")
        self.assertIn("was already refined", again.stderr)
        for command in (["build", "--out", "of-refined"], ["add", "of-refined"]):
            self.assertIn("r: was refined; a bank needs", self.reco("bank", *command, "--embeddings", "r").stderr)

    def test_told(self):
        """--encoder for what was made elsewhere: a name, or a model folder with its fingerprint."""
        self.embed("e")
        (self.dir / "e/reco.json").unlink()
        self.reco("bank", "build", "--embeddings", "e", "--encoder", "ViT-B-32/openai", "--out", "named")
        info = self.json("bank", "info", "named")
        self.assertEqual((info["encoder"], info["fingerprint"]), ("ViT-B-32/openai", ""))
        self.reco("bank", "build", "--embeddings", "e", "--encoder", MODEL, "--out", "known")
        info = self.json("bank", "info", "known")
        self.assertEqual((info["encoder"], info["fingerprint"]), ("hf-quickgelu", self.json("model", "info", MODEL)["fingerprint"]))
        self.fails("search", "--model", OTHER_MODEL, "--bank", "known", "--text", "x", says=["hf-quickgelu", "hf-gelu-bf16"])
        for bank, encoder in (("named", "ViT-L-14"), ("known", OTHER_MODEL), ("known", "ViT-L-14")):
            self.fails("bank", "add", "--embeddings", "e", "--encoder", encoder, bank, says=[encoder if encoder != OTHER_MODEL else "hf-gelu-bf16"])
            self.fails("refine", "--bank", bank, "--fusion", "mean", "--embeddings", "e", "--encoder", encoder, "--out", "r", says=["encoder"])
            self.fails("train", "--bank", bank, "--embeddings", "e", "--encoder", encoder, "--out", "f", says=["encoder"])
            self.fails("search", "--bank", bank, "--queries", "e/text_emb/text_emb_0.npy", "--side", "text", "--out", "h", "--encoder",
                       encoder, says=["encoder"])
        self.reco("refine", "--bank", "named", "--fusion", "mean", "--embeddings", "e", "--encoder", "vit-b-32/openai", "--out", "r")
        self.assertEqual(self.says("r")["encoder"], "vit-b-32/openai")
        # Whether a model is the one that a name speaks of can't be told: a warning.
        done = self.reco("search", "--model", MODEL, "--bank", "named", "--text", "x")
        self.assertIn("the bank records only its encoder's name, \"ViT-B-32/openai\"", done.stderr)
        self.fails("bank", "build", "--embeddings", "e", "--encoder", "./nowhere", "--out", "n", says=["./nowhere", "no such model folder"])
        self.reco("bank", "build", "--pairs", "p.csv", "--model", "m", "--encoder", "x", "--out", "n", code=2)

    def test_told_otherwise(self):
        self.embed("e")
        self.fails("bank", "build", "--embeddings", "e", "--encoder", "ViT-L-14", "--out", "b", says=["reco.json", "hf-quickgelu", "ViT-L-14"])
        (self.dir / "e/reco.json").write_text('{"format": "reco-embeddings-9"}')
        self.fails("bank", "build", "--embeddings", "e", "--out", "b", says=["reco-embeddings-9"])
        (self.dir / "e/reco.json").write_text('{"format": "reco-embeddings-1", "encoder": 3}')
        self.fails("bank", "build", "--embeddings", "e", "--out", "b", says=["e/reco.json", "damaged"])
        (self.dir / "e/reco.json").write_text('{"of": "another program"}')
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")

    def test_export(self):
        self.embed("e")
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        self.reco("bank", "export", "b", "--out", "x")
        self.assertEqual((self.says("x")["format"], self.says("x")["rows"], self.says("x")["sides"]), ("reco-export-1", 6, ["image", "text"]))
        self.fails("embed", "--model", MODEL, "--texts", "texts.txt", "--out", "x", says=["export of a bank"])
        self.reco("refine", "--bank", "b", "--fusion", "none", "--embeddings", "x", "--out", "r")
        self.assertEqual(self.says("r"), self.says("x"))
        self.reco("bank", "build", "--embeddings", "r", "--out", "c")
        self.assertEqual(self.rows("c"), self.rows("b"))

    @unittest.skipUnless(HOOK, "the library of faults is not there")
    def test_killed(self):
        """Wherever embed is killed, reco.json never speaks of rows of another model."""
        def state():
            file = self.dir / "k/reco.json"
            rows = self.dir / "k/img_emb/img_emb_0.npy"
            return (json.loads(file.read_text())["encoder"] if file.exists() else None), rows.read_bytes() if rows.exists() else None

        want = {}
        for model in (MODEL, OTHER_MODEL):
            self.embed("k", model, ["images"])
            want[state()[0]] = state()[1]
        seen = set()
        for kind in ("rename", "unlink", "sync"):
            for n in range(60):
                shutil.rmtree(self.dir / "k")
                self.embed("k", MODEL, ["images"])
                ended = self.crashed(f"{kind}:{n}:kill", ["embed", "--model", OTHER_MODEL, "--images", "pictures", "--out", "k"])
                encoder, rows = state()
                seen.add(encoder)
                if encoder:
                    self.assertEqual(rows, want[encoder], (kind, n))
                if ended.returncode == 0:
                    break
        self.assertEqual(seen, {"hf-quickgelu", "hf-gelu-bf16", None})


class Concat(Case):
    D = 6

    def setUp(self):
        super().setUp()
        rng = random.Random(1)
        self.sides = {s: [[rng.gauss(0, 1) for _ in range(self.D)] for _ in range(40)] for s in ("img", "text")}
        self.sides = {s: [[x / math.sqrt(sum(y * y for y in r)) for x in r] for r in rows] for s, rows in self.sides.items()}
        for side, rows in self.sides.items():
            write_npy(self.dir / f"e/{side}_emb/{side}_emb_0.npy", rows)
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        self.refine = ["refine", "--bank", "b", "--fusion", "mean", "--embeddings", "e", "--out"]

    def rows_of(self, folder, side):
        return npy(self.dir / folder / f"{side}_emb/{side}_emb_0.npy")[1]

    def test_inner_products(self):
        """Those of the concatenated are the mixture of the cosines; rows keep norm 1, and the two halves are what they are said
        to be."""
        dot = lambda x, y: sum(a * b for a, b in zip(x, y))
        for sides in ("image", "both", "none"):
            self.reco(*self.refine, "r", "--refine", sides)
            for weight in (0, 0.3, 1):
                done = self.json(*self.refine, "c", "--refine", sides, f"--concat={weight}")
                self.assertAlmostEqual(done["concat"], weight, places=6)
                for i in range(0, 40, 7):
                    v, t = self.sides["img"][i], self.sides["text"][39 - i]
                    v2, t2 = self.rows_of("r", "img")[i], self.rows_of("r", "text")[39 - i]
                    x, y = self.rows_of("c", "img")[i], self.rows_of("c", "text")[39 - i]
                    self.assertEqual(len(x), 2 * self.D)
                    self.assertAlmostEqual(dot(x, y), weight * dot(v, t) + (1 - weight) * dot(v2, t2), places=5)
                    self.assertAlmostEqual(dot(x, x), 1, places=5)
                    self.assertAlmostEqual(x[0], math.sqrt(weight) * v[0], places=5)
        says = json.loads((self.dir / "c/reco.json").read_text())
        self.assertEqual((says["concat"], says["dimensions"], says["sides"]), (1, 2 * self.D, ["image", "text"]))
        self.assertIsNone(self.json(*self.refine, "r")["concat"])
        self.assertIn("A = 0.25", self.reco(*self.refine, "c", "--concat", "0.25").stdout)
        # A row that is none keeps its values, and is reported.
        write_npy(self.dir / "z/img_emb/img_emb_0.npy", [self.sides["img"][0], [0.0] * self.D])
        done = self.json("refine", "--bank", "b", "--fusion", "mean", "--embeddings", "z", "--out", "y", "--concat=0.5")
        self.assertEqual((done["failures"], self.rows_of("y", "img")[1]), (1, (0.0,) * 12))

    def test_refused_by_readers(self):
        """Nothing reads twice the width as embeddings of the encoder, whatever it says of that."""
        self.reco(*self.refine, "c", "--concat=0.5")
        says = ["c", "--concat"]
        self.fails("bank", "build", "--embeddings", "c", "--out", "n", says=says)
        self.assertFalse((self.dir / "n").exists())
        self.fails("bank", "add", "--embeddings", "c", "b", says=says)
        self.fails("refine", "--bank", "b", "--fusion", "mean", "--embeddings", "c", "--out", "n", says=says)
        self.fails("train", "--bank", "b", "--embeddings", "c", "--out", "n", says=says)
        self.fails("search", "--bank", "b", "--queries", "c/img_emb/img_emb_0.npy", "--side", "image", "--out", "n", says=says)
        (self.dir / "texts.txt").write_text("a\n")
        self.fails("embed", "--model", MODEL, "--texts", "texts.txt", "--out", "c", says=says)
        self.assertFalse((self.dir / "n").exists())
        # Written over without it, the folder is as any other.
        self.reco(*self.refine, "c")
        self.reco("bank", "build", "--embeddings", "c", "--out", "n")

    def test_usage(self):
        self.fails(*self.refine, "c", "--concat", says=["mean", "--concat=A"])
        self.assertFalse((self.dir / "c").exists())
        for bad in (["--concat=1.5"], ["--concat=x"], ["--concat", "-0.1"], ["0.5"], ["--concat=0.5", "0.5"]):
            self.reco(*self.refine, "c", *bad, code=2)


class Types(Case):
    def test_refine_keeps_types_and_rows(self):
        self.pictures(5)
        (self.dir / "texts.txt").write_text("".join(f"thing {i}\n" for i in range(5)))
        self.reco("embed", "--model", MODEL, "--images", "pictures", "--out", "e")
        self.reco("embed", "--model", MODEL, "--texts", "texts.txt", "--out", "e", "--dtype", "float32")
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        for options, types in (([], ("<f2", "<f4")), (["--dtype", "float32"], ("<f4", "<f4")), (["--dtype", "float16"], ("<f2", "<f2"))):
            self.reco("refine", "--bank", "b", "--fusion", "mean", "--embeddings", "e", "--out", "r", *options)
            self.assertEqual((npy(self.dir / "r/img_emb/img_emb_0.npy")[0], npy(self.dir / "r/text_emb/text_emb_0.npy")[0]), types)
        # What nothing changes has the same bytes, whatever its norm.
        write_npy(self.dir / "raw/img_emb/img_emb_0.npy", [[3.0] + [0.5] * 15])
        self.reco("refine", "--bank", "b", "--fusion", "mean", "--embeddings", "raw", "--out", "s", "--min-similarity", 1)
        self.assertEqual((self.dir / "s/img_emb/img_emb_0.npy").read_bytes()[-64:], (self.dir / "raw/img_emb/img_emb_0.npy").read_bytes()[-64:])


if __name__ == "__main__":
    unittest.main()
