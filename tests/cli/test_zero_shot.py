"""eval and classify: classes, labels, folders, explanations, and when nothing worked."""
import json
import math
import pathlib
import shutil
import unittest

from common import MODEL, Case, jsonl

NAMES = ["red disc", "a blue box", "green tent", "caf\u00e9 table", "orange stroke"]
WITH = ["--model", MODEL, "--bank", "b", "--fusion"]


class ZeroShot(Case):
    """Labels are what the model itself says, so that all of them are right."""

    def setUp(self):
        super().setUp()
        self.reco("bank", "build", "--model", MODEL, "--pairs", self.pairs(12), "--out", "b")
        self.classes("classes.txt", NAMES)
        self.images = sorted((self.dir / "pictures").iterdir())
        named = self.classify("--classes", "classes.txt", *self.images)["results"]
        self.said = [r["clip"][0]["label"] for r in named]
        self.assertGreater(len(set(self.said)), 1)

    def classes(self, name, lines):
        (self.dir / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def labels(self, name, labels):
        (self.dir / name).write_text("image,label\n" + "".join(f"{i},{label}\n" for i, label in zip(self.images, labels)), encoding="utf-8")

    def run_eval(self, *arguments, fusion="none", code=0):
        return json.loads(self.reco("eval", *WITH, fusion, *arguments, "--json", code=code).stdout)

    def classify(self, *arguments, fusion="none", code=0):
        return json.loads(self.reco("classify", *WITH, fusion, *arguments, "--json", code=code).stdout)

    def right(self, *arguments, how="names", n=12):
        result = self.run_eval(*arguments)
        self.assertEqual((result["images"], result["failures"], result["labels"], result["clip"]["acc1"]), (n, 0, how, 1), arguments)
        return result

    def test_classes_of_one_name(self):
        self.labels("l.csv", self.said)
        self.right("--classes", "classes.txt", "--labels", "l.csv")
        for twin in ("red disc", "Red  DISC", "\tred disc ", "cafe\u0301 TABLE"):
            self.classes("twice.txt", [*NAMES[:4], "", twin, NAMES[4]])
            first = 1 if "isc" in twin.lower() else 4
            for command in (["eval", "--labels", "l.csv"], ["classify", self.images[0]]):
                self.fails(*command, *WITH, "none", "--classes", "twice.txt",
                           says=["twice.txt", f"lines {first} and 6 are the same class", "--merge-classes"])
            merged = self.right("--classes", "twice.txt", "--labels", "l.csv", "--merge-classes")
            self.assertEqual((merged["classes"], merged["classes_merged"]), (5, 1))
            self.labels("t.csv", [twin.strip() if s == NAMES[first - 1] else s for s in self.said])
            self.right("--classes", "twice.txt", "--labels", "t.csv", "--merge-classes")
            numbers = [NAMES.index(s) + (s == NAMES[4]) for s in self.said]  # positions of the file, merged or not
            self.labels("n.csv", [4 if n == first - 1 else n for n in numbers])
            self.right("--classes", "twice.txt", "--labels", "n.csv", "--merge-classes", how="numbers")
        # What a long name has behind the context is no difference.
        self.classes("cut.txt", ["red", "long " * 200 + "one", "long " * 200 + "two"])
        self.fails("classify", self.images[0], *WITH, "none", "--classes", "cut.txt", says=["lines 2 and 3 are the same class"])

    def test_labels_by_name(self):
        self.labels("l.csv", [s.upper().replace(" ", "_") for s in self.said])
        self.right("--classes", "classes.txt", "--labels", "l.csv")

    def test_classes_in_json(self):
        numbers = [NAMES.index(s) for s in self.said]
        self.labels("l.csv", self.said)
        self.labels("n.csv", numbers)
        for classes in (NAMES, {str(i): s for i, s in enumerate(NAMES)}, {s: i for i, s in enumerate(NAMES)},
                        {str(i): [f"n0{i}", s] for i, s in enumerate(NAMES)}, [{"id": i, "name": s} for i, s in enumerate(NAMES)]):
            (self.dir / "c.json").write_text(json.dumps(classes))
            self.right("--classes", "c.json", "--labels", "l.csv")
            self.right("--classes", "c.json", "--labels", "n.csv", how="numbers")
        for wrong in ({"names": {"a": 1}}, "red", {}, []):
            (self.dir / "c.json").write_text(json.dumps(wrong))
            self.fails("classify", self.images[0], *WITH, "none", "--classes", "c.json", says=["c.json"])

    def test_labels_by_number(self):
        numbers = [NAMES.index(s) for s in self.said]
        self.labels("n.csv", numbers)
        self.right("--classes", "classes.txt", "--labels", "n.csv", how="numbers")
        self.labels("f.csv", [f"{n}.0" for n in numbers])
        self.right("--classes", "classes.txt", "--labels", "f.csv", how="numbers")
        (self.dir / "n.jsonl").write_text("".join(json.dumps({"image": str(i), "label": n}) + "\n" for i, n in zip(self.images, numbers)))
        self.right("--classes", "classes.txt", "--labels", "n.jsonl", how="numbers")
        self.labels("n.csv", [5, *numbers[1:]])
        result = self.run_eval("--classes", "classes.txt", "--labels", "n.csv")
        self.assertEqual((result["images"], result["failures"]), (11, 1))
        self.assertIn('n.csv:2: label "5"', result["failed"][0]["reason"])
        self.labels("n.csv", [*range(1, 6), *[2] * 7])
        done = self.reco("eval", *WITH, "none", "--classes", "classes.txt", "--labels", "n.csv")
        self.assertIn("no label is 0 and one is 5", done.stderr)

    def test_rows_without_a_label(self):
        """One of many ends nothing, and does not make names of numbers."""
        numbers = [NAMES.index(s) for s in self.said]
        for bad, reason in ((",", "no image"), (f"{self.images[0]},", "no label"), (f"{self.images[0]},-1", 'label "-1"'), ("a,b,c,d", "4 fields")):
            self.labels("n.csv", numbers)
            lines = (self.dir / "n.csv").read_text().splitlines()
            (self.dir / "n.csv").write_text("\n".join([*lines[:3], bad, *lines[3:]]) + "\n")
            result = self.run_eval("--classes", "classes.txt", "--labels", "n.csv")
            self.assertEqual((result["images"], result["labels"], result["clip"]["acc1"]), (12, "numbers", 1))
            self.assertEqual([f["row"] for f in result["failed"]], [2])
            self.assertIn("n.csv:4: ", result["failed"][0]["reason"])
            self.assertIn(reason, result["failed"][0]["reason"])

    def test_numbers_in_front(self):
        """The file's own numbers are those that labels mean, and are no part of the names; said, since nobody asked for it."""
        self.labels("l.csv", self.said)
        for form, keys in (("{0}\t{1}", range(5)), ("{0}: {1}", (7, 3, 12, 40, 5)), ("{0} {1}", range(5)), ("{0}. {1}", range(1, 6)),
                           ("{0} {1}", [f"n0000000{i}" for i in range(5)])):
            self.classes("k.txt", [form.format(k, name) for k, name in zip(keys, NAMES)])
            self.labels("k.csv", [keys[NAMES.index(s)] for s in self.said])
            self.right("--classes", "k.txt", "--labels", "k.csv", how="numbers")
            self.right("--classes", "k.txt", "--labels", "l.csv")
            said = self.reco("classify", *WITH, "none", "--classes", "k.txt", self.images[0])
            self.assertIn("are read as class numbers", said.stderr)
            self.assertNotRegex(said.stdout, r"clip  n?[0-9]")
        self.classes("coins.txt", ["1 euro", "2 euro"])
        said = self.reco("classify", *WITH, "none", "--classes", "coins.txt", self.images[0])
        self.assertIn("read as part of the names", said.stderr)
        self.assertIn("1 euro", said.stdout)
        self.classes("d.txt", [f"{name}\ta description of it" for name in NAMES])
        self.right("--classes", "d.txt", "--labels", "l.csv")
        (self.dir / "c.csv").write_text("id,name,note\n" + "".join(f'{i + 10},{name},"x, y"\n' for i, name in enumerate(NAMES)), encoding="utf-8")
        self.right("--classes", "c.csv", "--labels", "l.csv")
        self.labels("k.csv", [10 + NAMES.index(s) for s in self.said])
        self.right("--classes", "c.csv", "--labels", "k.csv", how="numbers")

    def test_names_that_are_numbers(self):
        """A name wins, and it is said."""
        self.classes("digits.txt", ["2", "1", "0"])
        named = [r["clip"][0]["label"] for r in self.classify("--classes", "digits.txt", *self.images)["results"]]
        self.labels("d.csv", named)
        self.right("--classes", "digits.txt", "--labels", "d.csv")
        done = self.reco("eval", *WITH, "none", "--classes", "digits.txt", "--labels", "d.csv")
        self.assertIn("labels that are numbers are read as names", done.stderr)

    def test_a_label_that_is_no_class(self):
        self.labels("l.csv", ["red disk", *self.said[1:]])
        options = [*WITH, "none", "--classes", "classes.txt", "--labels", "l.csv"]
        done = self.reco("eval", *options)
        self.assertIn('l.csv:2: label "red disk" of', done.stderr)
        self.assertIn('is not a class, the nearest is "red disc"', done.stderr)
        self.assertIn("11 pictures, 5 classes", done.stdout)
        self.reco("eval", *options, "--strict", code=1)

    def folders(self, root, name=lambda s: s):
        for image, label in zip(self.images, self.said):
            folder = self.dir / root / name(label) / "deep"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, folder / image.name)
        for label in NAMES:
            (self.dir / root / name(label)).mkdir(exist_ok=True)

    def test_folders(self):
        self.folders("plain")
        self.folders("spelt", lambda s: s.upper().replace(" ", "_"))
        (self.dir / "plain/.hidden").mkdir()
        for root in ("plain", "spelt"):
            result = self.right("--images", root, how="folders")
            self.assertEqual(result["classes"], 5)
            self.right("--images", f"{root}/", "--classes", "classes.txt", how="folders")
        self.assertEqual(sorted(self.run_eval("--images", "plain")["classes_without_pictures"]), sorted(set(NAMES) - set(self.said)))
        shutil.copy(self.images[0], self.dir / "plain/loose.png")
        result = self.run_eval("--images", "plain")
        self.assertEqual((result["images"], result["failures"]), (12, 1))
        self.assertIn("not in the folder of a class", result["failed"][0]["reason"])
        (self.dir / "plain/loose.png").unlink()
        (self.dir / "plain/gren tent").mkdir()
        shutil.copy(self.images[0], self.dir / "plain/gren tent/x.png")
        result = self.run_eval("--images", "plain", "--classes", "classes.txt")
        self.assertIn('folder "gren tent" is not a class, the nearest is "green tent"', result["failed"][0]["reason"])
        (self.dir / "plain/Red_disc").mkdir()
        self.fails("eval", *WITH, "none", "--images", "plain", says=["Red_disc", "red disc", "same class"])
        self.reco("eval", *WITH, "none", "--images", "plain", "--labels", "l.csv", code=2)

    def test_folders_by_number_and_order(self):
        self.folders("numbers", lambda s: f"{NAMES.index(s):03d}")
        self.right("--images", "numbers", "--classes", "classes.txt", how="numbers")
        self.folders("synsets", lambda s: f"n{NAMES.index(s) + 1440764:08d}")
        self.right("--images", "synsets", "--classes", "classes.txt", how="order")
        done = self.reco("eval", *WITH, "none", "--images", "synsets", "--classes", "classes.txt")
        self.assertIn("they are matched in the order of their names", done.stderr)
        self.classes("fewer.txt", NAMES[:4])
        self.assertEqual(self.run_eval("--images", "synsets", "--classes", "fewer.txt", code=1)["images"], 0)

    def test_classify_folders(self):
        self.folders("plain")
        results = self.classify("--images", "plain")["results"]
        self.assertEqual(len(results), 12)
        for r in results:
            self.assertEqual(r["folder"], pathlib.Path(r["image"]).parts[1])
            self.assertEqual(r["clip"][0]["label"], r["folder"])
        flat = self.classify("--images", "pictures", "--classes", "classes.txt")["results"]
        self.assertEqual([r["clip"][0]["label"] for r in flat], self.said)
        self.fails("classify", *WITH, "none", "--images", "pictures", says=["no folders"])

    def test_nothing_worked(self):
        for labels in ("image,label\nno.png,red disc\nnone.png,green tent\n", f"image,label\n{self.images[0]},unheard of\n"):
            (self.dir / "l.csv").write_text(labels)
            result = self.run_eval("--classes", "classes.txt", "--labels", "l.csv", "--details", "d.jsonl", fusion="mean", code=1)
            self.assertEqual(result["images"], 0)
            for which in ("clip", "reco"):
                self.assertEqual(result[which], {"acc1": None, "acc5": None, "mean_per_class": None})
            self.assertEqual(result["classes_without_pictures"], NAMES)
            self.assertFalse((self.dir / "d.jsonl").exists())
            text = self.reco("eval", *WITH, "none", "--classes", "classes.txt", "--labels", "l.csv", code=1)
            self.assertEqual(text.stdout, "0 pictures, 5 classes (5 without a picture), refined: none\nno pictures: there is no accuracy\n")
        self.assertEqual(self.classify("--classes", "classes.txt", "no.png", code=1)["results"], [])

    def test_neighbours_of_the_sides_that_took_part(self):
        self.labels("l.csv", self.said)
        (self.dir / "t.txt").write_text("a {}\nthe {} here\n")
        for sides, fusion in (("image", "mean"), ("text", "mean"), ("both", "mean"), ("none", "mean"), ("both", "none")):
            some = [s for s in ("image", "text") if sides in (s, "both") and fusion != "none"]
            self.run_eval("--classes", "classes.txt", "--labels", "l.csv", "--details", "d.jsonl", "--refine", sides, "-k", 3, fusion=fusion)
            rows = jsonl(self.dir / "d.jsonl")
            self.assertEqual(len(rows), 12)
            named = self.classify("--classes", "classes.txt", "--refine", sides, "-k", 3, *self.images, fusion=fusion)["results"]
            for row in [*rows, *named]:
                self.assertEqual([s for s in ("image", "text") if row["neighbours"][s]], some)
                self.assertTrue(all(len(row["neighbours"][s]) == 3 for s in some))
            text = self.reco("classify", *WITH, fusion, "--classes", "classes.txt", "--refine", sides, self.images[0]).stdout
            self.assertEqual([s for s in ("image", "text") if f"  {s} like " in text], some)
        # The text's are those of the class that was predicted.
        search = ["search", "--model", MODEL, "--bank", "b", "-k", 4, "--text"]
        row = self.classify("--classes", "classes.txt", "--refine", "text", "-k", 4, self.images[3], fusion="mean")["results"][0]
        hits = self.json(*search, row["reco"][0]["label"])["hits"]
        self.assertEqual([n["id"] for n in row["neighbours"]["text"]], [h["id"] for h in hits])
        row = self.classify("--classes", "classes.txt", "--refine", "text", "-k", 4, "--templates", "t.txt", self.images[3], fusion="mean")["results"][0]
        best = {}
        for template in ("a {}", "the {} here"):
            for h in self.json(*search, template.format(row["reco"][0]["label"]))["hits"]:
                best[h["id"]] = max(best.get(h["id"], -1), h["score"])
        self.assertEqual([n["id"] for n in row["neighbours"]["text"]], sorted(best, key=lambda i: (-best[i], i))[:4])

    def test_a_checkpoint_that_chose_none(self):
        self.reco("train", "--bank", "b", "--out", "f.safetensors", "--layer", "weighted", "--refine", "none", "--quiet")
        self.labels("l.csv", self.said)
        want = "refined: none (training found nothing better than CLIP alone)"
        for command in (["classify", "--classes", "classes.txt", self.images[0]], ["eval", "--classes", "classes.txt", "--labels", "l.csv"]):
            self.assertIn(want, self.reco(*command, *WITH, "f.safetensors").stdout)
        self.reco("bank", "export", "b", "--out", "e")
        self.assertIn(want, self.reco("refine", "--bank", "b", "--fusion", "f.safetensors", "--embeddings", "e", "--out", "r").stdout)
        self.assertNotIn("training", self.reco("refine", "--bank", "b", "--fusion", "none", "--embeddings", "e", "--out", "r").stdout)

    def test_mixture(self):
        """The vote alone finds what the memory holds; nothing but weights is needed, and the cosines stand beside it."""
        (self.dir / "l.csv").write_text("image,label\n" + "".join(f"{i},THING {n}\n" for n, i in enumerate(self.images)))
        self.classes("things.txt", [f"Thing  {n}" for n in range(12)])
        (self.dir / "t.txt").write_text("this is {}\n{}, a thing\n")
        options = ["--classes", "things.txt", "--labels", "l.csv", "--templates", "t.txt"]
        clip = self.run_eval(*options)
        self.assertEqual((clip["mixture"], clip["cosines"], clip["reco"]), (None, clip["clip"], clip["clip"]))
        self.assertLess(clip["clip"]["acc1"], 0.5)
        self.assertEqual(self.run_eval(*options, "--mixture", "1,0")["reco"], clip["clip"])
        vote = self.run_eval(*options, "--mixture", "0,0", "-k", 1, "--details", "d.jsonl")
        self.assertEqual((vote["reco"]["acc1"], vote["cosines"], vote["clip"]), (1, clip["clip"], clip["clip"]))
        self.assertEqual({k: vote["mixture"][k] for k in ("clip", "refined", "vote")}, {"clip": 0, "refined": 0, "vote": 1})
        self.assertEqual(vote["calibration_error"]["reco"], 0)
        self.assertGreater(vote["calibration_error"]["clip"], 0.1)
        self.assertEqual([r["neighbours"]["image"][0]["caption"] for r in jsonl(self.dir / "d.jsonl")], [f"thing {n}, a thing" for n in range(12)])
        refined = self.run_eval(*options, "--mixture", "0,1", fusion="vote")
        self.assertEqual(refined["reco"]["acc1"], refined["cosines"]["acc1"])
        said = self.classify("--classes", "things.txt", "--templates", "t.txt", "--mixture", "0,0", "-k", 1, "--top", 2, *self.images, "no.png")
        for n, r in enumerate(said["results"]):
            self.assertEqual([(p["label"], p["probability"]) for p in r["reco"]][0], (f"Thing  {n}", 1))
            self.assertEqual(r["cosines"], r["clip"])
        self.assertIsNone(self.classify("--classes", "things.txt", self.images[0])["results"][0]["cosines"])
        text = self.reco("eval", *WITH, "none", *options, "--mixture", "0.5,0.25").stdout
        self.assertIn("refined: none, mixture: CLIP 0.5, refined 0.25, vote 0.25", text)
        self.assertEqual([line.split()[0] for line in text.splitlines()[3:]], ["CLIP", "cosines", "RECO"])
        for bad in ("on", "0.5", "0.6,0.6", "-0.1,0.5", "0.5,", "nan,0", "0.5,0.2,0.3"):
            self.assertIn("--mixture", self.reco("eval", *WITH, "none", *options, f"--mixture={bad}", code=2).stderr)

    def test_mixture_of_a_checkpoint(self):
        self.reco("bank", "build", "--model", MODEL, "--pairs", self.pairs(60), "--out", "m")
        made = self.json("train", "--bank", "m", "--out", "f.safetensors", "--refine", "both", "--steps", 20, "--quiet")
        self.labels("l.csv", self.said)
        options = ["--classes", "classes.txt", "--labels", "l.csv"]
        found = self.run_eval(*options, fusion="f.safetensors")
        self.assertEqual(found["mixture"], made["mixture"])
        self.assertEqual(self.run_eval(*options, "--refine", "both", fusion="f.safetensors"), found)
        weights = f"{made['mixture']['clip']},{made['mixture']['refined']}"
        self.assertEqual(self.run_eval(*options, "--mixture", weights, fusion="f.safetensors")["mixture"]["scales"], made["mixture"]["scales"])
        off = self.run_eval(*options, "--mixture", "off", fusion="f.safetensors")
        self.assertEqual((off["mixture"], off["reco"]), (None, found["cosines"]))
        self.assertIsNone(self.run_eval(*options, "--refine", "image", fusion="f.safetensors")["mixture"])  # not what it was chosen with

    def test_voters(self):
        """Twelve colours of five pictures each: three colours have fifteen rows, which vote, whatever is fused."""
        rows = [row.split(",") for row in self.pairs(60).read_text().splitlines()[1:]]
        (self.dir / "twelve.csv").write_text("image,text\n" + "".join(f"{row[0]},hue {i % 12}\n" for i, row in enumerate(rows)))
        self.classes("hues.txt", [f"hue {i}" for i in range(12)])
        self.reco("bank", "build", "--model", MODEL, "--pairs", "twelve.csv", "--out", "m")
        made = self.json("train", "--bank", "m", "--out", "f.safetensors", "--refine", "both", "--steps", 5, "-k", 3, "--quiet")
        self.assertEqual(made["mixture"]["voters"], 15)
        with_bank = ["classify", "--model", MODEL, "--bank", "m", "--fusion", "f.safetensors", "--classes", "hues.txt", "--top", 12]
        votes = self.json(*with_bank, "--mixture", "0,0", self.images[0])["results"][0]
        hits = self.json("search", "--model", MODEL, "--bank", "m", "--image", self.images[0], "-k", 15)["hits"]
        weights = [math.exp(made["mixture"]["scales"][2] * h["score"]) for h in hits]
        want = {f"hue {i}": sum(w for w, h in zip(weights, hits) if h["caption"] == f"hue {i}") / sum(weights) for i in range(12)}
        for p in votes["reco"]:
            self.assertAlmostEqual(p["probability"], want[p["label"]], 4)
        self.assertGreater(sum(p["probability"] > 0 for p in votes["reco"]), 3)
        self.assertEqual([r["id"] for r in votes["neighbours"]["image"]], [h["id"] for h in hits[:3]])
        wide = self.json(*with_bank, "--mixture", "0,0", "-k", 20, self.images[0])["results"][0]
        said = [[(p["label"], p["probability"]) for p in answer["reco"]] for answer in (votes, wide)]
        self.assertEqual(*said)

    def test_details(self):
        self.labels("l.csv", self.said)
        before = (self.dir / "l.csv").read_bytes()
        options = ["eval", *WITH, "none", "--classes", "classes.txt", "--labels", "l.csv", "--details"]
        for out in ("l.csv", "classes.txt", self.images[0], "b/d.jsonl", "no-folder/d.jsonl", "."):
            self.fails(*options, out)
        self.assertEqual((self.dir / "l.csv").read_bytes(), before)
        self.reco(*options, "/dev/null")
        self.reco(*options, "d.jsonl")
        self.assertEqual(sorted(p.name for p in self.dir.glob("d.jsonl*")), ["d.jsonl"])


if __name__ == "__main__":
    unittest.main()
