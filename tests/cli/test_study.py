"""study: a small grid, its tables, going on, and configurations that are refused."""
import csv
import json

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

    def test_grid(self):
        plan = self.reco("study", "s.toml", "--out", "o", "--dry-run").stdout
        self.assertIn("k = 3", plan)
        self.assertFalse((self.dir / "o").exists())
        self.reco("study", "s.toml", "--out", "o", "--threads", "2")
        table = list(csv.DictReader((self.dir / "o/table.csv").read_text().splitlines()))
        self.assertEqual(len(table), 6)
        self.assertIn("<svg", (self.dir / "o/index.html").read_text())
        json.loads((self.dir / "o/table.json").read_text())
        first = self.tables("o")
        again = self.reco("study", "s.toml", "--out", "o")  # nothing is left to do
        self.assertIn("0 layers trained", again.stdout + again.stderr)
        self.assertEqual(self.tables("o"), first)
        self.reco("study", "s.toml", "--out", "one", "--threads", "1")
        self.assertEqual(self.tables("one"), first)

    def test_refused(self):
        for change, says in (
            (("seeds =", "seed ="), ["s.toml:6", '"seed"', '"seeds"']),
            (("k = 3\n", "k = 0\n"), ["s.toml:9"]),
            (('"vote"', '"votes"'), ["s.toml:13", "votes"]),
            (("k = [1, 3]", "k = [1, 3"), ["s.toml"]),
            (("labels.csv", "nothing.csv"), ["nothing.csv"]),
        ):
            self.config((CONFIG % MODEL).replace(*change))
            self.fails("study", "s.toml", "--out", "bad", says=says)
            self.assertFalse((self.dir / "bad").exists(), change)


if __name__ == "__main__":
    unittest.main()
