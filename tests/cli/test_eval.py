"""eval of embeddings: figures against ones computed here, groups, several runs, and what is refused."""
import json
import pathlib
import struct

from common import *

D = 16
NAMES = ["red disc", "green tent", "blue ring", "black cat"]


def unit(rng):
    row = [rng.gauss(0, 1) for _ in range(D)]
    norm = math.sqrt(sum(x * x for x in row))
    return [x / norm for x in row]


def near(rng, row, spread):
    moved = [x + rng.gauss(0, spread) for x in row]
    norm = math.sqrt(sum(x * x for x in moved))
    return [x / norm for x in moved]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def best(row, rows):
    return max(range(len(rows)), key=lambda j: (dot(row, rows[j]), -j))


def write_labels(path, labels):
    header = repr({"descr": "<i8", "fortran_order": False, "shape": (len(labels),)})
    header += " " * (117 - len(header)) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + struct.pack(f"<{len(labels)}q", *labels))


class Eval(Case):
    def folder(self, name, images, texts=None, records=None):
        write_npy(self.dir / name / "img_emb/img_emb_0.npy", images)
        if texts: write_npy(self.dir / name / "text_emb/text_emb_0.npy", texts)
        if records:
            (self.dir / name / "metadata").mkdir(exist_ok=True)
            (self.dir / name / "metadata/metadata_0.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
        return name

    def setUp(self):
        super().setUp()
        rng = random.Random(5)
        self.texts = [unit(rng) for _ in NAMES]
        self.labels = [i % 4 for i in range(60)]
        self.images = [near(rng, self.texts[l], 0.35) for l in self.labels]
        memory = [i % 4 for i in range(40)]
        self.folder("memory", [near(rng, self.texts[l], 0.3) for l in memory], [self.texts[l] for l in memory], [{"caption": NAMES[l]} for l in memory])
        self.reco("bank", "build", "--embeddings", "memory", "--out", "bank", "--encoder", "test-clip")
        self.folder("asked", self.images, None, [{"label": NAMES[l], "half": "seen" if l < 2 else "unseen"} for l in self.labels])
        write_npy(self.dir / "classes.npy", self.texts)
        write_npy(self.dir / "images.npy", self.images)
        write_labels(self.dir / "labels.npy", self.labels)
        (self.dir / "classes.txt").write_text("\n".join(NAMES) + "\n")
        self.said = [best(i, self.texts) for i in self.images]
        self.memory = ["--bank", "bank", "--fusion", "none"]
        self.arrays = ["--embeddings", "images.npy", "--labels", "labels.npy", "--class-embeddings", "classes.npy", "--classes", "classes.txt"]

    def accuracy(self, which=None):
        rows = [i for i, l in enumerate(self.labels) if which is None or l in which]
        return sum(self.said[i] == self.labels[i] for i in rows) / len(rows)

    def test_arrays(self):
        found = self.json("eval", *self.arrays, *self.memory)
        self.assertEqual((found["task"], found["images"], found["classes"], found["labels"]), ("classification", 60, 4, "numbers"))
        self.assertLess(self.accuracy(), 1)
        self.assertAlmostEqual(found["clip"]["acc1"], self.accuracy())
        self.assertEqual(found["clip"]["acc5"], 1)
        self.assertEqual(found["reco"], found["clip"])
        self.assertEqual(found["runs"][0]["difference"]["acc1"], {"mean": 0, "low": 0, "high": 0})
        again = self.json("eval", *self.arrays[:-2], *self.memory)  # classes without names
        self.assertEqual(again["clip"], found["clip"])
        self.assertIn("60 pictures, 4 classes", self.reco("eval", *self.arrays, *self.memory, "--per-class").stdout)

    def test_captions_are_the_classes(self):
        records = [{"caption": NAMES[l].upper() if i % 3 else NAMES[l]} for i, l in enumerate(self.labels)]
        self.folder("pairs", self.images, [self.texts[l] for l in self.labels], records)
        self.folder("bare", self.images, [self.texts[l] for l in self.labels])
        for name in ("pairs", "bare"):
            found = self.json("eval", "--embeddings", name, *self.memory)
            self.assertEqual(found["classes"], 4)
            self.assertAlmostEqual(found["clip"]["acc1"], self.accuracy())

    def test_groups(self):
        found = self.json("eval", "--embeddings", "asked", "--class-embeddings", "classes.npy", "--classes", "classes.txt", "--groups", "half",
                          "--per-class", *self.memory)
        seen, unseen = self.accuracy((0, 1)), self.accuracy((2, 3))
        groups = found["clip"]["groups"]
        self.assertEqual([groups[g]["images"] for g in ("seen", "unseen")], [30, 30])
        self.assertAlmostEqual(groups["seen"]["acc1"], seen)
        self.assertAlmostEqual(groups["unseen"]["acc1"], unseen)
        self.assertAlmostEqual(found["clip"]["harmonic_mean"]["acc1"], 2 / (1 / seen + 1 / unseen))
        for j, one in enumerate(found["per_class"]):
            self.assertEqual((one["class"], one["images"]), (NAMES[j], 15))
            self.assertAlmostEqual(one["clip"], self.accuracy((j,)))

    def test_the_vote(self):
        """All neighbours' captions are classes, by name and, where nothing is named, by their vectors."""
        vote = ["--bank", "bank", "--fusion", "none", "--mixture", "0,0", "-k", 5]
        named = self.json("eval", *self.arrays, *vote)
        self.assertNotEqual(named["reco"], named["clip"])
        self.assertEqual(named["cosines"], named["clip"])
        self.assertEqual(self.json("eval", *self.arrays[:-2], *vote)["reco"], named["reco"])

    def test_several_runs(self):
        found = self.json("eval", *self.arrays, "--bank", "bank", "--fusion", "mean", "--fusion", "none", "-k", 2, "-k", 6)
        runs = [(r["fusion"], r["k"], r["control"]) for r in found["runs"]]
        self.assertEqual(runs, [("mean", 2, False), ("mean", 6, False), ("none", 2, False), ("none", 6, False), *((f, k, True)
                                for f in ("vote", "mean", "weighted") for k in (2, 6))])
        by = {(r["fusion"], r["k"], r["control"]): r for r in found["runs"]}
        for k in (2, 6):
            self.assertEqual(by["mean", k, False]["cosines"], by["mean", k, True]["cosines"])
            alone = self.json("eval", *self.arrays, "--bank", "bank", "--fusion", "mean", "-k", k)
            self.assertEqual(alone["runs"][0], by["mean", k, False])
            off = by["mean", k, False]["difference"]["acc1"]
            self.assertAlmostEqual(off["mean"], by["mean", k, False]["reco"]["acc1"] - found["clip"]["acc1"], places=6)
            self.assertTrue(off["low"] <= off["mean"] <= off["high"])
        one = self.reco("eval", *self.arrays, "--bank", "bank", "--fusion", "mean", "--controls", "--threads", 1, "--json").stdout
        self.assertEqual(self.reco("eval", *self.arrays, "--bank", "bank", "--fusion", "mean", "--controls", "--threads", 2, "--json").stdout, one)

    def test_joint(self):
        """OVEN's form: questions beside pictures, pictures of the entities, seen and unseen."""
        rng = random.Random(3)
        questions = [unit(rng) for _ in self.images]
        shown = [near(rng, t, 0.5) for t in self.texts]
        add = lambda xs, ys: [near(rng, [x + y for x, y in zip(a, b)], 0) for a, b in zip(xs, ys)]
        asked, entities = add(self.images, questions), add(self.texts, shown)
        right = [best(a, entities) == l for a, l in zip(asked, self.labels)]
        self.assertLess(sum(right), 60)
        self.assertNotEqual(right, [s == l for s, l in zip(self.said, self.labels)])
        records = [{"label": NAMES[l], "split": "seen" if l < 3 else "unseen"} for l in self.labels]
        self.folder("questions", self.images, questions, records)
        self.folder("entities", shown, self.texts, [{"caption": n} for n in NAMES])
        options = ["eval", "--joint", "--embeddings", "questions", "--class-embeddings", "entities"]
        found = self.json(*options, "--groups", "split", *self.memory)
        self.assertAlmostEqual(found["clip"]["acc1"], sum(right) / 60)
        self.assertEqual(found["reco"], found["clip"])
        parts = [[r for r, l in zip(right, self.labels) if (l < 3) == seen] for seen in (True, False)]
        parts = [sum(p) / len(p) for p in parts]
        self.assertAlmostEqual(found["clip"]["harmonic_mean"]["acc1"], 2 / (1 / parts[0] + 1 / parts[1]))
        # What is refined is refined by its own side, then added.
        for name in ("questions", "entities"):
            self.reco("refine", "--bank", "bank", "--fusion", "mean", "--embeddings", name, "--out", f"{name}.refined")
        better = self.json("eval", "--joint", "--embeddings", "questions.refined", "--class-embeddings", "entities.refined", *self.memory)
        mean = self.json(*options, "--bank", "bank", "--fusion", "mean", "--refine", "both")
        self.assertNotEqual(mean["reco"]["acc1"], mean["clip"]["acc1"])
        for figure, value in better["clip"].items():
            self.assertAlmostEqual(mean["reco"][figure], value, places=5)
        self.fails("eval", "--joint", *self.arrays, *self.memory, says=["--joint", "neither"])
        self.fails("eval", "--joint", "--embeddings", "questions", *self.memory, says=["--joint", "--class-embeddings"])
        self.reco("eval", "--joint", "--retrieval", "--embeddings", "questions", *self.memory, code=2)

    def test_retrieval(self):
        rng = random.Random(9)
        pictures = [unit(rng) for _ in range(12)]
        of = [i // 2 for i in range(24)]  # two captions each
        texts = [near(rng, pictures[p], 0.4) for p in of]
        self.folder("named", [pictures[p] for p in of], texts, [{"image_path": f"{p}.jpg", "caption": f"caption {i}"} for i, p in enumerate(of)])
        self.folder("bare", [pictures[p] for p in of], texts)
        right = sum(of[best(pictures[p], texts)] == p for p in range(12)) / 12, sum(best(texts[i], pictures) == of[i] for i in range(24)) / 24
        self.assertLess(right[1], 1)
        for name in ("named", "bare"):
            found = self.json("eval", "--embeddings", name, "--retrieval", *self.memory)
            self.assertEqual((found["task"], found["images"], found["captions"]), ("retrieval", 12, 24))
            self.assertAlmostEqual(found["clip"]["image_to_text_recall@1"], right[0])
            self.assertAlmostEqual(found["clip"]["text_to_image_recall@1"], right[1])
        self.assertIn("12 pictures, 24 captions", self.reco("eval", "--embeddings", "named", "--retrieval", *self.memory).stdout)
        self.fails("eval", "--embeddings", "asked", "--retrieval", *self.memory, says=["asked", "no text_emb"])

    def test_results_of_clip_benchmark(self):
        found = self.json("eval", *self.arrays, "--bank", "bank", "--fusion", "mean", "--results", "out-")
        for name, method in (("clip", "clip"), ("reco-0", "reco")):
            written = json.loads((self.dir / f"out-{name}.json").read_text())
            self.assertEqual(set(written), {"dataset", "model", "pretrained", "task", "metrics", "language"})
            self.assertEqual(written["metrics"]["acc1"], found[method]["acc1"])
            self.assertEqual(written["metrics"]["mean_per_class_recall"], found[method]["mean_per_class"])

    def test_details_and_page(self):
        """Of embeddings, too: what each row was taken for, and what the memory had to do with it."""
        mean = ["--bank", "bank", "--fusion", "mean", "-k", 3]
        found = self.json("eval", *self.arrays, *mean, "--mixture", "0.2,0.3", "--details", "d.jsonl", "--explain", 6, "--page", "p.json")
        rows = [json.loads(line) for line in (self.dir / "d.jsonl").read_text().splitlines()]
        self.assertEqual([(r["image"], r["label"]) for r in rows], [(f"row {i}", NAMES[l]) for i, l in enumerate(self.labels)])
        for method in ("clip", "reco"):
            self.assertAlmostEqual(sum(r[method][0] == r["label"] for r in rows) / 60, found[method]["acc1"])
        self.assertEqual([r["clip"][0] for r in rows], [NAMES[s] for s in self.said])
        for r in rows:
            scores = [n["score"] for n in r["neighbours"]["image"]]
            self.assertEqual((len(scores), scores, len(r["neighbours"]["text"])), (3, sorted(scores, reverse=True), 3))
        page = json.loads((self.dir / "p.json").read_text())
        self.assertEqual((page["facts"]["classes"], len(page["queries"])), (4, 6))
        by_row = {r["image"]: r for r in rows}
        for q in page["queries"]:
            self.assertEqual((q["before"]["label"], q["after"]["label"]), (by_row[q["image"]]["clip"][0], by_row[q["image"]]["reco"][0]))
        alone = self.json("eval", "--embeddings", "asked", "--class-embeddings", "classes.npy", "--classes", "classes.txt", *mean, "--mixture", "0.2,0.3",
                          "--groups", "half", "--details", "e.jsonl")
        self.assertEqual((self.dir / "e.jsonl").read_text(), (self.dir / "d.jsonl").read_text())
        self.assertEqual(alone["reco"]["acc1"], found["reco"]["acc1"])

    def test_bad(self):
        nan = [[math.nan] * D] * 3
        write_npy(self.dir / "nan.npy", nan)
        write_npy(self.dir / "narrow.npy", [row[:8] for row in self.texts])
        write_npy(self.dir / "three.npy", self.texts[:3])
        write_labels(self.dir / "short.npy", self.labels[:-1])
        write_labels(self.dir / "far.npy", [7] * 60)
        (self.dir / "empty.npy").write_bytes(b"")
        with_classes = ["--class-embeddings", "classes.npy", "--classes", "classes.txt", *self.memory]
        self.fails("eval", "--embeddings", "nan.npy", "--labels", "labels.npy", *with_classes, says=["nan.npy", "not finite"])
        self.fails("eval", "--embeddings", "empty.npy", "--labels", "labels.npy", *with_classes, says=["empty.npy"])
        self.fails("eval", "--embeddings", "images.npy", "--labels", "short.npy", *with_classes, says=["short.npy", "59", "60"])
        self.fails("eval", "--embeddings", "images.npy", *with_classes, says=["images.npy", "no labels"])
        self.fails("eval", "--embeddings", "images.npy", "--labels", "labels.npy", *self.memory, says=["images.npy", "--class-embeddings"])
        self.fails("eval", "--embeddings", "images.npy", "--labels", "labels.npy", "--classes", "classes.txt", *self.memory, says=["classes.txt", "--model"])
        for bad, says in (("narrow.npy", ["narrow.npy", 8, 16]), ("three.npy", ["classes.txt", 4, 3]), ("nan.npy", ["nan.npy"])):
            self.fails("eval", "--embeddings", "images.npy", "--labels", "labels.npy", "--class-embeddings", bad, "--classes", "classes.txt", *self.memory, says=says)
        done = self.reco("eval", "--embeddings", "images.npy", "--labels", "far.npy", "--results", "out-", *with_classes, code=1)
        self.assertIn('label "7" is not a class', done.stderr)
        self.assertIn("there is no accuracy", done.stdout)
        self.assertEqual(list(self.dir.glob("out-*")), [])
        self.fails("eval", *self.arrays, *self.memory, "--encoder", "another-clip", says=["another-clip", "test-clip"])
        for usage in (["--retrieval", "--labels", "labels.npy"], ["--images", "."], ["--details", "d.jsonl", "--controls"],
                      ["--details", "d.jsonl", "-k", 1, "-k", 2], ["--explain", 3, "--page", "p.html", "--retrieval"]):
            self.reco("eval", "--embeddings", "images.npy", *self.memory, *usage, code=2)
        self.reco("eval", "--labels", "l.csv", "--class-embeddings", "classes.npy", "--model", MODEL, "--classes", "classes.txt", *self.memory, code=2)


class Pictures(Case):
    """With a model: tables, and CLIP_benchmark's tars, say the same."""

    def setUp(self):
        super().setUp()
        self.reco("bank", "build", "--model", MODEL, "--pairs", self.pairs(8), "--out", "b")
        self.images = self.pictures(12, "test")
        (self.dir / "classes.txt").write_text("\n".join(NAMES) + "\n")
        (self.dir / "templates.txt").write_text("a {}\nthe {} here\n")
        self.options = ["--model", MODEL, "--bank", "b", "--fusion", "mean", "--classes", "classes.txt", "--templates", "templates.txt"]
        said = self.json("classify", *self.options, *self.images)["results"]
        self.said = [NAMES.index(r["clip"][0]["label"]) for r in said]
        self.labels = [(l + (i % 3 == 0)) % 4 for i, l in enumerate(self.said)]  # every third is wrong
        (self.dir / "l.csv").write_text("image,label,half\n" + "".join(f"{p},{NAMES[l]},{i % 2}\n" for i, (p, l) in enumerate(zip(self.images, self.labels))))

    def tar(self, path, members):
        import io
        import tarfile
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))

    def dataset(self, words):
        """Two tars of six pictures, each with its words."""
        for t in (0, 1):
            members = []
            for i in range(6 * t, 6 * t + 6):
                ending, text = words(i)
                members += [(f"s{i:04d}.png", self.images[i].read_bytes()), (f"s{i:04d}.{ending}", text.encode())]
            self.tar(self.dir / f"set/test/{t}.tar", members)
        (self.dir / "set/test/nshards.txt").write_text("2\n")

    def test_runs_are_those_of_one_at_a_time(self):
        alone = self.json("eval", *self.options, "--labels", "l.csv", "-k", 3)
        self.assertAlmostEqual(alone["clip"]["acc1"], 8 / 12)
        off = alone["difference"]["acc1"]
        self.assertAlmostEqual(off["mean"], alone["reco"]["acc1"] - alone["clip"]["acc1"])
        self.assertTrue(off["low"] <= off["mean"] <= off["high"])
        text = self.reco("eval", *self.options, "--labels", "l.csv", "-k", 3).stdout
        self.assertIn(f"{100 * off['mean']:+.2f} ({100 * off['low']:+.2f} to {100 * off['high']:+.2f})", text.splitlines()[-1])
        found = self.json("eval", *self.options, "--fusion", "none", "--labels", "l.csv", "-k", 3, "--groups", "half")
        for method in ("clip", "reco", "cosines"):
            for figure in ("acc1", "acc5", "mean_per_class"):
                self.assertAlmostEqual(found[method][figure], alone[method][figure])
        self.assertEqual(sorted(found["clip"]["groups"]), ["0", "1"])
        self.assertEqual(found["runs"][0]["difference"], alone["difference"])
        self.assertEqual([r["fusion"] for r in found["runs"]], ["mean", "none", "vote", "mean", "weighted"])

    def test_cache(self):
        """What was embedded is kept beside the output, where that is a file; it changes nothing that is said."""
        options = ["eval", *self.options, "--labels", "l.csv"]
        (self.dir / "l.csv").write_text((self.dir / "l.csv").read_text() + f"none.png,{NAMES[0]},0\n")
        self.assertEqual(self.json(*options), (want := self.json(*options, "--details", "/dev/null")))
        self.assertFalse((self.dir / ".reco-cache").exists())
        os.makedirs(self.dir / "out")
        for more in (["--details", "out/d.jsonl"], ["--details", "out/d.jsonl"], ["--cache", "kept", "--results", "out/r-"]):
            found = self.json(*options, *more)
            for method in ("clip", "reco"):
                self.assertEqual(found[method]["acc1"], want[method]["acc1"])
            self.assertEqual((found["failures"], found["difference"]), (1, want["difference"]))
        for where in ("out/.reco-cache", "kept"):  # pictures and prompts
            self.assertEqual([p.suffix for p in (self.dir / where).iterdir()], [".safetensors"] * 2)
        for file in (self.dir / "kept").iterdir():
            file.write_bytes(file.read_bytes()[:-1] + b"?")
        again = self.reco(*options, "--cache", "kept", "--json")
        self.assertEqual((json.loads(again.stdout), again.stderr.count("is damaged and is written anew")), (want, 2))
        self.json(*options, "--details", "e.jsonl", "--no-cache")
        self.assertFalse((self.dir / ".reco-cache").exists())
        self.reco(*options, "--cache", "kept", "--no-cache", code=2)

    def test_classification(self):
        self.dataset(lambda i: ("cls", f"{self.labels[i]}\n"))
        (self.dir / "set/classnames.txt").write_text("\n".join(NAMES) + "\n")
        (self.dir / "set/zeroshot_classification_templates.txt").write_text("a {c}\nthe {c} here\n")
        alone = self.json("eval", *self.options, "--labels", "l.csv")
        found = self.json("eval", "--model", MODEL, "--bank", "b", "--fusion", "mean", "--dataset", "set")
        self.assertEqual((found["images"], found["classes"], found["labels"], found["failures"]), (12, 4, "numbers", 0))
        for method in ("clip", "reco"):
            self.assertAlmostEqual(found[method]["acc1"], alone[method]["acc1"])
            self.assertAlmostEqual(found[method]["calibration_error"], alone["calibration_error"][method], places=5)
        self.tar(self.dir / "set/test/1.tar", [("a.png", b"no picture"), ("a.cls", b"0"), ("b.png", self.images[6].read_bytes()), ("c.cls", b"1"),
                                               ("d.png", self.images[7].read_bytes()), ("d.cls", b"9")])
        options = ["eval", "--model", MODEL, "--bank", "b", "--fusion", "mean", "--dataset", "set"]
        found = self.json(*options)
        self.assertEqual((found["images"], found["failures"]), (6, 4))
        self.assertEqual(self.json(*options, "--cache", "kept"), found)
        kept = {p: p.stat().st_ino for p in (self.dir / "kept").iterdir()}
        self.assertEqual(len(kept), 2 + 1)  # a file for each tar that has pictures, and one of prompts
        self.assertEqual(self.json(*options, "--cache", "kept"), found)
        self.assertEqual({p: p.stat().st_ino for p in (self.dir / "kept").iterdir()}, kept)  # nothing was embedded
        self.tar(self.dir / "set/test/1.tar", [("d.png", self.images[7].read_bytes()), ("d.cls", b"1")])
        self.assertEqual(self.json(*options, "--cache", "kept")["images"], 7)
        self.assertEqual(len(list((self.dir / "kept").iterdir())), 2 + 1 + 1)
        (self.dir / "set/zeroshot_classification_templates.txt").write_text("a thing\n")
        self.fails("eval", "--model", MODEL, "--bank", "b", "--fusion", "mean", "--dataset", "set", says=["a thing", "no {}"])
        (self.dir / "set/classnames.txt").unlink()
        self.fails("eval", "--model", MODEL, "--bank", "b", "--fusion", "mean", "--dataset", "set", says=["classnames.txt"])

    def test_retrieval(self):
        self.dataset(lambda i: ("txt", f"thing {i}\n\nanother {i}\n"))
        (self.dir / "set/dataset_type.txt").write_text("retrieval\n")
        options = ["--model", MODEL, "--bank", "b", "--fusion", "mean"]
        found = self.json("eval", *options, "--dataset", "set")
        self.assertEqual((found["task"], found["images"], found["captions"], found["failures"]), ("retrieval", 12, 24, 0))
        lines = "".join(f"thing {i}\nanother {i}\n" for i in range(12))
        (self.dir / "captions.txt").write_text(lines)
        (self.dir / "images.txt").write_text("".join(f"{p}\n{p}\n" for p in self.images))
        self.reco("embed", "--model", MODEL, "--images", "images.txt", "--out", "e", "--dtype", "float32")
        self.reco("embed", "--model", MODEL, "--texts", "captions.txt", "--out", "e", "--dtype", "float32")
        again = self.json("eval", "--embeddings", "e", "--retrieval", "--bank", "b", "--fusion", "mean")
        for method in ("clip", "reco"):
            for figure, value in again[method].items():
                self.assertAlmostEqual(found[method][figure], value)
        (self.dir / "set/test/nshards.txt").write_text("none")
        self.fails("eval", *options, "--dataset", "set", says=["nshards.txt", "number of tars"])
        (self.dir / "set/test/nshards.txt").write_text("3")
        self.fails("eval", *options, "--dataset", "set", says=["2.tar"])

    def test_clip_benchmark(self):
        """Its program makes a table of our results."""
        self.reco("eval", *self.options, "--labels", "l.csv", "--results", "out-")
        found = self.json("eval", *self.options, "--labels", "l.csv")
        if not shutil.which("clip_benchmark"): self.skipTest("clip_benchmark is not installed")
        subprocess.run(["clip_benchmark", "build", "out-clip.json", "out-reco-0.json", "--output", "table.csv"], cwd=self.dir, check=True, capture_output=True)
        import csv
        with open(self.dir / "table.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        for row, method in zip(rows, ("clip", "reco")):
            self.assertEqual(row["task"], "zeroshot_classification")
            self.assertAlmostEqual(float(row["acc1"]), found[method]["acc1"])
            self.assertAlmostEqual(float(row["mean_per_class_recall"]), found[method]["mean_per_class"])

    def test_evaluation_of_clip_benchmark(self):
        """Its own evaluation of the exported classifier, over refined pictures, gives the figures of the cosines."""
        options = [*self.options, "--labels", "l.csv", "--no-cache"]
        found = self.json("eval", *options, "--save-classifier", "classes.npy", "--mixture", "0.5,0.5")
        self.reco("embed", "--model", MODEL, "--images", "test", "--out", "e")
        self.reco("refine", "--bank", "b", "--fusion", "mean", "--embeddings", "e", "--out", "r", "--dtype", "float32")
        rows, classes = (npy(self.dir / name)[1] for name in ("r/img_emb/img_emb_0.npy", "classes.npy"))
        places = [json.loads(line)["image_path"] for line in (self.dir / "r/metadata/metadata_0.jsonl").read_text().splitlines()]
        labels = dict(zip((pathlib.Path(p).name for p in self.images), self.labels))
        labels = [labels[pathlib.Path(p).name] for p in places]
        right = sum(best(row, classes) == label for row, label in zip(rows, labels))
        self.assertAlmostEqual(right / 12, found["cosines"]["acc1"])
        self.assertEqual((len(classes), len(classes[0])), (4, len(rows[0])))
        program = shutil.which("clip_benchmark")
        if not program: self.skipTest("clip_benchmark is not installed")
        python = pathlib.Path(program).read_text().splitlines()[0][2:]
        # 1.6.2 makes numbers of arrays of one, which numpy 2.4 refuses.
        if subprocess.run([python, "-c", "import torch, sklearn, numpy; float(numpy.ones(1))"], capture_output=True).returncode:
            self.skipTest("clip_benchmark lacks torch, or has a numpy that it can't use")
        code = """
import json, sys, numpy, torch
from clip_benchmark.metrics.zeroshot_classification import evaluate
class Model:
    def encode_image(self, rows): return rows
rows, labels = torch.from_numpy(numpy.load(sys.argv[1])), torch.tensor(json.loads(sys.argv[3]))
torch.save(torch.from_numpy(numpy.load(sys.argv[2])).T, "classes.pt")
data = torch.utils.data.TensorDataset(rows, labels)
data.classes = json.loads(sys.argv[4])
print(json.dumps(evaluate(Model(), torch.utils.data.DataLoader(data, batch_size=5), None, data.classes, [], "cpu", amp=False, load_clfs=["classes.pt"])))
"""
        done = subprocess.run([python, "-c", code, "r/img_emb/img_emb_0.npy", "classes.npy", json.dumps(labels), json.dumps(NAMES)],
                              cwd=self.dir, capture_output=True, text=True, check=True)
        said = json.loads(done.stdout)
        self.assertAlmostEqual(said["acc1"], found["cosines"]["acc1"])
        self.assertAlmostEqual(said["mean_per_class_recall"], found["cosines"]["mean_per_class"])


if __name__ == "__main__":
    unittest.main()
