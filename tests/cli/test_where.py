"""Conditions from the shell: whose rows are fused, what a condition compares, and what comes back after a deletion."""
import json
import unittest

from common import HOOK, MODEL, Case, npy, write_npy


class Tenants(Case):
    """Two tenants in one bank: what one of them gets is what a bank of its own rows alone gives, bit for bit."""
    WHERE = ["--where", "json_extract(meta,'$.tenant') = 'a'"]
    SIDES = ("img_emb/img_emb_0.npy", "text_emb/text_emb_0.npy")

    def setUp(self):
        super().setUp()
        self.pictures(24)
        header = "image,text,tenant\n"
        rows = [f'pictures/{i:04d}.png,"thing {i}, a thing",{"ab"[i % 2]}\n' for i in range(24)]
        for name, of in (("both", rows), ("own", rows[::2])):
            (self.dir / f"{name}.csv").write_text(header + "".join(of))
            self.reco("bank", "build", "--model", MODEL, "--pairs", f"{name}.csv", "--out", f"{name}.bank")
        (self.dir / "classes.txt").write_text("".join(f"thing {i}, a thing\n" for i in range(24)))

    def same(self, run):
        """run(bank, *where) gives the same of both tenants' bank, with the condition, and of the tenant's own."""
        own, leaky, filtered = run("own.bank"), run("both.bank"), run("both.bank", *self.WHERE)
        self.assertEqual(filtered, own)
        self.assertNotEqual(leaky, own)

    def test_refine(self):
        self.reco("bank", "export", "both.bank", "--out", "e")
        self.reco("train", "--bank", "both.bank", "--layer", "transformer", "--steps", "10", "--out", "f.safetensors")

        def refine(fusion, k):
            def run(bank, *where):
                self.reco("refine", "--bank", bank, "--fusion", fusion, "--embeddings", "e", "--out", "r", "--refine", "both", "-k", k, *where)
                return [(self.dir / "r" / side).read_bytes() for side in self.SIDES]
            return run

        for fusion in ("vote", "mean", "weighted", "f.safetensors"):
            for k in (3, 20):  # 20: more than the tenant has
                self.same(refine(fusion, k))

    def test_none_left(self):
        self.reco("bank", "export", "both.bank", "--out", "e")
        for fusion in ("vote", "mean", "weighted"):
            self.reco("refine", "--bank", "both.bank", "--fusion", fusion, "--embeddings", "e", "--out", "r", "--refine", "both",
                      "--dtype", "float16", "--where", "0")
            for side in self.SIDES:
                self.assertEqual(npy(self.dir / "r" / side), npy(self.dir / "e" / side))

    def test_search(self):
        def run(bank, *where):
            found = self.json("search", "--model", MODEL, "--bank", bank, "--text", "thing 5, a thing", "--image", "pictures/0007.png",
                              "--fusion", "mean", "--refine", "both", "-k", 5, *where)["results"]
            return [[(h["score"], h["caption"]) for h in r["hits"]] for r in found]

        self.same(run)
        own = self.json("search", "--bank", "own.bank", "--near", 3, "--fusion", "mean", "--refine", "both")["hits"]
        both = self.json("search", "--bank", "both.bank", "--near", 6, "--fusion", "mean", "--refine", "both", *self.WHERE)["hits"]
        self.assertEqual([(h["score"], h["caption"]) for h in both], [(h["score"], h["caption"]) for h in own])

    def test_classify_and_eval(self):
        (self.dir / "labels.csv").write_text("image,label\n" + "".join(f'pictures/{i:04d}.png,"thing {i}, a thing"\n' for i in range(24)))
        common = ["--model", MODEL, "--fusion", "vote", "--classes", "classes.txt", "--refine", "both", "-k", "4"]

        def without_ids(value):
            """Ids alone tell the two banks apart."""
            if isinstance(value, str): return [without_ids(json.loads(line)) for line in value.splitlines()]
            if isinstance(value, list): return [without_ids(v) if isinstance(v, (dict, list)) else v for v in value]
            return {k: without_ids(v) if isinstance(v, (dict, list)) else v for k, v in value.items() if k != "id"}

        def classify(bank, *where):
            return without_ids(self.reco("classify", *common, "--bank", bank, "pictures/0003.png", "pictures/0004.png", *where, "--json").stdout)

        def evaluate(bank, *where):
            done = self.json("eval", *common, "--bank", bank, "--labels", "labels.csv", "--details", "d.jsonl", *where)
            return done["reco"], without_ids((self.dir / "d.jsonl").read_text())

        self.same(classify)
        self.same(evaluate)
        self.fails("classify", *common, "--bank", "both.bank", "pictures/0003.png", "--where", "1; DROP TABLE pair", says=["where: "])


