"""A bank on PostgreSQL servers answers as a folder does.

Long because all of it shares one server, whose start takes seconds."""
import json
import os
import pathlib
import random
import signal
import struct
import subprocess
import threading
import time
import unittest

import postgres
from common import MODEL, RECO, Case, array, checkpoint, npy, png, write_npy
from serving import Serving

SHARDS = 4


def vector(rng, d, near=None, far=0.0):
    x = [rng.gauss(0, 1) for _ in range(d)]
    if near:
        x = [a + far * b for a, b in zip(near, x)]
    norm = sum(v * v for v in x) ** 0.5
    return [v / norm for v in x]


def embeddings(folder, n, d=32, seed=1, first=0):
    """Rows in a narrow cone, every fifth one equal to another, and their captions."""
    rng = random.Random(seed)
    centre = vector(rng, d)
    for kind in ("img_emb", "text_emb"):
        rows = []
        for i in range(n):
            rows.append(rows[rng.randrange(i)] if i and i % 5 == 0 else vector(rng, d, centre, 0.02 if i % 3 else 1.0))
        write_npy(folder / kind / f"{kind}_0.npy", rows)
    (folder / "metadata").mkdir()
    (folder / "metadata/metadata_0.jsonl").write_text("".join(json.dumps(
        {"caption": f"thing {i % 40}", "image_path": f"{i}.png", "n": i, "brand": f"b{i % 7}"}) + "\n" for i in range(first, first + n)))
    return folder


class OnServers(Case):
    @classmethod
    def setUpClass(cls):
        cls.server = postgres.Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.remove()

    def fresh(self, n=SHARDS, prefix="s"):
        """URLs of n empty databases, of one server, as a bank's path."""
        return ",".join(self.server.create(f"{prefix}{i}") for i in range(n))

    def rows(self, bank, *more):
        """What `bank list` says, with the user's columns in one order."""
        return self.lines("bank", "list", bank, *more)

    def lines(self, *arguments):
        return [json.loads(line) for line in self.reco(*arguments, "--json").stdout.splitlines()]

    def found(self, bank, name, *more):
        self.reco("search", "--bank", bank, "--queries", "q.npy", "--side", "image", "--out", name, *more)
        return [array(self.dir / name / f"{file}.npy") for file in ("ids", "scores")]

    def mixed(self, bank, name, *more):
        """Pictures among captions: refined, and read out by a mixture with a vote."""
        return self.found(bank, name, "--query-side", "image", "--side", "text", "--fusion", "mean", "--mixture", "0.4,0.3", *more)

    def build(self, n=400, d=32):
        embeddings(self.dir / "e", n, d)
        self.reco("bank", "build", "--embeddings", "e", "--encoder", "ViT-B-32", "--out", "folder")
        rng = random.Random(5)
        rows = npy(self.dir / "e/img_emb/img_emb_0.npy")[1]
        write_npy(self.dir / "q.npy", [vector(rng, d, rows[i * 7 % n], 0.01) if i % 2 else list(rows[i * 5 % n]) for i in range(60)])


