"""reco serve under load: 64 clients ask with vectors, beside one-by-one calls of the library on one thread, and beside Flask over a
flat index of faiss, as clip-retrieval serves.

usage: serve.py [--kind K] [--rows N] [--d D] [--clients C] [--seconds S] [--rounds R] [--threads T] [--minutes M | --texts DATA --infinity PYTHON]

Prints requests a second, the median and 99th percentile of the time to an answer, the server's memory, and the ratios of medians over the
rounds, in which all take turns. --minutes: ours alone for so long, and its memory after one minute and at the end. --texts: searches by
text with the model of bench/models.py in DATA, beside infinity, which PYTHON has, and which embeds alone. Exit code 1 when a ratio is
below what is wanted."""
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

import rows
import search

WANTED = {"infinity": 3, "library": 5, "flask": 5, "p99/p50": 5}
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
    for _ in range(3000):
        try:
            urllib.request.urlopen(url).read()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if process.poll() is not None: sys.exit("a server did not start")
            time.sleep(0.1)
    sys.exit("a server did not start")


def wrk_script(folder, name, bodies):
    lines = os.path.join(folder, name + ".jsonl")
    with open(lines, "w") as f: f.writelines(json.dumps(body) + "\n" for body in bodies)
    script = os.path.join(folder, name + ".lua")
    with open(script, "w") as f: f.write(LUA % lines)
    return script


def serve(temp, bank, threads, *more):
    """The process and its address."""
    port = os.path.join(temp, "port")
    server = subprocess.Popen([search.RECO, "serve", "--bank", bank, "--listen", "0", "--port-file", port, "--quiet",
                               "--threads", str(threads), *more])
    for _ in range(600):
        if os.path.exists(port) and os.path.getsize(port): break
        time.sleep(0.1)
    url = f"http://127.0.0.1:{open(port).read().strip()}"
    wait_for(url + "/health", server)
    return server, url


def last(a, temp, bank, script):
    """Memory over minutes."""
    server, url = serve(temp, bank, a.threads)
    seen = []
    try:
        for minute in range(1, a.minutes + 1):
            result = load(url + "/v1/search", script, a.clients, 60)
            seen.append(search.anonymous_mb(server.pid))
            print(json.dumps({"minute": minute, **result, "memory_mb": round(seen[-1], 1)}), file=sys.stderr, flush=True)
    finally:
        server.terminate()
    print(f"{a.rows:,} x {a.d}, {a.clients} clients: memory {seen[0]:.1f} MB after 1 minute, {seen[-1]:.1f} MB after {a.minutes}")
    return seen[-1] > 1.1 * seen[0] + 4


def texts(a, temp, bank):
    """Searches by text, and embeddings of texts, beside infinity's embeddings."""
    model = os.path.join(a.texts, "vit-b-32")
    captions = open(os.path.join(a.texts, "captions.txt")).read().splitlines()
    scripts = {"search": wrk_script(temp, "search", ({"text": c, "in": "image", "k": search.K} for c in captions)),
               "embed": wrk_script(temp, "embed", ({"model": "m", "input": [c]} for c in captions))}
    server, url = serve(temp, bank, a.threads, "--model", model)
    peer = subprocess.Popen([os.path.join(os.path.dirname(a.infinity), "infinity_emb"), "v2", "--model-id", model, "--engine", "torch", "--device", "cpu",
                             "--port", "18766", "--served-model-name", "m", "--no-bettertransformer", "--no-model-warmup"],
                            env={**os.environ, "OMP_NUM_THREADS": str(a.threads), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"},
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rounds = []
    try:
        wait_for("http://127.0.0.1:18766/health", peer)
        for r in range(a.rounds + 1):  # the first warms up
            result = {"search": load(url + "/v1/search", scripts["search"], a.clients, a.seconds),
                      "embed": load(url + "/v1/embeddings", scripts["embed"], a.clients, a.seconds),
                      "infinity": load("http://127.0.0.1:18766/embeddings", scripts["embed"], a.clients, a.seconds)}
            if r: rounds.append(result)
            print(json.dumps(result), file=sys.stderr, flush=True)
    finally:
        server.terminate()
        peer.terminate()
    rate = {name: statistics.median(r[name]["rate"] for r in rounds) for name in ("search", "embed", "infinity")}
    print(f"texts, {a.clients} clients: reco {rate['search']:.0f} searches/s of {a.rows:,} rows, {rate['embed']:.0f} embeddings/s; "
          f"infinity {rate['infinity']:.0f} embeddings/s")
    ratios = sorted(r["search"]["rate"] / r["infinity"]["rate"] for r in rounds)
    ratio = statistics.median(ratios)
    print(f"reco's searches / infinity: {ratio:.1f} [{WANTED['infinity']}], {ratios[0]:.1f} to {ratios[-1]:.1f} in {len(ratios)} rounds; "
          f"embeddings alone {statistics.median(r['embed']['rate'] / r['infinity']['rate'] for r in rounds):.1f}")
    return ratio < WANTED["infinity"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--kind", choices=rows.KINDS, default="mixture")
    parser.add_argument("--minutes", type=int)
    parser.add_argument("--texts")
    parser.add_argument("--infinity")
    a = parser.parse_args()
    folder = search.data(a.kind, a.rows, a.d, np.float16)
    bank = search.bank_of(folder)
    if not os.path.exists(os.path.join(bank, "bank.sqlite")): search.build(folder, a.threads)
    queries = np.fromfile(os.path.join(folder, "queries.f32"), np.float32).reshape(search.NQ, a.d)
    short = [[round(float(x), 7) for x in q] for q in queries]
    with tempfile.TemporaryDirectory() as temp:
        if a.texts: return texts(a, temp, bank)
        scripts = {"reco": wrk_script(temp, "reco", ({"vector": q, "side": "image", "k": search.K} for q in short)),
                   "flask": wrk_script(temp, "flask", ({"embedding_input": q, "num_result_ids": search.K} for q in short))}
        if a.minutes: return last(a, temp, bank, scripts["reco"])
        server, ours = serve(temp, bank, a.threads)
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
