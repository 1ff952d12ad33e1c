"""reco serve under what goes wrong: kills, a full disk, slow and countless clients, enormous bodies and pictures, another process.
RECO_TEST_MOMENTS says how many kills (20)."""
import base64
import http.server
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
import zlib

from common import HOOK, MODEL, png, write_png
from serving import Serving

MOMENTS = int(os.environ.get("RECO_TEST_MOMENTS", 20))
IDLE = int(os.environ.get("RECO_TEST_CONNECTIONS", 10000))


class Hard(Serving):
    def setUp(self):
        super().setUp()
        self.over = threading.Event()
        self.threads = []

    def tearDown(self):
        self.join()
        super().tearDown()

    def also(self, work, *args):
        self.threads.append(threading.Thread(target=work, args=args))
        self.threads[-1].start()

    def join(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        self.threads = []

    def raw(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.addCleanup(s.close)
        return s

    def pair(self, number):
        png(self.dir / f"p/n{number}.png", number)
        return {"text": f"new thing {number}", "image": base64.b64encode((self.dir / f"p/n{number}.png").read_bytes()).decode()}

    def search(self):
        self.assertEqual(self.post("/v1/search", {"text": "thing number 3", "k": 1})["hits"][0]["caption"], "thing number 3")

    def assert_memory(self, most):
        """MiB, at the worst moment."""
        if not HOOK:  # a sanitizer has memory of its own
            return
        status = pathlib.Path(f"/proc/{self.server.pid}/status").read_text()
        self.assertLess(int(status.split("VmHWM:")[1].split()[0]) / 1024, most)

    def test_kills_lose_nothing_acknowledged(self):
        """Three clients add one pair after the other, and one deletes, while the server is killed and started again."""
        acknowledged, deleted, numbers, lock = {}, set(), iter(range(1000, 10 ** 9)), threading.Lock()
        unanswered = set()  # deletions that the kill came between: done or not

        def adds():
            while not self.over.is_set():
                with lock:
                    number = next(numbers)
                pair = self.pair(number)
                try:
                    answer = self.ask("POST", "/v1/pairs", {"pairs": [pair]})
                except OSError:
                    time.sleep(0.01)
                    continue
                if answer[0] == 200:
                    acknowledged[answer[2]["ids"][0]] = pair["text"]

        def deletes():
            while not self.over.is_set():
                known = sorted(set(acknowledged) - deleted)
                try:
                    if len(known) > 5 and self.ask("DELETE", "/v1/pairs", {"ids": [known[2]]})[0] == 200:
                        deleted.add(known[2])
                except OSError:
                    unanswered.add(known[2])
                time.sleep(0.02)

        self.start()
        for work in (adds, adds, adds, deletes):
            self.also(work)
        rng = random.Random(7)
        for _ in range(MOMENTS):
            time.sleep(0.05 + rng.random() * 0.3)
            self.stop(signal.SIGKILL)
            self.start()
        until = time.monotonic() + 60  # on a busy machine little comes between two kills
        while len(acknowledged) <= MOMENTS and time.monotonic() < until:
            time.sleep(0.1)
        self.join()
        self.assertEqual(self.stop(), 0)
        self.assertIn("whole", self.reco("bank", "verify", "shop.bank").stdout)
        rows = {row["id"]: row["caption"] for row in self.rows("shop.bank")}
        self.assertGreater(len(acknowledged), MOMENTS)
        for row, caption in acknowledged.items():
            if row not in unanswered - deleted or row in rows:
                self.assertEqual(rows.get(row), None if row in deleted else caption, row)
        for row in range(self.N):
            self.assertEqual(rows[row], f"thing number {row}")

    def test_disk_full(self):
        """The files may grow no further: writes are refused with a sentence, questions are answered, and afterwards all is well."""
        self.start()
        before = self.post("/v1/pairs", {"pairs": [self.pair(1)]})["ids"]
        pid = self.server.pid
        for limit in (0, 100, 4096, 20000):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            status, _, answer = self.ask("POST", "/v1/pairs", {"pairs": [self.pair(2 + limit)]})
            if status != 200:
                self.assertEqual((status, "too large" in answer["error"] or "disk" in answer["error"]), (507, True), answer)
            self.search()
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        self.assertEqual(self.ask("DELETE", "/v1/pairs", {"ids": before})[0], 507)
        self.search()
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self.assertEqual(self.post("/v1/pairs", {"pairs": [self.pair(3)]})["added"], 1)
        self.assertEqual(self.ask("GET", f"/v1/pairs?id={before[0]}")[0], 200)
        self.assertEqual(self.stop(), 0)
        self.assertIn("whole", self.reco("bank", "verify", "shop.bank").stdout)

    def test_small_file_system(self):
        """The same on a file system that is full."""
        disk = self.dir / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "reco-test", disk], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("SKIPPED: no right to mount a small file system")
        self.addCleanup(subprocess.run, ["umount", "-l", disk])
        shutil.copytree(self.dir / "shop.bank", disk / "b.bank")
        self.start(bank=disk / "b.bank")
        kept, status = [], 200
        for i in range(400):
            status, _, answer = self.ask("POST", "/v1/pairs", {"pairs": [self.pair(4000 + 50 * i + j) for j in range(50)]})
            if status != 200:
                break
            kept += answer["ids"]
        self.assertEqual((status, "space" in answer["error"] or "full" in answer["error"]), (507, True), answer)
        self.search()
        self.assertEqual(self.stop(), 0)
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        self.assertIn("whole", self.reco("bank", "verify", disk / "b.bank").stdout)
        self.assertLessEqual(set(kept), {row["id"] for row in self.rows(disk / "b.bank")})
        self.start(bank=disk / "b.bank")
        self.assertEqual(self.post("/v1/pairs", {"pairs": [self.pair(9)]})["added"], 1)
        self.stop()

    def test_one_byte_at_a_time(self):
        self.start("--timeout", "1")
        slow = {"headers": b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 60,
                "body": b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90\r\n\r\n" + b"{" * 90}
        ended, began = {}, time.monotonic()

        def drips(name, text):
            try:
                with socket.create_connection(("127.0.0.1", self.port)) as s:
                    head = len(text) - 80
                    s.sendall(text[:head])
                    for i in range(head, len(text)):
                        s.sendall(text[i:i + 1])
                        time.sleep(0.3)
            except OSError:
                ended[name] = time.monotonic() - began

        for name, text in slow.items():
            self.also(drips, name, text)
        while time.monotonic() - began < 20 and len(ended) < 2:
            self.assertEqual(self.ask("GET", "/health")[0], 200)
            time.sleep(0.1)
        self.assertLess(ended["headers"], 6)
        self.assertLess(ended["body"], 20)

    def test_idle_connections(self):
        self.start()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        n = min(IDLE, most - 300)
        idle = []
        for _ in range(n):
            idle.append(socket.create_connection(("127.0.0.1", self.port)))
        for _ in range(5):
            self.search()
        self.assert_memory(400)
        self.assertEqual(sum(s.fileno() >= 0 for s in idle), n)
        for s in idle:
            s.close()

    def test_more_connections_than_there_may_be(self):
        self.start("--connections", "40")
        idle = [self.raw() for _ in range(200)]
        for _ in range(5):
            self.search()
        open_still = 0
        for s in idle:
            s.setblocking(False)
            try:
                s.recv(1)  # b"": it was ended
            except BlockingIOError:
                open_still += 1
        self.assertLessEqual(open_still, 40)
        self.assertGreater(open_still, 20)

    def test_enormous_body(self):
        self.start()
        for more in ("", "Expect: 100-continue\r\n"):
            began = time.monotonic()
            with self.raw() as s:
                s.sendall(f"POST /v1/search HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {1 << 30}\r\n\r\n".encode())
                answer = b""
                while got := s.recv(65536):
                    answer += got
            self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer)
            self.assertIn(b"1073741824 bytes; the limit is 33554432", answer)
            self.assertLess(time.monotonic() - began, 5)
        with self.raw() as s:  # who sends all the same is cut off, and so is who says no length
            s.sendall(b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            sent, block = 0, b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
            with self.assertRaises(OSError):
                while sent < 1 << 30:
                    s.sendall(block)
                    sent += 1 << 20
            self.assertLess(sent, 200 << 20)
        self.assert_memory(300)
        self.search()

    def test_many_large_bodies(self):
        """Which are sent and not ended: memory has a bound, and who sends little is served."""
        self.start("--max-body", "1")
        body = json.dumps({"text": "x", "bank": "y" * 900000}).encode()
        held = [self.raw() for _ in range(40)]
        for s in held:
            s.sendall(b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:-1])
        time.sleep(0.5)
        self.assertEqual(self.ask("POST", "/v1/search", body)[0], 503)
        self.assertEqual(self.ask("GET", "/v1/banks")[0], 200)
        self.assert_memory(150)
        codes = []
        for s in held:
            s.sendall(body[-1:])
            codes.append(int(s.recv(65536).split()[1]))
            s.close()
        self.assertEqual(set(codes), {404, 503})  # there is no such bank
        self.assertIn(codes.count(404), range(8, 19))
        self.search()

    def test_enormous_picture(self):
        self.start()
        raw = zlib.compressobj()
        data = b"".join(raw.compress(bytes(180001)) for _ in range(200)) + raw.flush()
        write_png(self.dir / "huge.png", 60000, 60000, data)
        huge = base64.b64encode((self.dir / "huge.png").read_bytes()).decode()
        for path, body in (("/v1/search", {"image": huge}), ("/v1/classify", {"image": huge, "classes": ["a", "b"]}),
                           ("/knn-service", {"image": huge, "modality": "image", "num_images": 1}),
                           ("/v1/embeddings", {"input": ["data:image/png;base64," + huge], "modality": "image"})):
            status, _, answer = self.ask("POST", path, body)
            self.assertEqual((status, "60000" in json.dumps(answer)), (400, True), answer)
        answer = self.post("/v1/pairs", {"pairs": [{"text": "huge", "image": huge}]})
        self.assertEqual((answer["added"], "60000" in answer["failures"][0]["reason"]), (0, True), answer)
        good = self.post("/v1/search", {"queries": [{"image": huge}, {"image": self.picture(2)}], "k": 1})["results"]
        self.assertEqual((good[0]["status"], good[1]["hits"][0]["id"]), (400, 2))
        self.assert_memory(300)

    def test_compacted_meanwhile(self):
        self.start()
        wrong = []

        def asks():
            while not self.over.is_set():
                status, _, answer = self.ask("POST", "/v1/search", {"text": "thing number 3", "k": 2})
                if status != 200 or answer["hits"][0]["caption"] != "thing number 3":
                    wrong.append(answer)

        def adds(first):
            number = first
            while not self.over.is_set():
                number += 1
                status, _, answer = self.ask("POST", "/v1/pairs", {"pairs": [self.pair(number)]})
                if status == 200:
                    status, _, answer = self.ask("DELETE", "/v1/pairs", {"ids": answer["ids"]})
                if status not in (200, 503):
                    wrong.append(answer)

        for work in ((asks,), (asks,), (adds, 2000)):
            self.also(*work)
        for _ in range(8):
            self.reco("bank", "compact", "shop.bank")
            self.reco("bank", "index", "shop.bank")
        self.join()
        self.assertEqual(wrong, [])
        self.search()
        self.assertIn("whole", self.reco("bank", "verify", "shop.bank").stdout)

    def test_all_at_once(self):
        """Whatever can be asked, from several clients, while the layer is read anew and another process writes (for ThreadSanitizer, too)."""
        self.reco("train", "--bank", "shop.bank", "--out", "f.safetensors", "--steps", "3", "--refine", "both")
        (self.dir / "tokens").write_text("alice 0123456789abcdef\n")
        self.start("--fusion", "f.safetensors", "--token-file", "tokens", "--threads", "1")
        who, wrong = {"Authorization": "Bearer 0123456789abcdef"}, []

        def asks(seed):
            rng = random.Random(seed)
            while not self.over.is_set():
                number = rng.randrange(10 ** 9)
                method, path, body = rng.choice([
                    ("POST", "/v1/search", {"text": "thing number 3", "in": "image", "explain": True}),
                    ("POST", "/v1/search", {"queries": [{"image": self.picture(2)}, {"id": 3}], "in": "text", "where": f"id < {number % 5 + 3}"}),
                    ("POST", "/v1/classify", {"image": self.picture(4), "classes": ["thing number 4", f"thing {number % 3}"]}),
                    ("POST", "/v1/refine", {"text": "thing"}), ("POST", "/v1/embeddings", {"input": ["a", "b"]}),
                    ("POST", "/knn-service", {"text": "thing", "num_images": 3}),
                    ("GET", f"/v1/pairs?from={number % 9}", None), ("GET", "/v1/banks", None), ("GET", "/metrics", None), ("GET", "/v1/facets", None),
                    ("GET", f"/v1/pictures?id={number % 12}&edge=16", None), ("POST", "/v1/reload", None),
                    ("POST", "/v1/pairs", {"pairs": [self.pair(number)]})])
                status, _, answer = self.ask(method, path, body, who)
                if path == "/v1/pairs" and method == "POST" and status == 200:
                    status, _, answer = self.ask("DELETE", path, {"ids": answer["ids"]}, who)
                if status not in (200, 202, 503):
                    wrong.append((path, answer))

        for seed in range(4):
            self.also(asks, seed)
        for _ in range(4):
            self.reco("bank", "compact", "shop.bank", "--wait", "30")
            time.sleep(0.5)
        self.join()
        self.assertEqual(wrong, [])
        self.assertEqual(self.stop(), 0)

    def test_urls_that_lead_astray(self):
        """Private addresses are refused under every name, and hosts that were not named are not asked."""
        self.start()
        self.assertIn("does not fetch pictures", self.post("/v1/search", {"image_url": "http://example.org/"}, 400)["error"])
        self.stop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            self.start("--fetch-hosts", f"localhost:{port},127.0.0.1:{port},[::1]:{port},2130706433:{port},none.invalid")
            for url, says in ((f"http://localhost:{port}/x.png", "private address"), (f"http://127.0.0.1:{port}/", "private address"),
                              (f"http://2130706433:{port}/", ""), (f"http://[::1]:{port}/", "private address"),
                              (f"http://127.1:{port + 1}/", "fetching from its host"), ("http://example.org/", "fetching from its host"), ("file:///etc/passwd", "")):
                self.assertIn(says, self.post("/v1/search", {"image_url": url, "k": 1}, 400)["error"], url)
                self.post("/knn-service", {"image_url": url, "modality": "image", "num_images": 1}, 400)
                self.post("/v1/embeddings", {"input": [url], "modality": "image"}, 400)
            listener.settimeout(0.2)
            with self.assertRaises(TimeoutError):
                listener.accept()
        self.assertEqual(self.stop(), 0)

    def test_urls(self):
        """In a network of its own, in which this machine has a public address."""
        if not os.environ.get("RECO_TEST_NETWORK"):
            inside = ["sh", "-c", 'ip link set lo up && ip addr add 9.9.9.9/32 dev lo && exec "$@"', "sh"]
            if not shutil.which("ip") or subprocess.run(["unshare", "-rn", *inside, "true"], stderr=subprocess.DEVNULL).returncode:
                self.skipTest("SKIPPED: no right to make a network")
            done = subprocess.run(["unshare", "-rn", *inside, sys.executable, "-B", __file__, "Hard.test_urls"], stderr=subprocess.PIPE, text=True,
                                  env={**os.environ, "RECO_TEST_NETWORK": "1"})
            self.assertEqual(done.returncode, 0, done.stderr)
            return
        folder = self.dir / "p"

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=folder)

            def log_message(self, *args):
                pass

        web = http.server.ThreadingHTTPServer(("9.9.9.9", 0), Quiet)
        self.also(web.serve_forever)
        self.addCleanup(web.server_close)
        self.start("--fetch-hosts", f"9.9.9.9:{web.server_port}")
        url = f"http://9.9.9.9:{web.server_port}/%s"
        try:
            hits = self.post("/v1/search", {"queries": [{"image_url": url % "4.png"}, {"image_url": url % "none.png"}, {"image": self.picture(5)}], "k": 1})
            self.assertEqual([r["hits"][0]["id"] if "hits" in r else r["error"].split(": ")[-1] for r in hits["results"]], [4, "HTTP 404", 5])
            self.assertEqual(self.post("/knn-service", {"image_url": url % "7.png", "modality": "image", "num_images": 1})[0]["id"], 7)
            near = self.post("/v1/embeddings", {"input": [url % "7.png", "data:image/png;base64," + self.picture(7)], "modality": "image"})["data"]
            self.assertEqual(near[0]["embedding"], near[1]["embedding"])
        finally:
            web.shutdown()

    def test_another_bank_in_its_place(self):
        self.start()
        self.reco("bank", "build", "--model", MODEL, "--pairs", self.pairs(3), "--out", "other.bank")
        (self.dir / "shop.bank").rename(self.dir / "old.bank")
        self.search()
        (self.dir / "other.bank").rename(self.dir / "shop.bank")
        for _ in range(100):
            hits = self.post("/v1/search", {"text": "thing number 3"})["hits"]
            if len(hits) == 3:
                break
            time.sleep(0.1)
        self.assertEqual(len(hits), 3)


if __name__ == "__main__":
    unittest.main()