class Bank(OnServers):
    def test_search_equals_the_folder(self):
        self.build()
        wheres = (None, None), ("json_extract(meta,'$.brand') = 'b3'", "meta->>'brand' = 'b3'"), ("id % 50 = 7", "id % 50 = 7"), ("0", "false")
        for shards in (1, 4):
            bank = self.fresh(shards)
            self.reco("bank", "build", "--embeddings", "e", "--encoder", "ViT-B-32", "--out", bank)
            for k, (folder, server) in [(10, w) for w in wheres] + [(500, wheres[0])] if shards > 1 else [(10, wheres[0])]:
                want = self.found("folder", "want", "-k", k, *(["--where", folder] if folder else []))
                got = self.found(bank, "got", "-k", k, *(["--where", server] if server else []))
                self.assertEqual(got, want, (shards, k, server))
            for more in ([], ["--distinct"], ["-k", "200"]):
                self.assertEqual(self.mixed(bank, "got", *more), self.mixed("folder", "want", *more), (shards, more))
        self.assertEqual(self.rows(bank), self.rows("folder"))
        self.assertEqual(self.rows(bank, "--where", "(meta->>'n')::int > 390"), self.rows("folder", "--where", "json_extract(meta,'$.n') > 390"))
        self.assertEqual(self.lines("bank", "get", bank, "7", "399", "3"), self.lines("bank", "get", "folder", "7", "399", "3"))
        near = ["--near", "5", "--min-similarity", "0.99", "--dry-run"]
        self.assertEqual(self.lines("bank", "delete", bank, *near), self.lines("bank", "delete", "folder", *near))

    def index(self, name, *how):
        """What `USING` says of an index, with the type that this pgvector has."""
        kind = "halfvec" if self.server.sql("SELECT to_regtype('halfvec') IS NOT NULL", name) == "t" else "vector"
        for using in how:
            self.server.sql(f"CREATE INDEX ON reco_pair USING {using % kind}", name)

    def test_recall_of_an_index(self):
        self.build(600)
        bank = self.fresh(2)
        self.reco("bank", "build", "--embeddings", "e", "--encoder", "ViT-B-32", "--out", bank)
        want = self.found("folder", "want")
        self.fails("bank", "index", bank, says=["no HNSW or IVFFlat index", "CREATE INDEX ON reco_pair USING hnsw (image"])
        self.index("s0", "ivfflat (image %s_ip_ops) WITH (lists = 16)", "hnsw (text %s_cosine_ops)")
        self.index("s1", "ivfflat (image %s_ip_ops) WITH (lists = 16)")
        # An index changes no answer before its recall is known.
        self.assertEqual(self.found(bank, "got"), want)
        made = self.json("bank", "index", bank, "--recall", "0.8")
        info = self.json("bank", "info", bank)
        self.assertEqual((made["recall"], info["list_recall"]), (info["recall"], 0.8))
        self.assertEqual(made["recall"]["text"], {"image": [], "text": []})  # one server has none
        for asked in "image", "text":
            points = made["recall"]["image"][asked]
            self.assertEqual(made["cells"], sum(len(p) for p in made["recall"]["image"].values()))
            self.assertEqual([p["probes"] for p in points], [1, 2, 3, 4, 6, 9, 13, 16][:len(points)])
            self.assertLess(points[0]["recall"], 0.9)
            self.assertGreater(points[-1]["recall"], 0.999)
        self.assertIn("image searches images    recall  probes\n", self.reco("bank", "info", bank).stdout)
        said = self.reco("search", "--bank", bank, "--near", "7", "--recall", "0.9").stderr
        self.assertRegex(said, r"searching the servers' index at recall 0\.9\d*, images with probes \d+ \(--exact searches all rows\)")
        ids = self.found(bank, "got")[0][2]
        same = sum(len(set(ids[i:i + 10]) & set(want[0][2][i:i + 10])) for i in range(0, 600, 10)) / 600
        self.assertGreater(same, 0.75)
        self.assertNotEqual(ids, want[0][2])
        self.assertEqual(self.found(bank, "exact", "--exact"), want)
        # An exact search and one by the index in one round trip.
        want_mixed = self.mixed("folder", "want")
        self.assertEqual(self.mixed(bank, "exact", "--exact"), want_mixed)
        ids = self.mixed(bank, "got", "--recall", "0.8")[0][2]
        same = sum(len(set(ids[i:i + 10]) & set(want_mixed[0][2][i:i + 10])) for i in range(0, 600, 10)) / 600
        self.assertGreater(same, 0.75)
        self.assertNotEqual(ids, want_mixed[0][2])
        self.assertEqual(self.found(bank, "filter", "--where", "true"), want)
        self.assertEqual(self.found(bank, "many", "-k", "101"), self.found("folder", "many2", "-k", "101"))
        # The same over an HNSW index; an index that is gone; what is damaged; what is forgotten.
        for i in range(2):
            self.server.sql("DROP INDEX reco_pair_image_idx", f"s{i}")
        said = self.reco("search", "--bank", bank, "--near", "7").stderr
        self.assertIn("was measured with index ivfflat (image", said)
        self.assertEqual(self.found(bank, "gone"), want)
        for i in range(2):
            self.index(f"s{i}", "hnsw (image %s_ip_ops) WITH (m = 4)")
        points = self.json("bank", "index", bank)["recall"]["image"]["image"]
        self.assertEqual([p["ef_search"] for p in points], [20, 32, 51, 82, 131, 210, 336, 538, 861, 1000][:len(points)])
        self.assertIn("with ef_search", self.reco("search", "--bank", bank, "--near", "7", "--recall", "0.5").stderr)
        for damage in ("recall - 'rows'", "jsonb_set(recall, '{image,text,0,0}', '1001')", "jsonb_set(recall, '{recall}', '[]')", "jsonb_set(recall, '{image,text}', '{}')", "'7'"):
            self.server.sql(f"CREATE TABLE kept AS SELECT recall FROM reco_bank; UPDATE reco_bank SET recall = {damage}", "s0")
            self.server.sql("UPDATE reco_bank SET recall = NULL", "s1")
            self.assertEqual(self.found(bank, "damaged"), want)
            self.server.sql("UPDATE reco_bank SET recall = (SELECT recall FROM kept); DROP TABLE kept", "s0")
        self.assertIsNotNone(self.json("bank", "info", bank)["recall"])
        self.assertIn("forgotten", self.reco("bank", "index", bank, "--lists", "none").stdout)
        self.assertIsNone(self.json("bank", "info", bank)["recall"])
        self.fails("bank", "index", bank, "--lists", "7", says=["cells = 7", "CREATE INDEX"])
        self.fails("bank", "index", bank, "--scan", "int8", says=["a server makes its own indexes"])

    def test_rows_of_every_kind(self):
        """Cones, equal and nearly equal rows, filters, exclusions, pages and threads, through the library."""
        for d, shards in ((1, 1), (64, 4), (600, 2)):
            done = subprocess.run([os.environ["RECO_TEST_POSTGRES"], f"b{d}", self.fresh(shards), str(d)], cwd=self.dir, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, f"d = {d}: {done.stderr}")

    def test_change_is_seen(self):
        self.build(50)
        bank = self.fresh(3)
        self.reco("bank", "build", "--embeddings", "e", "--encoder", "ViT-B-32", "--out", bank)
        embeddings(self.dir / "more", 30, seed=2, first=50)
        for b in ("folder", bank):
            self.reco("bank", "add", "--embeddings", "more", "--encoder", "ViT-B-32", b)
            self.assertEqual(self.json("bank", "delete", b, "--id", "3", "60", "999"), {"deleted": 2, "missing": 1})
            self.assertEqual(self.json("bank", "delete", b, "--uri", "5.png", "none.png"), {"deleted": 1, "missing": 1})
        self.assertEqual(self.json("bank", "delete", bank, "--where", "(meta->>'n')::int < 0")["deleted"], 0)
        self.assertEqual(self.json("bank", "delete", bank, "--where", "(meta->>'n')::int IN (8, 71)"),
                         self.json("bank", "delete", "folder", "--where", "json_extract(meta,'$.n') IN (8, 71)"))
        self.assertEqual(self.rows(bank), self.rows("folder"))
        self.assertEqual(self.found(bank, "got"), self.found("folder", "want"))
        info = self.json("bank", "info", bank)
        self.assertEqual((info["rows"], info["next_id"], info["deleted"], info["shards"]), (75, 80, 0, 3))
        self.fails("bank", "get", bank, "3", says=["no row with id 3"])
        for command in (["undelete", bank, "--all"], ["compact", bank], ["verify", bank]):
            self.fails("bank", *command, says=["postgresql://127.0.0.1"])

    def test_pictures_as_in_a_folder(self):
        self.pairs(20)
        bank = self.fresh(2)
        both = "folder", bank
        for b in both:
            self.reco("bank", "build", "--model", MODEL, "--pairs", "pairs.csv", "--out", b)
        self.assertEqual(self.rows(bank), self.rows(both[0]))
        # Again: there is nothing to do, nor for the same pictures in another file; another build is refused.
        self.assertEqual(self.json("bank", "build", "--model", MODEL, "--pairs", "pairs.csv", "--out", bank)["added"], 0)
        more = self.pairs(30, "more.csv", first=10)
        self.fails("bank", "build", "--model", MODEL, "--pairs", more, "--out", bank, says=["is already a bank"])
        for b in both:
            r = self.json("bank", "add", "--model", MODEL, "--pairs", more, b)
            self.assertEqual((r["added"], r["duplicates"]), (20, 10), b)
        # A picture that changed, a caption that changed, by picture and by key.
        png(self.dir / "pictures/0003.png", 777)
        (self.dir / "new.csv").write_text("image,text,brand\npictures/0003.png,\"thing 3, a thing\",x\npictures/0004.png,another text,y\n")
        (self.dir / "key.csv").write_text("image,text,Brand \npictures/0039.png,by key,x\npictures/0038.png,by key,none\npictures/0038.png,by key,x\n")
        got = []
        for b in both:
            update = self.json("bank", "update", "--model", MODEL, "--pairs", "new.csv", b)
            keyed = self.json("bank", "update", "--model", MODEL, "--pairs", "key.csv", "--key", "brand", b)
            got.append([{k: r[k] for k in r if k not in ("seconds", "bank")} for r in (update, keyed)])
        self.assertEqual(got[1], got[0])
        self.assertEqual(self.rows(bank), self.rows(both[0]))
        for query in (["--image", "pictures/0003.png"], ["--text", "another text"], ["--near", "12"], ["--text", "thing", "--distinct"]):
            search = [self.json("search", "--model", MODEL, "--bank", b, *query)["hits"] for b in both]
            self.assertEqual(search[1], search[0], query)
        # What was trained with one serves with the other.
        made = []
        for i, b in enumerate(both):
            self.reco("train", "--bank", b, "--out", f"f{i}.safetensors", "--steps", "20", "--layer", "relational")
            made.append(checkpoint(self.dir / f"f{i}.safetensors"))
        self.assertEqual(made[1], made[0])
        self.assertFalse(b"postgres@" in (self.dir / "f1.safetensors").read_bytes())
        (self.dir / "classes.txt").write_text("thing 1, a thing\nthing 2, a thing\nthing 39, a thing\n")
        for command in (["classify", "--classes", "classes.txt", "pictures/0001.png", "pictures/0039.png"],
                        ["search", "--image", "pictures/0007.png", "--in", "text"]):
            said = [self.json(command[0], "--model", MODEL, "--bank", b, "--fusion", "f0.safetensors", *command[1:]) for b in both]
            self.assertEqual(said[1], said[0], command)
        for b, out in zip(both, ("x0", "x1")):
            self.reco("bank", "export", b, "--out", out)
            self.reco("refine", "--embeddings", out, "--bank", b, "--fusion", "f0.safetensors", "--refine", "both", "--out", "r" + out)
        for folder in ("x", "rx"):
            for kind in ("img_emb", "text_emb"):
                self.assertEqual(npy(self.dir / f"{folder}1/{kind}/{kind}_0.npy"), npy(self.dir / f"{folder}0/{kind}/{kind}_0.npy"))

    def test_nothing_became_a_row(self):
        (self.dir / "p.csv").write_text("image,text\nnone.png,x\n")
        bank = self.fresh(2)
        self.reco("bank", "build", "--model", MODEL, "--pairs", "p.csv", "--out", bank, code=1)
        self.assertEqual(self.server.sql("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'reco%'", "s1"), "0")

    def test_killed_while_loading(self):
        """Twenty kills of the writer, at any moment: in the end nothing is missing and nothing there twice."""
        embeddings(self.dir / "e", 2500, 16)
        self.reco("bank", "build", "--embeddings", "e", "--encoder", "ViT-B-32", "--out", "folder")
        bank = self.fresh(3)
        command = ["bank", "build", "--embeddings", "e", "--encoder", "ViT-B-32", "--commit", "25", "--wait", "10", "--out", bank]
        begun = time.time()
        rng, kills, seen = random.Random(3), 0, 0
        while kills < 20 and self.killed(command, rng.uniform(0.03, 0.12)):
            kills += 1
            if kills % 5 == 0:
                info = self.run_raw("bank", "info", bank, "--json")
                rows = json.loads(info.stdout)["rows"] if info.returncode == 0 else 0
                self.assertGreaterEqual(rows, seen - 25)  # at most one commit is taken back
                seen = rows
        self.reco(*command)
        self.assertEqual(kills, 20, f"{time.time() - begun} s, {seen} rows")
        self.assertEqual(self.rows(bank), self.rows("folder"))
        self.assertEqual(self.json("bank", "info", bank)["rows"], 2500)
        again = self.json("bank", "add", "--embeddings", "e", "--encoder", "ViT-B-32", bank)
        self.assertEqual((again["added"], again["duplicates"]), (0, 2500))
        for i in range(3):
            self.assertEqual(self.server.sql("SELECT count(*) = (SELECT rows FROM reco_bank) FROM reco_pair", f"s{i}"), "t")

    def test_a_commit_that_was_cut_between_servers(self):
        embeddings(self.dir / "e", 100)
        bank = self.fresh(2)
        self.reco("bank", "build", "--embeddings", "e", "--encoder", "ViT-B-32", "--out", bank)
        want = self.rows(bank)
        # As though the second server had never heard of the commit.
        self.server.sql("DELETE FROM reco_pair WHERE id >= 64; DELETE FROM reco_job; UPDATE reco_bank SET next_id = 64, complete = false, "
                        "rows = (SELECT count(*) FROM reco_pair)", "s1")
        self.server.sql("UPDATE reco_job SET done = false", "s0")
        self.server.sql("INSERT INTO reco_job SELECT job, 64, false, NULL FROM reco_bank", "s1")
        self.reco("bank", "build", "--embeddings", "e", "--encoder", "ViT-B-32", "--out", bank)
        self.assertEqual(self.rows(bank), want)

    def test_two_banks_are_not_written_as_one(self):
        banks = []
        for name, n in (("e", 60), ("f", 20)):
            embeddings(self.dir / name, n, seed=n, first=n)
            banks.append(self.fresh(1, name))
            self.reco("bank", "build", "--embeddings", name, "--encoder", "ViT-B-32", "--out", banks[-1])
        for both in (",".join(banks), ",".join(banks[::-1])):
            for command in (["bank", "delete", both, "--id", "3"], ["bank", "add", "--embeddings", "f", "--encoder", "ViT-B-32", both]):
                self.fails(*command, says=["was built from other pairs than", "two banks"])
        self.assertEqual([self.json("bank", "info", bank)["rows"] for bank in banks], [60, 20])

    def test_a_server_that_lost_its_rows(self):
        self.build(50)
        bank = self.fresh(2)
        again = ["bank", "build", "--embeddings", "e", "--encoder", "ViT-B-32", "--out", bank]
        self.reco(*again)
        rows = [self.server.sql("SELECT count(*) FROM reco_pair", f"s{i}") for i in range(2)]
        self.server.sql("DROP TABLE reco_pair, reco_bank, reco_job", "s1")
        for _ in range(2):
            self.fails(*again, says=["s1: has no tables of a bank, but", "s0 has rows of one"])
        self.assertEqual(self.server.sql("SELECT count(*) FROM reco_pair", "s0"), rows[0])
        self.server.sql("DROP TABLE reco_pair, reco_bank, reco_job", "s0")
        self.reco(*again)
        self.assertEqual([self.server.sql("SELECT count(*) FROM reco_pair", f"s{i}") for i in range(2)], rows)

    def asked(self, *command):
        """How many times a command asked the server of database s0, searches for queries aside."""
        log = pathlib.Path(self.server.dir, "log")
        before = log.stat().st_size
        self.reco(*command)
        return sum("execute <unnamed>: SELECT" in line and "set_config('statement_timeout'" not in line and "$1::halfvec" not in line and "$1::vector" not in line
                   for line in log.read_bytes()[before:].decode(errors="replace").splitlines())

    def test_rows_come_many_at_a_time(self):
        """A command asks a server a few times, not once for each of 600 rows."""
        rng = random.Random(8)
        said = [vector(rng, 16) for _ in range(40)]
        for name, n in (("e", 600), ("few", 120)):
            embeddings(self.dir / name, n, 16, first=1000 * (name == "few"))
            write_npy(self.dir / name / "text_emb/text_emb_0.npy", [said[i % 40] for i in range(n)])
            write_npy(self.dir / name / "img_emb/img_emb_0.npy", [vector(rng, 16, said[i % 40], 0.2) for i in range(n)])
        bank = self.fresh(2)
        self.reco("bank", "build", "--embeddings", "e", "--encoder", "ViT-B-32", "--out", bank)
        self.server.sql("ALTER DATABASE s0 SET log_statement = 'all'", "s0")
        (self.dir / "classes.txt").write_text("".join(f"thing {i}\n" for i in range(40)))
        ids, train, counts = range(50), ("--steps", 10, "--layer", "relational"), {}
        for name, most, *command in (("list", 12, "bank", "list", bank), ("get", 12, "bank", "get", bank, *ids), ("export", 12, "bank", "export", bank, "--out", "x"),
                                     ("csv", 12, "bank", "export", bank, "--out", "x.csv"), ("delete", 12, "bank", "delete", bank, "--dry-run", "--id", *ids), ("near", 16, "bank", "delete", bank, "--dry-run", "--near", 7, "--min-similarity", 0.9),
                                     ("train", 150, "train", "--bank", bank, "--out", "f.safetensors", *train),
                                     ("train --embeddings", 150, "train", "--bank", bank, "--embeddings", "few", "--out", "g.safetensors", *train)):
            counts[name] = self.asked(*command)
            self.assertLess(counts[name], most, name)
        print(counts, flush=True)

    def test_one_writer(self):
        self.build(50)
        bank = self.fresh(2)
        self.reco("bank", "build", "--embeddings", "e", "--encoder", "ViT-B-32", "--out", bank)
        holder = subprocess.Popen([postgres.programs() / "psql", "-h", self.server.dir, "-p", str(self.server.port), "-U", "postgres", "-d", "s1", "-c",
                                   "SELECT pg_advisory_lock(hashtext('reco_bank'), hashtext('public')), pg_sleep(60)"], stdout=subprocess.DEVNULL)
        while self.server.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0":
            time.sleep(0.02)
        self.fails("bank", "delete", bank, "--id", "3", "--wait", "0.2", says=["another process is writing"])
        self.assertEqual(len(self.lines("bank", "delete", bank, "--id", "3", "--dry-run")), 2)
        holder.kill()
        holder.wait()
        self.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()")
        self.assertEqual(self.json("bank", "delete", bank, "--id", "3")["deleted"], 1)


