"""Which picture a row is: by its resolved path and its content, whatever name it was given."""
import io
import random
import shutil
import tarfile
import time
import unittest

from common import MODEL, SOURCE, Case, jsonl, png, write_npy


class Identity(Case):
    def table(self, folder, rows, name="m.csv"):
        """rows: (name, seed of the picture or None to leave it, caption)."""
        (self.dir / folder).mkdir(exist_ok=True)
        for picture, seed, _ in rows:
            if seed is not None:
                png(self.dir / folder / picture, seed)
        path = self.dir / folder / name
        path.write_text("image,text\n" + "".join(f"{picture},{caption}\n" for picture, _, caption in rows))
        return path

    def ingest(self, verb, source, bank="b", kind="--pairs", **options):
        more = options.pop("more", [])
        target = ["--out", bank] if verb == "build" else [bank]
        return self.json("bank", verb, "--model", MODEL, *target, *more, kind, source, **options)

    def counts(self, result):
        return tuple(result[k] for k in ("added", "replaced", "duplicates", "failures", "rows"))

    def nearest(self, picture, bank="b"):
        hit = self.json("search", "--model", MODEL, "--bank", bank, "--image", picture, "-k", 1)["hits"][0]
        return hit["id"], round(hit["score"], 3)

    def test_same_name_in_two_folders(self):
        one = self.table("one", [("0.png", 1, "a"), ("1.png", 2, "same")])
        two = self.table("two", [("0.png", 3, "b"), ("1.png", 4, "same")])
        self.ingest("build", one)
        self.assertEqual(self.counts(self.ingest("add", two)), (2, 0, 0, 0, 4))
        self.assertEqual([(r["uri"], r["caption"]) for r in self.rows("b")],
                         [("0.png", "a"), ("1.png", "same"), ("0.png", "b"), ("1.png", "same")])
        self.assertEqual([self.nearest(f"{f}/{i}.png") for f in ("one", "two") for i in range(2)], [(i, 1.0) for i in range(4)])
        for table in (one, two):  # each is there already, from wherever it is named
            self.assertEqual(self.counts(self.ingest("add", table)), (0, 0, 2, 0, 4))
        self.assertEqual(self.counts(self.ingest("add", "m.csv", "../b", cwd=self.dir / "two")), (0, 0, 2, 0, 4))
        self.assertTrue(self.json("bank", "verify", "b")["ok"])

    def test_same_text_of_the_table(self):
        """Two tables of the same bytes in two folders are two jobs."""
        one, two = self.table("one", [("0.png", 1, "a")]), self.table("two", [("0.png", 2, "a")])
        self.ingest("build", one)
        self.fails("bank", "build", "--model", MODEL, "--pairs", two, "--out", "b", says=["b: is already a bank"])
        self.assertEqual(self.counts(self.ingest("add", two)), (1, 0, 0, 0, 2))

    def test_names_of_one_picture(self):
        table = self.table("one", [("a b.png", 1, "a")])
        (self.dir / "link").symlink_to("one")
        self.ingest("build", table)
        folder = self.dir / "one"
        for i, name in enumerate([f"{folder}/a b.png", "./a b.png", ".//a b.png", "../one/a b.png", "../link/a b.png",
                                  f"{self.dir}/link/./a b.png", f"file://{folder}/a%20b.png", f"file://localhost{folder}/a b.png"]):
            again = self.table("one", [(name, None, "a")], f"again{i}.csv")
            self.assertEqual(self.counts(self.ingest("add", again)), (0, 0, 1, 0, 1), name)
            other = self.table("one", [(name, None, "b")], f"other{i}.csv")
            refused = self.reco("bank", "add", "--model", MODEL, "b", "--pairs", other, code=1)
            self.assertIn("the bank has it already, with another text", refused.stderr, name)
        names = [f"{folder}/a b.png", "./a b.png", "../link/a b.png"]
        both = self.table("one", [("a b.png", None, "a")] + [(n, None, "a") for n in names], "both.csv")
        self.assertEqual(self.counts(self.ingest("build", both, "c")), (1, 0, 0, 3, 1))
        self.assertEqual(self.rows("c")[0]["uri"], "a b.png")

    def test_replaced(self):
        table = self.table("one", [("0.png", 1, "a"), ("1.png", 2, "b")])
        self.ingest("build", table)
        table = self.table("one", [("0.png", 9, "a"), ("1.png", None, "b"), ("2.png", 10, "c")])
        self.assertEqual(self.counts(self.ingest("add", table)), (1, 1, 1, 0, 3))
        self.assertEqual(self.nearest("one/0.png"), (0, 1.0))
        self.assertEqual([(r["id"], r["uri"]) for r in self.rows("b")], [(0, "0.png"), (1, "1.png"), (2, "2.png")])
        self.assertTrue(self.json("bank", "verify", "b")["ok"])
        self.assertEqual(self.counts(self.ingest("add", table)), (0, 0, 3, 0, 3))
        # Another picture of another caption under a name is a row of its own: nothing says that the old one was wrong.
        table = self.table("one", [("0.png", 11, "new")])
        self.assertEqual(self.counts(self.ingest("add", table)), (1, 0, 0, 0, 4))

    def test_copied(self):
        """The same picture under another name is another row, and not embedded again."""
        self.ingest("build", self.table("one", [("0.png", 1, "a")]))
        shutil.copytree(self.dir / "one", self.dir / "two")
        added = self.ingest("add", "two/m.csv")
        self.assertEqual(self.counts(added), (1, 0, 0, 0, 2))
        self.assertEqual((added["pictures"], added["texts"]), (0, 1))
        hits = self.json("search", "--model", MODEL, "--bank", "b", "--image", "one/0.png", "-k", 2)["hits"]
        self.assertEqual([h["id"] for h in hits], [0, 1])
        self.assertEqual(hits[0]["score"], hits[1]["score"])

    def test_tars(self):
        for folder, seed in (("one", 1), ("two", 2)):
            (self.dir / folder).mkdir()
            png(self.dir / "x.png", seed)
            with tarfile.open(self.dir / folder / "0.tar", "w") as tar:
                for name, data in (("k.png", (self.dir / "x.png").read_bytes()), ("k.txt", b"thing")):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        self.ingest("build", "0.tar", "../b", "--tars", cwd=self.dir / "one")
        self.assertEqual(self.counts(self.ingest("add", "0.tar", "../b", "--tars", cwd=self.dir / "two")), (1, 0, 0, 0, 2))
        self.assertEqual(self.counts(self.ingest("add", "two/0.tar", "b", "--tars")), (0, 0, 1, 0, 2))
        shutil.copy(self.dir / "one/0.tar", self.dir / "two/0.tar")
        self.assertEqual(self.counts(self.ingest("add", "two/0.tar", "b", "--tars")), (0, 1, 0, 0, 2))
        hits = self.json("search", "--model", MODEL, "--bank", "b", "--image", "x.png", "-k", 2)["hits"]
        self.assertLess(hits[0]["score"], 0.9999)

    def test_once(self):
        """Captions of one picture far apart in the table: it is decoded and embedded once, across commits and runs."""
        n, rng = 40, random.Random(1)
        rows = [(f"{i}.png", i if k == 0 else None, f"thing {i} {k}") for i in range(n) for k in range(5)]
        table = self.table("one", rows)
        for commit in (7, 1000):
            rng.shuffle(rows)
            table = self.table("one", [(p, None, c) for p, _, c in rows], f"m{commit}.csv")
            built = self.ingest("build", table, f"b{commit}", more=["--several-captions", "--commit", commit, "--batch", 4])
            self.assertEqual((built["added"], built["pictures"], built["texts"]), (5 * n, n, 5 * n))
            self.assertTrue(self.json("bank", "verify", f"b{commit}")["ok"])
        more = self.table("one", [(f"{i}.png", None, f"another {i}") for i in range(n)], "more.csv")
        added = self.ingest("add", more, "b7", more=["--several-captions"])
        self.assertEqual((added["added"], added["pictures"], added["texts"]), (n, 0, n))
        # All rows of a picture have its vector, whichever way it came there.
        exported = self.dir / "e"
        self.reco("bank", "export", "b7", "--out", exported)
        data = (exported / "img_emb/img_emb_0.npy").read_bytes()
        width = self.json("bank", "info", "b7")["dimensions"] * 2
        vectors = {}
        for i, row in enumerate(self.rows("b7")):
            at = len(data) - (6 * n - i) * width
            vectors.setdefault(row["uri"], set()).add(data[at:at + width])
        self.assertEqual([len(v) for v in vectors.values()], [1] * n)

    def test_exported_elsewhere(self):
        """A pairs file that is written elsewhere names pictures so that they are found; beside them, as they were named."""
        self.ingest("build", self.table("one", [("0.png", 1, "a"), (f"{self.dir}/one/0.png", None, "b")]), more=["--several-captions"])
        for name, images in (("all.csv", [f"{self.dir}/one/0.png"] * 2), ("one/all.jsonl", ["0.png", f"{self.dir}/one/0.png"]),
                             ("out/all.csv", [f"{self.dir}/one/0.png"] * 2)):
            (self.dir / "out").mkdir(exist_ok=True)
            self.reco("bank", "export", "b", "--pairs", name)
            bank = f"b{name.replace('/', '')}"
            self.assertEqual(self.ingest("build", name, bank, more=["--several-captions"])["added"], 2)
            self.assertEqual([r["uri"] for r in self.rows(bank)], images)

    def test_export_keeps_it(self):
        """Pictures of one name in two folders stay two through an exported folder, and are known again."""
        tables = [self.table(f, [("0.png", i, "same")]) for i, f in enumerate(("one", "two"))]
        self.ingest("build", tables[0])
        self.ingest("add", tables[1])
        self.reco("bank", "export", "b", "--out", "e")
        self.reco("bank", "build", "--embeddings", "e", "--out", "c")
        self.assertEqual(self.rows("c"), self.rows("b"))
        for table in tables:
            self.assertEqual(self.counts(self.ingest("add", table, "c")), (0, 0, 1, 0, 2))
        self.assertEqual(self.json("bank", "add", "--embeddings", "e", "b")["duplicates"], 2)
        self.reco("bank", "delete", "c", "--uri", f"{self.dir}/one/../two//0.png")
        self.assertEqual([r["id"] for r in self.rows("c")], [0])
        self.reco("bank", "delete", "b", "--uri", "0.png")
        self.assertEqual(self.rows("b"), [])

    def test_nothing_worked(self):
        """Exit 1 and nothing left of a build; a bank that is added to stays as it was."""
        (self.dir / "bad.csv").write_text("image,text\n" + "missing.png,a\n" * 5)
        (self.dir / "empty.csv").write_text("image,text\n")
        with tarfile.open(self.dir / "bad.tar", "w"):
            pass
        for kind, source, says in (("--pairs", "bad.csv", "none of 5 records"), ("--pairs", "empty.csv", "no records"),
                                   ("--tars", "bad.tar", "no records")):
            for commit in (1, 1000):
                done = self.reco("bank", "build", "--model", MODEL, "--out", "new", "--batch", 1, "--commit", commit, kind, source, code=1)
                self.assertIn(says, done.stderr.splitlines()[-1])
                self.assertEqual(done.stdout, "")
                self.assertFalse((self.dir / "new").exists())
        self.ingest("build", self.table("one", [("0.png", 1, "a")]))
        before = self.json("bank", "info", "b")
        for kind, source in (("--pairs", "bad.csv"), ("--pairs", "empty.csv"), ("--tars", "bad.tar")):
            self.reco("bank", "add", "--model", MODEL, "b", kind, source, code=1)
            after = self.json("bank", "info", "b")
            self.assertEqual({k: after[k] for k in ("rows", "next_id", "segments")}, {k: before[k] for k in ("rows", "next_id", "segments")})
        self.assertTrue(self.json("bank", "verify", "b")["ok"])

    def rewrite(self, rows, name="one/u.csv"):
        path = self.dir / name
        path.write_text("image,text,sku,price\n" + "".join(",".join(map(str, r)) + "\n" for r in rows))
        return path

    def update(self, *more):
        result = self.json("bank", "update", "--model", MODEL, "b", "--pairs", "one/u.csv", *more)
        self.assertTrue(self.json("bank", "verify", "b")["ok"])
        return tuple(result[k] for k in ("added", "changed", "unchanged", "failures", "pictures", "texts"))

    def test_update(self):
        self.table("one", [(f"{i}.png", i, "x") for i in range(6)])
        rows = [[f"{i}.png", f"thing {i}", f"s{i}", i] for i in range(6)]
        self.ingest("build", self.rewrite(rows))
        before = self.rows("b")
        self.assertEqual(self.update(), (0, 0, 6, 0, 0, 0))
        rows[1][1], rows[2][3] = "something else", 99  # a caption, a column, a picture, a new row; 5.png is gone from the file
        png(self.dir / "one/3.png", 33)
        rows[5:] = [["6.png", "thing 6", "s6", 6]]
        png(self.dir / "one/6.png", 6)
        self.rewrite(rows)
        self.assertEqual(self.update(), (1, 3, 2, 0, 2, 2))
        after = self.rows("b")
        self.assertEqual([r["id"] for r in after], list(range(7)))
        self.assertEqual([after[i] for i in (0, 3, 4, 5)], [before[i] for i in (0, 3, 4, 5)])
        self.assertEqual((after[1]["caption"], after[2]["meta"]["price"]), ("something else", 99))
        self.assertEqual(self.nearest("one/3.png"), (3, 1.0))
        self.assertEqual(self.update(), (0, 0, 6, 0, 0, 0))
        # Vectors are those of a bank that is built of the new table.
        self.ingest("build", "one/u.csv", "new")
        for bank, where in (("b", "id <> 5"), ("new", "1")):
            self.reco("bank", "export", bank, "--where", where, "--out", f"e{bank}")
        for side in ("img_emb/img_emb_0.npy", "text_emb/text_emb_0.npy"):
            self.assertEqual((self.dir / "eb" / side).read_bytes(), (self.dir / "enew" / side).read_bytes())
        # A table that names a picture twice, or one that is not there, changes nothing of it.
        self.rewrite([rows[0], ["0.png", "again", "s0", 0], ["none.png", "thing", "s9", 9]])
        self.assertEqual(self.update(), (0, 0, 1, 2, 0, 0))
        self.rewrite([["1.png", "another", "s", 1]])
        self.assertEqual(self.update("--several-captions"), (1, 0, 0, 0, 0, 1))
        # Which of a picture's rows is meant by another caption nobody can tell: none is changed.
        before = self.rows("b")
        self.rewrite([["1.png", "a third", "s", 1], ["1.png", "another", "s", 1], rows[0]])
        self.assertEqual(self.update(), (0, 0, 2, 1, 0, 0))
        self.assertIn("several rows of the bank show this picture", jsonl(self.dir / "b/failures.jsonl")[0]["reason"])
        self.assertEqual(self.rows("b"), before)
        self.reco("bank", "update", "--model", MODEL, "b", "--embeddings", "e", code=2)
        self.reco("bank", "add", "--model", MODEL, "b", "--pairs", "one/u.csv", "--key", "sku", code=2)

    def test_update_by_key(self):
        self.table("one", [(f"{i}.png", i, "x") for i in range(4)])
        rows = [[f"{i}.png", f"thing {i}", f"s{i}", i] for i in range(4)]
        self.ingest("build", self.rewrite(rows))
        shutil.move(self.dir / "one/0.png", self.dir / "one/moved.png")
        rows[0][0], rows[1][0] = "moved.png", "2.png"
        rows[3][1] = "new words"
        self.rewrite([*rows, ["3.png", "thing", "", 1], ["3.png", "thing", "s3", 1], ["3.png", "thing", "s4", 1], ["3.png", "thing", "s4", 1]])
        self.assertEqual(self.update("--key", "sku"), (1, 3, 1, 3, 0, 2))
        self.assertEqual([(r["id"], r["uri"], r["caption"]) for r in self.rows("b")],
                         [(0, "moved.png", "thing 0"), (1, "2.png", "thing 1"), (2, "2.png", "thing 2"), (3, "3.png", "new words"), (4, "3.png", "thing")])
        hits = self.json("search", "--model", MODEL, "--bank", "b", "--image", "one/2.png", "-k", 2)["hits"]
        self.assertEqual([(h["id"], round(h["score"], 3)) for h in hits], [(1, 1.0), (2, 1.0)])
        for key in ("SKU", " Sku "):
            self.assertEqual(self.update("--key", key)[:2], (0, 0))
        for key in ('a"b', "ean", "image"):
            done = self.reco("bank", "update", "--model", MODEL, "b", "--pairs", "one/u.csv", "--key", key, code=1)
            self.assertIn(f'no record has a value of the key "{key}"', done.stderr.splitlines()[-1])

    def test_a_picture_of_many_captions(self):
        """A placeholder that thousands of articles share: a row is found without looking at all rows of its picture."""
        n = 12000
        for folder in ("img_emb", "text_emb", "metadata"):
            (self.dir / "e" / folder).mkdir(parents=True)
        for side in ("img_emb", "text_emb"):
            write_npy(self.dir / f"e/{side}/{side}_0.npy", [[1, 0, 0, 0, 0, 0, 0, 0]] * n)
        with open(self.dir / "e/metadata/metadata_0.jsonl", "w") as f:
            f.writelines(f'{{"image_path": "none.png", "caption": "article {i}"}}\n' for i in range(n))
        begun = time.monotonic()
        add = ["--embeddings", "e", "--several-captions"]
        self.assertEqual(self.json("bank", "build", "--out", "b", *add)["added"], n)
        self.assertEqual(self.json("bank", "add", "b", *add)["duplicates"], n)
        self.json("bank", "delete", "b", "--where", "1")
        self.assertEqual(self.json("bank", "undelete", "b", "--all")["undeleted"], n)
        self.assertLess(time.monotonic() - begun, 20)  # about 1 s; 60 s where each looks at all

    def test_update_killed(self):
        """Killed at any moment, each row is as it was or as it is to be; the next run does the rest."""
        n = 60
        self.table("one", [(f"{i}.png", i, "x") for i in range(n)])
        rows = [[f"{i}.png", f"thing {i}", f"s{i}", i] for i in range(n)]
        self.ingest("build", self.rewrite(rows))
        self.rewrite([[p, c if i % 3 else f"{c} renamed", s, i + 1] for i, (p, c, s, _) in enumerate(rows)])
        shutil.copytree(self.dir / "b", self.dir / "kept")
        command = ["bank", "update", "--model", MODEL, "b", "--pairs", "one/u.csv", "--batch", 4, "--commit", 8]
        self.reco(*command)
        want = self.rows("b")
        for after in (0.05, 0.1, 0.2):
            shutil.rmtree(self.dir / "b")
            shutil.copytree(self.dir / "kept", self.dir / "b")
            self.killed(command, after)
            self.assertTrue(self.json("bank", "verify", "b")["ok"])
            self.reco(*command)
            self.assertEqual(self.rows("b"), want)
            self.assertTrue(self.json("bank", "verify", "b")["ok"])

    def test_older_banks(self):
        """Rows of format 2 have no base folder and no content: their vectors tell which picture they are of."""
        for version in ("v1", "v2"):
            shutil.copytree(SOURCE / "tests/data" / f"bank-{version}", self.dir / version)
            rows = self.rows(version)
            self.reco("bank", "export", version, "--out", f"e{version}")
            (self.dir / f"e{version}/reco.json").unlink()
            metadata = self.dir / f"e{version}/metadata/metadata_0.jsonl"
            metadata.write_text(metadata.read_text().replace('"id"', '"number"'))
            added = self.json("bank", "add", "--embeddings", f"e{version}", version)
            named = sum(1 for r in rows if r["uri"])
            self.assertEqual((added["duplicates"], added["added"]), (named, len(rows) - named))
            self.assertEqual(self.json("bank", "info", version)["format"], 3)
            self.assertTrue(self.json("bank", "verify", version)["ok"])
            again = self.json("bank", "add", "--embeddings", f"e{version}", version)
            self.assertEqual(again["duplicates"], named)


if __name__ == "__main__":
    unittest.main()
