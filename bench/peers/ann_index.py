"""An index of another library with the protocol of bench/search.c, and "set V E": the effort E of variant V (refining, where there is any).
usage: ann_index.py INDEX ROWS.npy QUERIES.f32 NQ K THREADS

It says {"loaded": ...} once the rows are in memory as float32, and then what it built: seconds, the index's bytes, efforts per variant."""
import json
import os
import sys
import tempfile
import time

import numpy as np

LADDER = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096]
WIDE = [e for e in LADDER if e >= 12]  # of a graph's list of candidates, which holds the K best


class Index:
    """build(), bytes(), set(variant, effort), search(queries) -> ids [n][K]."""

    efforts = [WIDE]

    def __init__(self, x, threads):
        self.x, self.threads = x, threads
        self.n, self.d = x.shape
        self.cells = max(16, int(4 * self.n**0.5))

    def bytes(self):
        with tempfile.NamedTemporaryFile() as f:
            self.save(f.name)
            return os.path.getsize(f.name)


class Faiss(Index):
    factors = ()  # candidates over K that are scored again from f16 rows

    def build(self):
        import faiss
        faiss.omp_set_num_threads(self.threads)
        self.index = faiss.index_factory(self.d, self.factory.format(cells=self.cells), faiss.METRIC_INNER_PRODUCT)
        self.index.train(self.x[:: max(1, self.n // (self.cells * 48))])
        self.index.add(self.x)
        self.space, self.name = faiss.ParameterSpace(), "efSearch" if "HNSW" in self.factory else "nprobe"
        if self.name == "nprobe": self.efforts = [[e for e in LADDER if e <= self.cells]] * max(1, len(self.factors))

    def save(self, path):
        import faiss
        faiss.write_index(self.index, path)

    def set(self, variant, effort):
        self.space.set_index_parameter(self.index, self.name, effort)
        if self.factors: self.index.k_factor = self.factors[variant]

    def search(self, q): return self.index.search(q, K)[1]


class IVFFlat(Faiss): factory = "IVF{cells},SQfp16"
class IVFPQFastScan(Faiss): factory, factors = "IVF{cells},PQ256x4fs,Refine(SQfp16)", (2, 8, 32)
class IVFRaBitQ(Faiss): factory, factors = "IVF{cells},RaBitQ,Refine(SQfp16)", (2, 8, 32)
class IVFRaBitQFastScan(Faiss): factory, factors = "IVF{cells},RaBitQfs,Refine(SQfp16)", (2, 8, 32)
class HNSWFlat(Faiss): factory = "HNSW32,SQfp16"


class Hnswlib(Index):
    def build(self):
        import hnswlib
        self.index = hnswlib.Index("ip", self.d)
        self.index.init_index(self.n, M=32, ef_construction=200)
        self.index.set_num_threads(self.threads)
        self.index.add_items(self.x)

    def bytes(self): return self.index.index_file_size()
    def set(self, variant, effort): self.index.set_ef(effort)
    def search(self, q): return self.index.knn_query(q, K, num_threads=self.threads)[0]


class Usearch(Index):
    def build(self):
        from usearch.index import Index as Graph
        self.index = Graph(ndim=self.d, metric="ip", dtype="f16", connectivity=32, expansion_add=200)
        self.index.add(np.arange(self.n), self.x, threads=self.threads)

    def bytes(self): return self.index.serialized_length
    def set(self, variant, effort): self.index.expansion_search = effort
    def search(self, q): return self.index.search(q, K, threads=self.threads).keys.reshape(len(q), -1)


class SVS(Index):
    def rows(self, svs): return (self.x.astype(np.float16),)

    def build(self):
        import svs
        self.index = svs.Vamana.build(svs.VamanaBuildParameters(alpha=0.95, graph_max_degree=64, window_size=128), *self.rows(svs),
                                      svs.DistanceType.MIP, num_threads=self.threads)

    def bytes(self):
        with tempfile.TemporaryDirectory() as folder:
            self.index.save(*(os.path.join(folder, part) for part in ("config", "graph", "data")))
            return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)

    def set(self, variant, effort): self.index.search_window_size = effort
    def search(self, q): return self.index.search(q, K)[0]


class SVSCompressed(SVS):
    """Its two-level codes, which it has for Intel's processors alone."""

    def rows(self, svs):
        self.folder = tempfile.TemporaryDirectory()  # read when the index is built
        path = os.path.join(self.folder.name, "x.fvecs")
        svs.write_vecs(self.x, path)
        return (svs.LVQLoader(svs.VectorDataLoader(path, svs.DataType.float32, dims=self.d), 4, 8),)


INDEXES = {"faiss IVFFlat": IVFFlat, "faiss IVFPQFastScan": IVFPQFastScan, "faiss IVFRaBitQ": IVFRaBitQ,
           "faiss IVFRaBitQFastScan": IVFRaBitQFastScan, "faiss HNSW": HNSWFlat, "hnswlib": Hnswlib, "usearch": Usearch,
           "SVS Vamana": SVS, "SVS Vamana LVQ": SVSCompressed}


def say(**what): print(json.dumps(what), flush=True)


def main():
    global K
    name, rows, path, nq, K, threads = sys.argv[1], *sys.argv[2:4], *map(int, sys.argv[4:])
    x = np.load(rows).astype(np.float32)
    queries = np.fromfile(path, np.float32).reshape(nq, -1)
    index, ids = INDEXES[name](x, threads), None
    del x
    say(loaded=True)
    start, cpu = time.perf_counter(), time.process_time()
    index.build()
    built = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    del index.x
    say(**built, bytes=index.bytes(), efforts=index.efforts)
    for line in sys.stdin:
        word, *rest = line.rstrip("\n").split(" ", 1)
        start, cpu = time.perf_counter(), time.process_time()
        if word == "set": index.set(*map(int, rest[0].split()))
        elif word == "save": ids.astype(np.int64).tofile(rest[0])
        elif word == "one":
            i = int(rest[0]) % nq
            ids = index.search(queries[i : i + 1])
        else: ids = index.search(queries)
        say(seconds=time.perf_counter() - start, cpu=time.process_time() - cpu)


if __name__ == "__main__":
    main()