class Others(OnServers):
    """Rows that another program wrote, and what is wrong with a server."""

    def view(self, name, d=8, n=30, norm=1.0):
        url = self.server.create(name)
        rng = random.Random(4)
        rows = [(i * 3, [norm * x for x in vector(rng, d)], vector(rng, d)) for i in range(n)]
        self.server.sql("CREATE EXTENSION vector; CREATE TABLE product(sku bigint PRIMARY KEY, title text, photo vector(%d), words vector(%d))" % (d, d), name)
        self.server.sql("INSERT INTO product VALUES " + ", ".join(f"({i}, 'product {i}', '{a}', '{b}')" for i, a, b in rows), name)
        self.server.sql("CREATE VIEW reco_pair AS SELECT sku AS id, title AS caption, photo AS image, words AS text FROM product", name)
        return url, rows

    def test_a_view(self):
        url, rows = self.view("shop")
        info = self.json("bank", "info", url)
        self.assertEqual((info["rows"], info["next_id"], info["dimensions"], info["fingerprint"]), (30, 88, 8, ""))
        self.assertEqual(self.lines("bank", "get", url, "9")[0]["caption"], "product 9")
        half = [[struct.unpack("<e", struct.pack("<e", x))[0] for x in image] for _, image, _ in rows]
        write_npy(self.dir / "q.npy", half[:5])
        ids, scores = self.found(url, "got", "-k", "30")
        queries = npy(self.dir / "q.npy")[1]
        for q in range(5):
            dots = [(-struct.unpack("<f", struct.pack("<f", sum(a * b for a, b in zip(queries[q], row))))[0], rows[i][0]) for i, row in enumerate(half)]
            order = sorted(dots)
            self.assertEqual(list(ids[2][q * 30:q * 30 + 30]), [i for _, i in order])
        self.fails("bank", "delete", url, "--id", "3", says=["another program"])
        self.fails("bank", "index", url, says=["ALTER TABLE reco_bank ADD recall jsonb"])
        self.server.sql("CREATE TABLE reco_bank AS SELECT 8 AS d, 'ViT-B-32' AS encoder, repeat('a', 32) AS fingerprint", "shop")
        self.assertEqual(self.json("bank", "info", url)["encoder"], "ViT-B-32")

    def test_bad_tables(self):
        def says(name, *words):
            url = self.server.url(name)
            line = self.fails("bank", "info", url, says=[f"127.0.0.1:{self.server.port}/{name}: ", *words])
            self.assertNotIn("postgres@", line)

        self.server.create("bad")
        says("bad", "CREATE EXTENSION vector")
        self.server.sql("CREATE EXTENSION vector", "bad")
        says("bad", "no table or view reco_pair", "reco bank build")
        self.server.sql("CREATE TABLE reco_pair(id bigint, caption text, image vector(8), text vector(4))", "bad")
        says("bad", "reco_pair.text has width 4")
        self.server.sql("DROP TABLE reco_pair; CREATE TABLE reco_pair(id bigint, caption text, image vector, text vector(4))", "bad")
        says("bad", "without a width")
        self.server.sql("DROP TABLE reco_pair; CREATE TABLE reco_pair(id int, caption text, image vector(4), text vector(4))", "bad")
        says("bad", "lacks a column", "id (bigint)")
        self.server.sql("DROP TABLE reco_pair; CREATE TABLE reco_pair(id bigint, caption text, image vector(4), text vector(4)); "
                        "CREATE TABLE reco_bank AS SELECT 8 AS d", "bad")
        says("bad", "reco_bank says d = 8")
        for rows, next_id in ((-1, 0), (2**62, 0), (0, -1), (0, 2**63 - 1)):
            self.server.sql(f"DROP TABLE reco_bank; CREATE TABLE reco_bank AS SELECT 4 AS d, {rows}::int8 AS rows, {next_id}::int8 AS next_id", "bad")
            says("bad", f"rows = {rows}, next_id = {next_id}, want 0 or more")
        self.server.sql("UPDATE pg_extension SET extversion = '0.4.4' WHERE extname = 'vector'", "bad")
        says("bad", "pgvector 0.4.4", "ALTER EXTENSION vector UPDATE")
        url, _ = self.view("long", norm=3.0)
        write_npy(self.dir / "q.npy", [[1.0] + [0.0] * 7])
        self.fails("search", "--bank", url, "--queries", "q.npy", "--side", "image", "--out", "o", says=["norm 2.99", "l2_normalize"])

    def test_shards_of_two_banks(self):
        a, _ = self.view("a")
        b, _ = self.view("b")
        c, _ = self.view("c", d=4)
        self.fails("bank", "info", f"{a},{c}", says=["width 4", "to two banks"])
        for name, encoder in (("a", "ViT-B-32"), ("b", "ViT-L-14")):
            self.server.sql(f"CREATE TABLE reco_bank AS SELECT 8 AS d, '{encoder}' AS encoder", name)
        self.fails("bank", "info", f"{a},{b}", says=["was made with encoder ViT-L-14", "ViT-B-32", "to two banks"])

    def test_passwords_are_never_shown(self):
        self.server.create("secret")
        self.server.sql("DROP ROLE IF EXISTS reader")
        self.server.sql("CREATE ROLE reader LOGIN PASSWORD 'tr:u@e/?'")
        good = self.server.url("secret", "reader:tr%3Au%40e%2F%3F")
        for url, words in ((self.server.url("secret", "reader:wr%40ngest"), ["password authentication failed", "~/.pgpass"]),
                           (self.server.url("secret", "reader"), ["password", "~/.pgpass"]),
                           (self.server.url("secret", "reader:wr@ng/est"), []),
                           (self.server.url("secret", "reader:wr/est"), ["libpq can't read URL"]), (self.server.url("secret", "reader:wrongest%", "?x"), ["libpq can't read URL"]),
                           (good, ["CREATE EXTENSION"]), (good.replace(f":{self.server.port}", ":1"), ["refused"]),
                           (good + "?password=wrongest&host=127.0.0.1", [])):
            for command in (["bank", "info", url], ["bank", "build", "--embeddings", "none", "--out", url], ["search", "--bank", url, "--near", "1"],
                            ["bank", "verify", url], ["bank", "info", "x", url], ["bank", "info", "--bnak=" + url]):
                done = self.run_raw(*command)
                self.assertNotEqual(done.returncode, 0)
                for secret in ("wr%40", "wr@", "wrong", "wr/", "est", "tr:u", "tr%3A", "@e"):
                    self.assertNotIn(secret, (done.stdout + done.stderr).replace("latest", ""), command[:2])
            told = self.fails("bank", "info", url, says=words)
            self.assertNotIn("reader:", told)

    def test_conditions(self):
        url, _ = self.view("cond")
        def fails(where, *says):
            self.fails("search", "--bank", url, "--near", "3", "--where", where, says=says)

        fails("", "want an expression")
        fails("id = 3; DROP TABLE product", "semicolon")
        fails("true) OR (true", "unmatched )")
        fails("(id = 3", "unclosed (")
        fails("id = 3 -- x", "comment")
        fails("caption = 'x", "quote that does not end")
        fails("caption = $1", "a $")
        fails("price < 3", 'column "price" does not exist')
        fails("caption", "must be type boolean")
        fails("id = 'x'", "invalid input syntax")
        fails("nextval('s') = 1", "s")
        self.server.sql("CREATE SEQUENCE s; CREATE FUNCTION break() RETURNS bool LANGUAGE plpgsql AS $$BEGIN DELETE FROM product; RETURN true; END$$", "cond")
        fails("break()", "read-only transaction")
        slow = url + "?options=-cstatement_timeout%3D300"
        self.fails("search", "--bank", slow, "--near", "3", "--where", "pg_sleep(9) IS NOT NULL", says=["statement timeout", "options"])
        self.assertEqual(self.server.sql("SELECT count(*) FROM product", "cond"), "30")


