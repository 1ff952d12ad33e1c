"""bank index: the files that make searches fast, made, missing, damaged, taken away."""
import os
import random
import shutil
import subprocess
import unittest

from common import RECO, Case, write_npy


def unit(rng, d=8):
    x = [rng.gauss(0, 1) for _ in range(d)]
    norm = sum(v * v for v in x) ** 0.5
    return [v / norm for v in x]


class Index(Case):
    def setUp(self):
        super().setUp()
        rng = random.Random(1)
        for part in range(2):
            for side in ("img_emb", "text_emb"):
                write_npy(self.dir / f"e{part}/{side}/{side}_0.npy", [unit(rng) for _ in range(40)])
        self.reco("bank", "build", "--embeddings", "e0", "--out", "b")
        self.reco("bank", "add", "--embeddings", "e1", "b")
        self.reco("bank", "delete", "b", "--id", "7")
        self.hits = self.search()
        self.assertEqual(len(self.hits["hits"]), 20)

    def search(self):
        return self.json("search", "--bank", "b", "--near", 3, "-k", 20)

    def scan_files(self):
        return sorted(p.name for p in (self.dir / "b/vectors").glob("*.scan-int8.safetensors"))

    def test_made_and_taken_away(self):
        self.assertEqual(self.scan_files(), [])
        self.assertEqual(self.reco("bank", "index", "b", "--scan", "none").stdout, "nothing to do: b has no scan files\n")
        self.assertEqual(self.reco("bank", "index", "b").stdout, "2 scan files made in b\n")
        self.assertEqual(self.scan_files(), [f"segment-00000{i}.scan-int8.safetensors" for i in range(2)])
        self.assertEqual(self.json("bank", "info", "b")["scan_rows"], 80)
        self.assertEqual(self.search(), self.hits)
        self.assertEqual(self.reco("bank", "index", "b").stdout, "nothing to do: b has all of its scan files\n")
        self.assertEqual(self.json("bank", "index", "b", "--scan", "int8"), {"scan": "int8", "files": 0})
        self.assertEqual(self.json("bank", "verify", "b")["orphans"], 0)
        self.assertEqual(self.json("bank", "index", "b", "--scan", "none"), {"scan": "none", "files": 2})
        self.assertEqual((self.scan_files(), self.json("bank", "info", "b")["scan_rows"]), ([], 0))
        self.assertEqual(self.search(), self.hits)

    def test_lists(self):
        """Made, told, searched, passed by with --exact, taken away."""
        rng = random.Random(2)
        centres = [unit(rng) for _ in range(60)]
        rows = []
        for _ in range(3000):
            x = [c + rng.gauss(0, 0.1) for c in rng.choice(centres)]
            norm = sum(v * v for v in x) ** 0.5
            rows.append([v / norm for v in x])
        for side in ("img_emb", "text_emb"): write_npy(self.dir / f"l/{side}/{side}_0.npy", rows)
        self.reco("bank", "build", "--embeddings", "l", "--out", "m")
        search = ("search", "--bank", "m", "--near", 3, "-k", 5)
        exact = self.json(*search)
        self.assertEqual(self.json("bank", "info", "m")["recall"], None)
        self.assertEqual(self.reco("bank", "index", "m", "--lists", "none").stdout, "nothing to do: m has no lists\n")
        self.assertIn("m is small", self.reco("bank", "index", "m", "--lists", "auto").stdout)
        made = self.json("bank", "index", "m", "--lists", "64", "--recall", "0.9")
        self.assertEqual(made["cells"], 64)
        info = self.json("bank", "info", "m")
        self.assertEqual((info["list_rows"], info["list_recall"], info["recall"]), (3000, 0.9, made["recall"]))
        for side in ("image", "text"):
            for asked in ("image", "text"):
                points = info["recall"][side][asked]
                self.assertEqual(points, sorted(points, key=lambda p: (p["recall"], p["rows"])))
                self.assertTrue(all(0 < p["rows"] <= 1 and 1 <= p["cells"] <= 64 for p in points))
        self.assertIn("lists        64 cells, 3000 rows, searched at recall 0.9\n", self.reco("bank", "info", "m").stdout)
        said = "searching lists at recall {} (--exact searches all rows)\n"
        self.assertEqual(self.reco(*search).stderr, said.format(0.9))
        self.assertEqual(self.reco(*search, "--recall", "0.99").stderr, said.format(0.99))
        self.assertEqual(self.reco(*search, "--exact").stderr, "")
        self.assertEqual(self.json(*search, "--exact"), exact)
        self.assertEqual(self.json(*search, "--recall", "0.999")["hits"][0], exact["hits"][0])
        self.assertEqual(self.json("bank", "verify", "m")["ok"], True)
        for bad in (("--lists", "0"), ("--lists", "few"), ("--recall", "0.9"), ("--lists", "8", "--recall", "2"), ("--lists", "8", "--scan", "none")):
            self.reco("bank", "index", "m", *bad, code=2)
        self.assertIn("cells = 2000, want 1..1500", self.reco("bank", "index", "m", "--lists", "2000", code=1).stderr)
        self.assertEqual(self.reco("bank", "index", "m", "--lists", "none").stdout, "lists removed from m\n")
        self.assertEqual(self.reco(*search).stderr, "")

    def test_missing_and_damaged(self):
        self.reco("bank", "index", "b")
        paths = [self.dir / "b/vectors" / name for name in self.scan_files()]
        good = [p.read_bytes() for p in paths]
        for damage in (lambda p, data: p.unlink(), lambda p, data: p.write_bytes(data[:-1]), lambda p, data: p.write_bytes(b""),
                       lambda p, data: p.write_bytes(b"\xff" * len(data)), lambda p, data: p.write_bytes(good[0])):
            damage(paths[1], good[1])
            self.assertEqual(self.search()["hits"], self.hits["hits"])
            self.assertEqual(self.json("bank", "index", "b"), {"scan": "int8", "files": 1})
            self.assertEqual([p.read_bytes() for p in paths], good)
            self.assertTrue(self.json("bank", "verify", "b")["ok"])
        paths[0].unlink()
        paths[1].unlink()
        self.assertEqual(self.json("bank", "index", "b")["files"], 2)
        self.assertEqual([p.read_bytes() for p in paths], good)

    def test_after_other_commands(self):
        """compact makes those of its new files; add to a small bank does not."""
        self.reco("bank", "index", "b")
        self.reco("bank", "compact", "b")
        self.assertEqual(self.scan_files(), ["segment-000002.scan-int8.safetensors"])
        self.reco("bank", "index", "b", "--scan", "none")
        self.reco("bank", "add", "--embeddings", "e0", "b")
        self.assertEqual(self.scan_files(), [])

    def test_refusals(self):
        self.fails("bank", "index", "nothing", says=["nothing"])
        for arguments in ([], ["b", "--scan", "int4"], ["b", "c"], ["b", "--scan"]):
            self.reco("bank", "index", *arguments, code=2)
        self.assertIn("Example:", self.reco("bank", "index", "--help").stdout)

    def test_read_only(self):
        """One clear line; where the user is root, as nobody, since root may write anywhere."""
        as_user = {}
        if os.geteuid() == 0:
            try:
                subprocess.run([RECO, "--version"], user=65534, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            except (OSError, subprocess.CalledProcessError):
                self.skipTest("nobody can't run reco here")
            as_user = {"user": 65534}
        os.chmod(self.dir, 0o755)
        for path in (self.dir / "b").rglob("*"):
            os.chmod(path, 0o555 if path.is_dir() else 0o444)
        os.chmod(self.dir / "b", 0o555)
        for arguments in (["index", "b"], ["index", "b", "--scan", "none"], ["compact", "b"], ["delete", "b", "--id", "1"]):
            done = subprocess.run([RECO, "bank", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.dir, **as_user)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertIn("b/writer.lock: Permission denied", done.stderr)
        done = subprocess.run([RECO, "search", "--bank", "b", "--near", "3"], stdout=subprocess.PIPE, cwd=self.dir, **as_user)
        self.assertEqual(done.returncode, 0)
        os.chmod(self.dir / "b", 0o755)
        shutil.rmtree(self.dir / "b", ignore_errors=True)


if __name__ == "__main__":
    unittest.main()
