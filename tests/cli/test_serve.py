"""reco serve: its own questions, and those of clip-retrieval's, OpenAI's and Immich's clients as they send them."""
import base64
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest
import urllib.parse

from common import MODEL, SOURCE, png, write_npy
from serving import Serving

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Serve(Serving):
    def test_search_is_what_the_command_says(self):
        self.reco("train", "--bank", "shop.bank", "--out", "f.safetensors", "--steps", "5", "--refine", "both")
        self.start("--fusion", "f.safetensors")
        base = ["search", "--model", MODEL, "--bank", "shop.bank", "-k", "3", "--json"]
        layer = ["--fusion", "f.safetensors"]
        for asked, command in [
                ({"text": "thing number 3"}, ["--text", "thing number 3"]),
                ({"text": "thing number 3", "in": "image"}, ["--text", "thing number 3", "--in", "image", *layer]),
                ({"image": self.picture(4), "in": "text"}, ["--image", "p/4.png", "--in", "text", *layer]),
                ({"image": self.picture(4), "in": "text", "refine": False}, ["--image", "p/4.png", "--in", "text"]),
                ({"id": 5, "in": "image"}, ["--near", "5", "--in", "image"]),
                ({"image": self.picture(4), "where": "json_extract(meta,'$.price') > 0.5"},
                 ["--image", "p/4.png", "--where", "json_extract(meta,'$.price') > 0.5"])]:
            want = json.loads(self.reco(*base, *command).stdout)
            got = self.post("/v1/search", {"k": 3, **asked})
            self.assertEqual([h["id"] for h in got["hits"]], [h["id"] for h in want["hits"]], asked)
            for a, b in zip(got["hits"], want["hits"]):
                self.assertAlmostEqual(a["score"], b["score"], 6)
                self.assertEqual(a["meta"], b["meta"])
                self.assertEqual(a["caption"], b["caption"])
        told = self.post("/v1/search", {"text": "thing number 3", "in": "image", "explain": True})["explanation"]
        weights = [told["own"], *[n["weight"] for n in told["neighbours"]]]
        self.assertAlmostEqual(sum(weights), 1, 5)
        many = self.post("/v1/search", {"in": "image", "queries": [{"text": "a"}, {"image": "AAAA"}, {"id": 400}, {"id": 3}]})
        self.assertEqual([r.get("status", 200) for r in many["results"]], [200, 400, 404, 200])

    def test_refine_and_vectors(self):
        self.reco("train", "--bank", "shop.bank", "--out", "f.safetensors", "--steps", "5", "--refine", "both")
        self.start("--fusion", "f.safetensors")
        plain = self.post("/v1/embeddings", {"input": "thing number 3"})["data"][0]["embedding"]
        refined = self.post("/v1/embeddings", {"input": "thing number 3", "model": "x+reco"})["data"][0]["embedding"]
        self.assertNotEqual(plain, refined)
        self.assertEqual(self.post("/v1/refine", {"text": "thing number 3"})["vector"], refined)
        again = self.post("/v1/refine", {"vector": plain, "side": "text"})["vector"]
        for a, b in zip(again, refined):
            self.assertAlmostEqual(a, b, 5)
        self.post("/v1/refine", {"vector": plain}, 400)

    def test_pairs_come_and_go(self):
        self.start()
        png(self.dir / "new.png", 99)
        new = base64.b64encode((self.dir / "new.png").read_bytes()).decode()
        answer = self.post("/v1/pairs", {"pairs": [{"text": "a new thing", "image": new, "price": 7},
                                                   {"text": "b", "image": "AAAA"}, {"text": "c", "image": "?"}]})
        self.assertEqual((answer["added"], answer["ids"]), (1, [self.N]))
        self.assertEqual([f["pair"] for f in answer["failures"]], [1, 2])
        for bad in ([], [5], [{"text": "no picture"}], [{"text": 3, "image": new}], "x"):
            self.post("/v1/pairs", {"pairs": bad}, 400)
        hit = self.post("/v1/search", {"text": "a new thing", "k": 1})["hits"][0]
        self.assertEqual((hit["id"], hit["caption"], hit["meta"]), (self.N, "a new thing", {"price": 7}))
        status, headers, jpeg = self.ask("GET", f"/v1/pictures?id={self.N}&edge=16")
        self.assertEqual((status, headers["Content-Type"], jpeg[:2]), (200, "image/jpeg", b"\xff\xd8"))
        again = self.post("/v1/pairs", {"pairs": [{"text": "a new thing", "image": new, "price": 7}]})
        self.assertEqual((again["added"], again["unchanged"]), (0, 1))
        self.post("/v1/pairs", {"encoder": "another", "pairs": [{"text": "x", "image": new}]}, 409)
        self.post("/v1/pairs", {"key": "price", "pairs": [{"text": "x", "image": new}]}, 400)
        changed = self.ask("PUT", "/v1/pairs", {"pairs": [{"text": "a newer thing", "image": new, "price": 8}]})[2]
        self.assertEqual((changed["added"], changed["changed"]), (0, 1))
        changed = self.ask("PUT", "/v1/pairs", {"key": "price", "pairs": [{"text": "newest", "image": new, "price": 8}, {"text": "x", "image": new}]})[2]
        self.assertEqual((changed["changed"], [f["pair"] for f in changed["failures"]]), (1, [1]))
        self.assertEqual(self.post("/v1/search", {"text": "newest", "k": 1})["hits"][0]["id"], self.N)
        self.assertEqual(self.ask("DELETE", "/v1/pairs", {"ids": [self.N, 999]})[2], {"deleted": 1, "missing": 1})
        self.assertNotEqual(self.post("/v1/search", {"text": "newest", "k": 1})["hits"][0]["id"], self.N)
        self.assertEqual(self.ask("GET", f"/v1/pairs?id={self.N}")[0], 404)
        self.assertEqual(self.ask("DELETE", "/v1/pairs", {"where": "caption > 3"})[0], 400)
        rows = self.ask("GET", "/v1/pairs?max=5&from=2")[2]
        self.assertEqual(([r["id"] for r in rows["rows"]], rows["next"]), ([2, 3, 4, 5, 6], 7))
        self.assertEqual(rows["rows"][0]["meta"], {"price": 0.2, "when": 1732752000.123456})
        audit = [json.loads(line) for line in (self.dir / "shop.bank/audit.jsonl").read_text().splitlines()]
        self.assertEqual([(a["what"], a["ids"]) for a in audit], [("add", [self.N]), ("update", []), ("update", []), ("delete", [self.N, 999])])
        self.assertEqual([a["uris"] for a in audit[:3]], [[hit["uri"]]] * 3)
        self.assertIn("whole", self.reco("bank", "verify", "shop.bank").stdout)
        self.reco("bank", "undelete", "shop.bank", "--id", self.N)

        def since(time):
            done = self.reco("bank", "list", "shop.bank", "--since", time, "--json")
            return [json.loads(line)["id"] for line in done.stdout.splitlines()]

        self.assertEqual(since(audit[0]["time"]), [self.N])
        self.assertEqual(since("2020-01-01"), list(range(self.N + 1)))
        self.assertEqual(since(self.N - 1), [self.N - 1, self.N])
        self.assertEqual(since("2100-01-01T00:00"), [])
        self.assertIn("--since", self.reco("bank", "list", "shop.bank", "--since", "yesterday", code=2).stderr)
        # What another process writes is seen, too.
        self.reco("bank", "delete", "shop.bank", "--id", "3")
        for _ in range(100):
            if self.ask("GET", "/v1/pairs?id=3")[0] == 404:
                break
            time.sleep(0.1)
        self.assertEqual(self.ask("GET", "/v1/pairs?id=3")[0], 404)

    def test_clip_retrieval(self):
        self.start()
        asked = {"text": None, "image": None, "image_url": None, "embedding_input": None, "deduplicate": False,
                 "use_safety_model": True, "use_violence_detector": True, "indice_name": "shop", "use_mclip": False,
                 "aesthetic_score": 9, "aesthetic_weight": 0.5, "modality": "image", "num_images": 2, "num_result_ids": 5}
        hits = self.post("/knn-service", {**asked, "image": self.picture(7)})
        self.assertEqual([hits[0]["id"], hits[0]["caption"], len(hits)], [7, "thing number 7", 5])
        self.assertEqual(sorted(hits[0]), ["caption", "id", "image", "image_path", "price", "similarity", "when"])
        self.assertEqual(sorted(hits[2]), ["id", "similarity"])
        self.assertEqual(base64.b64decode(hits[0]["image"])[:2], b"\xff\xd8")
        vector = self.post("/v1/embeddings", {"input": "thing number 3"})["data"][0]["embedding"]
        self.assertEqual(self.post("/knn-service", {**asked, "embedding_input": vector, "modality": "text"})[0]["id"], 3)
        self.assertEqual(self.post("/knn-service", {**asked, "text": "thing number 3", "modality": "text", "indice_name": None})[0]["id"], 3)
        self.post("/knn-service", asked, 400)
        self.post("/knn-service", {**asked, "image_url": "http://localhost/x"}, 400)
        self.post("/knn-service", {**asked, "text": "a", "indice_name": "none"}, 404)
        status, headers, names = self.ask("GET", "/indices-list", headers={"Origin": "http://page"})
        self.assertEqual((status, headers["Access-Control-Allow-Origin"], names), (200, "*", ["shop"]))
        told = self.post("/metadata", {"ids": [2, 3], "indice_name": "shop"})
        self.assertEqual([(m["id"], m["metadata"]["caption"]) for m in told], [(2, "thing number 2"), (3, "thing number 3")])
        self.assertEqual(self.ask("OPTIONS", "/knn-service", headers={"Origin": "http://page"})[0], 200)
        self.assertIn(b"Among", self.ask("GET", "/metrics-summary")[2])

    def test_openai_and_immich(self):
        self.start()
        plain = self.post("/v1/embeddings", {"input": ["a", "b"], "model": "m"})
        packed = self.post("/v1/embeddings", {"input": ["a", "b"], "model": "m", "encoding_format": "base64"})
        for x, y in zip(plain["data"], packed["data"]):
            raw = base64.b64decode(y["embedding"])
            for a, b in zip(x["embedding"], struct.unpack(f"<{len(raw) // 4}f", raw)):
                self.assertAlmostEqual(a, b, 7)
        self.assertEqual([d["index"] for d in plain["data"]], [0, 1])
        self.assertGreater(plain["usage"]["prompt_tokens"], 2)
        image = self.post("/v1/embeddings", {"input": ["data:image/png;base64," + self.picture(1)], "modality": "image"})
        self.assertEqual(len(image["data"][0]["embedding"]), len(plain["data"][0]["embedding"]))
        error = self.post("/v1/embeddings", {"input": [[1, 2]]}, 400)["error"]
        self.assertEqual(sorted(error), ["code", "message", "param", "type"])
        self.post("/v1/embeddings", {"input": "a", "dimensions": 3}, 400)
        self.assertEqual(self.ask("GET", "/v1/models")[2]["data"][0]["object"], "model")
        self.assertEqual(self.ask("GET", "/ping")[2], b"pong")

        def form(**fields):
            body = b""
            for name, value in fields.items():
                file = '; filename="x.png"\r\nContent-Type: image/png' if isinstance(value, bytes) else ""
                value = value if isinstance(value, bytes) else value.encode()
                body += f'--boundary\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + value + b"\r\n"
            status, _, answer = self.ask("POST", "/predict", body + b"--boundary--\r\n", {"Content-Type": "multipart/form-data; boundary=boundary"})
            return status, answer

        visual, textual = ('{"clip": {"%s": {"modelName": "x", "options": {}}}}' % kind for kind in ("visual", "textual"))
        status, answer = form(entries=visual, image=(self.dir / "p/1.png").read_bytes())
        self.assertEqual(status, 200, answer)
        self.assertEqual((answer.get("imageHeight"), answer.get("imageWidth")), (26, 30))
        for a, b in zip(json.loads(answer["clip"]), image["data"][0]["embedding"]):
            self.assertAlmostEqual(a, b, 6)
        status, answer = form(entries=textual, text="a")
        self.assertEqual((status, sorted(answer)), (200, ["clip"]))
        self.assertEqual(form(entries=visual), (400, {"detail": "Either image or text must be provided"}))
        self.assertEqual(form(entries="{", text="a"), (422, {"detail": "Invalid request format."}))
        self.assertEqual(form(entries=visual, image=b"no picture")[0], 400)

    def test_who_may_ask(self):
        self.assertEqual(self.reco("serve", "--bank", "shop.bank", "--listen", "0.0.0.0:0", code=1).stderr,
                         "reco: other machines can reach 0.0.0.0 (--listen), so --token-file is required\n")
        (self.dir / "tokens").write_text("short\n")
        self.assertIn("want 16 or more", self.reco("serve", "--bank", "shop.bank", "--token-file", "tokens", code=1).stderr)
        self.start()
        self.assertEqual(self.ask("GET", "/v1/banks", headers={"Host": "evil.example"})[0], 403)
        self.assertEqual(self.ask("GET", "/v1/banks", headers={"Origin": "http://evil.example"})[0], 403)
        self.assertEqual(self.ask("DELETE", "/v1/pairs", {"ids": [1]}, {"Origin": "http://evil.example"})[0], 403)
        self.stop()
        (self.dir / "tokens").write_text("alice 0123456789abcdef\nbob fedcba9876543210\n")
        self.start("--token-file", "tokens", "--read-only")
        self.assertEqual(self.ask("GET", "/health")[0], 200)
        status, headers, _ = self.ask("GET", "/v1/banks")
        self.assertEqual((status, headers["WWW-Authenticate"]), (401, "Bearer"))
        for token, status in [("0123456789abcdef", 200), ("0123456789abcdeF", 401), ("0123456789abcdef0", 401), ("", 401)]:
            self.assertEqual(self.ask("GET", "/v1/banks", headers={"Authorization": "Bearer " + token})[0], status, token)
        self.assertEqual(self.ask("DELETE", "/v1/pairs", {"ids": [1]}, {"Authorization": "Bearer 0123456789abcdef"})[0], 403)
        (self.dir / "tokens").write_text("carol 00001111222233334444\n")
        self.server.send_signal(signal.SIGHUP)
        for _ in range(100):
            if self.ask("GET", "/v1/banks", headers={"Authorization": "Bearer 0123456789abcdef"})[0] == 401:
                break
            time.sleep(0.05)
        self.assertEqual(self.ask("GET", "/v1/banks", headers={"Authorization": "Bearer 00001111222233334444"})[0], 200)
        self.stop()
        lines = [json.loads(line) for line in (self.dir / "log").read_text().splitlines()]
        self.assertIn("alice", [line.get("who") for line in lines])
        self.assertNotIn("0123456789abcdef", (self.dir / "log").read_text())

    def test_recall(self):
        """Of a bank with lists: as the server was started, or as the request says; every answer tells it."""
        n, d = 900, 16
        rng = random.Random(1)
        centres = [[rng.gauss(0, 1) for _ in range(d)] for _ in range(60)]
        for side in ("img_emb", "text_emb"):
            write_npy(self.dir / f"e/{side}/{side}_0.npy", [[c + rng.gauss(0, 0.4) for c in centres[i % 60]] for i in range(n)])
        self.reco("bank", "build", "--embeddings", "e", "--out", "lists.bank")
        self.reco("bank", "index", "lists.bank", "--lists", "60", "--recall", "0.9")
        exact = self.json("search", "--bank", "lists.bank", "--near", "7", "--in", "image", "--exact")
        self.assertEqual((exact["recall"], self.json("search", "--bank", "lists.bank", "--near", "7")["recall"]), (1, 0.9))
        for options, default in ((["--recall", "0.95"], 0.95), (["--exact"], 1), ([], 0.9)):
            self.start(*options, bank="lists.bank")
            for body, recall in (({}, default), ({"exact": True}, 1), ({"recall": 0.98}, 0.98), ({"exact": False}, default)):
                found = self.post("/v1/search", {"id": 7, "in": "image", **body})
                self.assertEqual(found["recall"], recall, (options, body))
                if recall == 1:
                    self.assertEqual([h["id"] for h in found["hits"]], [h["id"] for h in exact["hits"]])
                self.assertEqual(self.post("/v1/classify", {"image": self.picture(1), "classes": ["a", "b"], **body})["recall"], recall)
            self.assertEqual(self.post("/v1/search", {"queries": [{"id": 7}], "recall": 0.98})["recall"], 0.98)
            self.stop()
        self.start(bank="lists.bank")
        for body, says in (({"recall": 0.4}, "from 0.5 to 1"), ({"recall": "x"}, "from 0.5 to 1"), ({"recall": 0.9, "exact": True}, "cannot be combined")):
            self.assertIn(says, self.post("/v1/search", {"id": 7, **body}, 400)["error"])

    def test_facets(self):
        (self.dir / "p/more.jsonl").write_text("".join(json.dumps(
            {"image": f"{i}.png", "text": f"more {i}", "brand": "Fiat" if i % 3 else "Škoda", "sale": i < 4, "long": "x" * 200, "list": [i]}) + "\n" for i in range(6)))
        self.reco("bank", "add", "--model", MODEL, "--pairs", "p/more.jsonl", "--several-captions", "shop.bank")
        self.start()
        told = self.ask("GET", "/v1/facets")[2]
        facets = {f["column"]: f for f in told["facets"]}
        self.assertEqual((told["rows"], sorted(facets)), (self.N + 6, ["brand", "list", "long", "price", "sale", "when"]))
        self.assertEqual(facets["brand"], {"column": "brand", "rows": 6, "more": False, "values": [{"value": "Fiat", "rows": 4}, {"value": "Škoda", "rows": 2}]})
        self.assertEqual(facets["sale"]["values"], [{"value": True, "rows": 4}, {"value": False, "rows": 2}])
        self.assertEqual([(facets[c]["more"], facets[c]["values"]) for c in ("long", "list")], [(True, [])] * 2)
        self.assertEqual((facets["when"]["values"], len(facets["price"]["values"])), ([{"value": 1732752000.123456, "rows": self.N}], self.N))
        some = "/v1/facets?where=" + urllib.parse.quote("json_extract(meta,'$.brand') = 'Fiat'")
        for _ in range(2):
            told = self.ask("GET", some)[2]
            self.assertEqual((told["rows"], [f["rows"] for f in told["facets"] if f["column"] == "sale"]), (4, [4]))
        for where in ("nonsense", "", "%00", "1%00"):
            self.assertEqual(self.ask("GET", "/v1/facets?where=" + where)[0], 400, where)
            self.assertEqual(self.ask("GET", "/v1/pairs?where=" + where)[0], 400, where)
        self.assertEqual(self.ask("GET", "/v1/facets?bank=none")[0], 404)
        self.assertEqual(self.ask("DELETE", "/v1/pairs", {"where": "caption = 'more 1'"})[2]["deleted"], 1)
        self.assertEqual(self.ask("GET", some)[2]["rows"], 3)

    @unittest.skipUnless(shutil.which("curl"), "SKIPPED: no curl for the examples of docs/serve.md")
    def test_examples_of_the_documentation(self):
        text = (SOURCE / "docs/serve.md").read_text()
        self.reco("train", "--bank", "shop.bank", "--out", "f.safetensors", "--steps", "5", "--refine", "both")
        self.start("--fusion", "f.safetensors")
        shutil.copy(self.dir / "p/4.png", self.dir / "photo.jpg")

        def here(code):
            return code.replace("localhost:1234", f"localhost:{self.port}").replace("127.0.0.1:1234", f"127.0.0.1:{self.port}").replace("815", "3")

        def run(*command):
            done = subprocess.run(command, cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout

        commands = re.findall(r"^    (curl .*)$", text, re.MULTILINE)
        answers = [json.loads(run("bash", "-c", "set -e; " + here(c).replace("curl ", "curl -sf "))) for c in commands]
        self.assertTrue(all(a["hits"] for a in answers[:3]) and answers[1]["explanation"] and answers[3]["reco"] and answers[4]["vector"])
        (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        self.assertIn("red kettle", run(sys.executable, "-c", here(program)).splitlines()[-1])
        (configuration,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
        (self.dir / "c.toml").write_text(configuration)
        self.fails("serve", "--config", "c.toml", says=["/etc/reco/tokens"])  # all of its options are known

    def test_configuration(self):
        (self.dir / "two.bank").symlink_to("shop.bank")
        (self.dir / "c.toml").write_text(f'model = "{MODEL}"\nbank = ["shop.bank", "two.bank"]\nread-only = true\nmax-body = 1\nquiet = false\n')
        self.start("--config", "c.toml", "--max-body=2")
        self.assertEqual([b["name"] for b in self.ask("GET", "/v1/banks")[2]["banks"]], ["shop", "two", "shop"])
        self.assertEqual(self.ask("DELETE", "/v1/pairs", {"ids": [1]})[0], 403)
        self.assertIn("the limit is 2097152", self.ask("POST", "/v1/search", "x" * (3 << 20))[2]["error"])
        for text, says in [("queues = 3", 'c.toml:1: there is no option "queues"'), ("\nread-only = 1", "c.toml:2: \"read-only\" is 1, want true or false"),
                           ("[a]\nqueue = 1", "c.toml:2: is in table [a], want it above all tables"), ("config = 'x'", 'there is no option "config"')]:
            (self.dir / "c.toml").write_text(text + "\n")
            self.fails("serve", "--config", "c.toml", says=[says])
        self.fails("serve", "--config", "none.toml", says=["none.toml"])
        (self.dir / "c.toml").write_text("queue = 0\n")
        self.assertIn("--queue", self.reco("serve", "--config=c.toml", code=2).stderr)

    def test_rates(self):
        (self.dir / "tokens").write_text("alice 0123456789abcdef 0.5:3\nbob fedcba9876543210\n")
        self.start("--token-file", "tokens", "--rate", "1000")
        alice, bob = ({"Authorization": "Bearer " + token} for token in ("0123456789abcdef", "fedcba9876543210"))
        answers = [self.ask("GET", "/v1/banks", headers=alice) for _ in range(5)]
        self.assertEqual([a[0] for a in answers], [200, 200, 200, 429, 429])
        self.assertIn(answers[3][1]["Retry-After"], ("1", "2"))
        self.assertIn("try again in", answers[3][2]["error"])
        self.assertEqual({self.ask("GET", "/v1/banks", headers=bob)[0] for _ in range(20)}, {200})
        self.assertEqual(self.ask("GET", "/health", headers=alice)[0], 200)
        time.sleep(2.1)
        self.assertEqual(self.ask("GET", "/v1/banks", headers=alice)[0], 200)
        self.stop()
        for line in ("alice 0123456789abcdef fast", "alice 0123456789abcdef 5:0", "alice 0123456789abcdef 5 6"):
            (self.dir / "tokens").write_text(line + "\n")
            self.fails("serve", "--bank", "shop.bank", "--token-file", "tokens", says=["NAME TOKEN [RATE[:BURST]]"])
        self.fails("serve", "--bank", "shop.bank", "--rate", "0", says=["--rate is \"0\""])

    def test_bad_requests(self):
        self.start("--max-body", "1")
        for body, say in [("", "JSON object"), ("{", "not valid JSON"), ("[1]", "JSON object"), ('{"a":1,"a":2}', "duplicate"),
                          ({"k": 3}, "vector and id, not 0"), ({"text": "a", "id": 3}, "vector and id, not 2"), ({"text": 5}, "must be a string"),
                          ({"text": "a", "k": 0}, "1 to 1024"), ({"text": "a", "in": "x"}, "it must be image or text"),
                          ({"text": "a", "where": "nonsense"}, "nonsense"), ({"text": "a", "refine": True}, "without a fusion layer"),
                          ({"vector": [1, 2]}, "has 2 numbers"), ({"queries": []}, "1 to 256"), ({"text": "a", "bank": "x"}, 'no bank named "x"')]:
            status, _, answer = self.ask("POST", "/v1/search", body)
            self.assertIn(status, (400, 404), body)
            self.assertIn(say, answer["error"], body)
        self.assertEqual(self.ask("GET", "/nowhere")[0], 404)
        self.assertEqual(self.ask("PUT", "/v1/search")[0], 405)
        self.assertEqual(self.ask("POST", "/v1/search", "x" * (2 << 20))[0], 413)
        # A header that never ends, half a request, and a client that goes away, leave the server as it was.
        for raw in (b"GET / HTTP/1.1\r\nX: " + b"a" * 100000, b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{",
                    b"\0\1\2\3\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", self.port)) as s:
                try:
                    s.sendall(raw)
                except OSError:
                    pass
        self.assertEqual(self.ask("GET", "/health")[0], 200)
        self.assertIn(b"reco_requests_total", self.ask("GET", "/metrics")[2])
        self.assertEqual(self.stop(), 0)

    def browse(self, view, *options):
        """What the page at this address has become, and nothing that it asked for was refused or came from elsewhere."""
        (self.dir / "profile").mkdir(exist_ok=True)
        done = subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={self.dir}/profile",
                               "--virtual-time-budget=20000", "--enable-logging=stderr", *options, "--dump-dom", f"http://127.0.0.1:{self.port}/{view}"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
        for word in ("Refused", "Uncaught", "Content Security Policy"):
            self.assertNotIn(word, done.stderr)
        return done.stdout

    @unittest.skipUnless(BROWSER, "SKIPPED: no chromium to open the page in")
    def test_page_in_a_browser(self):
        (self.dir / "p/hostile.csv").write_text('image,text\n0.png,"<img src=x onerror=alert(1)>"\n')
        self.reco("bank", "add", "--model", MODEL, "--pairs", "p/hostile.csv", "--several-captions", "shop.bank")
        self.reco("train", "--bank", "shop.bank", "--out", "f.safetensors", "--steps", "5", "--refine", "both")
        self.start("--fusion", "f.safetensors")
        shown = self.browse("#text=thing+number+3&in=text")
        self.assertIn("CLIP alone", shown)
        self.assertIn("With the memory", shown)
        self.assertIn("thing number 3", shown)
        self.assertIn("13 captions found.", shown)
        self.assertIn(f"when: 1732752000.123456 ({self.N})", shown)
        self.assertIn("&lt;img src=x onerror=alert(1)&gt;", shown)
        self.assertNotIn('src="x"', shown)
        shown = self.browse("#id=5&in=image&where=" + "json_extract(meta,'%24.%22price%22')+%3D+0.3")
        self.assertIn("1 picture found.", shown)
        self.assertIn("nonsense", self.browse("#text=a&where=nonsense"))

    def test_many_at_once(self):
        self.start()
        alone = [self.post("/v1/search", {"text": f"thing number {i}", "k": 3}) for i in range(8)]
        wrong, threads = [], []

        def client(i):
            for _ in range(10):
                if self.post("/v1/search", {"text": f"thing number {i}", "k": 3}) != alone[i]:
                    wrong.append(i)

        for i in range(8):
            threads.append(threading.Thread(target=client, args=(i,)))
            threads[-1].start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])
        numbers = dict(line.split() for line in self.ask("GET", "/metrics")[2].decode().splitlines() if line[0] != "#" and "{" not in line)
        self.assertEqual(int(numbers["reco_searches_total"]), 88)
        self.assertLess(int(numbers["reco_batches_total"]), 88)

    def test_full_queue(self):
        self.start("--queue", "1")
        codes, threads = [], []

        def client():
            codes.append(self.ask("POST", "/v1/search", {"queries": [{"text": f"thing {i}"} for i in range(100)]})[:2])

        for _ in range(24):
            threads.append(threading.Thread(target=client))
            threads[-1].start()
        for t in threads:
            t.join()
        self.assertLessEqual({c for c, _ in codes}, {200, 503})
        self.assertIn(200, {c for c, _ in codes})
        for code, headers in codes:
            if code == 503:
                self.assertEqual(headers["Retry-After"], "1")


if __name__ == "__main__":
    unittest.main()