class Failing(Case):
    """Four servers of their own."""

    @classmethod
    def setUpClass(cls):
        cls.servers = postgres.servers(SHARDS)

    @classmethod
    def tearDownClass(cls):
        for server in cls.servers:
            server.remove()

    def build(self, more=""):
        embeddings(self.dir / "e", 200)
        self.reco("bank", "build", "--embeddings", "e", "--encoder", "ViT-B-32", "--out", "folder")
        bank = ",".join(s.create("shard") + more for s in self.servers)
        self.reco("bank", "build", "--embeddings", "e", "--encoder", "ViT-B-32", "--out", bank)
        return bank

    def test_one_dies(self):
        bank = self.build()
        search = ["search", "--bank", bank, "--near", "7", "-k", "20"]
        want = self.json("search", "--bank", "folder", "--near", "7", "-k", "20")
        self.assertEqual(self.json(*search)["hits"], want["hits"])
        lost = {int(i) for i in self.servers[2].sql("SELECT id FROM reco_pair", "shard").split()}
        self.assertGreater(len(lost), 20)
        self.servers[2].kill()
        self.fails(*search, says=[f":{self.servers[2].port}/shard", "refused"])
        done = self.run_raw(*search, "--partial", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("answers lack its rows", done.stderr)
        some = json.loads(done.stdout)
        self.assertEqual((some["shards"], some["shards_failed"]), (4, 1))
        rest = ",".join(str(i) for i in sorted(lost))
        left = self.json("search", "--bank", "folder", "--near", "7", "-k", "20", "--where", f"id NOT IN ({rest})")["hits"]
        self.assertEqual(some["hits"], left)
        self.fails("bank", "delete", bank, "--id", "3", says=["refused"])
        self.servers[2].start()
        self.assertEqual(self.json(*search)["hits"], want["hits"])

    def test_one_stops_answering(self):
        bank = self.build("?connect_timeout=2&options=-cstatement_timeout%3D1000")
        search = ["search", "--bank", bank, "--near", "7"]
        self.reco(*search)
        stopped = self.servers[1]
        os.kill(stopped.process.pid, signal.SIGSTOP)  # it still accepts, and says nothing
        try:
            begun = time.time()
            self.fails(*search, says=[f":{stopped.port}/shard", "no connection within 2 s"])
            self.assertLess(time.time() - begun, 10)
        finally:
            os.kill(stopped.process.pid, signal.SIGCONT)
        self.reco(*search)


def middle(times):
    return sorted(times)[len(times) // 2]


class Far(Serving):
    """Four servers 20 ms away, over a line that loses one in a hundred."""

    N = 40

    def test_round_trips(self):
        servers = postgres.servers(SHARDS)
        for server in servers:
            self.addCleanup(server.remove)
            server.create("shard")
        by_kernel = all([hasattr(s, "space") and s.space.slow(20, 1) for s in servers])
        ends = servers if by_kernel else [postgres.Far(s, 20, 1) for s in servers]
        if not by_kernel:
            for end in ends:
                self.addCleanup(end.close)
        near, far = ",".join(s.url("shard") for s in servers), ",".join(s.url("shard") for s in ends)
        self.reco("bank", "build", "--model", MODEL, "--pairs", "p/pairs.jsonl", "--out", near)
        self.reco("train", "--bank", "shop.bank", "--out", "f.safetensors", "--steps", "20", "--layer", "relational", "--refine", "both")
        self.start("--fusion", "f.safetensors", bank=far)
        rng, trips, times = random.Random(1), [], {}
        # A plain question; a picture's and a text's that are refined, read out by the mixture, the former with a vote; each picture once.
        kinds = {"plain": ({"in": "image"}, 1.9), "refined": ({"side": "image", "in": "text"}, 2.9),
                 "refined text": ({"side": "text", "in": "image"}, 2.9), "refined, distinct": ({"side": "text", "in": "image", "distinct": True}, 2.9)}
        for i in range(24):
            trips.append(postgres.round_trip(ends[i % SHARDS]))
            for name, (question, _) in kinds.items():
                begun = time.monotonic()
                answer = self.post("/v1/search", {"vector": vector(rng, 16), "k": 5, **question})
                times.setdefault(name, []).append(time.monotonic() - begun)
                self.assertEqual((len(answer["hits"]), answer["refined"], answer["mixture"]), (5, *[name != "plain"] * 2))
                self.assertTrue(all(hit["caption"].startswith("thing number") for hit in answer["hits"]))
            begun = time.monotonic()
            self.post("/v1/classify", {"image": self.picture(i), "classes": [f"thing number {j}" for j in range(i, i + 9)]})
            times.setdefault("classified", []).append(time.monotonic() - begun)
        self.assertEqual(self.stop(), 0)
        trip = middle(trips)
        print(f"by {'netem' if by_kernel else 'a proxy'}: p50 of a round trip {trip * 1e3:.1f} ms", *[
            f"; {name}: {middle(t) * 1e3:.1f} ms, {middle(t) / trip:.2f} round trips, p90 {sorted(t)[21] * 1e3:.0f} ms" for name, t in times.items()],
            flush=True)
        self.assertGreater(trip, 0.019)
        kinds["classified"] = None, 4.1  # the classes are refined first, and what the picture was refined with is told
        for name, (_, most) in kinds.items():
            self.assertLess(middle(times[name]), most * trip, name)


if __name__ == "__main__":
    postgres.need()
    unittest.main()