class Rows(Case):
    """A bank of rows without a model."""

    def bank(self, records, name="b"):
        for side in ("img_emb", "text_emb"):
            write_npy(self.dir / f"{name}.emb/{side}/{side}_0.npy", [[float(i == j) for j in range(12)] for i in range(len(records))])
        (self.dir / f"{name}.emb/metadata").mkdir()
        (self.dir / f"{name}.emb/metadata/metadata_0.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
        self.reco("bank", "build", "--embeddings", f"{name}.emb", "--out", name, "--several-captions")

    def ids(self, *arguments):
        return [json.loads(r)["id"] for r in self.reco("bank", "list", "b", *arguments, "--json").stdout.splitlines()]


class Undelete(Rows):
    def setUp(self):
        super().setUp()
        self.bank([{"caption": f"thing {i}", "image_path": f"{i // 2}.jpg", "n": i} for i in range(8)])

    def test_back(self):
        before = self.reco("bank", "list", "b", "--json").stdout
        hits = self.json("search", "--bank", "b", "--near", 3, "-k", 8)
        self.reco("bank", "delete", "b", "--where", "id < 6")
        deleted = self.reco("bank", "list", "b", "--deleted", "--json").stdout.splitlines()
        self.assertEqual(len(deleted), 6)
        would = self.reco("bank", "undelete", "b", "--where", "json_extract(meta,'$.n') > 3", "--id", 0, 7, 100, "--dry-run", "--json").stdout.splitlines()
        self.assertEqual(would[:-1], [deleted[0], *deleted[4:]])
        self.assertEqual(json.loads(would[-1]), {"would_undelete": 3, "missing": 2, "doubles": 0, "double_ids": []})
        self.assertEqual(self.ids(), [6, 7])
        self.assertEqual(self.reco("bank", "undelete", "b", "--uri", "1.jpg").stdout, "2 rows undeleted, 0 not found\n")
        self.assertEqual(self.ids(), [2, 3, 6, 7])
        self.assertEqual(self.ids("--deleted"), [0, 1, 4, 5])
        self.assertEqual(self.json("bank", "info", "b")["deleted"], 4)
        self.assertEqual(self.json("bank", "verify", "b")["ok"], True)
        (self.dir / "ids.txt").write_text("0\n1\n")
        self.assertEqual(self.json("bank", "undelete", "b", "--ids", "ids.txt")["undeleted"], 2)
        self.assertEqual(self.json("bank", "undelete", "b", "--all")["undeleted"], 2)
        self.assertEqual(self.json("bank", "undelete", "b", "--all"), {"undeleted": 0, "missing": 0, "doubles": 0, "double_ids": []})
        self.assertEqual(self.reco("bank", "list", "b", "--json").stdout, before)
        self.assertEqual(self.json("search", "--bank", "b", "--near", 3, "-k", 8), hits)
        self.assertEqual(self.json("bank", "verify", "b")["ok"], True)
        self.reco("bank", "delete", "b", "--id", 5)
        self.reco("bank", "compact", "b")
        self.assertEqual(self.json("bank", "undelete", "b", "--id", 5), {"undeleted": 0, "missing": 1, "doubles": 0, "double_ids": []})
        for arguments in (["b"], ["--all"], ["b", "--all", "--near", "1"], ["b", "--all", "--yes"]):
            self.reco("bank", "undelete", *arguments, code=2)
        self.fails("bank", "undelete", "none", "--all", says=["none"])
        self.fails("bank", "undelete", "b", "--where", "1; DROP TABLE pair", says=["where: "])

    def test_doubles(self):
        """What was added again since does not come back beside it, nor what was deleted twice."""
        self.reco("bank", "delete", "b", "--where", "id < 4")
        (self.dir / "b.emb/metadata/metadata_0.jsonl").write_text("".join(
            json.dumps({"caption": f"thing {i}" if i < 2 else f"other {i}", "image_path": f"{i // 2}.jpg"}) + "\n" for i in range(8)))
        self.reco("bank", "add", "--embeddings", "b.emb", "b", "--several-captions")
        self.assertEqual(len(self.ids()), 4 + 8)
        done = self.reco("bank", "undelete", "b", "--all", "--dry-run")
        self.assertIn("2 rows stay deleted", done.stderr)
        done = self.reco("bank", "undelete", "b", "--all")
        self.assertEqual(done.stdout, "2 rows undeleted, 0 not found\n")
        self.assertIn("2 rows stay deleted, since the bank holds the same picture and caption again, such as id 0", done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertEqual(self.ids("--deleted"), [0, 1])
        self.assertEqual(self.json("bank", "undelete", "b", "--id", 1, "2"), {"undeleted": 0, "missing": 1, "doubles": 1, "double_ids": [1]})
        self.reco("bank", "delete", "b", "--id", 8)  # the newer of the two
        self.assertEqual(self.json("bank", "undelete", "b", "--all"), {"undeleted": 1, "missing": 0, "doubles": 2, "double_ids": [0, 1]})
        self.assertIn(8, self.ids())
        self.assertEqual(self.json("bank", "verify", "b")["ok"], True)

    def test_doubles_of_pictures(self):
        """A picture is the same under whatever name it was added again, and another one under the same name is not."""
        self.reco("bank", "build", "--model", MODEL, "--pairs", self.pairs(3), "--out", "p")
        self.reco("bank", "delete", "p", "--id", 0, 1)
        (self.dir / "again.csv").write_text('image,text,brand\n./pictures/../pictures/0000.png,"thing 0, a thing",brand0\n')
        self.reco("bank", "add", "--model", MODEL, "--pairs", "again.csv", "p")
        (self.dir / "other/pictures").mkdir(parents=True)
        (self.dir / "pictures/0002.png").rename(self.dir / "other/pictures/0001.png")
        (self.dir / "other/pairs.csv").write_text('image,text,brand\npictures/0001.png,"thing 1, a thing",brand1\n')
        self.reco("bank", "add", "--model", MODEL, "--pairs", "other/pairs.csv", "p")
        self.assertEqual(self.json("bank", "undelete", "p", "--all"), {"undeleted": 1, "missing": 0, "doubles": 1, "double_ids": [0]})
        self.assertEqual([r["id"] for r in self.rows("p")], [1, 2, 3, 4])
        self.assertEqual(self.json("bank", "verify", "p")["ok"], True)

    @unittest.skipUnless(HOOK, "the library of faults is not there")
    def test_killed(self):
        self.reco("bank", "delete", "b", "--where", "id < 6")
        seen = set()
        for kind in ("write", "sync"):
            for n in range(60):
                ended = self.crashed(f"{kind}:{n}:kill", ["bank", "undelete", "b", "--all"])
                now = len(self.ids())
                self.assertIn(now, (8,) if ended.returncode == 0 else (2, 8))
                self.assertEqual(self.json("bank", "verify", "b")["ok"], True)
                seen.add((now, ended.returncode == 0))
                self.reco("bank", "undelete", "b", "--all")
                self.reco("bank", "delete", "b", "--where", "id < 6")
                if ended.returncode == 0:
                    break
        self.assertGreaterEqual(seen, {(2, False), (8, True)})


class TextAndNumber(Rows):
    """Prices that are text, as in a column that holds a word, too."""

    def setUp(self):
        super().setUp()
        self.bank([{"caption": f"thing {p}", "image_path": f"{i}.jpg", "price": p, "n": i} for i, p in enumerate(["7.5", "49", "120", "1000"])])

    def test_every_command_warns(self):
        where = ["--where", "json_extract(meta,'$.price') < 50"]
        (self.dir / "classes.txt").write_text("a\nb\n")
        for command in (["search", "--bank", "b", "--near", 1], ["bank", "list", "b"], ["bank", "delete", "b", "--dry-run"],
                        ["bank", "export", "b", "--out", "x"], ["bank", "export", "b", "--pairs", "x.csv"],
                        ["refine", "--bank", "b", "--fusion", "mean", "--embeddings", "b.emb", "--out", "r"]):
            for options in ([], ["--json"]):
                done = self.reco(*command, *where, *options)
                for word in ("json_extract(meta,'$.price') is text", "CAST(json_extract(meta,'$.price') AS REAL)", "--types", "4 times"):
                    self.assertIn(word, done.stderr, command)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.run_raw("bank", "list", "b")
                for made in ("x", "r"):
                    if (self.dir / made).exists(): (self.dir / made).rename(self.dir / f"{made}.{len(list(self.dir.iterdir()))}")
        self.reco("bank", "delete", "b", "--id", 0)
        self.assertIn("is text", self.reco("bank", "list", "b", "--deleted", *where).stderr)
        self.assertIn("is text", self.reco("bank", "undelete", "b", *where, "--dry-run").stderr)
        for good in ("CAST(json_extract(meta,'$.price') AS REAL) < 50", "json_extract(meta,'$.n') < 50", "json_extract(meta,'$.price') = '49'"):
            self.assertEqual(self.reco("bank", "list", "b", "--where", good).stderr, "")

    def test_delete_wants_yes(self):
        where = ["--where", "json_extract(meta,'$.price') > 100"]
        done = self.reco("bank", "delete", "b", *where, code=1)
        self.assertEqual(done.stdout, "")
        self.assertIn("--yes", done.stderr.splitlines()[-1])
        self.assertEqual(len(self.ids()), 4)
        would = self.reco("bank", "delete", "b", *where, "--dry-run", "--json").stdout.splitlines()
        self.assertEqual(json.loads(would[-1])["would_delete"], 4)
        self.assertEqual(self.json("bank", "delete", "b", "--where", "CAST(meta->>'price' AS REAL) > 100")["deleted"], 2)
        self.assertEqual(self.json("bank", "delete", "b", *where, "--yes")["deleted"], 2)
        self.assertEqual(self.ids(), [])


if __name__ == "__main__":
    unittest.main()
