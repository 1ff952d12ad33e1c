"""A training step of the paper's layer beside torch: the two take turns, and the ratio of medians is printed.

usage: train.py [--batch B] [-k K] [--d D] [--threads T] [--pairs P]

Both begin with the same weights and take the same steps: the losses of both are compared. Exit code 1 when a ratio is below
what is wanted, or the losses differ."""
import argparse
import json
import os
import statistics
import subprocess
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
CACHE = os.path.join(os.environ.get("RECO_BENCH_CACHE", os.path.join(ROOT, ".cache", "bench")), "train")
WANTED = {"full": 4, "token0": 1.5}


def data(b, k, d):
    """Random unit rows: a pair shares a direction, and so do its neighbours."""
    rng = np.random.default_rng(1)
    unit = lambda x: (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
    os.makedirs(CACHE, exist_ok=True)
    shared = rng.standard_normal((b, d))
    for side in range(2):
        x = unit(0.5 * shared + rng.standard_normal((b, d)))
        x.tofile(os.path.join(CACHE, f"x{side}"))
        unit(0.5 * shared[:, None] + rng.standard_normal((b, k, d))).tofile(os.path.join(CACHE, f"r{side}"))


class Worker:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = json.loads(self.process.stdout.readline())

    def step(self):
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        return self.process.wait()


def compare(a, layer):
    shape = [CACHE, str(a.batch), str(a.k), str(a.d), str(a.threads)]
    ours = Worker([os.path.join(ROOT, "build", "bench", "train"), *shape])
    peer = Worker([sys.executable, os.path.join(HERE, "peers", "torch_train.py"), *shape, layer])
    steps = [(ours.step(), peer.step()) for _ in range(2 + a.pairs)]
    ours.close(), peer.close()
    apart = max(abs(o["loss"] - p["loss"]) / p["loss"] for o, p in steps)
    t, p = ([pair[i]["seconds"] for pair in steps[2:]] for i in (0, 1))
    ratio = statistics.median(p) / statistics.median(t)
    print(json.dumps({"case": layer, "batch": a.batch, "k": a.k, "d": a.d, "threads": a.threads, "isa": ours.about["isa"],
                      "seconds": round(statistics.median(t), 4), "least": round(min(t), 4),
                      "torch": round(statistics.median(p), 4), "torch_least": round(min(p), 4), "ratio": round(ratio, 2),
                      "wanted": WANTED[layer], "losses_apart": float(f"{apart:.2g}"), "version": peer.about["torch"]}), flush=True)
    return ratio >= WANTED[layer] and apart < 1e-3


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pairs", type=int, default=9)
    a = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    data(a.batch, a.k, a.d)
    good = [compare(a, layer) for layer in WANTED]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
