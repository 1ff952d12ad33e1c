"""Conditions from the shell: whose rows are fused, what a condition compares, and what comes back after a deletion."""
import json
import unittest

from common import MODEL, Case, npy


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

        def without_ids(text):
            rows = [json.loads(line) for line in text.splitlines()]
            for row in rows:
                for result in row.get("results", [row]):
                    for neighbour in result.get("neighbours", []):
                        del neighbour["id"]
            return rows

        def classify(bank, *where):
            return without_ids(self.reco("classify", *common, "--bank", bank, "pictures/0003.png", "pictures/0004.png", *where, "--json").stdout)

        def evaluate(bank, *where):
            done = self.json("eval", *common, "--bank", bank, "--labels", "labels.csv", "--details", "d.jsonl", *where)
            return done["reco"], without_ids((self.dir / "d.jsonl").read_text())

        self.same(classify)
        self.same(evaluate)
        self.fails("classify", *common, "--bank", "both.bank", "pictures/0003.png", "--where", "1; DROP TABLE pair", says=["where: "])


if __name__ == "__main__":
    unittest.main()
