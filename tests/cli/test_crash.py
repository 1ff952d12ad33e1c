"""The command itself, each of its system calls failing or killing in turn (a sample): the bank is that of before or after,
whole, and the next writer leaves no rubbish. tests/crash does every one, within the library."""
import json
import os
import shutil
import unittest

from common import HOOK, Case, npy, write_npy

CALLS = ("write", "read", "sync", "rename", "mmap", "open", "truncate", "unlink")
SAMPLE = int(os.environ.get("RECO_TEST_MOMENTS", 4))  # of each call, and both ways of going wrong


@unittest.skipUnless(HOOK, "the library of faults is not there")
class Crash(Case):
    def embeddings(self, name, first, n):
        rows = [[float(i == j) for j in range(8)] for i in range(first, first + n)]
        for side in ("img_emb", "text_emb"):
            write_npy(self.dir / name / f"{side}/{side}_0.npy", rows)
        (self.dir / name / "metadata").mkdir()
        (self.dir / name / "metadata/metadata_0.jsonl").write_text(
            "".join(json.dumps({"caption": f"thing {i}", "image_path": f"{i}.png"}) + "\n" for i in range(first, first + n)))

    def setUp(self):
        super().setUp()
        self.embeddings("a", 0, 5)
        self.embeddings("c", 5, 3)
        self.reco("bank", "build", "--embeddings", "a", "--out", "base")

    def state(self, bank):
        """Ids, when each row has its own caption, URI and vectors."""
        rows = self.rows(bank)
        shutil.rmtree(self.dir / "out", ignore_errors=True)
        self.reco("bank", "export", bank, "--out", "out")
        for side in ("img_emb", "text_emb"):
            self.assertEqual([v.index(1.0) for v in npy(self.dir / f"out/{side}/{side}_0.npy")[1]], [r["id"] for r in rows])
        for row in rows:
            self.assertEqual((row["caption"], row["uri"]), (f"thing {row['id']}", f"{row['id']}.png"))
        return [r["id"] for r in rows]

    def tidy(self, bank):
        health = self.json("bank", "verify", bank)
        self.assertEqual((health["ok"], health["orphans"]), (True, 0))
        named = {f["file"] for f in self.json("bank", "info", bank)["files"]}
        self.assertEqual({p.name for p in (self.dir / bank / "vectors").iterdir()}, named)
        self.assertLessEqual({p.name for p in (self.dir / bank).iterdir()},
                             {"bank.sqlite", "bank.sqlite-wal", "bank.sqlite-shm", "writer.lock", "vectors"})

    def fresh(self):
        shutil.rmtree(self.dir / "k", ignore_errors=True)
        shutil.copytree(self.dir / "base", self.dir / "k")

    def moments(self, command, call):
        """A sample of the calls of this kind that the command makes."""
        n = 1
        while True:
            self.fresh()
            if self.crashed(f"{call}:{n}:kill", command).returncode != -9:
                return range(0, n + 1, max(1, n // SAMPLE))
            n *= 2

    def try_all(self, command, before, after):
        fired = 0
        for call in CALLS:
            for i, n in enumerate(self.moments(command, call)):
                for action in ("kill", ("fail:5", "fail-on:28")[i % 2]):
                    self.fresh()
                    done = self.crashed(f"{call}:{n}:{action}", command)
                    where = (call, n, action, done.returncode, done.stderr)
                    self.assertIn(done.returncode, (0, 1, -9), where)
                    if done.returncode == 1:
                        self.assertEqual(done.stdout, "", where)
                        self.assertTrue(done.stderr.splitlines()[-1].startswith("reco: "), where)
                    fired += done.returncode != 0
                    self.assertIn(self.state("k"), [after] if done.returncode == 0 else [before, after], where)
                    self.assertTrue(self.json("bank", "verify", "k")["ok"], where)
                    self.reco(*command)
                    self.assertEqual(self.state("k"), after, where)
                    self.tidy("k")
        self.assertGreater(fired, 20)

    def test_build_of_many(self):
        """Enough rows for scan files, which are written beside their segment."""
        rows = 10000
        write_npy(self.dir / "m/img_emb/img_emb_0.npy", [[float(i % 3 == j) for j in range(3)] for i in range(rows)])
        shutil.copytree(self.dir / "m/img_emb", self.dir / "m/text_emb")
        (self.dir / "m/text_emb/img_emb_0.npy").rename(self.dir / "m/text_emb/text_emb_0.npy")
        command, fired = ["bank", "build", "--embeddings", "m", "--out", "k", "--threads", "2"], 0
        for call, n in (("open", 20), ("write", 4), ("write", 8), ("sync", 2), ("sync", 4), ("rename", 2), ("rename", 3),
                        ("truncate", 1), ("unlink", 1)):
            for action in ("kill", "fail:5", "fail-on:28"):
                shutil.rmtree(self.dir / "k", ignore_errors=True)
                done = self.crashed(f"{call}:{n}:{action}", command)
                where = (call, n, action, done.returncode, done.stderr)
                self.assertIn(done.returncode, (0, 1, -9), where)
                fired += done.returncode != 0
                if done.returncode != 0: self.reco(*command)
                health = self.json("bank", "verify", "k")
                self.assertEqual((health["ok"], health["orphans"], health["rows"]), (True, 0, rows), where)
                self.assertIn(self.json("bank", "info", "k")["scan_rows"], (0, rows), where)
        self.assertGreater(fired, 15)

    def test_add(self):
        self.try_all(["bank", "add", "--embeddings", "c", "k"], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6, 7])

    def test_delete(self):
        self.try_all(["bank", "delete", "k", "--id", "1", "--uri", "3.png"], [0, 1, 2, 3, 4], [0, 2, 4])


if __name__ == "__main__":
    unittest.main()
