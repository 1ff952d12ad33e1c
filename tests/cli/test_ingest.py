"""webdataset tars and near-duplicates."""
import csv
import io
import json
import math
import random
import shutil
import re
import tarfile
import time
import unittest

from common import MODEL, OTHER_MODEL, Case, jsonl, png, write_npy


class Tars(Case):
    def tar(self, name, samples):
        """samples: (key, {ending: bytes})."""
        with tarfile.open(self.dir / name, "w") as tar:
            for key, members in samples:
                for ending, data in members.items():
                    info = tarfile.TarInfo(f"{key}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))

    def picture(self, seed):
        png(self.dir / "x.png", seed)
        return (self.dir / "x.png").read_bytes()

    def test_samples(self):
        good = {"png": self.picture(1), "txt": "a thing\n".encode()}
        self.tar("x-000.tar", [
            ("a/0001", good),
            ("a/0002", {"PNG": self.picture(2), "json": json.dumps({"caption": "two", "url": "http://x/2", "n": 2, "tags": [1]}).encode()}),
            ("a/0003", {"txt": b"no picture"}),
            ("a/0004", {"png": self.picture(4)}),
            ("a/0005", {"png": b"not a picture", "txt": b"five"}),
            ("a/0006", {"png": self.picture(6), "txt": b"six", "json": b"{broken"}),
            ("a/0007", {"png": self.picture(7), "txt": b"seven", "json": json.dumps({"caption": "other", "n": 7}).encode(), "cls": b"7"}),
            ("a/\u00e9", {"png": self.picture(8), "txt": "\u00e9t\u00e9".encode()}),
        ])
        self.tar("x-001.tar", [("a/0001", {**good, "seg.png": b"ignored"})])
        built = self.json("bank", "build", "--model", MODEL, "--tars", "x-{000..001}.tar", "--out", "b")
        self.assertEqual((built["added"], built["failures"], built["rows"]), (6, 3, 6))
        self.assertEqual(self.rows("b"), [
            {"id": 0, "caption": "a thing", "uri": "x-000.tar/a/0001.png", "meta": None},
            {"id": 1, "caption": "two", "uri": "x-000.tar/a/0002.PNG", "meta": {"url": "http://x/2", "n": 2, "tags": [1]}},
            {"id": 2, "caption": "six", "uri": "x-000.tar/a/0006.png", "meta": None},
            {"id": 3, "caption": "seven", "uri": "x-000.tar/a/0007.png", "meta": {"caption": "other", "n": 7}},
            {"id": 4, "caption": "\u00e9t\u00e9", "uri": "x-000.tar/a/\u00e9.png", "meta": None},
            {"id": 5, "caption": "a thing", "uri": "x-001.tar/a/0001.png", "meta": None}])
        failed = sorted(jsonl(self.dir / "b/failures.jsonl"), key=lambda r: r["row"])
        self.assertEqual([(r["row"], r["item"]) for r in failed],
                         [(2, "x-000.tar/a/0003"), (3, "x-000.tar/a/0004.png"), (4, "x-000.tar/a/0005.png")])
        self.assertEqual([failed[0]["reason"], failed[1]["reason"]], ["no image", "no text"])
        hit = self.json("search", "--model", MODEL, "--bank", "b", "--image", "x.png", "-k", "1")["hits"][0]
        self.assertEqual(hit["caption"], "\u00e9t\u00e9")
        # The same again has nothing to do; other tars are added, one by one or after the option.
        self.assertEqual(self.json("bank", "build", "--model", MODEL, "--tars", "x-{000..001}.tar", "--out", "b")["added"], 0)
        self.tar("y.tar", [("k", {"png": self.picture(9), "txt": b"nine"})])
        added = self.json("bank", "add", "--model", MODEL, "b", "--tars", "x-001.tar", "y.tar")
        self.assertEqual((added["added"], added["duplicates"]), (1, 1))

    def test_damaged(self):
        samples = [(f"k{i:03}", {"png": self.picture(i), "txt": f"thing {i}".encode()}) for i in range(6)]
        self.tar("good.tar", samples)
        whole = (self.dir / "good.tar").read_bytes()
        (self.dir / "cut.tar").write_bytes(whole[:3 * 2048 + 700])
        (self.dir / "junk.tar").write_bytes(b"junk" * 1000)
        self.tar("last.tar", [("z", samples[0][1])])
        built = self.json("bank", "build", "--model", MODEL, "--out", "b", "--tars", "cut.tar", "junk.tar", "last.tar")
        self.assertEqual(built["failures"], 2)
        self.assertEqual([r["uri"] for r in self.rows("b")][-1], "last.tar/z.png")
        self.assertTrue(1 <= built["added"] - 1 < 6)
        self.fails("bank", "build", "--model", MODEL, "--tars", "none-{1..2}.tar", "--out", "c", says=["none-1.tar"])
        self.fails("bank", "build", "--model", MODEL, "--tars", "x-{5..2}.tar", "--out", "c", says=["5..2"])
        self.reco("bank", "build", "--tars", "good.tar", "--out", "c", code=2)

    def test_cut_between_members(self):
        """Such a tar looks whole but for the zeros at its end; the sample that it ends in may lack members."""
        samples = [(f"k{i}", {"png": self.picture(i), "txt": b"thing", "json": json.dumps({"n": i}).encode()}) for i in range(2)]
        self.tar("good.tar", samples)
        whole = (self.dir / "good.tar").read_bytes()
        with tarfile.open(self.dir / "good.tar") as tar:
            last = tar.getmembers()[-1].offset
        (self.dir / "cut.tar").write_bytes(whole[:last])
        built = self.json("bank", "build", "--model", MODEL, "--out", "b", "--tars", "cut.tar", "good.tar")
        self.assertEqual([r["uri"] for r in self.rows("b")], ["cut.tar/k0.png", "good.tar/k0.png", "good.tar/k1.png"])
        self.assertEqual([(f["row"], f["reason"]) for f in built["failed"]], [(1, "cut.tar: is cut off: the tar has no end")])

    def test_killed(self):
        samples = [(f"k{i:03}", {"png": self.picture(i), "txt": f"thing {i}".encode()}) for i in range(120)]
        for part in range(3):
            self.tar(f"s{part}.tar", samples[40 * part:40 * part + 40])
        command = ["bank", "build", "--model", MODEL, "--tars", "s{0..2}.tar", "--out"]
        start = time.monotonic()
        self.reco(*command, "whole")
        span = time.monotonic() - start
        rng = random.Random(1)
        for i in range(4):
            self.killed([*command, f"b{i}"], rng.random() * span)
            self.reco(*command, f"b{i}")
            self.assertEqual(self.rows(f"b{i}"), self.rows("whole"))
            self.assertEqual(self.json("bank", "verify", f"b{i}")["ok"], True)


class Dedup(Case):
    def embeddings(self, name, image, text):
        write_npy(self.dir / name / "img_emb/img_emb_0.npy", image)
        write_npy(self.dir / name / "text_emb/text_emb_0.npy", text)
        (self.dir / name / "metadata").mkdir()
        (self.dir / name / "metadata/metadata_0.jsonl").write_text(
            "".join(json.dumps({"caption": f"{name} {i}"}) + "\n" for i in range(len(image))))

    def unit(self, rng, near=None, noise=0.0):
        x = [(a if near else 0) + (noise if near else 1) * rng.gauss(0, 1) for a in (near or [0] * 16)]
        norm = math.sqrt(sum(v * v for v in x))
        return [v / norm for v in x]

    def test_embeddings(self):
        rng = random.Random(3)
        image = [self.unit(rng) for _ in range(60)]
        for i in range(1500):  # near ones of earlier rows, in the same block and in later ones
            image.append(self.unit(rng, rng.choice(image[:60]), 0.06))
        self.embeddings("e", image, [self.unit(rng) for _ in image])
        kept = []
        for i, row in enumerate(image):
            if all(sum(a * b for a, b in zip(row, image[j])) < 0.95 for j in kept):
                kept.append(i)
        self.assertTrue(60 < len(kept) < 1000, len(kept))
        built = self.json("bank", "build", "--embeddings", "e", "--out", "b", "--dedup", 0.95)
        self.assertLessEqual(abs(built["rows"] - len(kept)), 2)  # near the threshold, f16 may decide otherwise
        self.assertEqual(built["near_duplicates"], len(image) - built["rows"])
        have = [json.loads(r)["caption"] for r in self.reco("bank", "list", "b", "--json").stdout.splitlines()]
        self.assertGreater(len(set(have) & {f"e {i}" for i in kept}), len(kept) - 5)
        # Of what is there already, nothing is added; of what is new, all.
        self.embeddings("again", [self.unit(rng, row, 0.001) for row in image[:60]], [self.unit(rng) for _ in range(60)])
        self.assertEqual(self.json("bank", "add", "--embeddings", "again", "b", "--dedup", 0.95)["added"], 0)
        self.assertEqual(self.json("bank", "add", "--embeddings", "again", "b")["added"], 60)
        self.reco("bank", "build", "--embeddings", "e", "--out", "c", "--dedup", 2, code=2)

    def test_pairs(self):
        pairs = self.pairs(10)
        text = pairs.read_text() + "".join(f"pictures/{i:04d}.png,another name for {i},x\n" for i in range(5))
        pairs.write_text(text)
        built = self.json("bank", "build", "--model", MODEL, "--pairs", pairs, "--out", "b", "--dedup", 0.9995, "--several-captions")
        self.assertEqual((built["added"], built["near_duplicates"]), (10, 5))
        self.assertEqual(self.json("bank", "build", "--model", MODEL, "--pairs", pairs, "--out", "c", "--several-captions")["added"], 15)

    def test_same_pictures_at_the_limit(self):
        pairs = self.pairs(3)
        shutil.copytree(self.dir / "pictures", self.dir / "copies")
        pairs.write_text(pairs.read_text() + "".join(f"copies/{i:04d}.png,again {i},x\n" for i in range(3)))
        built = self.json("bank", "build", "--model", MODEL, "--pairs", pairs, "--out", "b", "--dedup", 1)
        self.assertEqual((built["added"], built["near_duplicates"]), (3, 3))
        for i in range(3):
            lines = self.reco("bank", "delete", "b", "--near", i, "--min-similarity", 1, "--dry-run", "--json").stdout.splitlines()
            self.assertEqual(json.loads(lines[-1])["would_delete"], 1)
        hits = self.json("search", "--model", MODEL, "--bank", "b", "--image", "pictures/0001.png", "--min-similarity", 1)["hits"]
        self.assertEqual([h["id"] for h in hits], [1])

    def test_names(self):
        """Of several columns that could be the caption or the URI, clip-retrieval's own names come first."""
        rng = random.Random(8)
        self.embeddings("e", [self.unit(rng)], [self.unit(rng)])
        columns = {"text": "t", "title": "i", "caption": "c", "url": "u", "image": "m", "image_path": "p"}
        (self.dir / "e/metadata/metadata_0.jsonl").write_text(json.dumps(columns) + "\n")
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        self.assertEqual(self.rows("b"), [{"id": 0, "caption": "c", "uri": "p",
                                           "meta": {"text": "t", "title": "i", "url": "u", "image": "m"}}])

    def test_records_that_do_not_fit(self):
        """A record more than there are rows, or a blank line in the place of one: captions may be of other rows."""
        rng = random.Random(10)
        self.embeddings("e", [self.unit(rng) for _ in range(5)], [self.unit(rng) for _ in range(5)])
        metadata = self.dir / "e/metadata/metadata_0.jsonl"
        lines = metadata.read_text().splitlines()
        for text, says in [([*lines, lines[0]], "has more records than the 5 rows"),
                           ([*lines[:2], "", *lines[3:]], "has 4 records and blank lines, want 5, one a row")]:
            metadata.write_text("\n".join(text) + "\n")
            self.fails("bank", "build", "--embeddings", "e", "--out", "b", says=["metadata_0.jsonl", says])
            self.assertEqual(self.rows("b"), [])
        metadata.write_text("\n\n".join(lines) + "\n\n")
        self.assertEqual(self.json("bank", "build", "--embeddings", "e", "--out", "b")["added"], 5)

    def test_numbers(self):
        """A user's numbers keep their value, and 0.1 its looks, wherever they are shown."""
        rng = random.Random(9)
        self.embeddings("e", [self.unit(rng) for _ in range(2)], [self.unit(rng) for _ in range(2)])
        metas = [{"price": 0.1, "n": 3, "x": {"y": [19.99, 1e30]}}, {"time": 1732752000.1234567, "third": [1 / 3]}]
        (self.dir / "e/metadata/metadata_0.jsonl").write_text("".join(json.dumps(m) + "\n" for m in metas))
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        self.assertEqual([r["meta"] for r in self.rows("b")], metas)
        self.assertEqual(self.json("search", "--bank", "b", "--near", 0)["hits"][0]["meta"], metas[1])
        self.assertIn('{"price":0.1,"n":3,"x":{"y":[19.99,1e30]}}', self.reco("bank", "list", "b").stdout)
        self.reco("bank", "export", "b", "--pairs", "p.csv")
        self.reco("bank", "export", "b", "--out", "again")
        self.assertIn(',0.1,3,"{""y"":[19.99,1e30]}",', (self.dir / "p.csv").read_text())
        self.reco("bank", "build", "--embeddings", "again", "--out", "c")
        self.assertEqual(self.rows("c"), self.rows("b"))

    def test_other_widths(self):
        rng = random.Random(6)
        self.embeddings("e", [self.unit(rng) for _ in range(3)], [self.unit(rng) for _ in range(3)])
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        failures = self.dir / "b/failures.jsonl"
        for d in (1, 7, 100):
            for side in ("img_emb", "text_emb"):
                write_npy(self.dir / f"w{d}/{side}/{side}_0.npy", [[1.0] + [0.0] * (d - 1)])
            self.fails("bank", "add", "--embeddings", f"w{d}", "b", says=["b has vectors of width", f"w{d} of width {d}"])
            self.assertFalse(failures.exists())
        for side in ("img_emb", "text_emb"):  # one dimension alone is no rows of one column
            path = self.dir / f"flat/{side}/{side}_0.npy"
            path.parent.mkdir(parents=True)
            data = (self.dir / f"w7/{side}/{side}_0.npy").read_bytes()
            path.write_bytes(data.replace(b"(1, 7)", b"(7,)  "))
        self.fails("bank", "build", "--embeddings", "flat", "--out", "f", says=["img_emb_0.npy: shape [7], want [rows][columns]"])

    def test_columns(self):
        self.pictures(1)
        for header, missing in (("image,foo", "captions"), ("pic,text", "images"), ("foo;bar", "images")):
            (self.dir / "p.csv").write_text(f"{header}\npictures/0000.png,a\n")
            shown = ", ".join(f'"{name}"' for name in re.split("[,;]", header))
            self.fails("bank", "build", "--model", MODEL, "--pairs", "p.csv", "--out", "b",
                       says=[f"p.csv: no column of {missing}", f"in its header: {shown}"])
            self.assertFalse((self.dir / "b").exists())

    def test_what_a_terminal_would_obey(self):
        self.pictures(1)
        (self.dir / "p.jsonl").write_text('{"image": "pictures/0000.png", "text": "a\\n\\u001b[2Jb"}\n')
        self.reco("bank", "build", "--model", MODEL, "--pairs", "p.jsonl", "--out", "b")
        self.assertEqual(self.reco("bank", "list", "b").stdout, "       0  a\\n\\x1b[2Jb  pictures/0000.png\n")
        found = self.reco("search", "--model", MODEL, "--bank", "b", "--text", "a").stdout
        self.assertTrue(found.endswith("         0  a\\n\\x1b[2Jb  pictures/0000.png\n"), found)

    def test_numbers_of_users(self):
        self.pictures(1)
        meta = '{"t": 1732485600.123, "lat": 48.858370099999, "n": 9007199254740993}'
        (self.dir / "p.jsonl").write_text('{"image": "pictures/0000.png", "text": "a", ' + meta[1:] + "\n")
        self.reco("bank", "build", "--model", MODEL, "--pairs", "p.jsonl", "--out", "b")
        self.assertIn(meta[1:-1], self.reco("bank", "list", "b", "--json").stdout)

    def test_parquet(self):
        rng = random.Random(4)
        rows = [self.unit(rng) for _ in range(3)]
        write_npy(self.dir / "e/img_emb/img_emb_0.npy", rows)
        write_npy(self.dir / "e/text_emb/text_emb_0.npy", rows)
        (self.dir / "e/metadata").mkdir()
        (self.dir / "e/metadata/metadata_0.parquet").write_bytes(b"PAR1")
        self.fails("bank", "build", "--embeddings", "e", "--out", "b", says=["parquet", "to_json"])


class Export(Case):
    def setUp(self):
        super().setUp()
        self.pictures(5)
        rows = [{"image": f"pictures/{i:04d}.png", "text": f'thing {i}, a "thing"\n\u00e9', "price": i + 0.5, "n": 2**53 + i,
                 "tags": ["a", {"b": None}], "ok": True, "none": None, "id": f"sku{i}", "url": f"http://x/{i}", "meta.x": 1}
                for i in range(5)]
        del rows[3]["price"], rows[3]["url"]
        (self.dir / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        self.reco("bank", "build", "--model", MODEL, "--pairs", "p.jsonl", "--out", "b")
        self.assertEqual(self.rows("b")[1]["meta"], {k: v for k, v in rows[1].items() if k not in ("image", "text")})

    def test_round_trip(self):
        self.assertEqual(self.json("bank", "export", "b", "--out", "e"), {"rows": 5})
        self.assertEqual(sorted(str(p.relative_to(self.dir / "e")) for p in (self.dir / "e").rglob("*") if p.is_file()),
                         ["img_emb/img_emb_0.npy", "metadata/metadata_0.jsonl", "reco.json", "text_emb/text_emb_0.npy"])
        first = jsonl(self.dir / "e/metadata/metadata_0.jsonl")[0]
        self.assertEqual((first["id"], first["image_path"], first["price"]), (0, "pictures/0000.png", 0.5))
        self.assertEqual(first["caption"], 'thing 0, a "thing"\n\u00e9')
        self.reco("bank", "build", "--embeddings", "e", "--out", "c")
        self.assertEqual(self.rows("c"), self.rows("b"))
        self.reco("bank", "export", "c", "--out", "f/")
        for name in ("img_emb/img_emb_0.npy", "text_emb/text_emb_0.npy", "metadata/metadata_0.jsonl"):
            self.assertEqual((self.dir / "e" / name).read_bytes(), (self.dir / "f" / name).read_bytes())
        have = [{k: self.json("bank", "info", b)[k] for k in ("encoder", "fingerprint", "dimensions")} for b in "bc"]
        self.assertEqual(have[0], have[1])
        self.fails("search", "--model", OTHER_MODEL, "--bank", "c", "--text", "x", says=["hf-quickgelu", "hf-gelu-bf16"])
        self.reco("bank", "build", "--model", OTHER_MODEL, "--pairs", "p.jsonl", "--out", "other")
        self.fails("bank", "add", "--embeddings", "e", "other", says=["hf-quickgelu", "hf-gelu-bf16"])

    def test_where_and_refusals(self):
        self.reco("bank", "delete", "b", "--id", 1)
        (self.dir / "e").mkdir()
        self.assertEqual(self.json("bank", "export", "b", "--out", "e", "--where", "id < 3"), {"rows": 2})
        self.assertEqual([r["id"] for r in jsonl(self.dir / "e/metadata/metadata_0.jsonl")], [0, 2])
        self.fails("bank", "export", "b", "--out", "e", says=["e: is not empty"])
        self.fails("bank", "export", "b", "--out", "p.jsonl", says=["is a file"])
        self.fails("bank", "export", "b", "--out", "g", "--where", "1; x", says=["where"])
        self.fails("bank", "export", "b", "--pairs", "x.txt", says=["x.txt"])
        self.assertEqual([p.name for p in self.dir.glob("g*")], [])
        self.reco("bank", "export", "b", code=2)

    def test_pairs(self):
        self.reco("bank", "export", "b", "--pairs", "out.jsonl")
        self.reco("bank", "build", "--model", MODEL, "--pairs", "out.jsonl", "--out", "c")
        self.assertEqual(self.rows("c"), self.rows("b"))
        self.reco("bank", "export", "b", "--pairs", "out.csv")
        with open(self.dir / "out.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(list(rows[0])[:2], ["image", "text"])
        self.assertEqual(rows[3], {"image": "pictures/0003.png", "text": 'thing 3, a "thing"\n\u00e9', "price": "", "n": str(2**53 + 3),
                                   "tags": '["a",{"b":null}]', "ok": "true", "none": "", "id": "sku3", "url": "", "meta.x": "1"})
        # What the types of a column can't tell comes back as text, and what is missing as nothing.
        self.reco("bank", "build", "--model", MODEL, "--pairs", "out.csv", "--out", "d")
        self.assertEqual(self.rows("d")[0]["meta"]["price"], 0.5)


if __name__ == "__main__":
    unittest.main()
