"""bank compact, bank verify, and writers that meet."""
import fcntl
import json
import os
import pathlib
import shutil
import sqlite3
import struct
import time
import unittest

from common import SOURCE, Case, npy, write_npy


def unit(i, side):
    row = [((i + 1) * 7919 + side * 31 + j * j * 17) % 23 - 11.5 for j in range(8)]
    norm = sum(x * x for x in row) ** 0.5
    return [x / norm for x in row]


class Keep(Case):
    def embeddings(self, name, first, n):
        folder = self.dir / name
        for side, kind in enumerate(("img_emb", "text_emb")):
            write_npy(folder / kind / f"{kind}_0.npy", [unit(i, side) for i in range(first, first + n)])
        (folder / "metadata").mkdir()
        (folder / "metadata/metadata_0.jsonl").write_text(
            "".join(json.dumps({"caption": f"thing {i}", "image_path": f"{i}.png", "n": i}) + "\n" for i in range(first, first + n)))
        return folder

    def bank(self):
        self.reco("bank", "build", "--embeddings", self.embeddings("a", 0, 10), "--out", "b")
        self.reco("bank", "add", "--embeddings", self.embeddings("c", 10, 5), "b")
        self.reco("bank", "delete", "b", "--id", "0", "3", "4", "14")

    def test_compact(self):
        self.bank()
        r = self.json("bank", "compact", "b")
        self.assertEqual({k: r[k] for k in ("rows", "removed", "copied", "segments_before", "segments")},
                         {"rows": 11, "removed": 4, "copied": 11, "segments_before": 2, "segments": 1})
        info = self.json("bank", "info", "b")
        self.assertEqual((info["rows"], info["deleted"], info["next_id"], info["segments"]), (11, 0, 15, 1))
        self.assertEqual([p.name for p in (self.dir / "b/vectors").iterdir()], ["segment-000002.safetensors"])
        self.assertEqual(self.reco("bank", "compact", "b").stdout,
                         "0 deleted rows removed, 11 rows in 1 segment (were 1), 0.0 MB of vectors (were 0.0)\n")
        self.reco("bank", "add", "--embeddings", self.embeddings("d", 15, 2), "b")
        self.assertEqual(self.json("bank", "info", "b")["next_id"], 17)
        self.assertTrue(self.json("bank", "verify", "b")["ok"])

    def test_verify(self):
        self.bank()
        self.assertEqual(self.reco("bank", "verify", "b").stdout, "11 rows (4 deleted) in 2 segments, 0.0 MB of vectors: whole\n")
        (self.dir / "b/vectors/segment-000009.safetensors").write_bytes(b"x")
        self.assertEqual(self.json("bank", "verify", "b"),
                         {"ok": True, "problem_count": 0, "problems": [], "rows": 11, "deleted": 4, "segments": 2,
                          "vector_bytes": 2 * 192 + (10 + 5) * 32, "orphans": 1})
        path = self.dir / "b/vectors/segment-000001.safetensors"
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 0x40
        path.write_bytes(raw)
        bad = self.json("bank", "verify", "b", code=1)
        self.assertFalse(bad["ok"])
        self.assertIn({"file": "vectors/segment-000001.safetensors", "offset": 0, "bytes": len(raw), "id": 10, "rows": 5,
                       "what": "is damaged: checksum differs"}, bad["problems"])
        done = self.reco("bank", "verify", "b", code=1)
        self.assertIn(f"vectors/segment-000001.safetensors: bytes 0 to {len(raw) - 1}: is damaged: checksum differs"
                      " (rows 10 to 14)\n", done.stdout)
        path.unlink()
        self.assertIn("segment-000001", self.reco("bank", "verify", "b", code=1).stdout)
        (self.dir / "b/bank.sqlite").write_bytes(b"garbage" * 1000)
        self.assertIn("bank.sqlite: file is not a database\n", self.reco("bank", "verify", "b", code=1).stdout)
        self.fails("bank", "verify", "nothing", says=["nothing"])

    def test_usage(self):
        for verb in ("compact", "verify"):
            self.assertIn("Example:", self.reco("bank", verb, "--help").stdout)
            self.reco("bank", verb, code=2)
            self.reco("bank", verb, "a", "b", code=2)
            self.fails("bank", verb, "nothing", says=["nothing"])

    def test_wait(self):
        self.bank()
        with open(self.dir / "b/writer.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write(f"{os.getpid()} {int(time.time()) - 90}\n")
            lock.flush()
            start = time.monotonic()
            for command in (["compact", "b"], ["delete", "b", "--id", "1"]):
                self.fails("bank", *command, "--wait", "0.3", says=[f"process {os.getpid()} has been writing for 9", "since 20"])
            self.assertGreater(time.monotonic() - start, 0.6)
            self.reco("bank", "verify", "b")  # readers don't wait
            for option in (["--where", "id < 3"], ["--uri", "1.png", "2.png"], ["--near", "1", "--min-similarity", "0.9999"]):
                self.reco("bank", "delete", "b", *option, "--dry-run", "--wait", "0")
            fcntl.flock(lock, fcntl.LOCK_UN)
        self.reco("bank", "compact", "b", "--wait", "0")

    def test_a_foreign_lock(self):
        """Of a program that uses SQLite and not our lock: waited for as long as for a writer of ours."""
        self.bank()
        connection = sqlite3.connect(self.dir / "b/bank.sqlite", isolation_level=None)
        self.addCleanup(connection.close)
        connection.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        self.fails("bank", "delete", "b", "--id", "1", "--wait", "3", says=["bank.sqlite", "locked"])
        self.assertTrue(2.5 < time.monotonic() - start < 8)
        connection.execute("ROLLBACK")
        self.reco("bank", "delete", "b", "--id", "1", "--wait", "3")

    def test_format_1(self):
        """A bank that the first reco wrote opens, can be searched, verified, added to and compacted for ever."""
        shutil.copytree(SOURCE / "tests/data/bank-v1", self.dir / "b")
        info = self.json("bank", "info", "b")
        self.assertEqual((info["format"], info["rows"], info["deleted"], info["next_id"], info["segments"]), (1, 6, 2, 8, 2))
        self.assertTrue(self.json("bank", "verify", "b")["ok"])
        self.assertEqual(self.json("bank", "info", "b")["format"], 1)
        self.reco("bank", "add", "--embeddings", self.embeddings("d", 8, 2), "b")
        self.assertEqual(self.json("bank", "info", "b")["format"], 3)
        self.assertTrue(self.json("bank", "verify", "b")["ok"])
        self.assertEqual(self.json("bank", "compact", "b")["rows"], 8)
        self.assertTrue(self.json("bank", "verify", "b")["ok"])

    def test_format_2(self):
        """One of format 2, whole: vectors with ids of their own, int8 codes, deleted rows, rows without URI and JSON."""
        shutil.copytree(SOURCE / "tests/data/bank-v2", self.dir / "b")
        info = self.json("bank", "info", "b")
        self.assertEqual([info[k] for k in ("format", "rows", "deleted", "next_id", "segments", "scan_rows", "complete")],
                         [2, 8, 2, 12, 2, 10, True])
        self.assertTrue(self.json("bank", "verify", "b")["ok"])

        def row(i):
            return {"id": i, "caption": f"thing {i} \u00e9", "uri": f"{i}.png" if i % 4 else None,
                    "meta": {"n": i, "tags": ["a", {"b": None}]} if i % 3 else None}

        def check(live):
            self.assertEqual(self.rows("b"), [row(i) for i in live])
            shutil.rmtree(self.dir / "out", ignore_errors=True)
            self.reco("bank", "export", "b", "--out", "out")
            for side, kind in enumerate(("img_emb", "text_emb")):
                half = [struct.unpack("<8e", struct.pack("<8e", *unit(i, side))) for i in live]
                self.assertEqual(npy(self.dir / f"out/{kind}/{kind}_0.npy"), ("<f2", half))
            for i in live:
                best = max((j for j in live if j != i), key=lambda j: (sum(a * b for a, b in zip(unit(i, 0), unit(j, 0))), -j))
                hit = self.json("search", "--bank", "b", "--near", i, "-k", 1)["hits"][0]
                self.assertEqual({k: hit[k] for k in row(best)}, row(best))

        check([0, 2, 3, 5, 7, 8, 10, 11])
        listed = self.reco("bank", "list", "b", "--deleted", "--json").stdout.splitlines()
        self.assertEqual([json.loads(r) for r in listed], [row(6), row(9)])
        # The files are as they were made: none is written to be read.
        for path in (SOURCE / "tests/data/bank-v2").rglob("*.safetensors"):
            self.assertEqual((self.dir / "b" / path.relative_to(SOURCE / "tests/data/bank-v2")).read_bytes(), path.read_bytes())
        self.reco("bank", "compact", "b")
        check([0, 2, 3, 5, 7, 8, 10, 11])
        self.assertTrue(self.json("bank", "verify", "b")["ok"])

    def test_formats_with_lists(self):
        """Banks of formats 1, 2 and 3 get lists, are searched through them, whole and at the end of what they have, and stay whole."""
        for format, make in ((1, None), (2, None), (3, 8)):
            bank = f"b{format}"
            if make:
                self.reco("bank", "build", "--embeddings", self.embeddings("three", 0, make), "--out", bank)
            else:
                shutil.copytree(SOURCE / f"tests/data/bank-v{format}", self.dir / bank)
            search = ["search", "--bank", bank, "--near", "0", "-k", "5"]
            self.assertEqual(self.json("bank", "info", bank)["format"], format)
            exact = self.json(*search)["hits"]
            self.reco("bank", "index", bank, "--lists", "2")
            info = self.json("bank", "info", bank)
            self.assertEqual((info["format"], info["list_rows"]), (3, info["rows"]))  # to write is to convert
            self.assertEqual(self.json(*search, "--recall", "1")["hits"], exact)
            self.assertEqual(self.json(*search, "--exact")["hits"], exact)
            self.assertTrue(self.json("bank", "verify", bank)["ok"])
            self.reco("bank", "add", "--embeddings", self.embeddings(f"more{format}", 20, 2), bank)
            self.assertEqual(self.json(*search, "--recall", "1")["hits"], self.json(*search, "--exact")["hits"])
            self.assertTrue(self.json("bank", "verify", bank)["ok"])


if __name__ == "__main__":
    unittest.main()
