"""Exact search beside faiss's IndexFlatIP: the two take turns, and the ratio of medians is printed.

usage: search.py [--kind K] [--rows N] [--d D] [--threads T] [--pairs P] [--grow [--draw FILE.svg]]

Rows are of one of the kinds of rows.py. --grow measures ours alone from 10,000 to 4,000,000 rows, time and memory beside
the mapped files (28 GB of disk at the end), and --draw has gnuplot draw it. Exit code 1 when a ratio is below what is wanted."""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np

import rows

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
CACHE = os.path.join(os.environ.get("RECO_BENCH_CACHE", os.path.join(ROOT, ".cache", "bench")), "search")
RECO = os.path.join(ROOT, "build", "cli", "reco")
NQ, K = 1024, 10
GROWTH = (10_000, 30_000, 100_000, 300_000, 1_000_000, 2_000_000, 4_000_000)


def data(kind, n, d, dtype=np.float16):
    folder = os.path.join(CACHE, f"{kind}-{n}-{d}-{np.dtype(dtype).name}")
    for name, side in (("img_emb/img_emb_0.npy", "image"), ("text_emb/text_emb_0.npy", "text")):
        if not os.path.exists(os.path.join(folder, name)):
            rows.write(os.path.join(folder, name), kind, n, d, 1, dtype, side)
    if not os.path.exists(os.path.join(folder, "queries.f32")):
        rows.Source(kind, d, 3).rows(NQ).astype(np.float32).tofile(os.path.join(folder, "queries.f32"))
    return folder


class Worker:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = json.loads(self.process.stdout.readline())

    def ask(self, line, what="seconds"):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline()).get(what)

    def close(self):
        self.process.stdin.close()
        return self.process.wait()


def bank_of(folder):
    return folder + ".bank"  # beside the embeddings: within them it would be output in an input


