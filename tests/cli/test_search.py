"""Searching and deleting from the shell: many queries, files of them, conditions, rows."""
import json
import math
import os
import random
import struct
import unittest

from common import HOOK, MODEL, Case, npy, write_npy


def unit(rng, d):
    x = [rng.gauss(0, 1) for _ in range(d)]
    norm = math.sqrt(sum(v * v for v in x))
    return [v / norm for v in x]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def softmax(values):
    most = max(values)
    e = [math.exp(v - most) for v in values]
    return [v / sum(e) for v in e]


def normal(x):
    norm = math.sqrt(dot(x, x))
    return [v / norm for v in x]


class Search(Case):
    N, D = 300, 12

    def setUp(self):
        super().setUp()
        rng = random.Random(1)
        self.image = [unit(rng, self.D) for _ in range(self.N)]
        self.text = [unit(rng, self.D) for _ in range(self.N)]
        write_npy(self.dir / "e/img_emb/img_emb_0.npy", self.image)
        write_npy(self.dir / "e/text_emb/text_emb_0.npy", self.text)
        (self.dir / "e/metadata").mkdir()
        (self.dir / "e/metadata/metadata_0.jsonl").write_text("".join(
            json.dumps({"caption": f"thing {i}", "image_path": f"{i}.jpg", "n": i, "colour": ["red", "blue"][i % 2],
                        "tags": [f"t{i % 5}"], "price": i / 2}) + "\n" for i in range(self.N)))
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        half = struct.Struct(f"<{self.D}e")  # as the bank stores them
        self.image, self.text = ([half.unpack(half.pack(*r)) for r in rows] for rows in (self.image, self.text))

    def best(self, query, rows, k, keep=lambda i: True):
        scores = sorted(((-sum(a * b for a, b in zip(query, row)), i) for i, row in enumerate(rows) if keep(i)))
        return [i for _, i in scores[:k]]

    def hits(self, *arguments):
        return [h["id"] for h in self.json("search", "--bank", "b", *arguments)["hits"]]

    def test_near_and_where(self):
        self.assertEqual(self.hits("--near", 5, "-k", 6), self.best(self.image[5], self.image, 7)[1:])
        self.assertEqual(self.hits("--near", 5, "--in", "text", "-k", 6), self.best(self.text[5], self.text, 7)[1:])
        self.assertEqual(self.hits("--near", 5, "-k", 4, "--where", "json_extract(meta,'$.colour') = 'blue'"),
                         self.best(self.image[5], self.image, 4, lambda i: i % 2 == 1 and i != 5))
        self.assertEqual(self.hits("--near", 4, "-k", 4, "--where", "json_extract(meta,'$.colour') = 'blue'"),
                         self.best(self.image[4], self.image, 4, lambda i: i % 2 == 1))
        self.assertEqual(self.hits("--near", 4, "-k", 300), self.best(self.image[4], self.image, 300)[1:])
        self.assertEqual(self.hits("--near", 4, "--where", "0"), [])
        hits = self.json("search", "--bank", "b", "--near", 4, "-k", 300, "--min-similarity", 0.5)["hits"]
        self.assertTrue(hits and all(h["score"] >= 0.5 for h in hits))
        many = self.json("search", "--bank", "b", "--near", 4, "--near", 5, "--near", 400, "-k", 3)["results"]
        self.assertEqual([r["near"] for r in many], [4, 5, 400])
        self.assertEqual([h["id"] for h in many[1]["hits"]], self.best(self.image[5], self.image, 4)[1:])
        self.assertIn("400", many[2]["error"])
        self.fails("search", "--bank", "b", "--near", 400, says=["400"])

    def test_near_most(self):
        """The greatest k counts rows beside the row itself, too."""
        rng = random.Random(7)
        rows = [unit(rng, self.D) for _ in range(1100)]
        for side in ("img_emb", "text_emb"):
            write_npy(self.dir / f"m/{side}/{side}_0.npy", rows)
        self.reco("bank", "build", "--embeddings", "m", "--out", "m.bank")
        half = struct.Struct(f"<{self.D}e")
        rows = [half.unpack(half.pack(*r)) for r in rows]
        for k in (1023, 1024):
            hits = self.json("search", "--bank", "m.bank", "--near", 5, "-k", k)["hits"]
            self.assertEqual([h["id"] for h in hits], self.best(rows[5], rows, k + 1)[1:])
        hits = self.json("search", "--bank", "m.bank", "--near", 5, "-k", 1024, "--where", "id % 2 = 1 OR id < 1000")["hits"]
        self.assertEqual([h["id"] for h in hits], self.best(rows[5], rows, 1024, lambda i: (i % 2 == 1 or i < 1000) and i != 5))
        self.assertEqual(len(self.json("search", "--bank", "m.bank", "--near", 6, "-k", 1024, "--where", "id < 9 -- 1".split(" --")[0])["hits"]), 8)
        self.fails("search", "--bank", "m.bank", "--near", 5, "-k", 1024, "--where", "1) OR (1", says=["where: ", '")"'])

    @unittest.skipUnless(HOOK, "the library of faults is not there")
    def test_killed_queries(self):
        """ids.npy and scores.npy are of one search, at whichever system call it was killed."""
        def pair(folder):
            ids, scores = ((self.dir / folder / name) for name in ("ids.npy", "scores.npy"))
            return (ids.read_bytes(), scores.read_bytes()) if ids.exists() else None

        write_npy(self.dir / "q.npy", self.image[:40])
        old = ["search", "--bank", "b", "--queries", "q.npy", "--side", "text", "-k", 3, "--out"]
        new = ["search", "--bank", "b", "--queries", "q.npy", "--side", "image", "-k", 4, "--out"]
        self.reco(*old, "old")
        self.reco(*new, "new")
        seen = set()
        for kind in ("write", "sync", "rename", "unlink"):
            for n in range(100):
                self.reco(*old, "h")
                ended = self.crashed(f"{kind}:{n}:kill", [*new, "h"])
                have = pair("h")
                self.assertIn(have, (pair("new"),) if ended.returncode == 0 else (pair("old"), pair("new"), None), (kind, n))
                seen.add(have)
                self.reco(*new, "h")
                self.assertEqual(sorted(p.name for p in (self.dir / "h").iterdir()), ["ids.npy", "scores.npy"])
                if ended.returncode == 0:
                    break
        self.assertEqual(seen, {pair("old"), pair("new"), None})

    def five_captions(self, n, copies=()):
        """n pictures of five captions each, as COCO has them; `copies` under another URI too."""
        rng = random.Random(3)
        pictures = [unit(rng, self.D) for _ in range(n)]
        rows = [(i, f"{i}.jpg") for i in range(n) for _ in range(5)] + [(i, f"copy{i}.jpg") for i in copies]
        write_npy(self.dir / "f/img_emb/img_emb_0.npy", [pictures[i] for i, _ in rows])
        write_npy(self.dir / "f/text_emb/text_emb_0.npy", [unit(rng, self.D) for _ in rows])
        (self.dir / "f/metadata").mkdir()
        (self.dir / "f/metadata/metadata_0.jsonl").write_text("".join(
            json.dumps({"caption": f"caption {j}", "image_path": uri, "n": i}) + "\n" for j, (i, uri) in enumerate(rows)))
        self.reco("bank", "build", "--embeddings", "f", "--several-captions", "--out", "f.bank")
        half = struct.Struct(f"<{self.D}e")
        return [half.unpack(half.pack(*p)) for p in pictures]

    def test_distinct(self):
        pictures = self.five_captions(600, copies=(7, 8))
        find = ["search", "--bank", "f.bank", "--distinct"]
        of = lambda hits: [h["meta"]["n"] for h in hits]
        for k in (1, 3, 50, 300, 599):
            hits = self.json(*find, "--near", 35, "-k", k)["hits"]
            self.assertEqual(of(hits), [i for i in self.best(pictures[7], pictures, 600) if i != 7][:k])
            self.assertEqual([h["id"] for h in hits if h["id"] < 3000], [5 * n for n in of(hits)])  # equal rows: the first
        self.assertEqual(len(self.json(*find, "--near", 35, "-k", 1024)["hits"]), 599)
        hits = self.json(*find, "--near", 35, "-k", 20, "--where", "id % 5 = 3")["hits"]
        self.assertEqual(of(hits), [i for i in self.best(pictures[7], pictures, 600) if i != 7][:20])
        self.assertTrue(all(h["id"] % 5 == 3 for h in hits))
        # By captions: each picture with its best one.
        hits, all_hits = (self.json("search", "--bank", "f.bank", "--near", 35, "--in", "text", "-k", k, *more)["hits"]
                          for k, more in ((40, ["--distinct"]), (1024, [])))
        firsts = {}
        for h in all_hits:
            firsts.setdefault(h["meta"]["n"], h["id"])
        firsts.pop(7, None)
        self.assertEqual([h["id"] for h in hits], list(firsts.values())[:40])
        # Without it, one picture fills the list.
        self.assertEqual(of(self.json("search", "--bank", "f.bank", "--near", 35, "-k", 5)["hits"]), [7] * 5)
        # A file of queries.
        write_npy(self.dir / "q.npy", [[0.0] * self.D, *pictures[:70]])
        done = self.json(*find, "--queries", "q.npy", "--side", "image", "--out", "h", "-k", 30)
        self.assertEqual((done["queries"], done["failures"]), (71, 1))
        ids = npy(self.dir / "h/ids.npy")[1]
        self.assertEqual(ids[0], (-1,) * 30)
        for picture, row in zip(pictures[:70], ids[1:]):
            self.assertEqual([600 if i == 3000 else i // 5 for i in row], self.best(picture, pictures, 30))

    def test_distinct_of_one_name(self):
        """Vectors of one URI that differ by rounding are one picture; other pictures of that name are others."""
        base = [1.0] + [0.0] * (self.D - 1)
        near, other = [1.0, 0.01] + [0.0] * (self.D - 2), [0.9, 0.43] + [0.0] * (self.D - 2)
        write_npy(self.dir / "g/img_emb/img_emb_0.npy", [base, near, other, near])
        write_npy(self.dir / "g/text_emb/text_emb_0.npy", [base] * 4)
        (self.dir / "g/metadata").mkdir()
        (self.dir / "g/metadata/metadata_0.jsonl").write_text("".join(
            json.dumps({"caption": f"c{i}", "image_path": uri}) + "\n" for i, uri in enumerate(["a.jpg", "a.jpg", "a.jpg", "b.jpg"])))
        self.reco("bank", "build", "--embeddings", "g", "--several-captions", "--out", "g.bank")
        write_npy(self.dir / "q.npy", [base])
        self.reco("search", "--bank", "g.bank", "--distinct", "--queries", "q.npy", "--side", "image", "--out", "h", "-k", 4)
        self.assertEqual(npy(self.dir / "h/ids.npy")[1], [(0, 3, 2, -1)])

    def mixed(self, own, side, query, a, b, k=10, keep=lambda i: True, pool=128, near=10):
        """What `mean` and a mixture at scales 100, 100, 40 find: [(row, probability, plain, refined)], from the definition.
        Rows of equal vectors are one answer."""
        rows = {"image": self.image, "text": self.text}
        other = rows["text" if own == "image" else "image"]
        allowed = [i for i in range(self.N) if keep(i)]
        best = lambda q, of, n: sorted(allowed, key=lambda i: (-dot(q, of[i]), i))[:n]
        neighbours = best(query, rows[own], near)
        refined = normal([sum(x) for x in zip(query, *(other[i] for i in neighbours))])
        votes = own == "image" and side == "text" and a + b < 1
        candidates = {*best(query, rows[side], pool), *best(refined, rows[side], pool), *(neighbours if votes else ())}
        answers = list({rows[side][i] for i in candidates})
        plain, better = ([dot(q, r) for r in answers] for q in (query, refined))
        p = [a * x + b * y for x, y in zip(softmax([100 * x for x in plain]), softmax([100 * x for x in better]))]
        if votes:
            for i, weight in zip(neighbours, softmax([40 * dot(query, self.image[i]) for i in neighbours])):
                p[answers.index(rows[side][i])] += (1 - a - b) * weight
        p = [x / sum(p) for x in p]
        of = {i: answers.index(rows[side][i]) for i in candidates}
        order = sorted(candidates, key=lambda i: (-p[of[i]], i))[:k]
        return [(i, p[of[i]], plain[of[i]], better[of[i]]) for i in order]

    def assert_mixed(self, hits, want):
        self.assertEqual([h["id"] for h in hits], [w[0] for w in want])
        for hit, (_, *numbers) in zip(hits, want):
            for key, number in zip(("score", "plain", "refined"), numbers):
                self.assertAlmostEqual(hit[key], number, places=4)

    def test_mixture(self):
        """A search with a layer mixes what the query finds, what the refined query finds, and the vote."""
        find = ["search", "--bank", "b", "--fusion", "mean", "--mixture", "0.5,0.4"]
        but = lambda n: lambda i: i != n
        for side, rows in (("image", self.image), ("text", self.text)):
            done = self.json(*find, "--near", 7, "--in", side)
            self.assertEqual((done["refined"], done["mixture"]["clip"], done["mixture"]["scales"]), (True, 0.5, [100, 100, 40]))
            self.assert_mixed(done["hits"], self.mixed(side, side, rows[7], 0.5, 0.4, keep=but(7)))
            some = self.json(*find, "--near", 7, "--in", side, "-k", 3, "--where", "id % 2 = 0")["hits"]
            self.assert_mixed(some, self.mixed(side, side, rows[7], 0.5, 0.4, k=3, keep=lambda i: i % 2 == 0))
        first = self.json(*find, "--near", 7, "-k", 5)["hits"]
        self.assertEqual(self.json(*find, "--near", 7, "-k", 100)["hits"][:5], first)  # more does not change what comes first
        self.assertEqual(len(self.json(*find, "--near", 7, "-k", 299)["hits"]), 299)
        off = self.json("search", "--bank", "b", "--fusion", "mean", "--near", 7, "-k", 5)  # nothing was trained: cosines
        self.assertIsNone(off["mixture"])
        refined = {h["id"]: h["refined"] for h in self.json(*find, "--near", 7, "-k", 299)["hits"]}
        self.assertEqual([h["id"] for h in off["hits"]], sorted(refined, key=lambda i: -refined[i])[:5])
        for hit in off["hits"]:
            self.assertAlmostEqual(hit["score"], refined[hit["id"]], places=5)
        # CLIP alone is the plain search; a least cosine is one of either query.
        plain = [h["id"] for h in self.json("search", "--bank", "b", "--near", 7)["hits"]]
        self.assertEqual([h["id"] for h in self.json(*find[:-1], "1,0", "--near", 7)["hits"]], plain)
        kept = self.json(*find, "--near", 7, "-k", 299, "--min-similarity", 0.4)["hits"]
        self.assertEqual({h["id"] for h in kept}, {h["id"] for h in self.json(*find, "--near", 7, "-k", 299)["hits"]
                                                   if max(h["plain"], h["refined"]) >= 0.4})
        text = self.reco(*find, "--near", 7, "-k", 2).stdout.splitlines()
        self.assertEqual(len(text), 3)
        self.assertEqual(text[0].split(), ["p", "plain", "refined"])
        self.reco("search", "--bank", "b", "--near", 7, "--mixture", "off", code=2)
        for bad in ("0.9,0.2", "1", "1,", "-1,1", "x,y", "0.5,0.2,0.1"):
            self.reco(*find[:-1], bad, "--near", 7, code=2)

    def test_mixture_of_captions(self):
        """Pictures that look for captions: neighbours vote, and rows of one caption are one answer."""
        self.text = [self.text[i % 60] for i in range(self.N)]
        write_npy(self.dir / "e/text_emb/text_emb_0.npy", self.text)
        self.reco("bank", "build", "--embeddings", "e", "--out", "c")
        rng = random.Random(4)
        queries = [unit(rng, self.D) for _ in range(300)]
        write_npy(self.dir / "q.npy", queries)
        find = ["search", "--bank", "c", "--fusion", "mean", "--queries", "q.npy", "--query-side", "image", "--side", "text",
                "--out", "h", "-k", 7]
        for a, b in ((0.5, 0.2), (0.0, 0.0), (0.6, 0.4)):
            done = self.json(*find, "--mixture", f"{a},{b}")
            self.assertEqual((done["refined"], done["mixture"]["clip"]), (True, a))
            (_, ids), (_, scores) = npy(self.dir / "h/ids.npy"), npy(self.dir / "h/scores.npy")
            for q in (0, 1, 150, 299):
                want = self.mixed("image", "text", queries[q], a, b, k=7)
                for got, (_, p, _, _) in zip(scores[q], want):
                    self.assertAlmostEqual(got, p, places=4)
                self.assertEqual([i % 60 for i in ids[q]], [w[0] % 60 for w in want])
            again = (self.dir / "h/scores.npy").read_bytes(), (self.dir / "h/ids.npy").read_bytes()
            self.json(*find, "--mixture", f"{a},{b}", "--threads", 1)
            self.assertEqual(((self.dir / "h/scores.npy").read_bytes(), (self.dir / "h/ids.npy").read_bytes()), again)
        self.reco("search", "--bank", "c", "--near", 3, "--query-side", "image", code=2)

    def test_mixture_of_distinct(self):
        pictures = self.five_captions(80, copies=(7, 8))
        find = ["search", "--bank", "f.bank", "--distinct", "--fusion", "mean", "--mixture", "0.5,0.5", "--near", 35]
        for side in ("image", "text"):
            for k in (1, 20, 79, 200):
                hits = self.json(*find, "--in", side, "-k", k)["hits"]
                self.assertEqual(len({h["meta"]["n"] for h in hits}), min(k, 79))
                self.assertEqual(len(hits), min(k, 79))
                self.assertNotIn(7, [h["meta"]["n"] for h in hits])
                self.assertEqual([h["score"] for h in hits], sorted((h["score"] for h in hits), reverse=True))
        self.assertEqual(len(pictures), 80)

    def test_nothing_worked(self):
        """Of several queries one that works is enough; none is a failure."""
        self.reco("search", "--bank", "b", "--near", 4, "--near", 900)
        self.reco("search", "--bank", "b", "--near", 800, "--near", 900, code=1)
        write_npy(self.dir / "q.npy", [[0.0] * self.D] * 2)
        self.reco("search", "--bank", "b", "--queries", "q.npy", "--side", "image", "--out", "h", code=1)

    def test_hostile_where(self):
        for where, says in [("1; DROP TABLE pair", '";"'), ("1) OR (1", '")"'), ("1 -- x", "comments"), ("(1", '"("'),
                            ("load_extension('x')", "load_extension"), ("id IN (SELECT number FROM segment)", "segment"),
                            ("EXISTS(SELECT 1 FROM sqlite_master)", "sqlite_master"), ("nonsense", "nonsense"), ("", "empty"),
                            ("ATTACH 'x' AS y", "syntax"), ("randomblob(1000000000) IS NULL", "randomblob"),
                            ("(SELECT count(*) FROM pair a, pair b, pair c, pair d, pair e)", "too long")]:
            for command in (["search", "--bank", "b", "--near", 1], ["bank", "list", "b"], ["bank", "delete", "b"]):
                self.fails(*command, "--where", where, says=["where: ", says])
        self.assertEqual(self.json("bank", "info", "b")["rows"], self.N)

    def test_queries(self):
        rng = random.Random(2)
        queries = [unit(rng, self.D) for _ in range(7)]
        bad = [*queries[:2], [float("nan")] * self.D, *queries[2:5], [0.0] * self.D, *queries[5:]]
        bad[4] = [3 * x for x in bad[4]]
        write_npy(self.dir / "q.npy", bad)
        for side, rows in (("image", self.image), ("text", self.text)):
            done = self.json("search", "--bank", "b", "--queries", "q.npy", "--side", side, "--out", "h", "-k", 5)
            self.assertEqual((done["queries"], done["k"], done["normalised"], done["failures"]), (9, 5, 1, 2))
            self.assertEqual([f["row"] for f in done["failed"]], [2, 6])
            self.assertGreaterEqual(done["seconds"], 0)
            ids, scores = npy(self.dir / "h/ids.npy"), npy(self.dir / "h/scores.npy")
            self.assertEqual((ids[0], scores[0]), ("<i8", "<f4"))
            self.assertEqual(ids[1][2], (-1,) * 5)
            self.assertEqual(scores[1][6], (0.0,) * 5)
            for got, query in [(0, queries[0]), (1, queries[1]), (3, queries[2]), (4, queries[3]), (8, queries[6])]:
                self.assertEqual(list(ids[1][got]), self.best(query, rows, 5))
                self.assertAlmostEqual(scores[1][got][0], sum(a * b for a, b in zip(query, rows[ids[1][got][0]])), places=3)
        self.reco("search", "--bank", "b", "--queries", "q.npy", "--side", "image", "--out", "h", "--strict", code=1)
        self.json("search", "--bank", "b", "--queries", "q.npy", "--side", "image", "--out", "h", "-k", 5, "--where", "id < 3")
        self.assertEqual(npy(self.dir / "h/ids.npy")[1][0][3:], (-1, -1))
        self.assertEqual(sorted(p.name for p in (self.dir / "h").iterdir()), ["ids.npy", "scores.npy"])
        # float16 queries of the bank's own rows find them.
        header = repr({"descr": "<f2", "fortran_order": False, "shape": (self.N, self.D)})
        header += " " * (117 - len(header)) + "\n"
        (self.dir / "half.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
                                            + struct.pack(f"<{self.N * self.D}e", *[x for r in self.image for x in r]))
        self.json("search", "--bank", "b", "--queries", "half.npy", "--side", "image", "--out", "h", "-k", 1)
        self.assertEqual([r[0] for r in npy(self.dir / "h/ids.npy")[1]], list(range(self.N)))
        write_npy(self.dir / "wide.npy", [[1.0, 0, 0]])
        self.fails("search", "--bank", "b", "--queries", "wide.npy", "--side", "image", "--out", "h", says=["wide.npy", "3", "12"])
        whole = (self.dir / "q.npy").read_bytes().replace(b"<f4", b"<i4")
        (self.dir / "whole.npy").write_bytes(whole)
        self.fails("search", "--bank", "b", "--queries", "whole.npy", "--side", "image", "--out", "h", says=["whole.npy", "I32", "want F16"])

    def test_usage(self):
        for arguments in (["--bank", "b"], ["--bank", "b", "--text", "x"], ["--bank", "b", "--queries", "q", "--out", "h"],
                          ["--bank", "b", "--queries", "q", "--side", "image"], ["--near", "1"],
                          ["--bank", "b", "--near", "1", "--out", "h"], ["--bank", "b", "--near", "-1"]):
            self.reco("search", *arguments, code=2)
        for arguments in (["b"], ["--id", "1"], ["b", "--near", "1"], ["b", "--near-text", "x", "--min-similarity", "0.5"],
                          ["b", "--id", "1", "--min-similarity", "0.5"], ["b", "--id", "x"]):
            self.reco("bank", "delete", *arguments, code=2)

    def test_list_and_get(self):
        lines = self.reco("bank", "list", "b", "--json").stdout.splitlines()
        self.assertEqual(len(lines), self.N)
        self.assertEqual(json.loads(lines[7]), {"id": 7, "caption": "thing 7", "uri": "7.jpg",
                                                "meta": {"n": 7, "colour": "blue", "tags": ["t2"], "price": 3.5}})
        rows = self.reco("bank", "list", "b", "--where", "meta ->> 'price' >= 100 AND id % 2", "--from", 250, "-n", 3, "--json")
        self.assertEqual([json.loads(r)["id"] for r in rows.stdout.splitlines()], [251, 253, 255])
        text = self.reco("bank", "get", "b", 3, 1).stdout.splitlines()
        self.assertEqual(len(text), 2)
        self.assertIn("thing 3", text[0])
        done = self.reco("bank", "get", "b", 3, 999, "--json", code=1)
        self.assertEqual(json.loads(done.stdout)["id"], 3)
        self.assertIn("999", done.stderr)

    def test_delete(self):
        would = self.reco("bank", "delete", "b", "--where", "id < 3", "--id", "10", "1", "999", "--dry-run", "--json").stdout.splitlines()
        self.assertEqual([json.loads(r)["id"] for r in would[:-1]], [0, 1, 2, 10])
        self.assertEqual(json.loads(would[-1]), {"would_delete": 4, "missing": 1})
        self.assertEqual(self.json("bank", "info", "b")["rows"], self.N)
        (self.dir / "ids.txt").write_text("20\n21\n\n20\n")
        (self.dir / "uris.txt").write_text("30.jpg\r\nno.jpg\n")
        gone = self.json("bank", "delete", "b", "--where", "id < 3", "--ids", "ids.txt", "--uris", "uris.txt")
        self.assertEqual(gone, {"deleted": 6, "missing": 1})  # 20 is there, however often it is named
        (self.dir / "ids.txt").write_text("40\nforty\n")
        self.fails("bank", "delete", "b", "--ids", "ids.txt", says=["ids.txt:2", "forty"])
        self.fails("bank", "delete", "b", "--ids", "none.txt", says=["none.txt"])
        self.assertEqual(self.json("bank", "info", "b")["rows"], self.N - 6)
        near = [i for i in range(self.N) if i not in (0, 1, 2, 20, 21, 30)
                and sum(a * b for a, b in zip(self.image[50], self.image[i])) >= 0.3]
        gone = self.json("bank", "delete", "b", "--near", 50, "--min-similarity", 0.3)
        self.assertEqual(gone["deleted"], len(near))
        self.assertEqual(self.json("bank", "info", "b")["rows"], self.N - 6 - len(near))
        self.assertEqual(self.json("bank", "verify", "b")["ok"], True)
        # What was deleted can be looked at until it is compacted.
        listed = [json.loads(r) for r in self.reco("bank", "list", "b", "--deleted", "--json").stdout.splitlines()]
        self.assertEqual([r["id"] for r in listed], sorted({0, 1, 2, 20, 21, 30, *near}))
        self.assertEqual(listed[1], {"id": 1, "caption": "thing 1", "uri": "1.jpg",
                                     "meta": {"n": 1, "colour": "blue", "tags": ["t1"], "price": 0.5}})
        text = self.reco("bank", "list", "b", "--deleted", "--from", 1, "-n", 2).stdout.splitlines()
        self.assertEqual([t.split()[0] for t in text], ["1", "2"])
        some = self.reco("bank", "list", "b", "--deleted", "--where", "id < 2", "--json").stdout.splitlines()
        self.assertEqual([json.loads(r)["id"] for r in some], [0, 1])
        self.reco("bank", "compact", "b")
        self.assertEqual(self.reco("bank", "list", "b", "--deleted").stdout, "")

    def test_with_a_model(self):
        pairs = self.pairs(12)
        self.reco("bank", "build", "--model", MODEL, "--pairs", pairs, "--out", "p")
        many = self.json("search", "--model", MODEL, "--bank", "p", "--image", "pictures/0003.png", "--text", "thing 4, a thing",
                         "--image", "none.png", "--near", 5, "-k", 2)["results"]
        self.assertEqual([r["hits"][0]["id"] for r in many if r["hits"]][:2], [3, 4])
        self.assertEqual(many[2]["image"], "none.png")
        self.assertIn("none.png", many[2]["error"])
        self.assertNotIn(5, [h["id"] for h in many[3]["hits"]])
        bad = self.reco("search", "--model", MODEL, "--bank", "p", "--text", os.fsdecode(b"caf\xe9"), "--json")
        self.assertIn("warning: 1 caption is not UTF-8", bad.stderr)
        gone = self.json("bank", "delete", "p", "--model", MODEL, "--near-image", "pictures/0003.png", "--min-similarity", 0.9999)
        self.assertEqual(gone, {"deleted": 1, "missing": 0})
        # A caption whose neighbours are far, in any precision: above 0.9995 all cosines count as equal.
        gone = self.json("bank", "delete", "p", "--model", MODEL, "--near-text", "thing 11, a thing", "--min-similarity", 0.9998)
        self.assertEqual(gone["deleted"], 1)
        rows = [json.loads(r) for r in self.reco("bank", "list", "p", "--json").stdout.splitlines()]
        self.assertEqual([r["id"] for r in rows], [0, 1, 2, *range(4, 11)])
        self.assertEqual(rows[0]["meta"], {"brand": "brand0"})

    def test_info(self):
        info = self.json("bank", "info", "b")
        self.assertEqual(info["segments"], len(info["files"]))
        self.assertEqual(info["files"][0]["rows"], self.N)
        self.assertEqual(info["vector_bytes"], (self.dir / "b/vectors" / info["files"][0]["file"]).stat().st_size)
        self.assertGreater(info["database_bytes"], 0)
        self.assertEqual(info["scan_rows"], 0)  # below 10,000 rows none are made


if __name__ == "__main__":
    unittest.main()
