"""reco serve with a bank on PostgreSQL servers."""
import json
import signal
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
        said, audits = [], []
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
        self.assertEqual(said[1], said[0])
        self.assertEqual(audits[1], audits[0])
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
