"""Killed at a system call in the middle of a job of many commits, and run again: what was committed is not embedded again,
and the bank, its failures and its embeddings are those of a run that nobody killed."""
import io
import json
import math
import random
import shutil
import tarfile
import unittest

from common import HOOK, MODEL, Case, jsonl, npy, write_npy

KINDS = (("rename", 2), ("sync", 5), ("write", 67), ("mmap", 19))  # system calls, and each how many of them is tried
NEAR = {12: 2, 30: 18, 46: 36}  # records with the picture of an earlier one


@unittest.skipUnless(HOOK, "the library of faults is not there")
class Resume(Case):
    N = 48

    def sources(self):
        """N records, of which every 7th has no picture, and some repeat an earlier one; p.csv, t0.tar and t1.tar."""
        self.pictures(self.N)
        self.uris, self.bad = [], {}
        records = []
        for i in range(self.N):
            picture, text = f"pictures/{i:04d}.png", f"thing {i}"
            if i % 7 == 3:
                picture = f"pictures/none{i}.png"
                self.bad[i] = "cannot open image"
            elif i in (20, 37):
                picture, text = f"pictures/{i - 16:04d}.png", f"thing {i - 16}"
                self.bad[i] = "duplicate URI: the same image and text as an earlier row"
            elif i in NEAR:  # near-duplicates, no failures
                picture = f"pictures/{NEAR[i]:04d}.png"
            records.append((picture, text))
        (self.dir / "p.csv").write_text("image,text\n" + "".join(f"{p},{t}\n" for p, t in records))
        for part in range(2):
            with tarfile.open(self.dir / f"t{part}.tar", "w") as tar:
                for i, (picture, text) in list(enumerate(records))[part * self.N // 2:(part + 1) * self.N // 2]:
                    data = b"no picture" if "none" in picture else (self.dir / picture).read_bytes()
                    for ending, content in (("png", data), ("txt", text.encode())):
                        info = tarfile.TarInfo(f"k{i}.{ending}")
                        info.size = len(content)
                        tar.addfile(info, io.BytesIO(content))

    def state(self, bank):
        """All that a job leaves."""
        shutil.rmtree(self.dir / "out", ignore_errors=True)
        self.reco("bank", "export", bank, "--out", "out")
        path = self.dir / bank / "failures.jsonl"
        return (self.rows(bank), [npy(self.dir / f"out/{side}/{side}_0.npy") for side in ("img_emb", "text_emb")],
                jsonl(path) if path.exists() else [])

    def killed_anywhere(self, command, bank, wrong, before=None, model=("--model", MODEL, "--batch", 4)):
        """command: without the bank. wrong: records that are not embedded. before: the bank that is added to."""
        options = [*model, "--commit", 8, "--quiet", "--several-captions"]

        def begin(name):
            if before:
                shutil.copytree(self.dir / before, self.dir / name)
            verb = ["bank", "add", name] if before else ["bank", "build", "--out", name]
            return [*verb, *options, *command]

        whole = self.json(*begin(bank))
        want = self.state(bank)
        had = len(self.rows(before)) if before else 0
        self.assertEqual(whole["embedded"], self.N - len(wrong))
        self.assertGreater(self.json("bank", "info", bank)["segments"], 4)
        resumed = set()
        for kind, step in KINDS:
            for n in range(step // 2, 10000, step):
                again = begin("k")
                ended = self.crashed(f"{kind}:{n}:kill", again)
                if ended.returncode == 0:
                    shutil.rmtree(self.dir / "k")
                    break
                self.assertEqual(ended.returncode, -9, ended.stderr)
                there = len(self.rows("k")) - had if (self.dir / "k/bank.sqlite").exists() else 0
                result = self.json(*again)
                resumed.add(result["resumed"])
                self.assertEqual(there + result["added"], whole["added"], (kind, n))
                state = self.state("k")
                done = there == whole["added"] and result["resumed"] == 0  # nothing was left to do, but to look whether that is so
                left = whole["near_duplicates"] if done and before else 0 if done else sum(i >= result["resumed"] and i not in wrong for i in range(self.N))
                self.assertEqual(result["embedded"], left, (kind, n))
                for part in range(2 if done and before else 3):
                    self.assertTrue(state[part] == want[part], (kind, n, part, state[part], want[part]) if part != 1 else (kind, n))
                health = self.json("bank", "verify", "k")
                self.assertEqual((health["ok"], health["orphans"]), (True, 0), (kind, n))
                shutil.rmtree(self.dir / "k")
        self.assertGreaterEqual(len(resumed), 5, resumed)
        return want

    def embeddings_alone(self, rows, vectors):
        """Every row holds the embedding of its own picture and caption."""
        for kind, key, name in (("--images", "uri", "pictures.txt"), ("--texts", "caption", "captions.txt")):
            (self.dir / name).write_text("".join(f"{r[key]}\n" for r in rows))
            self.reco("embed", "--model", MODEL, kind, name, "--out", "alone")
        for side, (_, have) in zip(("img_emb", "text_emb"), vectors):
            for row, other in zip(have, npy(self.dir / f"alone/{side}/{side}_0.npy")[1]):
                self.assertLess(max(abs(a - b) for a, b in zip(row, other)), 4e-3)

    def test_build(self):
        self.sources()
        rows, vectors, failures = self.killed_anywhere(["--pairs", "p.csv"], "whole", self.bad)
        self.assertEqual([f["row"] for f in failures], sorted(self.bad))
        for f in failures:
            self.assertIn(self.bad[f["row"]], f["reason"])
        self.embeddings_alone(rows, vectors)

    def test_add(self):
        self.sources()
        (self.dir / "first.csv").write_text("image,text\npictures/0001.png,thing 1\npictures/0002.png,another thing\n")
        self.reco("bank", "build", "--model", MODEL, "--pairs", "first.csv", "--out", "first")
        # Record 1 is there already: neither embedded nor a failure.
        rows, vectors, failures = self.killed_anywhere(["--pairs", "p.csv"], "whole", {**self.bad, 1: ""}, "first")
        self.assertEqual([f["row"] for f in failures], sorted(self.bad))
        self.embeddings_alone(rows, vectors)

    def test_tars(self):
        self.sources()
        wrong = {i for i in self.bad if i % 7 == 3}  # a tar's repeats have names of their own
        rows, vectors, failures = self.killed_anywhere(["--tars", "t0.tar", "t1.tar"], "whole", wrong)
        self.assertEqual([f["row"] for f in failures], sorted(wrong))
        self.assertEqual([r["uri"] for r in rows], [f"t{2 * i // self.N}.tar/k{i}.png" for i in range(self.N) if i not in wrong])
        alone = [{**r, "uri": f"pictures/{i:04d}.png"} for r, i in zip(rows, (i for i in range(self.N) if i not in wrong))]
        for i, r in zip((i for i in range(self.N) if i not in wrong), alone):
            r["uri"] = (self.dir / "p.csv").read_text().splitlines()[1 + i].split(",")[0]
        self.embeddings_alone(alone, vectors)

    def test_dedup_build(self):
        self.sources()
        rows, _, failures = self.killed_anywhere(["--pairs", "p.csv", "--dedup", "0.9995"], "whole", self.bad)
        self.assertEqual([f["row"] for f in failures], sorted(self.bad))
        self.assertEqual(len(rows), self.N - len(self.bad) - len(NEAR))
        self.assertEqual(len({r["uri"] for r in rows}), len(rows))

    def test_dedup_add(self):
        self.sources()
        (self.dir / "first.csv").write_text("image,text\npictures/0005.png,what is there\n")
        self.reco("bank", "build", "--model", MODEL, "--pairs", "first.csv", "--out", "first")
        rows, _, _ = self.killed_anywhere(["--tars", "t0.tar", "t1.tar", "--dedup", "0.9995"], "whole",
                                          {i for i in self.bad if i % 7 == 3}, "first")
        self.assertEqual(len(rows), 1 + self.N - len(self.bad) - len(NEAR) - 1)

    def test_embeddings(self):
        rng = random.Random(3)
        image, text = ([[rng.gauss(0, 1) for _ in range(8)] for _ in range(self.N)] for _ in range(2))
        records = [{"caption": f"thing {i}", "image_path": f"{i}.jpg"} for i in range(self.N)]
        image[5] = [math.nan] * 8
        text[29] = [0.0] * 8
        records[30] = records[3]
        records[31] = records[28]
        for side, rows in (("img_emb", image), ("text_emb", text)):
            write_npy(self.dir / f"e/{side}/{side}_0.npy", rows)
        (self.dir / "e/metadata").mkdir()
        (self.dir / "e/metadata/metadata_0.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
        rows, vectors, failures = self.killed_anywhere(["--embeddings", "e"], "whole", set(range(self.N)), model=())
        good = [i for i in range(self.N) if i not in (5, 29, 30, 31)]
        self.assertEqual([(r["caption"], r["uri"]) for r in rows], [(f"thing {i}", f"{i}.jpg") for i in good])
        self.assertEqual([f["row"] for f in failures], [5, 29, 30, 31])
        for (_, have), want in zip(vectors, (image, text)):
            for row, i in zip(have, good):
                norm = math.sqrt(sum(x * x for x in want[i]))
                self.assertLess(max(abs(a - b / norm) for a, b in zip(row, want[i])), 1e-3, i)


if __name__ == "__main__":
    unittest.main()
