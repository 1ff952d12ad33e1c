"""Pairs, labels and metadata as people have them: what is read, as Python reads it, or what is said."""
import bz2
import csv
import gzip
import io
import json
import lzma
import random
import struct
import unittest

from common import MODEL, OTHER_MODEL, Case, npy, write_npy

R = [("pictures/0000.png", "red disc"), ("pictures/0001.png", "blue box"), ("pictures/0002.png", "green tent")]


def lines(header, row, end="\n"):
    return header + end + "".join(row.format(image=a, text=b, i=i) + end for i, (a, b) in enumerate(R))


class Tables(Case):
    def setUp(self):
        super().setUp()
        self.pictures(3)

    def build(self, name, data, *options, encoding="utf-8"):
        """(what was said, caption and URI of each row, their columns)"""
        (self.dir / name).write_bytes(data if isinstance(data, bytes) else data.encode(encoding))
        self.bank = f"b{len(list(self.dir.glob('b*')))}"
        done = self.reco("bank", "build", "--model", MODEL, "--pairs", name, "--out", self.bank, "--json", *options)
        self.said, self.built = done.stderr, json.loads(done.stdout)
        rows = self.rows(self.bank)
        return [(r["uri"], r["caption"]) for r in rows], [r["meta"] for r in rows]

    def refused(self, name, data, *options, says=()):
        (self.dir / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        self.fails("bank", "build", "--model", MODEL, "--pairs", name, "--out", "none", *options, says=says)
        self.assertFalse((self.dir / "none").exists())

    def test_shapes(self):
        """Names, separators, encodings and line ends."""
        tabs, semicolons, bars = ("its columns are separated by " + s for s in ("tabs", "semicolons", "bars"))
        shapes = [
            ("a.csv", lines("filepath\ttitle", "{image}\t{text}"), tabs),
            ("a.csv", lines("image;text", "{image};{text}", "\r\n"), semicolons),
            ("a.csv", lines("image_name| comment_number| comment", "{image}| 0| {text}"), bars),
            ("a.tsv", lines("Image Path,CAPTION", "{image},{text}"), "its columns are separated by commas"),
            ("a.csv", lines("URL,TEXT", "{image},{text}"), ""),
            ("a.csv", lines("file_name,alt-text", "{image},{text}"), ""),
            ("a.csv", lines("image, text", "{image}, {text}"), ""),
            ("a.csv", lines("image, text", '{image}, "{text}"'), ""),
            ("a.csv", lines("image,text,,", "{image},{text},,"), ""),
            ("a.csv", lines(",image,text", "{i},{image},{text}"), ""),
            ("a.csv", lines("image,text", "{image},{text}", "\r"), ""),
            ("a.csv", lines("image,text", "{image},{text}", "\r\r\n"), ""),
            ("a.csv", "\ufeff" + lines("image,text", "{image},{text}"), ""),
            ("a.csv", "sep=;\n" + lines("image;text", "{image};{text}"), ""),
            ("a.csv", "# made 2024\n#\n" + lines("image,text", "{image},{text}"), ""),
            ("a.csv", lines("#image,text", "{image},{text}"), ""),
            ("a.csv", lines("image,text", "{image},{text}") + "\0" * 70000, ""),
            ("a.csv", lines("image,text,caption", "{image},,{text}"), ""),
            ("a.csv", lines("image,text", "{image},{text}").encode("utf-16"), ""),
            ("a.csv", lines("image\ttext", "{image}\t{text}").encode("utf-16-be").join((b"\xfe\xff", b"")), tabs),
            ("a.csv.gz", gzip.compress(lines("image,text", "{image},{text}").encode()), ""),
            ("a.tsv.bz2", bz2.compress(lines("image\ttext", "{image}\t{text}").encode()), ""),
            ("a.jsonl.xz", lzma.compress(lines("", '{{"file_name":"{image}","caption":"{text}"}}').encode()), ""),
            ("a.json", json.dumps([{"image": a, "text": b} for a, b in R]), ""),
            ("a.json", json.dumps([{"image": {"path": a, "bytes": None}, "text": [b]} for a, b in R], indent=1), ""),
            ("a.jsonl", "\ufeff" + "".join(json.dumps({"image": a, "text": b}, indent=2) + "\n" for a, b in R), ""),
            ("a.ndjson", "".join(json.dumps({"text": None, "Title": b, "path": a}) for a, b in R), ""),
        ]
        for name, data, said in shapes:
            with self.subTest(data[:60]):
                pairs, metas = self.build(name, data)
                self.assertEqual(pairs, R)
                self.assertIn(said, self.said)
                if not said: self.assertEqual(self.said, "")
                self.assertIn(metas[0], [None, {"comment_number": 0}])

    def test_paths(self):
        for shape in ("{image}", "file://{image}", f"file://{self.dir}/{{image}}", f"file://localhost{self.dir}/{{image}}"):
            for change in (lambda s: s, lambda s: s.replace("/0", "\\0") if "file" not in s else s.replace("00.", "%300.")):
                self.build("a.csv", lines("image,text", f"{shape},{{text}}").replace("pictures/0", change("pictures/0")))
                self.assertEqual((self.built["added"], self.built["failures"]), (3, 0))

    def test_columns_by_name(self):
        data = lines("image,text,Other,words", "none.png,no,{image},{text}")
        pairs, metas = self.build("a.csv", data, "--image-column", "other", "--text-column", "words")
        self.assertEqual(pairs, R)
        self.assertEqual(metas[0], {"image": "none.png", "text": "no"})
        pairs, _ = self.build("a.jsonl", lines("", '{{"image":"x","pic":"{image}","t":"{text}"}}'), "--image-column", "pic",
                              "--text-column", "t")
        self.assertEqual(pairs, R)
        self.refused("a.csv", data, "--text-column", "nothing", says=['no column "nothing" in its header: "image", "text"'])
        self.refused("a.csv", "imgae,text\na,b\n", says=['"imgae", "text"', 'is "imgae" meant as image?', "--image-column"])
        self.refused("a.csv", lines("{image}", "{image},{text}").replace("{image}", "pictures/0000.png,red disc"),
                     says=["has no header row", "put a row of names above it, such as image,text"])
        (self.dir / "cc3m.tsv").write_text("a red box\tpics/0.png\na blue box\tpics/1.png\n")  # a tab would be shown as "?"
        self.fails("bank", "build", "--model", MODEL, "--pairs", "cc3m.tsv", "--out", "b", says=["has no header row", "as image<tab>text"])
        self.refused("a.csv.gz", b"\x1f\x8b\x08broken", says=["a.csv.gz: "])
        self.refused("a.parquet", "PAR1", says=["pandas.read_parquet('a.parquet').to_json('a.jsonl'"])
        self.build("a.jsonl", '{"foto": "a.png", "text": "a"}\n{"image": "pictures/0000.png", "text": "b"}\n')
        self.assertIn('no image: its keys are "foto"', self.built["failed"][0]["reason"])

    def test_separator_is_told(self):
        data = "image:text\n" + "".join(f"{a}:{b}\n" for a, b in R)
        self.assertEqual(self.build("a.csv", data, "--separator", ":")[0], R)
        self.assertEqual(self.build("a.csv", data.replace(":", "\t"), "--separator", "tab")[0], R)
        self.reco("bank", "build", "--model", MODEL, "--pairs", "a.csv", "--out", "x", "--separator", "ab", code=2)

    def test_encoding(self):
        data = lines("image,text,café", "{image},{text} café,1").encode("latin-1")
        self.refused("a.csv", data, says=["name of column 3 is not UTF-8", "--encoding"])
        pairs, metas = self.build("a.csv", data, "--encoding", "latin1")
        self.assertEqual(pairs, [(a, b + " café") for a, b in R])
        self.assertEqual(metas[0], {"café": 1})
        self.refused("a.csv", data, "--encoding", "nonsense", says=['encoding "nonsense" is not known'])
        # A column that nobody needs costs its value alone.
        pairs, metas = self.build("a.csv", lines("image,text,note", "{image},{text},café").encode("latin-1"))
        self.assertEqual((pairs, metas[0], self.built["dropped"]), (R, None, 3))
        self.assertIn("3 values of other columns could not be kept", self.said)

    def test_tsv_without_quotes(self):
        rows = list(R)
        rows[1] = (R[1][0], '"blue box, 5" wide')
        for last in ('green tent', 'green tent"', '"tent"'):
            rows[2] = (R[2][0], last)
            data = "image\ttext\n" + "".join(f"{a}\t{b}\n" for a, b in rows)
            self.assertEqual(self.build("a.tsv", data)[0], rows)
        self.assertEqual(self.build("a.csv", data, "--separator", "tab", "--quote", "no")[0], rows)

    def test_tsv_with_quotes(self):
        """As csv.writer writes them, and as pandas reads them."""
        for quoting, captions in ((csv.QUOTE_MINIMAL, ("a\tb", 'say "red"', "two\nlines")), (csv.QUOTE_ALL, ("a", "b", "c")),
                                  (csv.QUOTE_MINIMAL, ("one", "two\nor three\nlines", "four"))):
            rows = [(a, caption) for (a, _), caption in zip(R, captions)]
            file = io.StringIO(newline="")
            csv.writer(file, delimiter="\t", quoting=quoting).writerows([("image", "text"), *rows])
            self.assertEqual(self.build("a.tsv", file.getvalue())[0], rows)

    def test_backslashes(self):
        rows = [(R[0][0], 'a "blue" box'), (R[1][0], 'the "orange", stroke'), (R[2][0], "back\\slash")]
        for quoting in (csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            file = io.StringIO(newline="")
            csv.writer(file, quoting=quoting, doublequote=False, escapechar="\\").writerows([("image", "text"), *rows])
            self.assertEqual(self.build("a.csv", file.getvalue())[0], rows, file.getvalue())
        # A path that ends with a backslash is none of it.
        self.assertEqual(self.build("a.csv", 'image,text\n"pictures/0000.png","C:\\dir\\"\n')[0], [(R[0][0], "C:\\dir\\")])

    def test_open_quote(self):
        """A quote that is never closed costs its own line, which is named, and none of those below."""
        n = 130
        for name, separator in (("a.csv", ","), ("b.csv", ";")):
            for closed in (None, 115, 129):
                data = [f"image{separator}text"] + [f"pictures/{i % 3:04d}.png{separator}thing {i}" for i in range(n)]
                data[8] = f'pictures/0001.png{separator}"5 inches'
                if closed: data[closed] += f' of 12" wide'
                self.build(name, "\n".join(data) + "\n", "--several-captions")
                self.assertEqual((self.built["added"], self.built["failures"]), (n - 1, 1))
                self.assertIn("line 9: field 2: the record spans more than 100 lines", self.built["failed"][0]["reason"])
        long = "\n".join(f"line {i}" for i in range(120))
        data = f'image,text\n{R[0][0]},"{long}"\n{R[1][0]},b\n'
        self.assertEqual(self.build("a.csv", data, "--max-lines", "120")[0], [(R[0][0], long), (R[1][0], "b")])
        self.assertEqual(self.built["joined_lines"], 119)
        self.assertEqual(self.build("a.csv", data)[0], [(R[1][0], "b")])
        self.assertEqual(self.built["failures"], 120)  # every line of it
        self.build("a.csv", f'image,text\n{R[0][0]},"red\n{R[1][0]},blue\n{R[2][0]},green"\n')
        self.assertIn('a.csv:2: a field in quotes spans 3 lines, each of which looks like a row of its own', self.said)
        # Closed, but nothing that could be a row: the rows below are not part of its failure.
        rows = [f"pictures/000{i % 3}.png,thing {i}" for i in range(20)]
        rows[4], rows[9] = 'pictures/0001.png,"5 inches', 'pictures/0000.png,ten" by twelve'
        for end in ('', ',x'):
            self.build("a.csv", "image,text\n" + "\n".join(rows).replace('ten" by twelve', f'ten"{end or " by twelve"}') + "\n", "--several-captions")
            self.assertEqual((self.built["added"], self.built["failures"]), (19, 1) if not end else (18, 2))
            self.assertIn("line 6: ", self.built["failed"][0]["reason"])
        self.build("a.jsonl", '{"image": "pictures/0000.png",\n' * 3 + '{"image": "pictures/0001.png", "text": "b"}\n')
        self.assertEqual((self.built["added"], self.built["failures"]), (1, 3))

    def test_numbers(self):
        """A column is of numbers when each of its values is one, as JSON writes them, and none loses a digit."""
        columns = {"price": ("7.5", "49", "-1e3"), "zip": ("00501", "10001", "94105"), "plus": ("+1", "2", "3"), "gap": ("", "2", ""),
                   "word": ("1", "2", "n/a"), "big": ("9223372036854775807", "1", "0"), "bigger": ("9223372036854775808", "1", "0"),
                   "long": ("0.30000000000000004", "1", "1"), "longer": ("0.300000000000000041234", "1", "1"), "none": ("", "", ""),
                   "tail": ("7.50", "1.0", "100"), "huge": ("1e400", "1", "1"), "dot": (".5", "1.", "1"), "blank": (" 5", "6 ", "7")}
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
            file = io.StringIO(newline="")
            csv.writer(file, quoting=quoting).writerows(
                [("image", "text", *columns), *((a, b, *(c[i] for c in columns.values())) for i, (a, b) in enumerate(R))])
            _, metas = self.build("a.csv", file.getvalue())
            numbers = {k for k in columns if all(isinstance(m.get(k, 0), (int, float)) for m in metas)}
            self.assertEqual(numbers, {"price", "gap", "big", "long", "tail", "blank"})
            self.assertEqual([m["price"] for m in metas], [7.5, 49, -1000.0])
            self.assertEqual([m.get("gap") for m in metas], [None, 2, None])
            self.assertEqual([(m["big"], m["long"], m["none"]) for m in metas][0], (2**63 - 1, 0.30000000000000004, ""))
            self.assertEqual([m["zip"] for m in metas], list(columns["zip"]))
        _, metas = self.build("b.csv", file.getvalue(), "--types", "price=text,zip=number,word=number")
        self.assertEqual([(m["price"], m["zip"], m["word"]) for m in metas], [("7.5", 501, 1), ("49", 10001, 2), ("-1e3", 94105, "n/a")])
        self.assertEqual(len(self.reco("bank", "list", self.bank, "--where", "json_extract(meta,'$.zip') < 10000", "--json").stdout.splitlines()), 1)
        self.refused("b.csv", file.getvalue(), "--types", "prize=text", says=['has no column "prize"'])
        self.refused("b.csv", file.getvalue(), "--types", "price=money", says=["want NAME=text or NAME=number"])
        # A caption is text, whatever it looks like.
        self.assertEqual(self.build("a.csv", "image,text\npictures/0000.png,1984\n")[0], [("pictures/0000.png", "1984")])

    def test_options_are_of_the_job(self):
        data = lines("image,text,n", "{image},{text},{i}")
        self.build("a.csv", data)
        again = self.json("bank", "add", "--model", MODEL, "--pairs", "a.csv", "--types", "n=text", self.bank)
        self.assertEqual((again["added"], again["duplicates"]), (0, 3))

    def test_export_keeps_values(self):
        """CSV and back: numbers, texts that look like numbers, what is empty and what is not there."""
        rng = random.Random(3)
        values = [0, 1, -5, 49, 7.5, 0.1, 1e300, 2**53 + 1, "49", "7.5", "007", "", "abc", "a,b", 'say "x"', "two\nlines", "true", "null", True, False, None]
        for seed in range(6):
            columns = {f"c{i}": rng.sample(values, rng.randrange(1, 4)) for i in range(8)}
            rows = [{k: rng.choice(c) for k, c in columns.items() if rng.random() < 0.8} for _ in R]
            _, before = self.build("a.jsonl", "".join(json.dumps({"image": a, "text": b, **m}) + "\n" for (a, b), m in zip(R, rows)))
            self.reco("bank", "export", self.bank, "--pairs", "out.csv")
            _, after = self.build("out.csv", (self.dir / "out.csv").read_bytes())
            keep = lambda metas: [{k: v for k, v in (m or {}).items() if v is not None} for m in metas]
            self.assertEqual([json.dumps(m, sort_keys=True) for m in keep(after)], [json.dumps(m, sort_keys=True) for m in keep(before)],
                             (self.dir / "out.csv").read_text())

    def test_json(self):
        """What jansson refuses costs at most that one key."""
        odd = ['"n": 18446744073709551617', '"n": NaN, "k": 1', '"n": [1, Infinity], "k": {"x": -Infinity, "y": 2}', '"n": "a\\ud83db"',
               '"n": 1, "n": 2', '"n": 1e999', '"n": "a\\u0000b"', '"n": "tab\there"', '"caption": null']
        want = [{"n": "18446744073709551617"}, {"k": 1}, {"n": [1, None], "k": {"y": 2}}, {"n": "a\ufffdb"}, {"n": 2}, {"n": "1e999"},
                {"n": "a\ufffdb"}, {"n": "tab\there"}, {"caption": None}]
        data = "".join(f'{{"image": "{R[0][0]}", "text": "t{i}", {o}}}\n' for i, o in enumerate(odd))
        _, metas = self.build("a.jsonl", data, "--several-captions")
        self.assertEqual((metas, self.built["dropped"], self.built["failures"]), (want, 4, 0))
        pairs, _ = self.build("a.jsonl", '{"image":"pictures/0000.png","text":"red \\ud83d disc"}\n{"image":"pictures/0001.png","text":1984}\n'
                              '{"image":"pictures/0002.png","captions":["first","second"]}\n')
        self.assertEqual(pairs, [(R[0][0], "red \ufffd disc"), (R[1][0], "1984"), (R[2][0], "first")])
        self.assertEqual((self.built["repaired"], self.rows(self.bank)[2]["meta"]), (1, {"captions": ["first", "second"]}))

    def test_lists_of_captions(self):
        data = json.dumps([{"image": a, "captions": [b, f"another {b}", 7], "n": i} for i, (a, b) in enumerate(R)])
        pairs, metas = self.build("a.json", data, "--several-captions")
        self.assertEqual(pairs, [(a, c) for a, b in R for c in (b, f"another {b}", "7")])
        self.assertEqual((metas, self.built["failures"]), ([{"n": i} for i in range(3) for _ in range(3)], 0))

    def test_names_of_rows(self):
        """R's write.table: a name before each row, and none for them in the header."""
        pairs, metas = self.build("a.csv", '"image","text","n"\n' + "".join(f'"{i + 1}","{a}","{b}",{i}\n' for i, (a, b) in enumerate(R)))
        self.assertEqual((pairs, metas), (R, [{"n": i} for i in range(3)]))
        self.assertEqual(self.build("a.csv", lines("image,text,n", "{image},{text},{i},"))[1], metas)
        (self.dir / "b.csv").write_text(lines("image,text", "{image},{text}, and more"))
        self.assertIn("line 2: 3 fields, want 2", self.run_raw("bank", "build", "--model", MODEL, "--pairs", "b.csv", "--out", "c").stderr)

    def test_urls(self):
        self.build("a.csv", f"url,text\nhttps://example.com/a.jpg,a\n{R[0][0]},b\n")
        self.assertIn("the image is a URL", self.built["failed"][0]["reason"])

    def test_like_csv(self):
        """Random tables of every dialect are what Python's csv reads."""
        rng = random.Random(7)
        letters = ["a", "b", " ", '"', ",", ";", "\t", "\n", "é", "\\", "'"]
        for seed in range(10):
            rows = [(a, "t" + "".join(rng.choices(letters, k=12)), "x" + "".join(rng.choices(letters, k=rng.randrange(9)))) for a, _ in R]
            file = io.StringIO(newline="")
            separator = rng.choice(",;\t|")
            csv.writer(file, delimiter=separator, quoting=rng.choice((csv.QUOTE_ALL, csv.QUOTE_MINIMAL)),
                       lineterminator=rng.choice(("\n", "\r\n"))).writerows([("image", "text", "x"), *rows])
            pairs, metas = self.build("a.csv", file.getvalue(), "--quote", "yes")
            self.assertEqual([(*p, m["x"]) for p, m in zip(pairs, metas)], rows, file.getvalue())

    def test_labels(self):
        (self.dir / "classes.txt").write_text("red disc\nblue box\ngreen tent\n")
        self.build("a.csv", lines("image,text", "{image},{text}"))
        for data in (lines("image;class_name", "{image};{text}"), lines("File Name,Category", "{image},{text}")):
            (self.dir / "labels.csv").write_text(data)
            self.json("eval", "--model", MODEL, "--bank", self.bank, "--fusion", "mean", "--classes", "classes.txt", "--labels", "labels.csv")
        (self.dir / "labels.csv").write_text("image,lable\na,b\n")
        self.assertIn('is "lable" meant as label?', self.fails("eval", "--model", MODEL, "--bank", self.bank, "--fusion", "mean", "--classes",
                                                               "classes.txt", "--labels", "labels.csv"))


class Embeddings(Case):
    def folder(self, parts, metadata, sides=("img_emb", "text_emb")):
        for p in parts:
            for side in sides:
                write_npy(self.dir / f"e/{side}/{side}_{p}.npy", [[float(i == j) for j in range(4)] for i in range(2)])
        for name, data in metadata.items():
            (self.dir / "e/metadata").mkdir(exist_ok=True)
            (self.dir / "e/metadata" / name).write_text(data)

    def test_gap(self):
        self.folder(("0000", "0002"), {f"metadata_{p:04d}.csv": f"caption\nc{p}\nd{p}\n" for p in (0, 2)})
        built = self.json("bank", "build", "--embeddings", "e", "--out", "b")
        self.assertEqual((built["added"], built["failures"]), (4, 1))
        self.assertIn("e: part 1 is missing", built["failed"][0]["reason"])
        self.assertEqual([r["caption"] for r in self.rows("b")], ["c0", "d0", "c2", "d2"])

    def test_captions(self):
        self.folder((0,), {"metadata_0.jsonl": '{"caption": null, "similarity": NaN}\n{"TEXT": "two", "phash": 18446744073709551616}\n'})
        built = self.json("bank", "build", "--embeddings", "e", "--out", "b")
        self.assertEqual([(r["caption"], r["meta"]) for r in self.rows("b")], [("", None), ("two", {"phash": "18446744073709551616"})])
        self.assertEqual((built["failures"], built["dropped"]), (0, 1))

    def test_one_side(self):
        self.folder((0,), {}, sides=("img_emb",))
        self.fails("bank", "build", "--embeddings", "e", "--out", "b", says=["no text_emb", "reco embed --model MODEL --texts FILE --out e"])

    def test_one_side_and_a_model(self):
        """What is not there is embedded from the metadata, as the pairs file would have been."""
        self.pictures(5)
        captions = ["a cat", "", "red " * 40, "an owl", "a dog"]
        table = "image_path,caption,shop\n" + "".join(f"pictures/{i:04d}.png,{c},{i}\n" for i, c in enumerate(captions))
        (self.dir / "p.csv").write_text(table)
        whole = self.json("bank", "build", "--model", MODEL, "--pairs", "p.csv", "--out", "whole")
        (self.dir / "list.txt").write_text("".join(f"pictures/{i:04d}.png\n" for i in range(5)))
        (self.dir / "texts.txt").write_text("".join(c + "\n" for c in captions))
        self.reco("embed", "--model", MODEL, "--images", "list.txt", "--out", "i", "--dtype", "float32")
        self.reco("embed", "--model", MODEL, "--texts", "texts.txt", "--out", "t", "--dtype", "float32")
        (self.dir / "pictures/0003.png").write_bytes(b"no picture")
        for side, bad in (("i", 1), ("t", 3)):
            (self.dir / side / "metadata/metadata_0.jsonl").unlink()
            (self.dir / side / "metadata/metadata_0.csv").write_text(table)
            build = ["bank", "build", "--embeddings", side, "--out", side + ".bank"]
            self.fails(*build, "--model", OTHER_MODEL, says=["was made with encoder"])
            self.fails(*build, says=["with --model"])
            built = self.json(*build, "--model", MODEL, "--batch", 1)
            good = [r for r in self.rows("whole") if side == "t" and r["uri"] != "pictures/0003.png" or side == "i"]
            if side == "t":  # the text of row 1 is there, though it says nothing
                good.insert(1, {"uri": "pictures/0001.png", "caption": "", "meta": {"shop": 1}})
            self.assertEqual([(r["uri"], r["caption"], r["meta"]) for r in self.rows(side + ".bank")],
                             [(r["uri"], r["caption"], r["meta"]) for r in good])
            self.assertEqual([f["row"] for f in built["failed"]], [bad])
            self.assertEqual((built["pictures"], built["texts"]), (0, 4) if side == "i" else (4, 0))
            self.assertEqual(built["truncated"], whole["truncated"] if side == "i" else 0)
            self.assertEqual(self.json("bank", "info", side + ".bank")["fingerprint"], self.json("bank", "info", "whole")["fingerprint"])
            # Vectors bit by bit: both banks are of one model.
            self.reco("bank", "export", side + ".bank", "--out", side + ".x")
            self.reco("bank", "export", "whole", "--out", "whole.x" + side)
            for name in ("img_emb/img_emb_0.npy", "text_emb/text_emb_0.npy"):
                mine, all_rows = npy(self.dir / (side + ".x") / name)[1], npy(self.dir / ("whole.x" + side) / name)[1]
                theirs = dict(zip([r["uri"] for r in self.rows("whole")], all_rows))
                for row, x in zip(self.rows(side + ".bank"), mine):
                    if row["caption"]:
                        self.assertEqual(x, theirs[row["uri"]], (side, name, row))
        self.fails("bank", "build", "--embeddings", "whole.xi", "--model", MODEL, "--out", "b2", says=["has both sides", "--encoder"])

    def test_parquet(self):
        self.folder((0,), {"metadata_0.parquet": "PAR1"})
        self.fails("bank", "build", "--embeddings", "e", "--out", "b", says=["metadata_0.parquet: parquet is not read", "python3 -c"])

    def test_doubles(self):
        self.folder((0,), {})
        header = b"{'descr': '>f8', 'fortran_order': True, 'shape': (2, 4), }\n"
        for side in ("img_emb", "text_emb"):
            (self.dir / f"e/{side}/{side}_0.npy").write_bytes(
                b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + struct.pack(">8d", 0, 3, 1, 0, 0, 0, 0, 0))
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")
        self.reco("bank", "export", "b", "--out", "x")
        data = (self.dir / "x/img_emb/img_emb_0.npy").read_bytes()
        self.assertEqual(struct.unpack("<8e", data[-16:]), (0, 1, 0, 0, 1, 0, 0, 0))


if __name__ == "__main__":
    unittest.main()
