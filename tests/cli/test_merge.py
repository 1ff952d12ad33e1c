"""Banks joined into one: it is the bank that one process builds of their sources."""
import json
import os
import pathlib
import shutil
import sqlite3
import tempfile
import unittest

from common import HOOK, MODEL, OTHER_MODEL, SOURCE, Case, jsonl, npy, png, write_npy

EMBED = ["--quiet", "--model", MODEL]


class Merge(Case):
    def build(self, name, rows, *options):
        """rows: (picture, caption)."""
        (self.dir / f"{name}.csv").write_text("image,text,n\n" + "".join(f"{p},{t},{i}\n" for i, (p, t) in enumerate(rows)))
        return self.json("bank", "build", *EMBED, "--pairs", f"{name}.csv", "--out", name, *options)

    def things(self, first, end):
        return [(f"pictures/{i:04d}.png", f"thing {i}") for i in range(first, end)]

    def state(self, bank, ids=True):
        """Rows, places, vectors of both sides, failures."""
        shutil.rmtree(self.dir / "out", ignore_errors=True)
        self.assertTrue(self.json("bank", "verify", bank)["ok"])
        self.reco("bank", "export", bank, "--out", "out")
        path = self.dir / bank / "failures.jsonl"
        with sqlite3.connect(self.dir / bank / "bank.sqlite") as db:
            places = db.execute("SELECT p.caption, p.place, p.content, s.base FROM pair p LEFT JOIN source s ON s.number = p.source "
                                "WHERE NOT deleted ORDER BY p.id").fetchall()
        db.close()
        rows = self.rows(bank)
        if not ids:
            for row in rows: del row["id"]
        return (rows, places, [npy(self.dir / f"out/{side}/{side}_0.npy") for side in ("img_emb", "text_emb")],
                jsonl(path) if path.exists() else [])

    def parts(self, source, n, *options):
        for i in range(1, n + 1):
            self.json("bank", "build", "--quiet", "--shard", f"{i}/{n}", "--out", f"part{i}", *options, *source)
        return [f"part{i}" for i in range(1, n + 1)]

    def test_as_one(self):
        """Parts of a list, of embeddings: the merged bank is the whole one; parts without a row change nothing."""
        self.pictures(12)
        rows = self.things(0, 12)
        rows[5] = ("pictures/none.png", "no thing")
        self.build("whole", rows)
        want = self.state("whole")
        for n in (3, 14):
            merged = self.json("bank", "merge", *self.parts(["--model", MODEL, "--pairs", "whole.csv"], n), "--out", f"m{n}")
            self.assertEqual((merged["rows"], merged["duplicates"], merged["deleted"]), (11, 0, 0))
            self.assertEqual(merged["linked"], merged["segments"])
            self.assertEqual(self.state(f"m{n}"), want)
            again = self.json("bank", "merge", *(f"part{i}" for i in range(1, n + 1)), "--out", f"m{n}")
            self.assertEqual((again["already"], again["rows"]), (True, 11))
            for i in range(1, n + 1): shutil.rmtree(self.dir / f"part{i}")
        self.assertEqual(self.state("m14"), want)  # the parts are gone
        # It grows, shrinks and is searched as any other.
        png(self.dir / "pictures/new.png", 99)
        (self.dir / "more.csv").write_text("image,text\npictures/new.png,a new thing\npictures/0001.png,thing 1\n")
        added = self.json("bank", "add", *EMBED, "--pairs", "more.csv", "m3")
        self.assertEqual((added["added"], added["duplicates"], added["rows"]), (1, 1, 12))
        self.reco("bank", "delete", "m3", "--id", 0)
        self.reco("bank", "compact", "m3")
        self.assertTrue(self.json("bank", "verify", "m3")["ok"])
        self.assertEqual(self.state("whole"), want)

    def test_embeddings(self):
        self.pictures(9)
        self.build("b", self.things(0, 9))
        self.reco("bank", "export", "b", "--out", "e")
        self.json("bank", "build", "--quiet", "--embeddings", "e", "--out", "whole")
        want = self.state("whole")
        self.reco("bank", "merge", *self.parts(["--embeddings", "e"], 4), "--out", "m")
        self.assertEqual(self.state("m"), want)

    def test_doubles(self):
        """What an earlier bank has is left out, as an addition leaves it out."""
        self.pictures(10)
        self.build("a", self.things(0, 6))
        other = self.things(4, 10)
        other[1] = (other[1][0], "another word")  # of picture 5
        self.build("b", other)
        shutil.copytree(self.dir / "a", self.dir / "added")
        added = self.json("bank", "add", *EMBED, "--pairs", "b.csv", "added")
        merged = self.json("bank", "merge", "a", "b", "--out", "m")
        self.assertEqual((merged["rows"], merged["duplicates"], merged["refused"], merged["replaced"]), (10, 1, 1, 0))
        self.assertEqual((added["rows"], added["duplicates"], added["failures"]), (10, 1, 1))
        self.assertEqual(self.state("m")[:3], self.state("added")[:3])
        self.assertEqual((merged["linked"], merged["rewritten"]), (1, 1))
        self.assertEqual(jsonl(self.dir / "m/failures.jsonl"),
                         [{"row": 7, "item": "pictures/0005.png", "reason": "duplicate URI: an earlier bank has it with another text"}])
        self.reco("bank", "merge", "a", "b", "--out", "strict", "--strict", code=1)
        several = self.json("bank", "merge", "a", "b", "--out", "s", "--several-captions")
        self.assertEqual((several["rows"], several["duplicates"], several["refused"]), (11, 1, 0))
        # One bank may hold several captions of a picture; that is its own affair.
        self.build("c", [("pictures/0009.png", "x"), ("pictures/0009.png", "y")], "--several-captions")
        self.assertEqual(self.json("bank", "merge", "a", "c", "--out", "ac")["rows"], 8)
        # The same rows all over: nothing comes in twice.
        shutil.copytree(self.dir / "a", self.dir / "copy")
        merged = self.json("bank", "merge", "a", "copy", "--out", "twice")
        self.assertEqual((merged["rows"], merged["duplicates"]), (6, 6))
        self.assertEqual(self.state("twice"), self.state("a"))

    def indexes(self, bank):
        with sqlite3.connect(self.dir / bank / "bank.sqlite") as db:
            names = {n for n, in db.execute("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")}
        db.close()
        return names

    def test_indexes(self):
        """Those that only writers use are made when one needs them."""
        self.pictures(9)
        self.build("a", self.things(0, 3))
        self.build("b", self.things(3, 6))
        self.build("c", self.things(2, 9))
        few, all_of_them = {"pair_uri", "pair_deleted"}, self.indexes("a")
        self.assertEqual(all_of_them - few, {"pair_place", "pair_content", "pair_unplaced"})
        self.reco("bank", "merge", "a", "b", "--out", "m")
        self.assertEqual(self.indexes("m"), few)
        for name, command in {"added": ["add", *EMBED, "--pairs", "c.csv", "added"],
                              "deleted": ["delete", "deleted", "--uri", "pictures/0004.png"]}.items():
            shutil.copytree(self.dir / "m", self.dir / name)
            self.reco("bank", *command)
            self.assertEqual(self.indexes(name), all_of_them)
        self.assertEqual(len(self.rows("added")), 9)
        self.assertEqual([row["caption"] for row in self.rows("deleted")], [f"thing {i}" for i in (0, 1, 2, 3, 5)])
        self.reco("bank", "merge", "m", "added", "--out", "again")
        self.assertEqual(self.state("again")[0], self.state("added")[0])
        with sqlite3.connect(self.dir / "m/bank.sqlite") as db: db.execute("DROP INDEX pair_uri")
        db.close()
        self.fails("bank", "list", "m", says=('lacks "CREATE INDEX pair_uri',))

    def test_one_input_twice(self):
        """Rows without a picture's path, which nothing tells from those of a second build."""
        rows = [[1.0, 0.0], [0.0, 1.0]]
        for name, more in (("e", []), ("other", [[-1.0, 0.0]])):
            for side in ("img_emb", "text_emb"): write_npy(self.dir / f"{name}/{side}/{side}_0.npy", rows + more)
        for bank, source in (("a", "e"), ("b", "e"), ("c", "other")):
            self.json("bank", "build", "--quiet", "--embeddings", source, "--encoder", "one", "--out", bank)
        self.fails("bank", "merge", "a", "c", "b", "--out", "m", says=("a and b were built from the same input", "leave one of the two out", "uri IS NULL"))
        self.assertFalse((self.dir / "m").exists())
        self.assertEqual(self.json("bank", "merge", "a", "c", "--out", "ac")["rows"], 5)
        self.fails("bank", "merge", "ac", "b", "--out", "m", says=("ac and b were built",))

    def test_replaced(self):
        """Another picture under the old name: the later bank's stays."""
        self.pictures(4)
        self.build("a", self.things(0, 4))
        png(self.dir / "pictures/0002.png", 77)
        self.build("b", self.things(2, 3))
        merged = self.json("bank", "merge", "a", "b", "--out", "m")
        self.assertEqual((merged["rows"], merged["duplicates"], merged["replaced"]), (4, 0, 1))
        self.assertEqual([r["caption"] for r in self.rows("m")], ["thing 0", "thing 1", "thing 3", "thing 2"])
        self.assertEqual(self.state("m")[2][0][1][3], self.state("b")[2][0][1][0])
        # Of embeddings there is no content, and the vectors tell.
        for name, row in (("x", [1.0, 0.0]), ("y", [0.0, 1.0]), ("z", [1.0, 0.0])):
            for side in ("img_emb", "text_emb"): write_npy(self.dir / f"e{name}/{side}/{side}_0.npy", [row])
            (self.dir / f"e{name}/metadata").mkdir()
            (self.dir / f"e{name}/metadata/metadata_0.jsonl").write_text('{"image_path": "/p/1.jpg", "caption": "one"}\n')
            self.json("bank", "build", "--quiet", "--embeddings", f"e{name}", "--out", name)
        self.assertEqual(self.json("bank", "merge", "x", "z", "--out", "xz")["duplicates"], 1)
        merged = self.json("bank", "merge", "x", "y", "z", "--out", "xyz")
        self.assertEqual((merged["rows"], merged["replaced"], merged["duplicates"]), (1, 2, 0))

    def test_deleted(self):
        self.pictures(10)
        self.build("a", self.things(0, 5))
        self.build("b", self.things(5, 10))
        self.reco("bank", "delete", "a", "--id", 1, 2)
        self.reco("bank", "delete", "b", "--id", 0)
        self.reco("bank", "compact", "b")
        rows = [x for i, x in enumerate(self.things(0, 10)) if i not in (1, 2, 5)]
        self.build("whole", rows)
        for name in ("m", "n"):
            merged = self.json("bank", "merge", "a", "b", "--out", name)
            self.assertEqual((merged["rows"], merged["deleted"]), (7, 2 if name == "m" else 0))
            strip = lambda state: [[{k: v for k, v in r.items() if k != "meta"} for r in state[0]], *state[1:3]]
            self.assertEqual(strip(self.state(name)), strip(self.state("whole")))
            self.reco("bank", "compact", "a")
        self.assertEqual(self.json("bank", "merge", "n", "--out", "alone")["linked"], 2)
        # Deleted pairs may come in from elsewhere.
        self.build("c", self.things(1, 3))
        merged = self.json("bank", "merge", "a", "c", "--out", "back")
        self.assertEqual((merged["rows"], merged["duplicates"]), (5, 0))

    def test_old_formats(self):
        """Rows of format 1 and 2 have no place: their URI and their vector tell."""
        for name, version in (("v1", 1), ("again", 1), ("v2", 2)): shutil.copytree(SOURCE / f"tests/data/bank-v{version}", self.dir / name)
        merged = self.json("bank", "merge", "v1", "v2", "--out", "m")
        self.assertEqual((merged["rows"], merged["duplicates"], merged["deleted"]), (14, 0, 4))
        strip = lambda rows: [{k: v for k, v in r.items() if k != "id"} for r in rows]
        self.assertEqual(strip(self.rows("m")), strip(self.rows("v1") + self.rows("v2")))
        self.assertEqual(self.json("bank", "info", "m")["format"], 3)
        self.fails("bank", "merge", "v1", "again", "--out", "twice", says=("v1 and again were built from the same input",))
        self.assertEqual(self.json("bank", "delete", "again", "--where", "uri IS NULL")["deleted"], 2)
        merged = self.json("bank", "merge", "v1", "again", "--out", "twice")
        self.assertEqual((merged["rows"], merged["duplicates"]), (6, 4))
        self.assertTrue(self.json("bank", "verify", "twice")["ok"])

    def test_kept(self):
        """What the banks know of how they came to be."""
        self.pictures(4)
        self.build("a", self.things(0, 2) + [("none.png", "x")])
        self.build("b", self.things(2, 4))
        for name in "ab": (self.dir / name / "audit.jsonl").write_text(json.dumps({"by": name}) + "\n")
        self.reco("bank", "merge", "a", "b", "--out", "m")
        self.assertEqual(jsonl(self.dir / "m/audit.jsonl"), [{"by": "a"}, {"by": "b"}])
        self.assertEqual(len(jsonl(self.dir / "m/failures.jsonl")), 1)
        info = self.json("bank", "info", "m")
        self.assertEqual((info["encoder"], info["fingerprint"], info["complete"]),
                         tuple(self.json("bank", "info", "a")[k] for k in ("encoder", "fingerprint", "complete")))
        with sqlite3.connect(self.dir / "m/bank.sqlite") as db:
            self.assertEqual(len(db.execute("SELECT key FROM job WHERE key LIKE 'pairs:%' AND done").fetchall()), 2)
        db.close()

    def test_refused(self):
        self.pictures(3)
        self.build("a", self.things(0, 2))
        self.reco("bank", "build", "--quiet", "--model", OTHER_MODEL, "--pairs", "a.csv", "--out", "other")
        same = len({self.json("bank", "info", name)["dimensions"] for name in ("a", "other")}) == 1
        self.fails("bank", "merge", "a", "other", "--out", "m", says=("a was made with encoder" if same else "a has vectors of width", "other"))
        self.assertFalse((self.dir / "m").exists())
        for name, encoder in (("x", "one"), ("y", "two")):
            for side in ("img_emb", "text_emb"): write_npy(self.dir / f"e{name}/{side}/{side}_0.npy", [[1.0, 0.0]])
            self.reco("bank", "build", "--quiet", "--embeddings", f"e{name}", "--encoder", encoder, "--out", name)
        self.fails("bank", "merge", "x", "y", "--out", "m", says=("x was made with encoder one", "y with two"))
        self.fails("bank", "merge", "a", "nowhere", "--out", "m", says=("nowhere", "no bank there"))
        self.fails("bank", "merge", "a", "./a", "--out", "m", says=("is named twice",))
        self.fails("bank", "merge", "a", "--out", "a", says=("a",))
        self.fails("bank", "merge", "a", "--out", "pictures", says=("pictures: is neither a bank nor empty",))
        self.build("b", self.things(2, 3))
        self.fails("bank", "merge", "a", "--out", "b", says=("b: is already a bank, built from something else",))
        self.reco("bank", "merge", "--out", "m", code=2)
        self.reco("bank", "merge", "a", code=2)
        self.reco("bank", "delete", "a", "--where", "1")
        self.fails("bank", "merge", "a", "--out", "m", says=("the banks have no rows",))
        self.assertFalse((self.dir / "m").exists())

    def test_damage(self):
        """Damage is not given a new checksum; a linked file keeps the old one, by which it is found."""
        self.pictures(4)
        self.build("a", self.things(0, 3))
        segment = self.dir / "a/vectors/segment-000000.safetensors"
        data = bytearray(segment.read_bytes())
        data[-5] ^= 4
        segment.write_bytes(data)
        self.reco("bank", "merge", "a", "--out", "linked")
        self.assertFalse(self.json("bank", "verify", "linked", code=1)["ok"])
        self.reco("bank", "delete", "a", "--id", 1)
        self.fails("bank", "merge", "a", "--out", "m", says=("segment-000000.safetensors: is damaged",))
        self.fails("bank", "list", "m", says=("is not a bank",))
        self.build("b", self.things(1, 4))
        with sqlite3.connect(self.dir / "b/bank.sqlite") as db: db.execute("UPDATE pair SET caption = 'x' WHERE id = 1")
        db.close()
        self.fails("bank", "merge", "b", "--out", "n", says=("pair 1 is damaged",))

    def test_other_file_system(self):
        if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == os.stat(self.dir).st_dev: self.skipTest("no other file system")
        self.pictures(4)
        self.build("a", self.things(0, 2))
        self.build("b", self.things(2, 4))
        far = pathlib.Path(tempfile.mkdtemp(dir="/dev/shm"))
        self.addCleanup(shutil.rmtree, far)
        merged = self.json("bank", "merge", "a", "b", "--out", far / "m")
        self.assertEqual((merged["linked"], merged["copied"], merged["rows"]), (0, 2, 4))
        self.build("whole", self.things(0, 4))
        strip = lambda state: [[{k: v for k, v in r.items() if k != "meta"} for r in state[0]], *state[1:3]]
        self.assertEqual(strip(self.state(far / "m")), strip(self.state("whole")))

    @unittest.skipUnless(HOOK, "the library of faults is not there")
    def test_killed(self):
        """Killed at 20 moments and more: no bank or the whole one, and the next run makes it what it is."""
        self.pictures(10)
        for i in range(4): self.build(f"b{i}", self.things(2 * i, 2 * i + 3))  # each begins with the last one's end
        self.reco("bank", "delete", "b1", "--id", 1)
        merge = ["bank", "merge", "b0", "b1", "b2", "b3", "--out"]
        self.reco(*merge, "whole")
        want, kills = self.state("whole"), 0
        for kind, step in (("write", 23), ("sync", 5), ("rename", 1), ("mmap", 29), ("open", 37), ("unlink", 3)):
            for n in range(step // 2, 10000, step):
                ended = self.crashed(f"{kind}:{n}:kill", [*merge, "k"])
                if (self.dir / "k/bank.sqlite").exists():
                    self.assertEqual(self.state("k"), want)
                elif (self.dir / "k").exists():
                    self.fails("bank", "list", "k", says=("k: is not a bank",))
                if ended.returncode == 0: break
                kills += 1
                self.assertEqual(ended.returncode, -9, ended.stderr)
                self.reco(*merge, "k")
                self.assertEqual(self.state("k"), want, (kind, n))
                self.assertEqual(sorted(p.name for p in (self.dir / "k").iterdir() if not p.name.startswith("bank.sqlite-")),
                                 ["bank.sqlite", "vectors", "writer.lock"])
                self.assertEqual(self.json("bank", "verify", "k")["orphans"], 0)
                shutil.rmtree(self.dir / "k")
            shutil.rmtree(self.dir / "k", ignore_errors=True)
        self.assertGreater(kills, 20)
        # What was begun before the system was started anew may be damaged.
        self.assertEqual(self.crashed("rename:1:kill", [*merge, "k"]).returncode, -9)
        with sqlite3.connect(self.dir / "k/bank.sqlite.tmp") as db:
            self.assertEqual(len(db.execute("SELECT boot FROM merging").fetchone()[0]), 36)
            db.execute("UPDATE merging SET boot = 'another'")
            db.execute("UPDATE pair SET caption = 'damaged'")
        db.close()
        self.reco(*merge, "k")
        self.assertEqual(self.state("k"), want)
        shutil.rmtree(self.dir / "k")
        # What was begun of other banks is begun anew.
        self.assertEqual(self.crashed("rename:1:kill", [*merge, "k"]).returncode, -9)
        self.reco("bank", "merge", "b3", "--out", "k")
        self.assertEqual(self.state("k"), self.state("b3"))


if __name__ == "__main__":
    unittest.main()
