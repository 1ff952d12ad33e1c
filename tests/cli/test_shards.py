"""Parts of an input, each on a machine of its own: side by side, they are the whole."""
import io
import json
import shutil
import tarfile
import unittest

from common import HOOK, MODEL, Case, jsonl, npy

N = 11


class Shards(Case):
    def sources(self):
        """N records of which one has no picture; p.csv, p.jsonl, t0.tar to t3.tar."""
        self.pictures(N)
        records = [(f"pictures/{'none' if i == 4 else f'{i:04d}'}.png", f"thing {i}") for i in range(N)]
        (self.dir / "p.csv").write_text("image,text,n\n" + "".join(f"{p},{t},{i}\n" for i, (p, t) in enumerate(records)))
        (self.dir / "p.jsonl").write_text("".join(json.dumps({"image": p, "text": t, "n": i}) + "\n" for i, (p, t) in enumerate(records)))
        for part in range(4):
            with tarfile.open(self.dir / f"t{part}.tar", "w") as tar:
                for i, (picture, text) in list(enumerate(records))[part * 3:(part + 1) * 3]:
                    data = b"no picture" if "none" in picture else (self.dir / picture).read_bytes()
                    for ending, content in (("png", data), ("txt", text.encode())):
                        info = tarfile.TarInfo(f"k{i}.{ending}")
                        info.size = len(content)
                        tar.addfile(info, io.BytesIO(content))

    def state(self, bank):
        """Rows without ids, vectors of both sides, failures."""
        path = self.dir / bank / "failures.jsonl"
        failures = jsonl(path) if path.exists() else []
        rows = self.rows(bank)
        if not rows:
            return [], ([], []), failures
        self.reco("bank", "export", bank, "--out", f"{bank}-out")
        return ([{k: v for k, v in r.items() if k != "id"} for r in rows],
                tuple(npy(self.dir / f"{bank}-out/{side}/{side}_0.npy")[1] for side in ("img_emb", "text_emb")), failures)

    def assert_parts(self, source, parts, numbered=True):
        """numbered: failures have the numbers that they have in the whole."""
        options = ["--quiet", *source]
        if "--embeddings" not in source: options += ["--model", MODEL, "--several-captions"]
        name = f"bank{len(list(self.dir.iterdir()))}"
        self.json("bank", "build", *options[:1], "--out", name, *options[1:])
        whole = self.state(name)
        rows, image, text, failures, count = [], [], [], [], []
        for i in range(1, parts + 1):
            self.json("bank", "build", "--shard", f"{i}/{parts}", "--out", f"{name}-{i}", *options)
            r, vectors, f = self.state(f"{name}-{i}")
            rows, failures, count = rows + r, failures + f, [*count, len(r) + len(f)]
            image, text = image + vectors[0], text + vectors[1]
        self.assertEqual((rows, (image, text)), whole[:2])
        strip = (lambda f: f) if numbered else (lambda f: [{k: v for k, v in x.items() if k != "row"} for x in f])
        self.assertEqual(strip(failures), strip(whole[2]))
        return count

    def test_pairs(self):
        self.sources()
        self.assertEqual(self.assert_parts(["--pairs", "p.csv"], 4), [3, 3, 3, 2])
        self.assertEqual(self.assert_parts(["--pairs", "p.jsonl"], 2), [6, 5])
        counts = self.assert_parts(["--pairs", "p.csv"], 13)  # more than there are records
        self.assertEqual(counts, [1] * N + [0, 0])

    def test_tars(self):
        self.sources()
        tars = [f"t{i}.tar" for i in range(4)]
        self.assertEqual(self.assert_parts(["--tars", *tars], 3, False), [6, 3, 2])
        self.assertEqual(self.assert_parts(["--tars", *tars], 5, False), [3, 3, 3, 2, 0])

    def test_embeddings(self):
        self.sources()
        self.reco("bank", "build", "--quiet", "--model", MODEL, "--pairs", "p.csv", "--out", "b")
        self.reco("bank", "export", "b", "--out", "e")
        self.assertEqual(self.assert_parts(["--embeddings", "e"], 3), [4, 3, 3])
        for part in ("img_emb/img_emb_1.npy", "text_emb/text_emb_1.npy", "metadata/metadata_1.jsonl"):
            shutil.copy(self.dir / "e" / part.replace("_1.", "_0."), self.dir / "e" / part)
        self.assertEqual(self.assert_parts(["--embeddings", "e"], 4), [5, 5, 5, 5])

    def test_embed(self):
        self.sources()
        (self.dir / "list.txt").write_text("".join(f"pictures/{i:04d}.png\n" for i in range(N)))
        (self.dir / "captions.txt").write_text("".join(f"thing {i}\n" for i in range(N)))
        for option, source, side in (("--images", "list.txt", "img_emb"), ("--images", "pictures", "img_emb"),
                                     ("--texts", "captions.txt", "text_emb")):
            self.reco("embed", "--quiet", "--model", MODEL, option, source, "--out", f"{source}-all")
            vectors, records = [], []
            for i in (1, 2, 3):
                out = f"{source}-{i}"
                self.json("embed", "--quiet", "--model", MODEL, option, source, "--shard", f"{i}/3", "--out", out)
                vectors += npy(self.dir / f"{out}/{side}/{side}_0.npy")[1]
                records += jsonl(self.dir / out / "metadata/metadata_0.jsonl")
            self.assertEqual(vectors, npy(self.dir / f"{source}-all/{side}/{side}_0.npy")[1])
            self.assertEqual(records, jsonl(self.dir / f"{source}-all" / "metadata/metadata_0.jsonl"))
        self.assertEqual(self.json("embed", "--quiet", "--model", MODEL, "--texts", "captions.txt", "--shard", "12/12", "--out", "none")["rows"], 0)

    def test_again(self):
        """A part that is there is not made again, another one is not mistaken for it, and an addition knows its own."""
        self.sources()
        build = ["bank", "build", "--quiet", "--model", MODEL, "--pairs", "p.csv", "--out", "b"]
        self.assertEqual(self.json(*build, "--shard", "1/2")["embedded"], 5)
        self.assertEqual(self.json(*build, "--shard", "1/2")["embedded"], 0)
        self.fails(*build, "--shard", "2/2", "--quiet", says=("is already a bank, built from something else",))
        self.fails(*build, "--quiet", says=("is already a bank",))
        add = self.json("bank", "add", "b", "--quiet", "--model", MODEL, "--pairs", "p.csv", "--shard", "2/2")
        self.assertEqual((add["added"], add["duplicates"], add["rows"]), (5, 0, 10))
        self.assertEqual(self.json("bank", "add", "b", "--quiet", "--model", MODEL, "--pairs", "p.csv", "--shard", "12/12")["added"], 0)

    @unittest.skipUnless(HOOK, "the library of faults is not there")
    def test_killed(self):
        self.sources()
        build = ["bank", "build", "--quiet", "--model", MODEL, "--batch", 1, "--commit", 1, "--pairs", "p.csv", "--shard", "2/2", "--out"]
        self.reco(*build, "whole")
        whole = self.state("whole")
        for n in (1, 3, 5):
            self.assertEqual(self.crashed(f"rename:{n}:kill", [*build, f"k{n}"]).returncode, -9)
            before = len(self.rows(f"k{n}")) if (self.dir / f"k{n}" / "bank.sqlite").exists() else 0
            again = self.json(*build, f"k{n}")
            self.assertEqual(again["embedded"], 5 - before)
            self.assertEqual(again["resumed"] > 0, before > 0)
            self.assertEqual(self.state(f"k{n}"), whole)

    def test_bad(self):
        for bad in ("4/3", "0/3", "1/0", "x", "1", "1/2/3", "-1/2", "1/2x", " 1/2", "99999999999/2"):
            for command in (["embed", "--model", MODEL, "--texts", "t.txt", "--out", "o"], ["bank", "build", "--model", MODEL, "--pairs", "p.csv", "--out", "o"]):
                done = self.reco(*command, "--shard", bad, code=2)
                self.assertIn(f"shard: {bad}, want I/N with 1 <= I <= N", done.stderr)
        self.assertIn("--shard is for build and add",
                      self.reco("bank", "update", "b", "--model", MODEL, "--pairs", "p.csv", "--shard", "1/2", code=2).stderr)


if __name__ == "__main__":
    unittest.main()
