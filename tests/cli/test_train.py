import json
import math
import random
import unittest

from common import MODEL, OTHER_MODEL, Case, checkpoint, jsonl, npy, write_npy


def unit(row):
    norm = math.sqrt(sum(x * x for x in row))
    return [x / norm for x in row]


class Train(Case):
    def world(self, n, concepts, folder, seed=0, width=32):
        """Pairs whose picture and caption share a concept; captions say it badly, so the memory helps."""
        base = random.Random(99)
        centres = [[[base.gauss(0, 1) for _ in range(width)] for _ in range(2)] for _ in range(concepts)]
        rng = random.Random(seed)
        images, texts = [], []
        for i in range(n):
            shared, private = centres[i % concepts]
            images.append(unit([s + 0.5 * rng.gauss(0, 1) for s in shared]))
            texts.append(unit([0.25 * s + p + 0.2 * rng.gauss(0, 1) for s, p in zip(shared, private)]))
        write_npy(self.dir / folder / "img_emb/img_emb_0.npy", images)
        write_npy(self.dir / folder / "text_emb/text_emb_0.npy", texts)

    def test_train_and_refine(self):
        self.world(240, 60, "e")
        self.world(60, 60, "held", seed=5)
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        made = self.json("train", "--bank", "b", "--out", "f.safetensors", "--steps", "100")
        self.assertEqual((made["layer"], made["pairs"]), ("relational", 240))
        self.assertIn(made["refine"], ("none", "image", "text", "both"))
        same = self.json("train", "--bank", "b", "--out", "g.safetensors", "--steps", "100")
        self.assertEqual(made["loss"], same["loss"])
        self.assertEqual((self.dir / "f.safetensors").read_bytes(), (self.dir / "g.safetensors").read_bytes())
        self.json("refine", "--bank", "b", "--fusion", "f.safetensors", "--embeddings", "held", "--out", "r", "--refine", "both")
        for side in ("img_emb/img_emb_0.npy", "text_emb/text_emb_0.npy"):
            before, after = npy(self.dir / "held" / side), npy(self.dir / "r" / side)
            self.assertEqual((after[0], len(after[1])), (before[0], 60))
            self.assertNotEqual(before[1], after[1])
            for row in after[1]:
                self.assert_unit(row, digits=5)
        self.json("refine", "--bank", "b", "--fusion", "f.safetensors", "--embeddings", "held", "--out", "t", "--refine", "text")
        self.assertEqual(npy(self.dir / "held/img_emb/img_emb_0.npy"), npy(self.dir / "t/img_emb/img_emb_0.npy"))
        self.assertEqual(npy(self.dir / "r/text_emb/text_emb_0.npy"), npy(self.dir / "t/text_emb/text_emb_0.npy"))

    def test_rows_that_are_not_finite(self):
        self.world(40, 20, "e")
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        rows = npy(self.dir / "e/img_emb/img_emb_0.npy")[1]
        rows[3] = (math.nan,) * 32
        write_npy(self.dir / "e/img_emb/img_emb_0.npy", rows)
        done = self.reco("train", "--bank", "b", "--embeddings", "e", "--layer", "weighted", "--out", "f", "--json")
        self.assertEqual(json.loads(done.stdout)["pairs"], 39)
        self.assertIn("reco: warning: e: 1 of 40 rows are zero or not finite, and left out", done.stderr)

    def test_refine_of_nothing(self):
        self.world(40, 20, "e")
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        for side in ("img_emb", "text_emb"):
            write_npy(self.dir / f"zero/{side}/{side}_0.npy", [[0.0] * 32] * 3)
        self.fails("refine", "--bank", "b", "--fusion", "mean", "--embeddings", "zero", "--out", "r",
                   says=["zero: no row can be refined: each is zero or not finite"])
        self.assertFalse((self.dir / "r").exists())

    def test_threads_change_no_byte(self):
        self.world(150, 50, "e")
        self.world(53, 50, "held", seed=5)
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        for layer in ("relational", "transformer", "weighted", "mlp"):
            for threads in ("1", "2"):
                self.json("train", "--bank", "b", "--layer", layer, "--out", f"{layer}.{threads}", "--steps", "5", "--threads", threads)
            self.assertEqual((self.dir / f"{layer}.1").read_bytes(), (self.dir / f"{layer}.2").read_bytes(), layer)
        for fusion in ("relational.1", "transformer.1", "mlp.1", "weighted", "mean", "vote"):
            refined = []
            for threads in ("1", "2"):
                out = self.dir / f"{fusion}-{threads}"
                self.json("refine", "--bank", "b", "--fusion", fusion, "--embeddings", "held", "--out", out, "--refine", "both",
                          "--threads", threads)
                refined.append([(out / f"{side}_emb/{side}_emb_0.npy").read_bytes() for side in ("img", "text")])
            self.assertEqual(refined[0], refined[1], fusion)

    def metadata(self, folder, records):
        (self.dir / folder / "metadata").mkdir(exist_ok=True)
        (self.dir / folder / "metadata/metadata_0.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")

    def trained(self, folder, own):
        """Checkpoint and figures of training on a folder of embeddings, or on a bank of it, its own rows."""
        if own:
            self.reco("bank", "build", "--embeddings", folder, "--out", f"{folder}.bank", "--several-captions")
        made = self.json("train", "--bank", f"{folder}.bank" if own else "b", *([] if own else ["--embeddings", folder]), "--steps", "20",
                         "--out", "f.safetensors", "--fresh")
        return checkpoint(self.dir / "f.safetensors"), made["recall_at_1"]

    def test_same_caption(self):
        """Captions are one when only case, blanks or the Unicode form tell them apart, or when their embeddings are equal."""
        self.world(60, 60, "m")
        self.reco("bank", "build", "--embeddings", "m", "--out", "b")
        spelt = {
            "plain": lambda i: f"caf\u00e9 {i % 20}",
            "case": lambda i: f"CAF\u00c9 {i % 20}" if i >= 20 else f"caf\u00e9 {i % 20}",
            "blanks": lambda i: f" caf\u00e9\u00a0\t{i % 20} \n" if i >= 20 else f"caf\u00e9 {i % 20}",
            "form": lambda i: f"cafe\u0301 {i % 20}" if i >= 20 else f"caf\u00e9 {i % 20}",
            "other": lambda i: f"caf\u00e9 {i}",
        }
        for own in (False, True):
            results = {}
            for name, spell in spelt.items():
                self.world(60, 20, name, seed=1)
                self.metadata(name, [{"caption": spell(i)} for i in range(60)])
                results[name] = self.trained(name, own)
            for name in ("case", "blanks", "form"):
                self.assertEqual(results[name], results["plain"], name)
            self.assertNotEqual(results["other"], results["plain"])  # the test would be void else
        # Equal embeddings, as the tokenizer's cut makes them: what the metadata say does not matter, nor that there are none.
        for own in (False, True):
            results = []
            for name, caption in (("with", "same {0}"), ("long", "same {0}, and so on, longer than the context {1}"), ("none", None)):
                name += str(own)
                self.world(60, 20, name, seed=1)
                texts = npy(self.dir / name / "text_emb/text_emb_0.npy")[1]
                write_npy(self.dir / name / "text_emb/text_emb_0.npy", [texts[i % 20] for i in range(60)])
                if caption:
                    self.metadata(name, [{"caption": caption.format(i % 20, i)} for i in range(60)])
                results.append(self.trained(name, own))
            self.assertEqual(results[0], results[1])
            self.assertEqual(results[0], results[2])

    def test_own_rows_are_judged_as_in_use(self):
        """The memory keeps the other rows of a held-out caption, all captions are candidates, and the way that rows came does not
        matter."""
        self.world(120, 30, "e", seed=1)
        texts = npy(self.dir / "e/text_emb/text_emb_0.npy")[1]
        texts = [texts[i % 30] for i in range(120)]
        write_npy(self.dir / "e/text_emb/text_emb_0.npy", texts)
        images = npy(self.dir / "e/img_emb/img_emb_0.npy")[1]
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        made = {}
        for name, options in (("own", []), ("embeddings", ["--embeddings", "e"])):
            made[name] = self.json("train", "--bank", "b", *options, "--steps", "50", "--out", "f.safetensors", "--fresh")
        cosine = [[sum(a * b for a, b in zip(image, text)) for text in texts[:30]] for image in images]
        hits = sum(max(range(30), key=row.__getitem__) == i % 30 for i, row in enumerate(cosine))
        for i in range(120):  # of the pictures, those of the same caption are neither right nor wrong
            hits += all(cosine[j][i % 30] < cosine[i][i % 30] for j in range(120) if j % 30 != i % 30)
        for result in made.values():
            self.assertAlmostEqual(result["recall_at_1"]["clip"], 100 * hits / 240, delta=0.5)
            self.assertGreater(result["recall_at_1"]["both"], result["recall_at_1"]["clip"] + 10)
            self.assertEqual(result["refine"], "both")
            self.assertLess(result["mixture"]["clip"], 1)
            self.assertLess(result["concat"], 1)
        done = self.json("refine", "--bank", "b", "--fusion", "f.safetensors", "--embeddings", "e", "--out", "c", "--concat")
        self.assertEqual(done["concat"], made["embeddings"]["concat"])
        for sides in ("image", "text", "both"):
            self.assertAlmostEqual(made["own"]["recall_at_1"][sides], made["embeddings"]["recall_at_1"][sides], delta=3)

    def test_same_picture(self):
        """Rows of one picture, by name or by equal embeddings, are neither negatives nor wrong answers, and never retrieved."""
        self.world(60, 60, "m")
        self.reco("bank", "build", "--embeddings", "m", "--out", "b")
        for own in (False, True):
            results = []
            for name, record in (("named", lambda i: {"caption": f"c {i}", "image_path": f"{i % 20}.png"}),
                                 ("equal", lambda i: {"caption": f"c {i}"})):
                name += str(own)
                self.world(60, 20, name, seed=1)
                images = npy(self.dir / name / "img_emb/img_emb_0.npy")[1]
                write_npy(self.dir / name / "img_emb/img_emb_0.npy", [images[i % 20] for i in range(60)])
                self.metadata(name, [record(i) for i in range(60)])
                results.append(self.trained(name, own))
            self.assertEqual(results[0], results[1])
            self.world(60, 20, "alone", seed=1)
            self.metadata("alone", [{"caption": f"c {i}", "image_path": f"{i}.png"} for i in range(60)])
            self.assertNotEqual(self.trained("alone", own), results[0])

    def test_limits(self):
        self.world(12, 12, "e")
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        train = ["train", "--bank", "b", "--steps", "5", "--seed", "1"]
        done = self.reco(*train, "--out", "f.safetensors", "-k", "1000")
        self.assertIn("k = 1000 is lowered to 11, the number of neighbours that the bank can supply", done.stderr)  # a pair does not retrieve itself
        self.reco(*train, "--out", "g.safetensors", "-k", "11")
        self.assertEqual(checkpoint(self.dir / "f.safetensors"), checkpoint(self.dir / "g.safetensors"))
        done = self.reco(*train, "--embeddings", "e", "--out", "h.safetensors", "-k", "1000")
        self.assertIn("lowered to 12", done.stderr)
        self.reco(*train, "--out", "f.safetensors", "--validation", "0.5")
        for bad in ("0.51", "0.9", "0.005"):
            done = self.reco(*train, "--out", "f.safetensors", "--validation", bad, code=2)
            self.assertIn(f"--validation = {bad}, want 0.01..0.5", done.stderr)

    def provenance(self, path):
        content = (self.dir / path).read_bytes()
        header = json.loads(content[8:8 + int.from_bytes(content[:8], "little")])
        told = json.loads(header["__metadata__"]["provenance"])
        return told, json.loads(told["options"])

    def test_every_option_is_kept(self):
        self.world(60, 20, "e")
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        train = ["train", "--bank", "b", "--steps", "5", "--batch", "20"]
        given = {"k": 4, "lr": 0.002, "weight_decay": 0.25, "warmup": 0.5, "clip": 0.75, "neighbour_dropout": 0.3,
                 "max_similarity": 0.99, "min_similarity": 0.125, "validation": 0.25, "scale": 30.0, "seed": "7", "layers": 2,
                 "heads": 4, "mlp": 48, "refine": "text", "search": "cross", "fuse": "uni"}
        words = [word for name, value in given.items() for word in ("--" + name.replace("_", "-"), str(value))]
        self.json(*train, "--out", "f", "--layer", "transformer", "--no-scores", "--rotate", *words)
        told, options = self.provenance("f")
        self.assertEqual(options, given | {"layer": "transformer", "steps": 5, "batch": 20, "scores": False, "rotate": True,
                                           "hidden": 32})
        self.assertEqual(told["command"], " ".join(["reco", *train, "--layer", "transformer", "--no-scores", "--rotate", *words]))
        self.json(*train, "--out", "g", "--hidden", "16", "--warmup", "0", "--clip", "0", "--thr", "1", "--fresh", "--log=g.jsonl")
        again, options = self.provenance("g")
        self.assertEqual((options["hidden"], options["warmup"], options["clip"]), (16, 0, 0))
        self.assertEqual(again["command"], " ".join(["reco", *train, "--hidden 16 --warmup 0 --clip 0"]))
        self.assertEqual(told["data"], again["data"])
        self.world(60, 20, "other", seed=1)
        self.json(*train, "--out", "h", "--embeddings", "other")
        self.assertNotEqual(self.provenance("h")[0]["data"], told["data"])
        for option, bad, want in (("warmup", "1.5", "0..1"), ("clip", "-1", "0..1e+09"), ("layers", "65", "1..64"), ("mlp", "0", "1..1048576"),
                                  ("hidden", "4097", "1..4096"), ("scale", "nan", "0.01..1e+06"), ("weight-decay", "11", "0..10"),
                                  ("lr", "0", "1e-09..10")):
            done = self.reco(*train, "--out", "bad", f"--{option}", bad, code=2)
            self.assertIn(f"--{option} = {bad}, want {want}", done.stderr)
        self.assertFalse((self.dir / "bad").exists())

    def test_log(self):
        self.world(60, 20, "e")
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        made = self.json("train", "--bank", "b", "--steps", "10", "--out", "f", "--log", "log.jsonl")
        lines = jsonl(self.dir / "log.jsonl")
        self.assertEqual((lines[0]["event"], lines[-1]["event"]), ("start", "end"))
        self.assertEqual((lines[0]["pairs"], lines[0]["options"]["steps"]), (60, 10))
        steps = [line for line in lines if line["event"] == "step"]
        self.assertEqual([(s["run"], s["step"]) for s in steps],
                         [(run, step) for step in range(1, 11) for run in range(6)])
        self.assertAlmostEqual(steps[-1]["loss"], made["loss"], places=12)
        for step in steps:
            self.assertGreater(step["gradient_norm"], 0)
            self.assertTrue(0 < step["scale"] <= 100.001 and 0 <= step["lr"] <= 0.01)
        checks = [line for line in lines if line["event"] == "validation"]
        self.assertEqual([(c["run"], c["step"]) for c in checks], [(run, 10 * (i + 1) // 8) for i in range(8) for run in range(5)])
        for side in ("clip", "image", "text", "both"):
            at = [c for c in checks if c["step"] == made["best_step"]]
            self.assertAlmostEqual(sum(c["recall_at_1"][side] * c["pairs"] for c in at) / 60, made["recall_at_1"][side], places=4)
        self.assertEqual(lines[-1]["refine"], made["refine"])
        seconds = [line["seconds"] for line in lines]
        self.assertEqual(seconds, sorted(seconds))
        self.json("train", "--bank", "b", "--steps", "5", "--out", "f", "--log", "log.jsonl")  # another training: a log of its own
        self.assertEqual(jsonl(self.dir / "log.jsonl")[0]["options"]["steps"], 5)
        self.json("train", "--bank", "b", "--layer", "weighted", "--out", "f", "--log", "log.jsonl")
        self.assertEqual([line["event"] for line in jsonl(self.dir / "log.jsonl")], ["start", "end"])
        made = self.json("train", "--bank", "b", "--layer", "transformer", "--heads", "4", "--steps", "100", "--out", "f", "--log", "log.jsonl")
        checks = [line["step"] for line in jsonl(self.dir / "log.jsonl") if line["event"] == "validation"]
        self.assertEqual(checks, [3, 6, 12, 25, 37, 50, 62, 75, 87, 100][:len(checks)])
        stops = [step for step in checks if step >= 25 and step >= 8 * made["best_step"]] + [100]
        self.assertIn(made["best_step"], checks)
        self.assertEqual(checks[-1], stops[0])
        (self.dir / "folder").mkdir()
        for log, says in (("folder", "folder"), ("no/such/log", "no/such"), ("b", "b"), ("f", "--log and --out are the same file")):
            before = (self.dir / "f").read_bytes()
            self.fails("train", "--bank", "b", "--steps", "5", "--out", "f", "--log", log, says=[says])
            self.assertEqual((self.dir / "f").read_bytes(), before)

    def test_auto_compares(self):
        """Each layer fares as it does alone, and the one stays that no other is clearly better than."""
        self.world(150, 50, "e")
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        train = ["train", "--bank", "b", "--steps", "24"]
        made = [self.json(*train, "--layer", "auto", "--out", f"a{threads}", "--threads", threads, "--log", "log") for threads in (1, 2)]
        self.assertEqual((self.dir / "a1").read_bytes(), (self.dir / "a2").read_bytes())
        rows, best = made[0]["layers"], None
        self.assertEqual([row["layer"] for row in rows], ["relational", "weighted", "transformer"])
        for row in rows:
            alone = self.json(*train, "--layer", row["layer"], "--out", row["layer"])
            self.assertEqual([row[key] for key in ("refine", "pairs", "best_step")],
                             [alone[key] for key in ("refine", "validation_pairs", "best_step")])
            self.assertEqual("against" in row, best is not None)
            if best:
                self.assertEqual((row["against"], row["common"]), (best, min(row["pairs"], 150)))
            if not best or (row["refine"] != "none" and row["gain"] > row["error"] and row["gain"] >= 0.004):
                best = row["layer"]
            self.assertEqual([line["event"] for line in jsonl(self.dir / f"log.{row['layer']}")][0], "start")
        self.assertEqual(made[0]["layer"], best)
        self.assertEqual(checkpoint(self.dir / "a1"), checkpoint(self.dir / best))
        self.assertEqual([p.name for p in self.dir.iterdir() if "state" in p.name], [])
        table = self.reco(*train, "--layer", "auto", "--out", "a", "--quiet").stdout.splitlines()
        self.assertEqual([line.split()[0] for line in table[:4]], ["layer", "relational", "weighted", "transformer"])
        self.assertRegex(table[2], r"^weighted +\S+ +150 +0\.\d{4} +0\.\d{4} +\d+\.\d  relational: [+-]\d\.\d{4}, error \d\.\d{4}, on 150 pairs$")

    def test_validation_pairs(self):
        """They are what is judged on; all the others are trained on."""
        self.world(120, 30, "e")
        self.world(40, 30, "val", seed=5)
        self.world(30, 30, "few", seed=6)
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        for name, options in (("own", []), ("embeddings", ["--embeddings", "e"])):
            for layer in ("relational", "transformer", "weighted"):
                made = self.json("train", "--bank", "b", *options, "--val-embeddings", "val", "--layer", layer, "--steps", "30",
                                 "--out", f"{name}.{layer}", "--log", "log")
                self.assertEqual((made["pairs"], made["validation_pairs"]), (120, 40))
                if layer == "relational":  # trained once, and judged as it is
                    steps = [(s["run"], s["step"]) for s in jsonl(self.dir / "log") if s["event"] == "step"]
                    self.assertEqual(steps, [(0, i + 1) for i in range(30)])
                    self.assertGreater(made["recall_at_1"]["both"], made["recall_at_1"]["clip"])
        other = self.json("train", "--bank", "b", "--val-embeddings", "few", "--steps", "30", "--out", "o")
        self.assertEqual(other["validation_pairs"], 30)
        done = self.reco("train", "--bank", "b", "--val-embeddings", "val", "--val-pairs", "x.csv", "--out", "x", code=2)
        self.assertIn("want one of --val-pairs and --val-embeddings", done.stderr)
        self.world(9, 9, "nine")
        self.fails("train", "--bank", "b", "--val-embeddings", "nine", "--out", "x", says=["nine: 9 pairs, want 10 or more"])
        self.world(20, 9, "wide", width=40)
        self.fails("train", "--bank", "b", "--val-embeddings", "wide", "--out", "x", says=["wide: embeddings of width 40, the bank has vectors of width 32"])
        self.assertFalse((self.dir / "x").exists())

    def test_search_and_fusion(self):
        self.world(120, 40, "e")
        self.world(20, 20, "held", seed=5)
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        refine = ["refine", "--bank", "b", "--embeddings", "held", "--refine", "both"]
        train = ["train", "--bank", "b", "--steps", "5", "--out"]

        def refined(fusion, out):
            self.json(*refine, "--fusion", fusion, "--out", out)
            return b"".join((self.dir / out / f"{side}_emb/{side}_emb_0.npy").read_bytes() for side in ("img", "text"))

        seen = {}
        for search in ("uni", "cross"):
            for fuse in ("uni", "cross"):
                name = f"{search}-{fuse}"
                self.json(*train, f"f.{name}", "--search", search, "--fuse", fuse)
                seen[name] = refined(f"mean:{name}", f"mean.{name}"), refined(f"f.{name}", f"trained.{name}")
        for kind in range(2):
            self.assertEqual(len({pair[kind] for pair in seen.values()}), 4)
        self.assertEqual(refined("mean", "mean"), seen["uni-cross"][0])
        self.json(*train, "f")
        self.assertEqual(checkpoint(self.dir / "f"), checkpoint(self.dir / "f.uni-cross"))
        for option in ("--search", "--fuse"):
            self.assertIn(f"{option} = both, want uni or cross", self.reco(*train, "g", option, "both", code=2).stderr)
        made = self.json(*train, "m", "--layer", "mlp")
        self.assertEqual(made["layer"], "mlp")
        self.json(*refine, "--fusion", "m", "--out", "m.all")
        self.json(*refine, "--fusion", "m", "--out", "m.none", "--where", "0")
        self.assertEqual(npy(self.dir / "m.all/img_emb/img_emb_0.npy"), npy(self.dir / "m.none/img_emb/img_emb_0.npy"))
        self.assertNotEqual(npy(self.dir / "m.all/img_emb/img_emb_0.npy"), npy(self.dir / "held/img_emb/img_emb_0.npy"))

    def test_nothing_near_changes_nothing(self):
        self.world(40, 10, "e")
        self.world(40, 10, "held", seed=5)
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        for fusion in ("vote", "mean", "weighted", "none"):
            self.reco("refine", "--bank", "b", "--fusion", fusion, "--embeddings", "held", "--out", "r", "--refine", "both",
                      "--min-similarity", "0.9999")
            for side in ("img_emb/img_emb_0.npy", "text_emb/text_emb_0.npy"):  # bit for bit
                self.assertEqual(npy(self.dir / "r" / side), npy(self.dir / "held" / side))

    def test_forgets_what_is_deleted(self):
        self.world(40, 10, "e")
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        refine = ["refine", "--bank", "b", "--fusion", "vote", "--embeddings", "e", "--refine", "both", "-k", "1"]
        self.reco(*refine, "--out", "before")
        self.reco("bank", "delete", "b", "--id", "7")
        self.reco(*refine, "--out", "after")
        before, after = (npy(self.dir / d / "img_emb/img_emb_0.npy")[1] for d in ("before", "after"))
        self.assertEqual([i for i in range(40) if before[i] != after[i]], [7])

    def test_classify_and_eval(self):
        self.reco("bank", "build", "--model", MODEL, "--pairs", self.pairs(30), "--out", "b")
        (self.dir / "classes.txt").write_text("".join(f"thing {i}, a thing\n" for i in range(30)))
        (self.dir / "labels.csv").write_text("image,label\n" + "".join(
            f'pictures/{i:04d}.png,"thing {i}, a thing"\n' for i in range(30)))
        common = ["--model", MODEL, "--bank", "b", "--classes", "classes.txt"]
        result = self.json("eval", *common, "--fusion", "vote", "--labels", "labels.csv", "-k", "1", "--details", "d.jsonl")
        self.assertEqual((result["images"], result["classes"], result["refined"]), (30, 30, "image"))
        self.assertEqual(result["reco"], {"acc1": 1.0, "acc5": 1.0, "mean_per_class": 1.0})  # the memory holds these very pictures
        self.assertLess(result["clip"]["acc1"], 0.5)
        details = jsonl(self.dir / "d.jsonl")
        self.assertEqual([d["reco"][0] for d in details], [d["label"] for d in details])
        none = self.json("eval", *common, "--fusion", "none", "--labels", "labels.csv")
        self.assertEqual(none["reco"], none["clip"])
        (self.dir / "templates.txt").write_text("a {}\nthe {} here\n")
        found = self.json("classify", *common, "--fusion", "vote", "-k", "1", "pictures/0003.png", "nothing.png")
        self.assertEqual((len(found["results"]), found["failures"]), (1, 1))
        self.assertEqual(found["results"][0]["reco"][0]["label"], "thing 3, a thing")
        self.assertEqual(found["results"][0]["neighbours"]["image"][0]["uri"], "pictures/0003.png")
        self.reco("classify", *common, "--fusion", "mean", "--templates", "templates.txt", "pictures/0003.png")
        (self.dir / "templates.txt").write_text("no hole\n")
        self.fails("classify", *common, "--fusion", "mean", "--templates", "templates.txt", "pictures/0003.png", says=["no hole"])
        (self.dir / "bad.txt").write_bytes(b"caf\xe9\n\xff\nthing 3, a thing\n")
        done = self.reco("classify", *common[:-1], "bad.txt", "--fusion", "mean", "pictures/0003.png")
        self.assertIn("warning: 2 captions are not UTF-8", done.stderr)
        (self.dir / "labels.csv").write_text("image,label\npictures/0000.png,unheard of\n")
        self.assertIn("unheard of", self.reco("eval", *common, "--fusion", "vote", "--labels", "labels.csv", code=1).stderr)

    def test_pairs_and_other_layers(self):
        self.reco("bank", "build", "--model", MODEL, "--pairs", self.pairs(40), "--out", "b")
        more = self.pairs(40, "train.csv", first=40)
        for layer in ("transformer", "relational"):
            made = self.json("train", "--model", MODEL, "--bank", "b", "--pairs", more, "--layer", layer, "--steps", "20",
                             "--out", f"{layer}.safetensors", "--cache", "cache")
            self.assertEqual((made["layer"], made["pairs"]), (layer, 40))
            self.fails("search", "--model", OTHER_MODEL, "--bank", "b", "--fusion", f"{layer}.safetensors", "--text", "x",
                       says=["hf-quickgelu"])
            self.json("search", "--model", MODEL, "--bank", "b", "--fusion", f"{layer}.safetensors", "--text", "x",
                      "--refine", "both")
        made = self.json("train", "--model", MODEL, "--bank", "b", "--val-pairs", self.pairs(12, "val.csv", first=120), "--steps", "20",
                         "--out", "v.safetensors")
        self.assertEqual((made["pairs"], made["validation_pairs"]), (40, 12))
        self.assertTrue((self.dir / "v.safetensors.pairs.val").is_dir())
        others = self.pairs(40, "others.csv", first=80)
        self.fails("train", "--model", MODEL, "--bank", "b", "--pairs", others, "--out", "o.safetensors", "--cache", "cache",
                   says=["cache: holds the embeddings of other pairs; remove it, or name another folder with --cache"])
        few = ["train", "--model", MODEL, "--bank", "b", "--out", "few.safetensors"]
        for n in (1, 9):
            self.fails(*few, "--pairs", self.pairs(n, "few.csv", first=200), says=["few.csv: ", f" {n} pair", "want 10 or more"])
        self.fails(*few, "--val-pairs", self.pairs(1, "few.csv", first=200), says=["few.csv: 1 pair, want 10 or more"])
        self.fails(*few, "--batch", "1", code=2, says=["--batch = 1, want 2..65536"])
        self.assertEqual(list(self.dir.glob("few.s*")), [])
        self.assertEqual(self.json(*few, "--pairs", self.pairs(12, "few.csv", first=200), "--steps", "3", "--batch", "65536")["pairs"], 12)
        (self.dir / "bad.safetensors").write_bytes(b"\xff" * 100)
        self.fails("search", "--model", MODEL, "--bank", "b", "--fusion", "bad.safetensors", "--text", "x", says=["bad.safetensors"])


if __name__ == "__main__":
    unittest.main()
