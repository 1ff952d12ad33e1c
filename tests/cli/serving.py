"""What the tests of reco serve share: a bank of twelve pictures, a server on a port of its own, and how it is asked."""
import base64
import http.client
import json
import os
import signal
import subprocess
import time

from common import MODEL, RECO, Case, png

SERVER = os.environ.get("RECO_TEST_SERVER", RECO)  # of another build, with a sanitizer say


class Serving(Case):
    N = 12

    def setUp(self):
        super().setUp()
        (self.dir / "p").mkdir()
        rows = []
        for i in range(self.N):
            png(self.dir / f"p/{i}.png", i)
            rows.append({"image": f"{i}.png", "text": f"thing number {i}", "price": i / 10, "when": 1732752000.123456})
        (self.dir / "p/pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.reco("bank", "build", "--model", MODEL, "--pairs", "p/pairs.jsonl", "--out", "shop.bank")
        self.server = None

    def tearDown(self):
        if self.server and self.server.poll() is None:
            self.stop()
        super().tearDown()

    def start(self, *args, host="127.0.0.1", bank="shop.bank"):
        port = self.dir / "port"
        port.unlink(missing_ok=True)
        self.log = open(self.dir / "log", "wb")
        self.server = subprocess.Popen([SERVER, "serve", "--model", str(MODEL), "--bank", str(bank), "--listen", f"{host}:0",
                                        "--port-file", "port", *map(str, args)], cwd=self.dir, stderr=self.log)
        for _ in range(600):
            if port.exists() and port.read_text().endswith("\n"):
                break
            self.assertIsNone(self.server.poll(), (self.dir / "log").read_text())
            time.sleep(0.05)
        self.port = int(port.read_text())

    def stop(self, how=signal.SIGTERM):
        self.server.send_signal(how)
        code = self.server.wait(timeout=60)
        self.log.close()
        return code

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, answer)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        if response.headers["Content-Type"] == "application/json":
            content = json.loads(content)
        return response.status, response.headers, content

    def post(self, path, body, status=200, **headers):
        code, _, answer = self.ask("POST", path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        self.assertEqual(code, status, answer)
        return answer

    def picture(self, i):
        return base64.b64encode((self.dir / f"p/{i}.png").read_bytes()).decode()
