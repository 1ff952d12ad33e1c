"""study: a small grid, its tables, going on, and configurations that are refused."""
import csv
import fcntl
import json
import re

from common import *

CONFIG = """title = "Tiny"
model = "%s"
classes = "classes.txt"
bank = "pairs.csv"
queries = "labels.csv"
seeds = [0, 1]

[train]
k = 3
steps = 5

[rows]
controls = ["clip", "vote", "mean"]
sides = ["both"]
k = [1, 3]
"""


class Study(Case):
    def setUp(self):
        super().setUp()
        self.pairs(24)
        with open(self.dir / "pairs.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        image, text = list(rows[0])[:2]
        (self.dir / "classes.txt").write_text("".join(sorted({r[text] + "\n" for r in rows})))
        with open(self.dir / "labels.csv", "w", newline="") as file:
            csv.writer(file).writerows([["image", "label"], *[[r[image], r[text]] for r in rows]])
        self.config(CONFIG % MODEL)

    def config(self, text):
        (self.dir / "s.toml").write_text(text)

    def tables(self, folder):
        return {n: (self.dir / folder / n).read_bytes() for n in ("table.txt", "table.csv", "table.tex", "table.json", "index.html")}

    def table(self, folder):
        with open(self.dir / folder / "table.csv", newline="") as file:
            return list(csv.DictReader(file))

    def test_grid(self):
        plan = self.reco("study", "s.toml", "--out", "o", "--dry-run").stdout
        self.assertIn("k = 3", plan)
        self.assertFalse((self.dir / "o").exists())
        said = self.reco("study", "s.toml", "--out", "o", "--threads", "2").stderr.splitlines()
        lines = [line for line in said if re.fullmatch(r"reco: \d+/9, .*, seed [01]: \d+\.\d %, \d+\.\d s, about \d+:\d\d left", line)]
        self.assertEqual(len(lines), 9, said)
        self.assertTrue(lines[-1].startswith("reco: 9/9, Neighbours: k = 3, seed 1: "), lines)
        self.assertLessEqual(len(said), 12, said)  # nothing of each training
        table = self.table("o")
        self.assertEqual([row["name"] for row in table], ["CLIP", "vote", "mean fusion", "both sides", "k = 1", "k = 3"])
        self.assertEqual([row["refined"] for row in table], ["none", "image", "both", "both", "both", "both"])
        for row in table:
            self.assertEqual(row["chosen"] in ("none", "image", "text", "both", "varies"), row["name"] in ("both sides", "k = 1", "k = 3"))
            self.assertEqual(bool(row["all_deviation"]), row["seeds"] == "2")
        self.assertEqual(table[3]["all"], table[5]["all"])  # the layer of [train] has k = 3
        self.assertEqual([float(table[0][k]) for k in ("gain", "gain_low", "gain_high")], [0, 0, 0])
        self.assertIn("<svg", (self.dir / "o/index.html").read_text())
        self.assertEqual(len(json.loads((self.dir / "o/table.json").read_text())["rows"]), 6)
        first = self.tables("o")
        again = self.reco("study", "s.toml", "--out", "o")  # nothing is left to do
        self.assertIn("0 layers trained", again.stdout)
        self.assertEqual(again.stderr, "")
        self.assertEqual(self.tables("o"), first)
        self.reco("study", "s.toml", "--out", "one", "--threads", "1")
        self.assertEqual(self.tables("one"), first)

    def test_what_changes_is_done_again(self):
        self.reco("study", "s.toml", "--out", "o")
        banks = lambda: sorted(p.name for p in (self.dir / "o/banks").iterdir())
        one = banks()
        self.assertEqual(len(one), 1)
        png(self.dir / "pictures/0003.png", 99)  # another picture under its name
        self.assertNotIn(" 9 of them", self.reco("study", "s.toml", "--out", "o").stdout)
        two = banks()
        self.assertEqual(len(two), 2)
        self.config(CONFIG % OTHER_MODEL)
        self.reco("study", "s.toml", "--out", "o")
        self.assertEqual(len(banks()), 3)
        png(self.dir / "pictures/0003.png", 3)
        self.config(CONFIG % MODEL)
        self.assertIn("9 cells, 9 of them", self.reco("study", "s.toml", "--out", "o").stdout)
        self.assertEqual(len(banks()), 3)

    def test_wrong_captions(self):
        """At n % so many rows have another caption than their own, drawn by the seed, though many share theirs."""
        with open(self.dir / "pairs.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        names = [f"thing {i if i < 9 else 9}" for i in range(24)]  # 15 of 24 are one
        for row, name in zip(rows, names):
            row["text"] = name
        with open(self.dir / "pairs.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        own = {row["image"]: row["text"] for row in rows}
        (self.dir / "classes.txt").write_text("".join(f"{n}\n" for n in sorted(set(names))))
        (self.dir / "labels.csv").write_text("image,label\n" + "".join(f"{r['image']},{r['text']}\n" for r in rows))
        text = CONFIG % MODEL
        self.config(text[:text.index("[rows]")] + "[rows]\nwrong = [25, 50, 100]\n")
        self.reco("study", "s.toml", "--out", "o")
        met = {}
        for bank in sorted((self.dir / "o/banks").iterdir()):
            wrong = {r["uri"] for r in self.rows(bank) if own[r["uri"]] != r["caption"]}
            self.assertEqual(len(self.rows(bank)), 24)
            met.setdefault(len(wrong), []).append(wrong)
        self.assertEqual({n: len(draws) for n, draws in met.items()}, {0: 1, 6: 2, 12: 2, 24: 2})
        self.assertNotEqual(*met[6])
        for few in met[6]:  # more are wrong, and these still
            self.assertEqual(sum(few < many for many in met[12]), 1)
        (self.dir / "pairs.csv").write_text("image,text\n" + "".join(f"{r['image']},thing 1\n" for r in rows))
        self.assertIn("no caption can be wrong", self.reco("study", "s.toml", "--out", "same", code=1).stderr)

    def test_embeddings(self):
        """Embeddings say what the pictures do, without a model."""
        self.reco("study", "s.toml", "--out", "o")
        self.reco("bank", "build", "--model", MODEL, "--pairs", "pairs.csv", "--out", "b")
        self.reco("bank", "export", "b", "--out", "memory")
        images = sorted(str(p.relative_to(self.dir)) for p in (self.dir / "pictures").iterdir())
        (self.dir / "images.txt").write_text("".join(f"{i}\n" for i in images))
        with open(self.dir / "labels.csv", newline="") as file:
            label = {r["image"]: r["label"] for r in csv.DictReader(file)}
        (self.dir / "labels.txt").write_text("".join(f"{label[i]}\n" for i in images))
        self.reco("embed", "--model", MODEL, "--images", "images.txt", "--dtype", "float32", "--out", "q")
        self.reco("embed", "--model", MODEL, "--texts", "classes.txt", "--dtype", "float32", "--out", "c")
        (self.dir / "more.txt").write_text("a\nb\n")
        self.reco("embed", "--model", MODEL, "--texts", "more.txt", "--out", "more")
        text = (CONFIG % MODEL).replace(f'model = "{MODEL}"\n', "").replace('"pairs.csv"', '"memory"')
        by_list = text.replace('queries = "labels.csv"', 'queries = "q/img_emb/img_emb_0.npy"\nlabels = "labels.txt"\nclass_embeddings = "c"')
        self.config(by_list)
        self.reco("study", "s.toml", "--out", "e")
        self.assertEqual(self.table("e"), self.table("o"))
        # labels of the metadata, names of the classes' own captions, and a bank that is there
        self.config(by_list.replace('"q/img_emb/img_emb_0.npy"\nlabels = "labels.txt"', '"memory"').replace('classes = "classes.txt"\n', "")
                    .replace('bank = "memory"', 'bank = "b"'))
        self.reco("study", "s.toml", "--out", "m")
        for row, want in zip(self.table("m"), self.table("o")):
            self.assertAlmostEqual(float(row["all"]), float(want["all"]), delta=5)  # the memory's vectors are halves
        # a memory and pairs of embeddings, asked by pictures
        self.config((CONFIG % MODEL).replace('bank = "pairs.csv"', 'bank = "memory"\npairs = "memory"'))
        self.reco("study", "s.toml", "--out", "p")
        self.assertEqual(self.table("p")[:3], self.table("o")[:3])
        for change, says in (
            (('class_embeddings = "c"', 'class_embeddings = "q"'), ["q: has no text_emb"]),
            (('class_embeddings = "c"', 'class_embeddings = "more"'), ["more", "classes.txt", "24"]),
            (('labels = "labels.txt"', 'labels = "classes.txt"\nnew = "labels.csv"'), ["model is missing", "new"]),
            (('labels = "labels.txt"', ""), ["labels"]),
            (('bank = "memory"', 'bank = "pairs.csv"'), ["model is missing", "bank"]),
            (('class_embeddings = "c"', ""), ["model is missing", "classes"]),
            (('class_embeddings = "c"', 'class_embeddings = "c"\ntemplates = "classes.txt"'), ["templates", "none"]),
        ):
            self.config(by_list.replace(*change))
            self.fails("study", "s.toml", "--out", "bad", says=says)
            self.assertFalse((self.dir / "bad").exists(), change)

    def test_encoders(self):
        """Embeddings of another encoder are refused by both names, as is a bank."""
        self.reco("bank", "build", "--model", OTHER_MODEL, "--pairs", "pairs.csv", "--out", "b")
        self.reco("bank", "export", "b", "--out", "other")
        text = CONFIG % MODEL
        for change in (('bank = "pairs.csv"', 'bank = "b"'), ('bank = "pairs.csv"', 'bank = "other"'), ('"labels.csv"', '"other"')):
            self.config(text.replace(*change))
            said = self.reco("study", "s.toml", "--out", "o", code=1).stderr
            self.assertIn("hf-quickgelu", said)
            self.assertIn("hf-gelu-bf16", said)

    def test_names(self):
        """A name comes out of every table as it went in, and obeyed by none."""
        name = 'a,"b" <i>&_%$#{}~^\\ é'
        formula, odd = "=1+1", "tab\there\u202e"
        text = (CONFIG % MODEL).replace('"Tiny"', json.dumps("<b>" + name))
        self.config(text[:text.index("[rows]")] + "[rows]\nmemory = true\n[memories]\n"
                    + "".join(f'{json.dumps(n)} = "pairs.csv"\n' for n in (name, formula, odd)))
        self.reco("study", "s.toml", "--out", "o", "--json")
        rows = json.loads((self.dir / "o/table.json").read_text())["rows"]
        self.assertEqual([r["name"] for r in rows], ["CLIP", "the memory, as above", "the memory of training", name, formula, odd])
        self.assertEqual([r["name"] for r in self.table("o")], ["CLIP", "the memory, as above", "the memory of training", name, "'" + formula, odd])
        latex = (self.dir / "o/table.tex").read_text()
        self.assertIn("\na,\"b\" $<$i$>$\\&\\_\\%\\$\\#\\{\\}\\textasciitilde{}\\textasciicircum{}\\textbackslash{} é & both & $", latex)
        self.assertIn("\ntab?here? & ", latex)
        self.assertTrue(latex.startswith("% $<$b$>$a,"), latex[:40])
        page = (self.dir / "o/index.html").read_text()
        self.assertIn("<td>a,&quot;b&quot; &lt;i&gt;&amp;_%$#{}~^\\ é</td>", page)
        self.assertNotIn("<i>", page)
        self.assertNotIn("\u202e", page)
        text = (self.dir / "o/table.txt").read_text()
        self.assertNotIn("\t", text)
        self.assertNotIn("\u202e", text)

    def test_one_at_a_time(self):
        self.reco("study", "s.toml", "--out", "o")
        with open(self.dir / "o/writer.lock", "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.fails("study", "s.toml", "--out", "o", says=["o: process ", "writing"])

    def test_refused(self):
        for change, says in (
            (("seeds =", "seed ="), ["s.toml:6", '"seed"', '"seeds"']),
            (("k = 3\n", "k = 0\n"), ["s.toml:9"]),
            (("k = 3\n", 'layer = "deep"\n'), ["s.toml:9", "deep", "relational", "auto"]),
            (('"vote"', '"votes"'), ["s.toml:13", "votes"]),
            (("k = [1, 3]", "k = [1, 3"), ["s.toml"]),
            (("k = [1, 3]", "k = [1, 1]"), ["s.toml:15", "once"]),
            (("k = [1, 3]", "share = [101]"), ["s.toml:15", "0..100"]),
            (("k = [1, 3]", 'memory = ["other"]'), ["s.toml:15", "other"]),
            (("[rows]", "[row]"), ["s.toml:13", '"row"', '"rows"']),
            (("seeds = [0, 1]", "seeds = [0, 0]"), ["s.toml:6", "once"]),
            (("labels.csv", "nothing.csv"), ["s.toml:5", "nothing.csv"]),
            (("labels.csv", "other.csv"), ["other.csv", "label"]),
            (("classes.txt", "empty.txt"), ["empty.txt"]),
            ((str(MODEL), "pictures"), ["pictures"]),
            (("classes.txt\"", "classes.txt\"\ntemplates = \"classes.txt\""), ["classes.txt", "{}"]),
            (("seeds =", "labels = \"labels.csv\"\nseeds ="), ["s.toml:6", "labels"]),
        ):
            (self.dir / "empty.txt").write_text("\n")
            (self.dir / "other.csv").write_text("image,price\na.png,1\n")
            self.config((CONFIG % MODEL).replace(*change))
            self.fails("study", "s.toml", "--out", "bad", says=says)
            self.assertFalse((self.dir / "bad").exists(), change)


if __name__ == "__main__":
    unittest.main()
