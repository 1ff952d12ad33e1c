"""What a bank of a million rows takes, in bytes and in seconds, and what follows from that for larger ones.

Prints a JSON line of what was measured on this machine, then the table of docs/scale.md, which is computed from it and from what is assumed of
a machine and its price (the options below). --constants takes the line of another run instead of measuring."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import merge

SIZES = (10**6, 10**8, 10**9, 10**10)


def seconds(command):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def anonymous(process):
    """The most memory of its own, beside mapped files, that a process takes; bytes."""
    most = 0
    while process.poll() is None:
        try: lines = pathlib.Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except OSError: break
        for line in lines.splitlines():
            if line.startswith("Anonymous:"): most = max(most, int(line.split()[1]) << 10)
        time.sleep(0.005)
    return most


def embeddings(folder, rows, width, parts):
    (folder / "metadata").mkdir(parents=True)
    each = rows // parts
    for side in ("img_emb", "text_emb"):
        merge.write_npy(folder / side / f"{side}_0.npy", each, width)
        for i in range(1, parts): os.link(folder / side / f"{side}_0.npy", folder / side / f"{side}_{i}.npy")
    for i in range(parts):
        with open(folder / "metadata" / f"metadata_{i}.jsonl", "w") as file:
            for row in range(i * each, (i + 1) * each):
                file.write(json.dumps({"image_path": f"/photos/{row % 997}/{row:09}.jpg", "price": row % 977,
                                       "caption": f"a photograph of thing {row} on a table, seen from the left"}) + "\n")


def train_bytes(a, work, rows):
    """Of a pair: the slope between two sizes, since a batch and the program take the same in both."""
    taken = []
    for n in (rows, 2 * rows):
        embeddings(work / f"t{n}", n, a.width, 1)
        bank = work / f"t{n}.bank"
        subprocess.run([a.reco, "bank", "build", "--quiet", "--embeddings", work / f"t{n}", "--out", bank], check=True, stdout=subprocess.DEVNULL)
        start = time.perf_counter()
        process = subprocess.Popen([a.reco, "train", "--quiet", "--bank", bank, "--out", work / f"t{n}.safetensors", "--layer", "transformer",
                                    "--steps", "1", "--batch", "64"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        taken.append((anonymous(process), time.perf_counter() - start))
        if process.wait(): raise SystemExit("bench/run scale: reco train failed")
    return (taken[1][0] - taken[0][0]) / rows, taken


def measure(a):
    with tempfile.TemporaryDirectory(dir=a.work) as work:
        work = pathlib.Path(work)
        embeddings(work / "e", a.rows, a.width, max(1, a.rows // 10000))
        bank = work / "b.bank"
        built = seconds([a.reco, "bank", "build", "--quiet", "--embeddings", work / "e", "--out", bank])
        info = json.loads(subprocess.run([a.reco, "bank", "info", "--json", bank], check=True, stdout=subprocess.PIPE).stdout)
        codes = sum(f.stat().st_size for f in (bank / "vectors").glob("*.scan-*"))
        (work / "q.f32").write_bytes(b"")
        merge.write_npy(work / "q.npy", 64, a.width)
        data = (work / "q.npy").read_bytes()[128:]
        (work / "q.f32").write_bytes(unit(data, a.width))
        search = subprocess.Popen([a.search, bank, work / "q.f32", "64", "10", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        opened = json.loads(search.stdout.readline())["open_seconds"]
        times = [ask(search, f"one {i}") for i in range(34)][4:]
        batch = min(ask(search, "all") for _ in range(3)) / 64
        search.stdin.close()
        search.wait()
        where = seconds([a.reco, "bank", "list", bank, "--where", "json_extract(meta, '$.price') = -1"])
        per_pair, trained = train_bytes(a, work, a.pairs)
    return {"rows": a.rows, "width": a.width, "threads": len(os.sched_getaffinity(0)), "vector_bytes": round(info["vector_bytes"] / a.rows), "code_bytes": round(codes / a.rows),
            "catalog_bytes": round(info["database_bytes"] / a.rows), "build_s": round(built, 1), "open_ms": round(1e3 * opened, 1),
            "query_ms": round(1e3 * statistics.median(times), 2), "query_of_64_ms": round(1e3 * batch, 2), "where_s": round(where, 2),
            "train_bytes_a_pair": round(per_pair), "train_s": [round(t[1], 1) for t in trained], "train_pairs": [a.pairs, 2 * a.pairs]}


def unit(data, width):
    import array
    values, rows = array.array("f", data), []
    for i in range(0, len(values), width):
        row = values[i:i + width]
        norm = sum(x * x for x in row) ** 0.5
        rows.append(array.array("f", [x / norm for x in row]).tobytes())
    return b"".join(rows)


def ask(process, line):
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())["seconds"]


def human(n, units):
    for unit in units:
        if n < 1000 or unit == units[-1]: return f"{n:.3g} {unit}" if n < 1000 else f"{n:,.0f} {unit}"
        n /= 1000


def table(m, a):
    """One machine, and as many as it takes for the codes of the side that is searched to lie in memory."""
    code = m["code_bytes"] / 2
    gbs = code * m["rows"] / (m["query_ms"] * 1e6)  # what the measured machine reads
    speed = a.bandwidth / gbs
    print(f"measured: {gbs:.1f} GB/s of codes with {m['threads']} threads; assumed of a machine: {a.memory:.0f} GB of memory, {a.bandwidth:.0f} GB/s, {a.cores} cores, {a.euros:.0f} euros a month")
    print("| rows | on disk | codes of one side | machines | a query reads | a query alone | 64 at once, each | a condition | euros a month |\n|---|---|---|---|---|---|---|---|---|")
    for n in SIZES:
        need = max(1, -(-int(n * code) // int(a.memory * 0.8e9)))
        for machines in sorted({1, need}):
            share = n / machines
            fits = share * code <= a.memory * 0.8e9
            query = share / m["rows"] * m["query_ms"] / speed if fits else share * code / (a.disk * 1e9) * 1e3
            batch = share / m["rows"] * m["query_of_64_ms"] * m["threads"] / a.cores if fits else query / 64
            total = n * (m["vector_bytes"] + m["code_bytes"] + m["catalog_bytes"])
            print(f"| {n:.0e} | {human(total / 1e9, ['GB', 'TB'])} | {human(n * code / 1e9, ['GB', 'TB'])} | {machines} | {human(share * code / 1e9, ['GB', 'TB'])} "
                  f"| {human(query, ['ms', 's'])} | {human(batch, ['ms', 's'])} | {human(share / m['rows'] * m['where_s'] * 1e3, ['ms', 's'])} | {machines * a.euros:,.0f} |".replace("e+0", "e").replace("e+", "e"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reco", required=True)
    parser.add_argument("--search", required=True, help="the program bench/search")
    parser.add_argument("--rows", type=int, default=10**6)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=10000, help="trained on, and as many more")
    parser.add_argument("--work", help="where banks are made: 4 GB (default: a temporary folder)")
    parser.add_argument("--constants", help="a JSON line of an earlier run")
    parser.add_argument("--memory", type=float, default=128, help="of a machine, GB; four fifths hold codes")
    parser.add_argument("--bandwidth", type=float, default=100, help="GB/s at which its cores read memory")
    parser.add_argument("--disk", type=float, default=6, help="GB/s at which they read its disks")
    parser.add_argument("--cores", type=int, default=16)
    parser.add_argument("--euros", type=float, default=120, help="a month")
    a = parser.parse_args()
    m = json.loads(a.constants) if a.constants else measure(a)
    print(json.dumps(m))
    table(m, a)


if __name__ == "__main__":
    main()
