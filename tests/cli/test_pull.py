"""reco model pull against a small hub on the loopback, which can be told to misbehave."""
import hashlib
import http.server
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest

from common import MODEL, RECO, Case

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """Serves files of one model as the real one does: a list, small files itself, weights by a redirect to `cdn`."""
    daemon_threads = True

    def __init__(self, files, name="org/tiny"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.name, self.commit = files, name, COMMIT
        self.seen = []  # (path, headers) of every request
        self.cdn = None  # another Hub, for weights
        self.status = {}  # file or "list": an HTTP status instead
        self.cut = {}  # file: send so many bytes of the body, then close; once
        self.slow = 0  # seconds between pieces of a body
        self.redirect = None  # for weights: where to, whatever that is
        self.extra = {}  # file: headers more, or other ones
        self.siblings = None
        self.listed = {}  # file: what the list says of it
        self.revision = "main"
        self.plain_etag = False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # clients that are killed

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def asked(self, file):
        return [headers for path, headers in self.seen if path.endswith("/" + file)]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def refuse(self, status, headers=()):
        body = b"<html>no</html>"
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        hub = self.server
        hub.seen.append((self.path, dict(self.headers)))
        if self.path == f"/api/models/{hub.name}/revision/{hub.revision}":
            if "list" in hub.status:
                return self.refuse(hub.status["list"])
            names = hub.siblings if hub.siblings is not None else sorted(hub.files)
            body = json.dumps({"id": hub.name, "sha": hub.commit, "siblings": [{"rfilename": n, **hub.listed.get(n, {})} for n in names]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return None
        prefix = f"/{hub.name}/resolve/{hub.revision}/"
        file = self.path[len(prefix):] if self.path.startswith(prefix) else self.path[1:]
        if file in hub.status:
            return self.refuse(hub.status[file])
        if file not in hub.files:
            return self.refuse(404)
        data = hub.files[file]
        linked = [("X-Linked-Etag", f'"{hashlib.sha256(data).hexdigest()}"'), ("X-Linked-Size", str(len(data))),
                  ("X-Repo-Commit", hub.commit)]
        if file.endswith(".safetensors") and (hub.cdn or hub.redirect):
            return self.refuse(302, [("Location", hub.redirect or f"{hub.cdn.url}/{file}"), *linked])
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        etag = '"v-%s"' % hashlib.md5(data).hexdigest() if hub.plain_etag or self.path == "/" + file else f'"{blob}"'
        headers = {"ETag": etag, "X-Repo-Commit": hub.commit, **hub.extra.get(file, {})}
        start = 0
        asked = self.headers.get("Range")
        if asked and self.headers.get("If-Range") == headers["ETag"]:
            start = int(asked[len("bytes="):-1])
            if start >= len(data):
                return self.refuse(416, [("Content-Range", f"bytes */{len(data)}")])
            self.send_response(206)
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        else:
            self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        body = data[start:]
        if file in hub.cut:
            self.wfile.write(body[:hub.cut.pop(file)])
            self.wfile.flush()
            self.close_connection = True
            return None
        for i in range(0, len(body), 4096):
            self.wfile.write(body[i:i + 4096])
            if hub.slow:
                self.wfile.flush()
                time.sleep(hub.slow)
        return None


class Pull(Case):
    def setUp(self):
        super().setUp()
        self.files = {p.name: p.read_bytes() for p in MODEL.iterdir()}
        self.files["README.md"] = b"# tiny\n"
        self.hub = self.start(self.files | {"pytorch_model.bin": b"x" * 100, "onnx/model.onnx": b"y", ".gitattributes": b"z"})

    def start(self, files):
        hub = Hub(files)
        self.addCleanup(hub.server_close)
        self.addCleanup(hub.shutdown)
        return hub

    def environment(self, **more):
        kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("HF_")}
        return kept | {"HF_ENDPOINT": self.hub.url} | more

    def run_raw(self, *arguments, **options):
        return subprocess.run([RECO, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              cwd=self.dir, timeout=600, env=self.environment(**options.get("env", {})))

    def pull(self, *more, **options):
        return self.json("model", "pull", "org/tiny", "--out", "m", "--quiet", *more, **options)

    def pull_fails(self, *more, says=(), env=None):
        done = self.run_raw("model", "pull", "org/tiny", "--out", "m", "--quiet", *more, env=env or {})
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for word in says:
            self.assertIn(word, done.stderr)
        self.assertFalse((self.dir / "m").exists())

    def assert_whole(self):
        got = {p.name: p.read_bytes() for p in (self.dir / "m").iterdir() if p.name != "reco-pull.json"}
        self.assertEqual(got, self.files)
        self.assertFalse((self.dir / "m.partial").exists())

    def test_success(self):
        result = self.pull()
        self.assert_whole()
        self.assertEqual((result["files"], result["verified"], result["kept"], result["already"]), (7, 7, 0, False))
        self.assertEqual((result["commit"], result["bytes"]), (COMMIT, sum(map(len, self.files.values()))))
        self.assertEqual(result["received"], result["bytes"])
        self.assertEqual(self.json("model", "info", "m")["fingerprint"], self.json("model", "info", MODEL)["fingerprint"])
        record = json.loads((self.dir / "m/reco-pull.json").read_text())
        self.assertEqual((record["name"], record["commit"], sorted(record["files"])), ("org/tiny", COMMIT, sorted(self.files)))
        before = len(self.hub.seen)
        again = self.pull()
        self.assertEqual((again["already"], again["received"], again["files"], again["verified"]), (True, 0, 7, 7))
        self.assertEqual(len(self.hub.seen), before + 1)  # the list alone
        for name in self.files:  # cut, changed and removed since
            path, whole = self.dir / "m" / name, self.files[name]
            for harm in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), None):
                path.unlink() if harm is None else path.write_bytes(harm)
                self.fails("model", "pull", "org/tiny", "--out", "m", says=[f"m/{name}: has changed since it was pulled"])
            path.write_bytes(whole)
        self.assertTrue(self.pull()["already"])
        self.hub.commit = "f" * 40
        self.fails("model", "pull", "org/tiny", "--out", "m", says=["holds org/tiny at 0123456789ab"])

    def test_text_and_help(self):
        done = self.reco("model", "pull", "org/tiny", "--out", "m")
        self.assertIn("7 files of org/tiny", done.stdout)
        self.assertIn("is already in m", self.reco("model", "pull", "org/tiny", "--out", "m").stdout)
        self.assertIn("HF_TOKEN", self.reco("model", "pull", "--help").stdout)
        self.reco("model", "pull", "org/tiny", code=2)
        self.reco("model", "pull", "--out", "m", code=2)

    def test_revision(self):
        self.hub.revision = "refs%2Fpr%2F1"
        self.pull("--revision", "refs/pr/1")
        self.assert_whole()

    def test_redirect_without_the_token(self):
        self.hub.cdn = self.start(self.files)
        result = self.pull(env={"HF_TOKEN": "hf_secret"})
        self.assert_whole()
        self.assertEqual(result["verified"], 7)
        self.assertTrue(all(h.get("Authorization") == "Bearer hf_secret" for _, h in self.hub.seen))
        self.assertEqual([p for p, _ in self.hub.cdn.seen], ["/model.safetensors"])
        self.assertFalse(any("secret" in str(h) for _, h in self.hub.cdn.seen))

    def test_redirects_that_are_refused(self):
        for where, words in (("file:///etc/passwd", ["file:///etc/passwd", "want https"]),
                             ("ftp://127.0.0.1/x", ["ftp://127.0.0.1/x"]),
                             (self.hub.url + "/org/tiny/resolve/main/model.safetensors", ["redirected more than 10 times"])):
            self.hub.redirect = where
            self.pull_fails(says=["model.safetensors", *words])
            shutil.rmtree(self.dir / "m.partial")

    def test_cut_connection_goes_on(self):
        self.hub.cdn = self.start(self.files)
        self.hub.cdn.cut["model.safetensors"] = 50000
        result = self.pull()
        self.assert_whole()
        self.assertEqual(result["resumed"], 50000)
        self.assertEqual(result["received"], result["bytes"])
        asked = self.hub.cdn.asked("model.safetensors")
        self.assertEqual([h.get("Range") for h in asked], [None, "bytes=50000-"])

    def killed_at(self, file, bytes_there):
        """Start a slow pull; kill it when so much of the file is there."""
        process = subprocess.Popen([RECO, "model", "pull", "org/tiny", "--out", "m", "--quiet"], cwd=self.dir, env=self.environment())
        end = time.monotonic() + 60
        path = self.dir / "m.partial" / (file + ".partial")
        while time.monotonic() < end and process.poll() is None:
            if path.exists() and path.stat().st_size >= bytes_there:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        self.assertEqual(process.wait(), -signal.SIGKILL)
        self.assertFalse((self.dir / "m").exists())
        return path.stat().st_size

    def test_kill_and_go_on(self):
        self.hub.slow = 0.02
        held = self.killed_at("model.safetensors", 20000)
        self.hub.slow = 0
        result = self.pull()
        self.assert_whole()
        self.assertEqual((result["resumed"], result["kept"]), (held, 6))
        self.assertEqual([h.get("Range") for h in self.hub.asked("model.safetensors")], [None, f"bytes={held}-"])
        self.assertEqual(len(self.hub.asked("config.json")), 1)

    def test_changed_file_between(self):
        self.hub.slow = 0.02
        self.killed_at("model.safetensors", 20000)
        self.hub.slow = 0
        self.files["model.safetensors"] = self.hub.files["model.safetensors"] = bytes(1000) + self.files["model.safetensors"]
        self.files["config.json"] = self.hub.files["config.json"] = self.files["config.json"] + b" "
        self.hub.commit = "a" * 40
        result = self.pull()
        self.assert_whole()
        self.assertEqual((result["resumed"], result["kept"], result["commit"]), (0, 0, "a" * 40))

    def test_kill_at_any_moment(self):
        self.hub.slow = 0.003
        for i in range(12):
            process = subprocess.Popen([RECO, "model", "pull", "org/tiny", "--out", "m", "--quiet"], cwd=self.dir,
                                       env=self.environment(), stdout=subprocess.DEVNULL)
            time.sleep(0.01 + 0.017 * i)
            process.send_signal(signal.SIGKILL)
            process.wait()
            if (self.dir / "m").exists():
                self.assert_whole()
                shutil.rmtree(self.dir / "m")
        self.hub.slow = 0
        self.pull()
        self.assert_whole()

    def test_killed_before_its_first_file_was_whole(self):
        (self.dir / "m.partial").mkdir()
        (self.dir / "m.partial/.reco-pull.json.tmp-x1").write_text("{")
        self.pull()
        self.assert_whole()
        self.assertEqual([], [f.name for f in (self.dir / "m").iterdir() if f.name.startswith(".")])

    def test_wrong_checksum(self):
        wrong = "0" * 64
        self.hub.extra["model.safetensors"] = {"X-Linked-Etag": f'"{wrong}"'}
        self.pull_fails(says=["org/tiny: model.safetensors", "sha256", wrong])
        self.assertFalse((self.dir / "m.partial/model.safetensors.partial").exists())
        shutil.rmtree(self.dir / "m.partial")
        self.hub.extra = {"vocab.json": {"ETag": f'"{"1" * 40}"'}}
        self.pull_fails(says=["org/tiny: vocab.json", "git hash", "1" * 40])
        self.hub.extra = {}
        self.pull()
        self.assert_whole()

    def test_without_checksums(self):
        self.hub.plain_etag = True
        result = self.pull()
        self.assert_whole()
        self.assertEqual(result["verified"], 0)

    def test_checksums_of_the_list(self):
        self.hub.plain_etag = True
        def told(name):
            data = self.files[name]
            if name.endswith(".safetensors"):
                return {"size": len(data), "blobId": "1" * 40, "lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}}
            return {"size": len(data), "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
        good = {name: told(name) for name in self.files}
        for name, key, value, word in (("model.safetensors", "lfs", {"sha256": "2" * 64}, "2" * 64), ("vocab.json", "blobId", "3" * 40, "3" * 40),
                                       ("merges.txt", "size", 7, "the hub lists 7")):
            self.hub.listed = good | {name: good[name] | {key: value}}
            self.pull_fails(says=[f"org/tiny: {name}", word])
            shutil.rmtree(self.dir / "m.partial")
        self.hub.listed = good
        result = self.pull()
        self.assert_whole()
        self.assertEqual(result["verified"], result["files"])

    def test_sizes_that_disagree(self):
        self.hub.extra["model.safetensors"] = {"X-Linked-Size": "5"}
        self.pull_fails(says=["model.safetensors", "the hub promised 5"])

    def test_refusals(self):
        self.hub.status["list"] = 401
        self.pull_fails(says=["org/tiny: HTTP 401", "HF_TOKEN"])
        self.hub.status["list"] = 403
        self.pull_fails(says=["org/tiny: HTTP 403", "HF_TOKEN"])
        self.hub.status["list"] = 404
        self.pull_fails(says=["org/tiny: HTTP 404"])
        self.hub.status = {"vocab.json": 404}
        self.pull_fails(says=["org/tiny: vocab.json: HTTP 404"])
        self.hub.status = {"model.safetensors": 403}
        self.pull_fails(says=["model.safetensors: HTTP 403", "HF_TOKEN"])
        shutil.rmtree(self.dir / "m.partial")
        self.hub.status = {"vocab.json": 503}
        self.pull_fails(says=["vocab.json: HTTP 503"])
        self.assertEqual(self.run_raw("model", "pull", "org/tiny", "--revision", "v2", "--out", "m").returncode, 1)

    def test_names_by_an_enemy(self):
        for name in ("../evil", "/etc/passwd", "a/../../b", "line\nbreak", "bell\x07", "a\\b", "", ".", "a//b"):
            self.hub.siblings = [*sorted(self.files), name]
            self.pull_fails(says=["org/tiny", "not a file name"])
        self.assertEqual([p.name for p in self.dir.iterdir()], [])
        for name in ("../m", "a/b/c", "org/", "/x", "-x", "a b", "org/..", "x?y"):
            done = self.run_raw("model", "pull", "--out", "m", "--", name)
            self.assertEqual(done.returncode, 1)
            self.assertIn("want ORG/NAME", done.stderr)

    def test_shards(self):
        for name in ("../model.safetensors", "/etc/passwd", "missing.safetensors", "config.json"):
            del self.hub.files["model.safetensors"]
            self.hub.files["model.safetensors.index.json"] = json.dumps({"weight_map": {"t": name}}).encode()
            self.pull_fails(says=["model.safetensors.index.json", "a shard is"])
            shutil.rmtree(self.dir / "m.partial")
            self.hub.files["model.safetensors"] = self.files["model.safetensors"]
        weights = self.hub.files.pop("model.safetensors")
        index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}).encode()
        self.hub.files |= {"model-1.safetensors": weights, "model-2.safetensors": weights[:1000], "model-3.safetensors": weights,
                           "model.safetensors.index.json": index}
        result = self.pull()
        self.assertEqual((result["files"], result["kept"]), (9, 0))
        self.assertEqual((self.dir / "m/model-1.safetensors").read_bytes(), weights)
        self.assertFalse((self.dir / "m/model-3.safetensors").exists())

    def test_open_clip_or_transformers(self):
        both = {"open_clip_config.json": b"{}", "open_clip_model.safetensors": b"o"}
        self.hub.files |= both
        self.pull()
        self.assert_whole()
        shutil.rmtree(self.dir / "m")
        self.hub.files["config.json"] = b'{"architecture": "vit"}'  # timm's
        self.pull()
        names = {p.name for p in (self.dir / "m").iterdir()}
        self.assertTrue(set(both) <= names)
        self.assertNotIn("model.safetensors", names)

    def test_no_safetensors(self):
        del self.hub.files["model.safetensors"]
        self.pull_fails(says=["org/tiny: the hub has no model.safetensors", "only safetensors"])
        self.hub.files = {"a.bin": b""}
        self.hub.files["README.md"] = b""
        self.pull_fails(says=["neither config.json nor open_clip_config.json"])

    def test_what_is_in_the_way(self):
        (self.dir / "m").mkdir()
        (self.dir / "m/mine").write_text("x")
        self.fails("model", "pull", "org/tiny", "--out", "m", says=["m: exists"])
        (self.dir / "m/mine").unlink()
        self.pull()  # an empty folder is no loss
        self.assert_whole()
        shutil.rmtree(self.dir / "m")
        (self.dir / "m.partial").mkdir()
        (self.dir / "m.partial/mine").write_text("x")
        self.pull_fails(says=["m.partial: exists but does not belong to a pull"])

    def test_network(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            free = s.getsockname()[1]
        self.pull_fails(says=[str(free)], env={"HF_ENDPOINT": f"http://127.0.0.1:{free}"})
        self.pull_fails(says=["endpoint \"gopher://x\""], env={"HF_ENDPOINT": "gopher://x"})
        self.pull_fails(says=["token"], env={"HF_TOKEN": "two\nlines"})
        with socket.socket() as silent:  # accepts and says nothing
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            self.pull_fails("--timeout", "1", says=["no data for 1 seconds"],
                            env={"HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"})

    def test_disk_full(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        done = subprocess.run([RECO, "model", "pull", "org/tiny", "--out", "m"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, cwd=self.dir, env=self.environment(), preexec_fn=limit)
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)
        self.assertIn("File too large", done.stderr)
        self.pull()
        self.assert_whole()


if __name__ == "__main__":
    unittest.main()
