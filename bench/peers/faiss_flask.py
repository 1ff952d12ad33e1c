"""The server that clip-retrieval has, of what answers a vector alone: Flask and a flat index of faiss.
usage: faiss_flask.py ROWS.npy PORT THREADS"""
import sys

import faiss
import numpy as np
from flask import Flask, request

rows = np.load(sys.argv[1], mmap_mode="r")
faiss.omp_set_num_threads(int(sys.argv[3]))
index = faiss.IndexFlatIP(rows.shape[1])
for i in range(0, len(rows), 50000):
    index.add(np.asarray(rows[i : i + 50000], np.float32))
app = Flask(__name__)


@app.post("/knn-service")
def knn():
    asked = request.get_json(force=True)
    query = np.expand_dims(np.array(asked["embedding_input"]).astype("float32"), 0)
    scores, ids = index.search(query, asked["num_result_ids"])
    return [{"id": int(i), "similarity": float(s), "caption": f"row {i}"} for i, s in zip(ids[0], scores[0])]


app.run(port=int(sys.argv[2]), threaded=True)