def build(folder, threads):
    """Seconds, and the most memory that it took beside mapped files."""
    shutil.rmtree(bank_of(folder), ignore_errors=True)
    start, most = time.perf_counter(), 0
    process = subprocess.Popen([RECO, "bank", "build", "--embeddings", folder, "--out", bank_of(folder), "--threads",
                                str(threads), "--quiet"], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        most = max(most, anonymous_mb(process.pid))
        time.sleep(0.005)
    if process.returncode: sys.exit(f"bank build: exit code {process.returncode}")
    return time.perf_counter() - start, most


def anonymous_mb(pid):
    """Resident memory that is no mapped file; 0 when the process has ended."""
    try:
        with open(f"/proc/{pid}/status") as f:
            return max([int(line.split()[1]) / 1024 for line in f if line.startswith("RssAnon")], default=0)
    except OSError:
        return 0


def ours(folder, threads):
    return Worker([os.path.join(ROOT, "build", "bench", "search"), bank_of(folder),
                   os.path.join(folder, "queries.f32"), str(NQ), str(K), str(threads)])


def recall(folder, d, worker):
    """Of the stored f16 rows, by float64 brute force of all queries: ids equal but for ties."""
    queries = np.fromfile(os.path.join(folder, "queries.f32"), np.float32).reshape(NQ, d).astype(np.float64)
    worker.ask("all")
    path = os.path.join(folder, "ids.i64")
    worker.ask("save " + path)
    ids = np.fromfile(path, np.int64).reshape(NQ, K)
    x = np.load(os.path.join(folder, "img_emb", "img_emb_0.npy"), mmap_mode="r")
    n, best = x.shape[0], []
    for i in range(0, n, 20000):
        block = x[i : i + 20000].astype(np.float64)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        # as the bank rounds: unit in f32, then f16
        block = block.astype(np.float32).astype(np.float16).astype(np.float64)
        s = queries @ block.T
        top = np.argpartition(-s, K, axis=1)[:, :K]
        best.append((np.take_along_axis(s, top, 1), top + i))
    scores = np.concatenate([b[0] for b in best], 1)
    found = np.concatenate([b[1] for b in best], 1)
    order = np.argsort(-scores, axis=1, kind="stable")
    same, bad = 0, 0
    for q in range(NQ):
        want = set(found[q, order[q, :K]].tolist())
        least = scores[q, order[q, K - 1]]
        have = dict(zip(found[q].tolist(), scores[q].tolist()))
        missing = [i for i in ids[q].tolist() if i not in want]
        bad += sum(1 for i in missing if have.get(i, -1) < least - 1e-6)
        same += K - len(missing)
    return same / (NQ * K), bad


def grow(a):
    table = []
    for n in GROWTH:
        folder = data(a.kind, n, a.d)
        seconds, memory = build(folder, a.threads)
        w = ours(folder, a.threads)
        w.ask("all")
        many = statistics.median(w.ask("all") for _ in range(3))
        one = statistics.median(w.ask(f"one {i}") for i in range(20))
        table.append({"rows": n, "d": a.d, "build_s": round(seconds, 3), "all_s": round(many, 4), "one_s": round(one, 5),
                     "build_mb": round(memory, 1), "search_mb": round(anonymous_mb(w.process.pid), 1)})
        w.close()
        print(json.dumps(table[-1]), flush=True)
        shutil.rmtree(folder)
    if a.draw: draw(table, a.draw)
    return 0


def draw(table, path):
    lines = "".join(" ".join(str(row[key]) for key in ("rows", "build_s", "all_s", "one_s", "build_mb", "search_mb")) + "\n"
                    for row in table)
    subprocess.run(["gnuplot", "-e", f"out='{path}'", os.path.join(HERE, "growth.gp")], input=lines, text=True, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kind", choices=rows.KINDS, default="mixture")
    parser.add_argument("--rows", type=int, default=500000)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--grow", action="store_true")
    parser.add_argument("--draw", metavar="FILE.svg")
    a = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if a.draw and not shutil.which("gnuplot"): parser.error("--draw needs gnuplot")
    if a.grow: return grow(a)
    folder = data(a.kind, a.rows, a.d, np.float32)
    peer = Worker([sys.executable, os.path.join(HERE, "peers", "faiss_search.py"),
                   os.path.join(folder, "img_emb", "img_emb_0.npy"), os.path.join(folder, "queries.f32"), str(NQ),
                   str(K), str(a.threads)])
    print(json.dumps(peer.about))
    times = {"build": ([], [])}
    for _ in range(2):
        times["build"][0].append(build(folder, a.threads)[0])
        times["build"][1].append(peer.ask("build " + os.path.join(folder, "peer.index")))
    os.remove(os.path.join(folder, "peer.index"))
    w = ours(folder, a.threads)
    print(json.dumps(w.about))
    for case, lines in (("all", ["all"] * a.pairs), ("filter", ["filter"] * a.pairs),
                        ("one", [f"one {i}" for i in range(100)])):
        w.ask(lines[0]), peer.ask(lines[0])
        pairs = [(w.ask(line), peer.ask(line)) for line in lines]
        times[case] = ([p[0] for p in pairs], [p[1] for p in pairs])
    peer.close()
    amx = "amx_int8" in open("/proc/cpuinfo").read()
    failed = False
    for case, want in (("all", 8 if amx else 3), ("one", 3), ("filter", 3), ("build", 0.5)):
        t, p = (statistics.median(x) for x in times[case])
        failed |= p / t < want
        print(json.dumps({"case": case, "kind": a.kind, "rows": a.rows, "d": a.d, "k": K, "threads": a.threads, "seconds": round(t, 5),
                          "least": round(min(times[case][0]), 5), "faiss": round(p, 5),
                          "faiss_least": round(min(times[case][1]), 5), "ratio": round(p / t, 2), "wanted": want}))
    share, bad = recall(folder, a.d, w)
    failed |= bad > 0
    print(json.dumps({"case": "recall", "same_ids": share, "worse_than_ties": bad}))
    start = time.perf_counter()
    first = os.path.join(folder, "one.npy")
    np.save(first, np.fromfile(os.path.join(folder, "queries.f32"), np.float32).reshape(NQ, a.d)[:1])
    shell = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([RECO, "search", "--bank", bank_of(folder), "--queries", first, "--side", "image",
                        "--out", os.path.join(folder, "hits"), "--threads", str(a.threads), "--quiet"], check=True,
                       capture_output=True)
        shell.append(time.perf_counter() - start)
    failed |= statistics.median(shell) >= 0.3 or w.about["open_seconds"] >= 0.05
    print(json.dumps({"case": "shell", "seconds": round(statistics.median(shell), 4), "wanted": 0.3,
                      "open_seconds": w.about["open_seconds"], "open_wanted": 0.05}))
    w.close()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
