"""Approximate search beside other libraries' indexes: queries a second at a recall, 1,024 at once and one at a time; building, bytes, memory.

usage: ann.py [--kind K,...] [--rows N] [--d D] [--threads T] [--index NAME,...] [--cpu] [--limit MINUTES] [--json FILE]

Rows are of the kinds of rows.py, queries others of the same kind; recall is of the 10 best of a float32 scan. Of each index the least
effort (cells, candidates, candidates that are scored again) on a ladder that reaches a recall is timed, in turns with reco, which is asked
for the recall itself. What can't be installed, doesn't run on this processor, or takes longer than the limit is named, with the reason."""
import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import rows
import search
from peers.ann_index import INDEXES

RECALLS = (0.9, 0.95, 0.99, 0.999)
NQ, K = search.NQ, search.K
MANY, ONES = 5, 100  # turns


class Failed(Exception):
    """A peer's, with the reason."""


def watched(process, until):
    """Wait for the process, or for what until() says is enough; the most memory that it took beside mapped files, in MB."""
    most = 0
    while not until():
        most = max(most, search.anonymous_mb(process.pid))
    return most


class Peer(search.Worker):
    """An index of a process of its own: what one does to its process is told, and the next begins with memory of its own."""

    def __init__(self, name, folder, a):
        self.end, self.errors = time.monotonic() + 60 * a.limit, tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(search.HERE, "peers", "ann_index.py"), name, os.path.join(folder, "img_emb", "img_emb_0.npy"),
             os.path.join(folder, "queries.f32"), str(NQ), str(K), str(a.threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.answer()
        before = search.anonymous_mb(self.process.pid)
        most = watched(self.process, lambda: select.select([self.process.stdout], [], [], 0.05)[0] or time.monotonic() > self.end)
        self.about = self.answer()
        self.about["memory_mb"] = most - before

    def answer(self):
        if not select.select([self.process.stdout], [], [], max(0, self.end - time.monotonic()))[0]:
            raise Failed("takes longer than the limit")
        line = self.process.stdout.readline()
        if line.startswith("{"): return json.loads(line)
        code = self.process.wait()
        self.errors.seek(0)
        said = [line, *self.errors.read().splitlines()]
        raise Failed(next((s.strip() for s in reversed(said) if s.strip()), f"ended with code {code}"))

    def ask(self, line, what="seconds"):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer().get(what)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.errors.close()


def make_lists(folder, a):
    """`bank index --lists auto` of both sides of a bank that is there: seconds, processor time, memory."""
    before, start = os.times(), time.perf_counter()
    process = subprocess.Popen([search.RECO, "bank", "index", search.bank_of(folder), "--lists", "auto", "--threads", str(a.threads), "--quiet"],
                               stdout=subprocess.DEVNULL)
    most = watched(process, lambda: process.poll() is not None or time.sleep(0.02))
    if process.returncode: sys.exit(f"bank index: exit code {process.returncode}")
    after = os.times()
    return {"seconds": time.perf_counter() - start, "memory_mb": most,
            "cpu": after.children_user + after.children_system - before.children_user - before.children_system,
            "bytes": os.path.getsize(os.path.join(search.bank_of(folder), "vectors", "lists.safetensors"))}


def exact(x, q):
    import faiss
    flat = faiss.IndexFlatIP(x.shape[1])
    flat.add(x)
    return flat.search(q, K)[1]


def share_found(worker, folder, truth):
    worker.ask("all")
    path = os.path.join(folder, "ids.i64")
    worker.ask("save " + path)
    ids = np.fromfile(path, np.int64).reshape(-1, K)
    return sum(len(set(x) & set(y)) for x, y in zip(ids.tolist(), truth.tolist())) / truth.size


def find_efforts(peer, folder, truth, clock):
    """By recall the settings that are fastest for all queries and for one at a time: {recall: {"all" or "one": (seconds, setting, share)}}"""
    found = {}
    for variant, efforts in enumerate(peer.about["efforts"]):
        wanted = list(RECALLS)
        for effort in efforts:
            setting = f"set {variant} {effort}"
            peer.ask(setting)
            got = share_found(peer, folder, truth)
            if not wanted or got < wanted[0]: continue
            took = {"all": peer.ask("all", clock), "one": statistics.median(peer.ask(f"one {i}", clock) for i in range(30))}
            while wanted and got >= wanted[0]:
                best = found.setdefault(wanted.pop(0), {})
                for case, seconds in took.items(): best[case] = min(best.get(case, (1e9,)), (seconds, setting, got))
            if not wanted: break
    return found


def take_turns(ours, peer, settings, case, lines, clock):
    """Queries a second of both, and the ratio of medians."""
    if peer: peer.ask(settings[case][1])
    n = NQ if case == "all" else 1
    turns = [(ours.ask(line, clock), peer.ask(line, clock) if peer else None) for line in lines]
    mine = n / statistics.median(t[0] for t in turns)
    if not peer: return {"ours": mine}
    theirs = n / statistics.median(t[1] for t in turns)
    return {"ours": mine, "peer": theirs, "ratio": mine / theirs, "setting": settings[case][1], "recall": settings[case][2]}


def compare(ours, peer, folder, truth, clock, name):
    """A row of the table for each recall."""
    found, out = find_efforts(peer, folder, truth, clock) if peer else {}, []
    for recall in RECALLS:
        if peer and recall not in found:
            print(f"| {name} | {recall} | not reached | | | | | |", flush=True)
            continue
        ours.ask(f"recall {recall}")
        row = {"asked": recall, "recall": share_found(ours, folder, truth)}
        for case, lines in (("all", ["all"] * MANY), ("one", [f"one {i}" for i in range(ONES)])):
            row[case] = take_turns(ours, peer, found.get(recall), case, lines, clock)
        out.append(row)
        many, one = row["all"], row["one"]
        if peer:
            print(f"| {name} | {recall} | {many['recall']:.4f} | {many['peer']:,.0f} | {many['ratio']:.2f} | {one['recall']:.4f} |"
                  f" {one['peer']:,.0f} | {one['ratio']:.2f} |", flush=True)
        else:
            print(f"| {name} | {recall} | {row['recall']:.4f} | {many['ours']:,.0f} | | {row['recall']:.4f} | {one['ours']:,.0f} | |", flush=True)
    return out


def measure(kind, a, out):
    folder = search.data(kind, a.rows, a.d)
    clock = "cpu" if a.cpu else "seconds"
    seconds, _ = search.build(folder, a.threads)
    result = {"bank_seconds": seconds, "reco lists": {"built": make_lists(folder, a)}}
    out["kinds"][kind] = result
    x = np.load(os.path.join(folder, "img_emb", "img_emb_0.npy")).astype(np.float32)
    truth = exact(x, np.fromfile(os.path.join(folder, "queries.f32"), np.float32).reshape(NQ, a.d))
    del x
    ours = search.ours(folder, a.threads)
    print(f"\n{kind}: {a.rows:,} x {a.d} rows, f16 in files; the {K} best; {a.threads} threads; {'processor time' if a.cpu else 'time'}\n\n"
          f"| index | recall asked | recall of {NQ:,} | q/s | reco / it | recall of 1 | q/s | reco / it |\n|---|---|---|---|---|---|---|---|")
    result["reco lists"]["at"] = compare(ours, None, folder, truth, clock, "reco lists")
    for name in a.index:
        peer = None
        try:
            peer = Peer.__new__(Peer)
            peer.__init__(name, folder, a)
            result[name] = {"built": {key: peer.about[key] for key in ("seconds", "cpu", "bytes", "memory_mb")},
                            "at": compare(ours, peer, folder, truth, clock, name)}
        except Failed as e:
            result[name] = {"left_out": str(e)}
            print(f"| {name} | left out: {e} | | | | | | |", flush=True)
        finally:
            peer.close()
        save(out, a.json)
    ours.close()
    print("\n| index | built in, s | processor time, s | MB of file | MB of memory while building |\n|---|---|---|---|---|")
    for name, r in result.items():
        if name == "bank_seconds" or "built" not in r: continue
        b = r["built"]
        print(f"| {name}{' (both sides)' if name == 'reco lists' else ''} | {b['seconds']:.1f} | {b['cpu']:.1f} | {b['bytes'] / 1e6:.0f} |"
              f" {b['memory_mb']:.0f} |", flush=True)


def save(out, path):
    if not path: return
    with open(path, "w") as f: json.dump(out, f, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    some = lambda known: lambda text: [n for n in text.split(",") if n in known or parser.error(f'"{n}", want some of {", ".join(known)}')]
    parser.add_argument("--kind", type=some(rows.KINDS), default=rows.KINDS, help="comma-separated: " + ", ".join(rows.KINDS))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--index", type=some(INDEXES), default=list(INDEXES), help="comma-separated: " + ", ".join(INDEXES))
    parser.add_argument("--cpu", action="store_true", help="count the processes' own time, on a machine that others work on")
    parser.add_argument("--limit", type=float, default=90, help="minutes for an index, building and searching")
    parser.add_argument("--json", metavar="FILE", help="written anew after each index")
    a = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    out = {"rows": a.rows, "d": a.d, "k": K, "threads": a.threads, "clock": "cpu" if a.cpu else "seconds", "kinds": {}}
    for kind in a.kind: measure(kind, a, out)
    save(out, a.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
