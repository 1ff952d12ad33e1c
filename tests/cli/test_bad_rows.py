"""Bad rows, in every way of filling a bank: each is in failures.jsonl once, with its row and a reason, and skipped; what
is left belongs together: id, caption, URI, both embeddings."""
import io
import json
import math
import random
import tarfile
import unittest

from common import MODEL, Case, jsonl, npy, png, write_npy

BIG = "x" * 65537
REPEATS = "duplicate URI: the same image and text as an earlier row"
OTHER = "duplicate URI: the bank has it already, with another text"


class BadRows(Case):
    def failed(self, bank):
        path = self.dir / bank / "failures.jsonl"
        return [(r["row"], r["item"], r["reason"]) for r in jsonl(path)] if path.exists() else []

    def vectors(self, bank):
        """(image, text) rows as they are stored, in order of id."""
        self.reco("bank", "export", bank, "--out", f"{bank}.out")
        return [npy(self.dir / f"{bank}.out/{side}/{side}_0.npy")[1] for side in ("img_emb", "text_emb")]

    def check(self, bank, want, pictures):
        """want: (caption, uri) of each row; pictures: their files. Embeddings are those of each alone."""
        rows = self.rows(bank)
        self.assertEqual([(r["id"], r["caption"], r["uri"]) for r in rows], [(i, c, u) for i, (c, u) in enumerate(want)])
        (self.dir / "pictures.txt").write_text("".join(f"{p}\n" for p in pictures))
        (self.dir / "captions.txt").write_text("".join(f"{c}\n" for c, _ in want))
        for kind, name in (("--images", "pictures.txt"), ("--texts", "captions.txt")):
            self.reco("embed", "--model", MODEL, "--precision", "f32", "--batch", 1, kind, name, "--out", "alone")
        for side, have in zip(("img_emb", "text_emb"), self.vectors(bank)):
            alone = npy(self.dir / f"alone/{side}/{side}_0.npy")[1]
            self.assertEqual(len(have), len(alone))
            for i, row in enumerate(have):
                apart = [max(abs(a - b) for a, b in zip(row, other)) for other in alone]
                own = want[i][side == "img_emb"]
                self.assertLess(apart[i], 1e-3, (side, i))
                self.assertGreater(min(x for x, w in zip([*apart, 1], [*want, ("", "")]) if w[side == "img_emb"] != own), 2e-3, (side, i))
        self.assertTrue(self.json("bank", "verify", bank)["ok"])

    def pair_files(self):
        self.pictures(6)
        (self.dir / "pictures/text.png").write_bytes(b"not a picture")
        whole = (self.dir / "pictures/0001.png").read_bytes()
        (self.dir / "pictures/cut.png").write_bytes(whole[:len(whole) // 2])

    # In the order of the file: image, text, what is wrong.
    TABLE = [
        ("pictures/0000.png", "zero", None),
        ("pictures/none.png", "a", "pictures/none.png: cannot open image: No such file or directory"),
        ("pictures/text.png", "b", "pictures/text.png: not a picture but a text file"),
        ("pictures/cut.png", "c", "pictures/cut.png"),
        ("", "d", "no image"),
        ("pictures/0001.png", "", "text is empty"),
        ("pictures/0001.png", " \t\u3000\u00a0 ", "text is empty"),
        ("pictures/0001.png", BIG, "text longer than 65536 bytes"),
        ("pictures/0001.png", "one \u00e9", None),
        ("pictures/0000.png", "zero", REPEATS),
        ("pictures/0000.png", "another name for zero", OTHER),
        ("pictures/0002.png", BIG[:-1], None),
        ("p" * 65537, "e", "uri of more than 65536 bytes"),
        ("pictures/0003.png", "three", None),
        ("pictures/0001.png", "one \u00e9", REPEATS),
    ]

    def judge(self, name, wrong, extra=()):
        """Build from a file whose rows are TABLE's and then `extra`: (item, reason) each."""
        built = self.json("bank", "build", "--model", MODEL, "--precision", "f32", "--pairs", name, "--out", "b", "--batch", 4)
        expected = [(i, image or f"record {i}", reason) for i, (image, _, reason) in enumerate(self.TABLE) if reason]
        expected += [(len(self.TABLE) + i, item, reason) for i, (item, reason) in enumerate(extra)]
        failed = self.failed("b")
        self.assertEqual([f[:2] for f in failed], [(r, item[:4096]) for r, item, _ in expected])
        for (_, _, have), (_, _, want) in zip(failed, expected):
            self.assertTrue(have.endswith(want) if want in (REPEATS, OTHER, "no image") else want in have, (have, want))
        good = [(text, image) for image, text, reason in self.TABLE if not reason]
        self.assertEqual((built["added"], built["embedded"], built["failures"], built["duplicates"]),
                         (len(good), len(good), len(expected), 0))
        self.assertEqual([f["row"] for f in built["failed"]], [f[0] for f in failed])
        self.check("b", good, [image for _, image in good])
        # The same file again adds nothing, and says what is bad in it as before; what is there is no failure.
        again = self.json("bank", "add", "--model", MODEL, "--precision", "f32", "--pairs", name, "b")
        repeats = sum(reason == REPEATS for _, _, reason in self.TABLE)
        self.assertEqual((again["added"], again["embedded"], again["duplicates"], again["failures"]),
                         (0, 0, len(good) + repeats, len(expected) - repeats))
        self.assertEqual([f[0] for f in self.failed("b")], [r for r, _, reason in expected if reason != REPEATS])
        self.reco("bank", "build", "--model", MODEL, "--pairs", name, "--out", "c", "--strict", code=1)
        several = self.json("bank", "build", "--model", MODEL, "--pairs", name, "--out", "d", "--several-captions")
        self.assertEqual((several["added"], several["failures"]), (len(good) + 1, len(expected) - 1))
        self.assertIn(("another name for zero", "pictures/0000.png"), [(r["caption"], r["uri"]) for r in self.rows("d")])

    def separated(self, name, separator):
        self.pair_files()
        quote = lambda text: '"' + text.replace('"', '""') + '"'
        lines = [separator.join(["image", "text", "n"])]
        lines += [separator.join([quote(image), quote(text), str(i)]) for i, (image, text, _) in enumerate(self.TABLE)]
        lines += ["pictures/0004.png", separator.join(["pictures/0004.png", "long", "1", "2"])]
        data = "\n".join(lines).encode() + b"\n" + separator.join(["pictures/0004.png", "four \udcff", "17"]).encode(
            errors="surrogateescape") + b"\n"
        (self.dir / name).write_bytes(data)
        n = len(self.TABLE)
        self.judge(name, lines, [("pictures/0004.png", "no text"),
                                 (f"record {n + 1}", f"line {n + 3}: 4 fields, want 3"),
                                 (f"record {n + 2}", f'line {n + 4}: field "text" is not UTF-8')])
        self.assertEqual([r["meta"] for r in self.rows("b")], [{"n": i} for i, r in enumerate(self.TABLE) if not r[2]])

    def test_csv(self):
        self.separated("p.csv", ",")

    def test_tsv(self):
        self.separated("p.tsv", "\t")

    def test_jsonl(self):
        self.pair_files()
        lines = [json.dumps({"image": image, "text": text, "n": i}).encode() for i, (image, text, _) in enumerate(self.TABLE)]
        extra = [
            (b"{broken", None, "line 16: "),
            (b"[1, 2]", None, "line 17: want a JSON object"),
            (b'{"image": "pictures/0004.png", "text": "four \xff"}', None, "line 18: "),
            (b'{"image": "pictures/0004.png"}', "pictures/0004.png", "no text"),
            (b'{"image": "pictures/0004.png", "text": true}', "pictures/0004.png", "no text"),
            (b'{"image": "pictures/0004.png", "text": null}', "pictures/0004.png", "no text"),
            (b'{"text": "no image"}', None, "no image"),
            (b'{"image": "pictures/0004.png", "text": "four", "more": "' + b"y" * (1 << 20) + b'"}', "pictures/0004.png",
             "meta of more than 1048576 bytes"),
        ]
        (self.dir / "p.jsonl").write_bytes(b"\n".join([*lines, *(e[0] for e in extra)]) + b"\n")
        n = len(self.TABLE)
        self.judge("p.jsonl", lines, [(item or f"record {n + i}", reason) for i, (_, item, reason) in enumerate(extra)])

    def test_tars(self):
        def picture(seed):
            png(self.dir / f"{seed}.png", seed)
            return (self.dir / f"{seed}.png").read_bytes()

        samples = [
            ("a/0", {"png": picture(0), "txt": b"zero\n"}, None),
            ("a/1", {"txt": b"no picture"}, ("t.tar/a/1", "no image")),
            ("a/2", {"png": picture(2)}, ("t.tar/a/2.png", "no text")),
            ("a/3", {"png": b"not a picture", "txt": b"three"}, ("t.tar/a/3.png", "t.tar/a/3.png: ")),
            ("a/4", {"png": picture(4), "txt": b" \r\n\t"}, ("t.tar/a/4.png", "text is empty")),
            ("a/5", {"png": picture(5), "txt": BIG.encode()}, ("t.tar/a/5.png", "text longer than 65536 bytes")),
            ("a/6", {"png": picture(6), "txt": b"six \xff"}, ("t.tar/a/6.png", ".txt is not UTF-8")),
            ("a/7", {"png": picture(7), "txt": b"se\0ven"}, ("t.tar/a/7.png", ".txt holds a NUL byte")),
            ("a/8", {"png": picture(8), "json": b"{broken"}, ("t.tar/a/8.png", "")),
            ("a/9", {"png": picture(9), "json": b'{"caption": "  "}'}, ("t.tar/a/9.png", "text is empty")),
            ("a/10", {"png": picture(10), "json": b'{"caption": "ten", "n": 10}'}, None),
            ("a/0", {"png": picture(0), "txt": b"zero\n"}, ("t.tar/a/0.png", REPEATS)),
            ("a/11", {"cls": b"1"}, None),  # no member that is read
            ("a/12", {"png": picture(12), "txt": b"twelve", "json": json.dumps({"more": "y" * 1048576}).encode()}, None),
            ("a/13", {"png": picture(13), "txt": "dreizehn \u00df".encode()}, None),
            ("a/14", {"png": picture(14)[:90], "txt": b"fourteen"}, ("t.tar/a/14.png", "t.tar/a/14.png: ")),
        ]
        with tarfile.open(self.dir / "t.tar", "w") as tar:
            for key, members, _ in samples:
                for ending, data in members.items():
                    info = tarfile.TarInfo(f"{key}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        built = self.json("bank", "build", "--model", MODEL, "--precision", "f32", "--tars", "t.tar", "--out", "b", "--batch", 3)
        expected = [(i, *wrong) for i, (_, _, wrong) in enumerate(samples) if wrong]
        self.assertEqual((built["added"], built["embedded"], built["failures"], built["duplicates"]), (4, 4, len(expected), 0))
        self.assertEqual([f[:2] for f in self.failed("b")], [e[:2] for e in expected])
        for have, want in zip(self.failed("b"), expected):
            self.assertIn(want[2], have[2])
        self.check("b", [("zero", "t.tar/a/0.png"), ("ten", "t.tar/a/10.png"), ("twelve", "t.tar/a/12.png"), ("dreizehn \u00df", "t.tar/a/13.png")],
                   ["0.png", "10.png", "12.png", "13.png"])
        self.assertEqual([r["meta"] for r in self.rows("b")], [None, {"n": 10}, None, None])
        again = self.json("bank", "add", "--model", MODEL, "b", "--tars", "t.tar")
        self.assertEqual((again["added"], again["duplicates"], again["failures"]), (0, 5, len(expected) - 1))

    def embedded(self, name, records, ending, bad):
        """A folder of 16 rows; bad: {(side, row): vector}."""
        rng = random.Random(5)
        sides = []
        for side in ("img_emb", "text_emb"):
            rows = []
            for i in range(16):
                x = [rng.gauss(0, 1) for _ in range(8)]
                norm = math.sqrt(sum(v * v for v in x))
                rows.append(bad.get((side, i), [v / norm for v in x]))
            for part in (0, 1):
                write_npy(self.dir / name / side / f"{side}_{part}.npy", rows[8 * part:8 * part + 8])
            sides.append(rows)
        (self.dir / name / "metadata").mkdir()
        for part in (0, 1):
            lines = records[:9] if part == 0 else [*records[:1], *records[9:]] if ending == "csv" else records[8:]
            if ending == "jsonl" and part == 0:
                lines = records[:8]
            (self.dir / name / f"metadata/metadata_{part}.{ending}").write_bytes(b"\n".join(lines) + b"\n")
        return sides

    BAD = {("img_emb", 1): [math.nan] + [0.0] * 7, ("text_emb", 2): [0.0] * 8, ("img_emb", 3): [math.inf] + [0.0] * 7,
           ("text_emb", 4): [-math.inf] * 8, ("img_emb", 11): [0.0] * 8, ("text_emb", 12): [math.nan] * 8}

    def judge_embeddings(self, sides, expected):
        built = self.json("bank", "build", "--embeddings", "e", "--out", "b")
        self.assertEqual([f[:2] for f in self.failed("b")], [e[:2] for e in expected])
        for have, want in zip(self.failed("b"), expected):
            self.assertIn(want[2], have[2])
        bad = {e[0] for e in expected}
        good = [i for i in range(16) if i not in bad]
        self.assertEqual((built["added"], built["embedded"], built["failures"], built["duplicates"]), (len(good), 0, len(bad), 0))
        self.assertEqual([(r["id"], r["caption"], r["uri"]) for r in self.rows("b")],
                         [(n, f"thing {i}", f"{i}.jpg") for n, i in enumerate(good)])
        for have, rows in zip(self.vectors("b"), sides):
            for row, i in zip(have, good):
                self.assertLess(max(abs(a - b) for a, b in zip(row, rows[i])), 1e-3, i)
        self.assertTrue(self.json("bank", "verify", "b")["ok"])
        again = self.json("bank", "add", "--embeddings", "e", "b")
        repeats = sum(e[2] == REPEATS for e in expected)
        self.assertEqual((again["added"], again["duplicates"], again["failures"]),
                         (0, len(good) + repeats, len(bad) - repeats))

    VECTORS = [(1, "1.jpg", "the image embedding is zero or not finite"), (2, "2.jpg", "the text embedding is zero or not finite"),
               (3, "3.jpg", "the image embedding is zero or not finite"), (4, "4.jpg", "the text embedding is zero or not finite")]
    MORE = [(11, "11.jpg", "the image embedding is zero or not finite"), (12, "12.jpg", "the text embedding is zero or not finite")]

    def test_embeddings_jsonl(self):
        records = [json.dumps({"caption": f"thing {i}", "image_path": f"{i}.jpg", "n": i}).encode() for i in range(16)]
        records[5] = b"{broken"
        records[7] = json.dumps({"caption": BIG, "image_path": "7.jpg"}).encode()
        records[9] = json.dumps({"caption": "thing 8", "image_path": "8.jpg"}).encode()
        records[10] = b'{"caption": "thing 10", "image_path": "10.jpg", "x": "\xff"}'
        records[14] = json.dumps({"caption": "thing 14", "image_path": "p" * 65537}).encode()
        del records[15]
        sides = self.embedded("e", records, "jsonl", self.BAD)
        self.judge_embeddings(sides, [*self.VECTORS, (5, "row 5", "line 6: "), (7, "7.jpg", "text longer than 65536 bytes"), (9, "8.jpg", REPEATS), *self.MORE, (14, "p" * 4096, "uri of more than 65536 bytes"),
                                      (15, "row 15", "no record in metadata/")])

    def test_embeddings_csv(self):
        records = [b"caption,image_path,n", *(f"thing {i},{i}.jpg,{i}".encode() for i in range(16))]
        records[1 + 5] = b"thing 5,5.jpg,5,5"
        records[1 + 6] = b"thing 6,6.jpg"
        records[1 + 7] = b"thing \xff,7.jpg,7"
        records[1 + 9] = b"thing 8,8.jpg,9"
        records[1 + 10] = b"thing 8 again,8.jpg,10"
        records[1 + 13] = BIG.encode() + b",13.jpg,13"
        sides = self.embedded("e", records, "csv", self.BAD)
        self.judge_embeddings(sides, [*self.VECTORS, (5, "row 5", "line 7: 4 fields, want 3"),
                                      (7, "row 7", 'line 9: field "caption" is not UTF-8'), (9, "8.jpg", REPEATS),
                                      (10, "8.jpg", OTHER), *self.MORE, (13, "13.jpg", "text longer than 65536 bytes")])
        self.assertEqual(self.json("bank", "build", "--embeddings", "e", "--out", "c", "--several-captions")["added"],
                         self.json("bank", "info", "b")["rows"] + 1)

    def test_no_uri(self):
        """Rows without a URI can't be told to be the same; nor does a bank lose rows by being exported and read again."""
        def folder(name, records):
            rows = [[float(i == j) for j in range(8)] for i in range(len(records))]
            for side in ("img_emb", "text_emb"):
                write_npy(self.dir / name / side / f"{side}_0.npy", rows)
            (self.dir / name / "metadata").mkdir()
            (self.dir / name / "metadata/metadata_0.csv").write_text("caption,image_path\n" + "".join(f"{c},{u}\n" for c, u in records))

        folder("e", [("a", ""), ("a", ""), ("b", "x.jpg"), ("a", "x.jpg")])
        built = self.json("bank", "build", "--embeddings", "e", "--out", "b", "--several-captions")
        self.assertEqual((built["added"], built["failures"]), (4, 0))
        again = self.json("bank", "add", "--embeddings", "e", "b", "--several-captions")
        self.assertEqual((again["added"], again["duplicates"], again["failures"]), (2, 2, 0))
        self.reco("bank", "export", "b", "--out", "out")
        self.assertEqual(self.json("bank", "build", "--embeddings", "out", "--out", "c")["added"], 6)
        self.assertEqual([(r["caption"], r["uri"]) for r in self.rows("c")], [(r["caption"], r["uri"]) for r in self.rows("b")])
        metadata = self.dir / "out/metadata/metadata_0.jsonl"
        lines = metadata.read_text().splitlines()
        metadata.write_text("".join(f"{l}\n" for l in [*lines[:5], lines[2]]))  # a double, as banks once could have
        self.assertEqual(self.json("bank", "build", "--embeddings", "out", "--out", "d")["added"], 6)

    def test_told_in_one_line(self):
        """Whatever the item is, a terminal gets one line without control characters; the file has all of it."""
        long, odd = "y" * 5000 + ".png", "no\n\x1b[31mx.png"
        (self.dir / "p.csv").write_text(f'image,text\n"{odd}",a\n{long},b\npictures/z.png,"  "\n"{odd}",\ngood.png,c\n')
        png(self.dir / "good.png", 1)
        done = self.reco("bank", "build", "--model", MODEL, "--pairs", "p.csv", "--out", "b")
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 5, done.stderr)
        self.assertNotIn("\x1b", done.stderr)
        self.assertIn("skipped row 0: no??[31mx.png: ", lines[0])
        self.assertLess(len(lines[1]), 1500)
        self.assertEqual(lines[3], "reco: skipped row 3: no??[31mx.png: text is empty")
        self.assertEqual([item for _, item, _ in self.failed("b")], [odd, long[:4096], "pictures/z.png", odd])


if __name__ == "__main__":
    unittest.main()
