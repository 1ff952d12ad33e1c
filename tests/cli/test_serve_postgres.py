"""reco serve with a bank on PostgreSQL servers."""
import json
import signal
import socket
import time
import unittest

import postgres
from common import MODEL, png
from serving import Serving


class Serve(Serving):
    @classmethod
    def setUpClass(cls):
        cls.sql_server = postgres.Server()

    @classmethod
    def tearDownClass(cls):
        cls.sql_server.remove()

    def setUp(self):
        super().setUp()
        self.bank = ",".join(self.sql_server.create(f"s{i}") for i in range(2))
        self.reco("bank", "build", "--model", MODEL, "--pairs", "p/pairs.jsonl", "--out", self.bank)

    def test_serve(self):
        questions = [{"text": "thing number 3", "k": 5}, {"image": self.picture(4), "k": 12}, {"id": 7, "k": 3}]
        said = []
        for bank in ("shop.bank", self.bank):
            self.start(bank=bank)
            said.append([self.post("/v1/search", q) for q in questions])
            if bank == self.bank:
                self.reco("bank", "delete", self.bank, "--id", "4")
                self.assertNotIn(4, [h["id"] for h in self.post("/v1/search", questions[1])["hits"]])
            self.assertEqual(self.stop(), 0)
        self.assertEqual([[(h["id"], h["score"]) for h in a["hits"]] for a in said[1]], [[(h["id"], h["score"]) for h in a["hits"]] for a in said[0]])
        self.assertNotIn("postgres@", (self.dir / "log").read_text())

    def test_pairs_come_and_go(self):
        """As they do in a folder: every answer is the same, and what was acknowledged outlives a kill."""
        for i in (98, 99):
            png(self.dir / f"p/{i}.png", i)
        a, b, n = self.picture(98), self.picture(99), self.N
        where = {"shop.bank": "json_extract(meta,'$.price') = 7", self.bank: "(meta->>'price')::float = 7"}
        said, audits, listed = [], [], []
        for bank, audit in (("shop.bank", "shop.bank"), (self.bank, "kept/s0")):
            self.start("--data", "kept", bank=bank)
            pairs = lambda method, *all, **more: self.ask(method, "/v1/pairs", {"pairs": list(all), **more})
            answers = [pairs("POST", {"text": "new", "image": a, "price": 7}, {"text": "bad", "image": "AAAA"}),
                       pairs("POST", {"text": "new", "image": a, "price": 7}),
                       pairs("PUT", {"text": "newer", "image": a, "price": 7}, {"text": "one more", "image": b, "price": 8}),
                       pairs("PUT", {"text": "newest", "image": b, "price": 7}, key="price"),
                       pairs("POST", {"text": "x", "image": a}, encoder="another"),
                       self.ask("POST", "/v1/search", {"text": "newest", "k": 2}), self.ask("POST", "/v1/search", {"image": a, "k": 2}),
                       self.ask("GET", f"/v1/pairs?id={n}"), self.ask("GET", f"/v1/pictures?id={n}&edge=16"),
                       self.ask("DELETE", "/v1/pairs", {"ids": [n + 1, 999]})]
            self.stop(signal.SIGKILL)
            self.start("--data", "kept", bank=bank)
            answers += [self.ask("GET", f"/v1/pairs?from={n - 1}"), self.ask("DELETE", "/v1/pairs", {"where": where[bank]}),
                        self.ask("POST", "/v1/search", {"text": "newest", "k": 2}), self.ask("GET", f"/v1/pairs?id={n}"),
                        pairs("POST", {"text": "last", "image": b})]
            self.assertEqual(self.stop(), 0)
            said.append([(status, answer if status < 400 else None) for status, _, answer in answers])
            lines = [json.loads(line) for line in (self.dir / audit / "audit.jsonl").read_text().splitlines()]
            audits.append([{k: v for k, v in line.items() if k not in ("time", "where")} for line in lines])
            since = ["bank", "list", bank, "--json", "--since"]
            if bank == self.bank:
                self.fails(*since, lines[0]["time"], says=["don't say when", "--audit DATA/NAME/audit.jsonl"])
                since[3:3] = ["--audit", f"{audit}/audit.jsonl"]
            listed.append([[json.loads(row)["id"] for row in self.reco(*since, time).stdout.splitlines()] for time in (lines[0]["time"], "2020-01-01", "2100-01-01")])
        self.assertEqual(said[1], said[0])
        self.assertEqual(audits[1], audits[0])
        self.assertEqual(listed[1], listed[0])
        self.assertEqual([len(rows) for rows in listed[1]], [len(listed[1][0]), n + len(listed[1][0]), 0])
        self.assertEqual([status for status, _ in said[1]], [200] * 4 + [409] + [200] * 8 + [404, 200])
        self.assertEqual([{k: v for k, v in answer.items() if k != "failures"} for _, answer in said[1][:4]], [
            {"added": 1, "changed": 0, "unchanged": 0, "ids": [n]}, {"added": 0, "changed": 0, "unchanged": 1, "ids": []},
            {"added": 1, "changed": 1, "unchanged": 0, "ids": [n + 1]}, {"added": 0, "changed": 1, "unchanged": 0, "ids": []}])
        self.assertEqual(said[1][7][1]["caption"], "newest")

    def test_a_server_is_away(self):
        self.start("--data", "kept", bank=self.bank)
        self.sql_server.stop()
        for method, path, body in (("POST", "/v1/search", {"id": 3}), ("DELETE", "/v1/pairs", {"ids": [3]}),
                                   ("POST", "/v1/pairs", {"pairs": [{"text": "new", "image": self.picture(1)}]})):
            status, headers, answer = self.ask(method, path, body)
            self.assertEqual((status, headers["Retry-After"]), (503, "1"), answer)
            self.assertIn(f":{self.sql_server.port}/s0", answer["error"])
        self.sql_server.start()
        self.assertEqual(self.ask("DELETE", "/v1/pairs", {"ids": [3]})[2], {"deleted": 1, "missing": 0})
        self.assertEqual(self.ask("GET", "/v1/pairs?id=3")[0], 404)

    def test_partial(self):
        other = postgres.Server()
        self.addCleanup(other.remove)
        bank = f"{self.sql_server.create('p0')},{other.create('p0')}"
        away = f"127.0.0.1:{other.port}/p0"
        self.reco("bank", "build", "--model", MODEL, "--pairs", "p/pairs.jsonl", "--out", bank)
        lost = {int(i) for i in other.sql("SELECT id FROM reco_pair", "p0").split()}
        self.assertTrue(0 < len(lost) < self.N)
        (self.dir / "c.toml").write_text("partial = true\n")
        self.start("--config", "c.toml", "--data", "kept", bank=bank)
        image = {"image": self.picture(4)}
        questions = [("POST", "/v1/search", {"text": "thing number 3", "k": 12}), ("POST", "/v1/search", {"queries": [image, image], "k": 12}),
                     ("POST", "/v1/classify", {**image, "classes": ["thing", "thing number 4"]}), ("GET", "/v1/pairs?max=20", None),
                     ("POST", "/knn-service", {**image, "modality": "image", "num_images": 12})]

        def ids(answer):
            return {h["id"] for h in (answer if isinstance(answer, list) else answer["hits"])}

        for missing in ([], [away], []):
            if missing:
                other.stop()
            elif other.process.poll() is not None:
                other.start()
                (gone,) = self.ask("POST", "/v1/pairs", {"pairs": [{"text": "new", "image": self.picture(1)}]})[2]["ids"]  # looks at all servers anew
                self.assertEqual(self.ask("DELETE", "/v1/pairs", {"ids": [gone]})[0], 200)
            answers = [self.ask(*question) for question in questions]
            self.assertEqual([a[0] for a in answers], [200] * 5)
            self.assertEqual([a[1]["X-Reco-Missing-Servers"] for a in answers], (missing or [None]) * 5)
            self.assertEqual([a[2]["missing_servers"] for a in answers[:4]], [missing] * 4)
            for found in (ids(answers[0][2]), ids(answers[1][2]["results"][1]), {r["id"] for r in answers[3][2]["rows"]}, ids(answers[4][2])):
                self.assertEqual(found, set(range(self.N)) - (lost if missing else set()))
            for id in (min(lost), min(set(range(self.N)) - lost)):
                status = 503 if missing and id in lost else 200
                for question in (("POST", "/v1/search", {"id": id}), ("GET", f"/v1/pairs?id={id}")):
                    self.assertEqual(self.ask(*question)[0], status, question)
            if missing:
                facets = self.ask("GET", "/v1/facets")[2]
                self.assertEqual((facets["rows"], facets["missing_servers"]), (self.N - len(lost), missing))
                # nobody writes to some of the servers
                for method, body in (("POST", {"pairs": [{"text": "new", "image": self.picture(1)}]}), ("DELETE", {"ids": sorted(lost)})):
                    self.assertEqual(self.ask(method, "/v1/pairs", body)[0], 503)
        self.assertEqual(self.stop(), 0)
        events = [json.loads(line).get("event") for line in (self.dir / "log").read_text().splitlines()]
        self.assertEqual([e for e in events if e and e.startswith("server")], ["server missing", "servers complete"])

    def test_nobody_waits_for_a_server_that_is_away(self):
        """One that swallows connections, and that is not there when reco serve looks at the others anew; and its return."""
        other = postgres.Server()
        self.addCleanup(other.remove)
        bank = f"{self.sql_server.create('q0')},{other.create('q0')}"
        self.reco("bank", "build", "--model", MODEL, "--pairs", "p/pairs.jsonl", "--out", bank)
        self.start("--partial", bank=bank)

        def search():
            begun = time.monotonic()
            answer = self.post("/v1/search", {"text": "thing number 3", "k": self.N})
            return len(answer["hits"]), len(answer["missing_servers"]), time.monotonic() - begun

        self.assertEqual(search()[:2], (self.N, 0))
        other.stop()
        with socket.socket() as hole, socket.socket() as first, socket.socket() as second:
            hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            hole.bind(("127.0.0.1", other.port))
            hole.listen(0)
            for client in first, second:  # these fill its queue, so that the kernel drops who else comes
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", other.port))
            end, slowest = time.monotonic() + 8, 0
            while time.monotonic() < end:
                found, missing, took = search()
                self.assertEqual((missing, found < self.N), (1, True))
                slowest = max(slowest, took)
                time.sleep(0.1)
        self.assertLess(slowest, 1)
        other.start()
        end = time.monotonic() + 30
        while search()[:2] != (self.N, 0):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.2)
        self.assertEqual(self.stop(), 0)

    def test_names_have_no_password(self):
        self.sql_server.sql("CREATE ROLE s0 SUPERUSER LOGIN")
        first, second = self.bank.split(",")
        bare = first.replace("postgres@", "s0:ge'heim@").rsplit("/", 1)[0]  # libpq takes the user's name for the database
        for bank, name in ((self.bank, "s0"), (f"{second}?options=-cgeqo%3Doff,{first}", "s1"), (bare, bare.split("@")[1])):
            self.start(bank=bank)
            told = self.ask("GET", "/v1/banks")[2]
            self.assertEqual([b["name"] for b in told["banks"]], [name])
            log = (self.dir / "log").read_text()
            self.assertEqual(self.stop(), 0)
            for secret in ("eim", "postgresql://s0"):
                self.assertNotIn(secret, log + json.dumps(told))


if __name__ == "__main__":
    postgres.need()
    unittest.main()
