"""Approximate search beside other libraries' indexes: queries a second at a recall, one at a time and 1,024 at once; building; bytes.

usage: ann.py [--kind K] [--rows N] [--d D] [--threads T] [--index NAME,...] [--json FILE]

Rows are of one of the kinds of rows.py, queries others of the same kind; recall is of the 10 best of a float32 scan. Of each
index the least effort (cells, candidates) on a ladder that reaches a recall is timed; ours is asked for the recall itself."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

import rows
import search

clock = time.perf_counter
RECALLS = (0.9, 0.95, 0.99, 0.999)
NQ, K = search.NQ, search.K
LADDER = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096]


class Index:
    """A peer: build(x), size() in bytes, set(effort), search(q) -> ids."""

    efforts = LADDER

    def __init__(self, n, d, threads):
        self.n, self.d, self.threads = n, d, threads
        self.cells = max(16, int(4 * n**0.5))


class Faiss(Index):
    factory = None
    refine = False

    def build(self, x):
        import faiss
        faiss.omp_set_num_threads(self.threads)
        self.index = faiss.index_factory(self.d, self.factory.format(cells=self.cells), faiss.METRIC_INNER_PRODUCT)
        self.index.train(x[:: max(1, self.n // (self.cells * 48))])
        self.index.add(x)

    def size(self):
        import faiss
        return len(faiss.serialize_index(self.index)) if self.n <= 200_000 else None

    def set(self, effort):
        import faiss
        name = "efSearch" if "HNSW" in self.factory else "nprobe"
        faiss.ParameterSpace().set_index_parameter(self.index, name, min(effort, self.cells) if name == "nprobe" else effort)
        if self.refine: self.index.k_factor = 8

    def search(self, q):
        return self.index.search(q, K)[1]


class IVFFlat(Faiss): factory = "IVF{cells},Flat"
class IVFPQFastScan(Faiss): factory, refine = "IVF{cells},PQ256x4fs,Refine(SQfp16)", True
class IVFRaBitQ(Faiss): factory, refine = "IVF{cells},RaBitQ,Refine(SQfp16)", True


class HNSWFlat(Faiss):
    factory = "HNSW32,SQfp16"
    efforts = [e for e in LADDER if e >= K]


class Hnswlib(Index):
    efforts = [e for e in LADDER if e >= K]

    def build(self, x):
        import hnswlib
        self.index = hnswlib.Index("ip", self.d)
        self.index.init_index(self.n, M=32, ef_construction=200)
        self.index.set_num_threads(self.threads)
        self.index.add_items(x)

    def size(self): return self.index.index_file_size()
    def set(self, effort): self.index.set_ef(effort)
    def search(self, q): return self.index.knn_query(q, K, num_threads=self.threads)[0]


class Usearch(Index):
    efforts = [e for e in LADDER if e >= K]

    def build(self, x):
        from usearch.index import Index as Graph
        self.index = Graph(ndim=self.d, metric="ip", dtype="f16", connectivity=32, expansion_add=200)
        self.index.add(np.arange(self.n), x, threads=self.threads)

    def size(self): return self.index.serialized_length
    def set(self, effort): self.index.expansion_search = effort
    def search(self, q): return self.index.search(q, K, threads=self.threads).keys.reshape(len(q), -1).astype(np.int64)


class SVS(Index):
    efforts = [e for e in LADDER if e >= K]

    def build(self, x):
        import svs
        self.index = svs.Vamana.build(svs.VamanaBuildParameters(alpha=0.95, graph_max_degree=64, window_size=128), x.astype(np.float16),
                                      svs.DistanceType.MIP, num_threads=self.threads)

    def size(self): return None
    def set(self, effort): self.index.search_window_size = effort
    def search(self, q): return self.index.search(q, K)[0].astype(np.int64)


PEERS = {"faiss IVFFlat": IVFFlat, "faiss IVFPQFastScan": IVFPQFastScan, "faiss IVFRaBitQ": IVFRaBitQ, "faiss HNSW": HNSWFlat,
         "hnswlib": Hnswlib, "usearch": Usearch, "SVS Vamana": SVS}


class Ours:
    def __init__(self, folder, threads):
        self.folder, self.threads = folder, threads
        self.bank = search.bank_of(folder)

    def build(self):
        """Seconds of the bank from the embeddings, both sides, captions and all; of the lists of both sides."""
        seconds = search.build(self.folder, self.threads)[0]
        before, start = os.times(), clock()
        subprocess.run([search.RECO, "bank", "index", self.bank, "--lists", "auto", "--threads", str(self.threads), "--quiet"],
                       check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        self.worker = search.ours(self.folder, self.threads)
        return seconds, spent if clock is time.process_time else clock() - start

    def size(self): return os.path.getsize(os.path.join(self.bank, "vectors", "lists.safetensors")) // 2

    def run(self, recall, line):
        self.worker.ask(f"recall {recall}")
        return self.worker.ask(line, "cpu" if clock is time.process_time else "seconds")

    def ids(self):
        path = os.path.join(self.folder, "ids.i64")
        self.worker.ask("save " + path)
        return np.fromfile(path, np.int64).reshape(-1, K)


def share(ids, truth):
    return sum(len(set(a) & set(b)) for a, b in zip(ids.tolist(), truth.tolist())) / truth.size


def timed(call, times):
    call()
    out = []
    for _ in range(times):
        start = clock()
        call()
        out.append(clock() - start)
    return min(out)


def exact(x, q):
    import faiss
    flat = faiss.IndexFlatIP(x.shape[1])
    flat.add(x)
    return flat.search(q, K)[1]


def measure_peer(index, q, truth):
    """By recall: effort, measured recall, queries a second at once and one at a time."""
    found, at = {}, 0
    for effort in index.efforts:
        index.set(effort)
        got = share(index.search(q), truth)
        while at < len(RECALLS) and got >= RECALLS[at]:
            many = timed(lambda: index.search(q), 3)
            one = statistics.median(timed(lambda i=i: index.search(q[i : i + 1]), 1) for i in range(100))
            found[RECALLS[at]] = {"effort": effort, "recall": round(got, 4), "batch_qps": round(NQ / many), "one_qps": round(1 / one)}
            at += 1
        if at == len(RECALLS): break
    return found


def measure_ours(ours, truth):
    found = {}
    for recall in RECALLS:
        ours.run(recall, "all")
        got = share(ours.ids(), truth)
        many = min(ours.run(recall, "all") for _ in range(5))
        one = statistics.median(ours.run(recall, f"one {i}") for i in range(100))
        found[recall] = {"recall": round(got, 4), "batch_qps": round(NQ / many), "one_qps": round(1 / one)}
    return found


def show(name, result):
    for recall, r in result["at"].items():
        print(f"| {name} | {recall} | {r['recall']:.4f} | {r['batch_qps']:,} | {r['one_qps']:,} | {result['build']:.0f} |"
              f" {(result['bytes'] or 0) / 1e6:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kind", choices=rows.KINDS, default="clustered")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--index", default=",".join(PEERS), help="comma-separated: " + ", ".join(PEERS))
    parser.add_argument("--cpu", action="store_true", help="count the process's own time, on a machine that others work on")
    parser.add_argument("--json", metavar="FILE")
    a = parser.parse_args()
    global clock
    if a.cpu: clock = time.process_time
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    folder = search.data(a.kind, a.rows, a.d)
    x = np.load(os.path.join(folder, "img_emb", "img_emb_0.npy")).astype(np.float32)
    q = np.fromfile(os.path.join(folder, "queries.f32"), np.float32).reshape(NQ, a.d)
    truth = exact(x, q)
    out = {"kind": a.kind, "rows": a.rows, "d": a.d, "k": K, "threads": a.threads, "indexes": {}}
    print("| index | recall asked | recall | 1,024 queries, q/s | one at a time, q/s | build, s | MB |\n|---|---|---|---|---|---|---|")
    ours = Ours(folder, a.threads)
    bank, lists = ours.build()
    out["bank_seconds"] = round(bank, 1)
    out["indexes"]["reco lists"] = {"build": round(lists, 1), "bytes": ours.size(), "at": measure_ours(ours, truth)}
    show("reco lists (both sides)", out["indexes"]["reco lists"])
    for name in filter(None, a.index.split(",")):
        try:
            index = PEERS[name](a.rows, a.d, a.threads)
            start = clock()
            index.build(x)
            seconds = clock() - start
            result = {"build": round(seconds, 1), "bytes": index.size(), "at": measure_peer(index, q, truth)}
        except (ImportError, RuntimeError, AttributeError) as e:
            print(f"{name}: skipped: {e}", file=sys.stderr)
            continue
        out["indexes"][name] = result
        show(name, result)
        del index
    again = measure_ours(ours, truth)  # the machine may not be what it was
    out["indexes"]["reco lists, again"] = {**out["indexes"]["reco lists"], "at": again}
    show("reco lists, again", out["indexes"]["reco lists, again"])
    if a.json:
        with open(a.json, "w") as f: json.dump(out, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
