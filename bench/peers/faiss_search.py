"""faiss's IndexFlatIP with the protocol of bench/search.c, and "build FILE": add and write_index.
usage: faiss_search.py ROWS.npy QUERIES.f32 NQ K THREADS"""
import json
import sys
import time

import faiss
import numpy as np

rows = np.load(sys.argv[1], mmap_mode="r")
n, d = rows.shape
nq, k = int(sys.argv[3]), int(sys.argv[4])
queries = np.fromfile(sys.argv[2], np.float32).reshape(nq, d)
faiss.omp_set_num_threads(int(sys.argv[5]))
tenth = faiss.SearchParameters(sel=faiss.IDSelectorBatch(np.arange(0, n, 10)))


def build():
    index = faiss.IndexFlatIP(d)
    index.add(np.load(sys.argv[1]))
    return index


index = build()
print(json.dumps({"faiss": faiss.__version__, "options": faiss.get_compile_options()}), flush=True)
ids = None
for line in sys.stdin:
    words = line.rstrip("\n").split(" ", 1)
    start = time.perf_counter()
    if words[0] == "build":
        faiss.write_index(build(), words[1])
    elif words[0] == "save":
        ids.astype(np.int64).tofile(words[1])
    elif words[0] == "one":
        i = int(words[1]) % nq
        ids = index.search(queries[i : i + 1], k)[1]
    elif words[0] == "filter":
        ids = index.search(queries, k, params=tenth)[1]
    else:
        ids = index.search(queries, k)[1]
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
