"""reco serve under load: 64 clients ask with vectors, beside one-by-one calls of the library on one thread, and beside Flask over a
flat index of faiss, as clip-retrieval serves.

usage: serve.py [--rows N] [--d D] [--clients C] [--seconds S] [--rounds R] [--threads T]

Prints requests a second, the median and 99th percentile of the time to an answer, the server's memory, and the ratios of medians over the
rounds, in which all three take turns. Exit code 1 when a ratio is below what is wanted."""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import numpy as np

import search

WANTED = {"library": 5, "flask": 5, "p99/p50": 5}
LUA = """
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local i = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function()
  i = i %% #bodies + 1
  return wrk.format(nil, nil, nil, bodies[i])
end
"""


def unit(text):
    """Milliseconds of wrk's "12.34ms", "1.20s", "900.00us"."""
    value, kind = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[kind]


def load(url, script, clients, seconds):
    done = subprocess.run(["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", "--timeout", "30s", "-s", script, url],
                          stdout=subprocess.PIPE, text=True, check=True).stdout
    if re.search(r"Non-2xx|Socket errors", done): sys.exit(done)
    return {"rate": float(re.search(r"Requests/sec:\s+([\d.]+)", done)[1]),
            **{name: unit(re.search(rf"^ +{name[1:]}%\s+(\S+)", done, re.MULTILINE)[1]) for name in ("p50", "p99")}}


def wait_for(url, process):
    for _ in range(1200):
        try:
            urllib.request.urlopen(url).read()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if process.poll() is not None: sys.exit("a server did not start")
            time.sleep(0.1)
    sys.exit("a server did not start")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    a = parser.parse_args()
    folder = search.data(a.rows, a.d, np.float16)
    bank = search.bank_of(folder)
    if not os.path.exists(os.path.join(bank, "bank.sqlite")): search.build(folder, a.threads)
    queries = np.fromfile(os.path.join(folder, "queries.f32"), np.float32).reshape(search.NQ, a.d)
    with tempfile.TemporaryDirectory() as temp:
        scripts = {}
        for name, body in (("reco", lambda q: {"vector": q, "side": "image", "k": search.K}),
                           ("flask", lambda q: {"embedding_input": q, "num_result_ids": search.K})):
            with open(os.path.join(temp, name + ".jsonl"), "w") as f:
                for q in queries: f.write(json.dumps(body([round(float(x), 7) for x in q])) + "\n")
            scripts[name] = os.path.join(temp, name + ".lua")
            with open(scripts[name], "w") as f: f.write(LUA % (os.path.join(temp, name + ".jsonl")))
        port = os.path.join(temp, "port")
        server = subprocess.Popen([search.RECO, "serve", "--bank", bank, "--listen", "0", "--port-file", port, "--quiet",
                                   "--threads", str(a.threads)])
        for _ in range(600):
            if os.path.exists(port) and os.path.getsize(port): break
            time.sleep(0.1)
        ours = f"http://127.0.0.1:{open(port).read().strip()}"
        wait_for(ours + "/health", server)
        peer = subprocess.Popen([sys.executable, os.path.join(search.HERE, "peers", "faiss_flask.py"),
                                 os.path.join(folder, "img_emb", "img_emb_0.npy"), "18765", str(a.threads)],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("http://127.0.0.1:18765/", peer)
        library = search.Worker([os.path.join(search.ROOT, "build", "bench", "search"), bank,
                                 os.path.join(folder, "queries.f32"), str(search.NQ), str(search.K), "1"])
        rounds, before = [], None
        try:
            for r in range(a.rounds + 1):  # the first warms up
                one = [library.ask(f"one {i % search.NQ}") for i in range(r * 64, r * 64 + 64)]
                result = {"reco": load(ours + "/v1/search", scripts["reco"], a.clients, a.seconds),
                          "flask": load("http://127.0.0.1:18765/knn-service", scripts["flask"], a.clients, a.seconds),
                          "library": {"rate": len(one) / sum(one)}}
                memory = search.anonymous_mb(server.pid)
                before = before or memory
                if r: rounds.append(result)
                print(json.dumps({**result, "memory_mb": round(memory, 1)}), file=sys.stderr, flush=True)
        finally:
            server.terminate()
            peer.kill()
            library.close()
    rate = {name: statistics.median(r[name]["rate"] for r in rounds) for name in ("reco", "flask", "library")}
    p50, p99 = (statistics.median(r["reco"][p] for r in rounds) for p in ("p50", "p99"))
    print(f"{a.rows:,} x {a.d}, {a.clients} clients: reco {rate['reco']:.0f} requests/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms; "
          f"Flask and faiss {rate['flask']:.0f}; the library on one thread {rate['library']:.0f} searches/s")
    ratios = {"library": rate["reco"] / rate["library"], "flask": rate["reco"] / rate["flask"]}
    for name, ratio in ratios.items(): print(f"reco / {name}: {ratio:.1f} [{WANTED[name]}]")
    print(f"p99 / p50: {p99 / p50:.1f} [below {WANTED['p99/p50']}]; memory {before:.0f} -> {memory:.0f} MB")
    return any(ratio < WANTED[name] for name, ratio in ratios.items()) or p99 / p50 >= WANTED["p99/p50"]


if __name__ == "__main__":
    sys.exit(main())
