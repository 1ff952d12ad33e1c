"""Banks merged, beside cp -r of the same folders, in turns. Exits with 1 where the ratio of medians is above 1.5."""
import argparse
import array
import json
import os
import pathlib
import random
import shutil
import statistics
import struct
import subprocess
import tempfile
import time


def write_npy(path, rows, width):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)
    base = [array.array("f", [rng.gauss(0, 1) for _ in range(width)]) for _ in range(64)]
    header = repr({"descr": "<f4", "fortran_order": False, "shape": (rows, width)})
    header += " " * (117 - len(header)) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        for _ in range(rows):  # rows need not be good ones, but no two alike
            row, at = rng.choice(base), rng.randrange(width)
            row = row[at:] + row[:at]
            row[0] += rng.random()
            file.write(row.tobytes())


def make_banks(args, folder):
    """One folder of embeddings in as many parts as there are banks, whose vectors are one file."""
    e = folder / "e"
    (e / "metadata").mkdir(parents=True)
    for side in ("img_emb", "text_emb"):
        write_npy(e / side / f"{side}_0.npy", args.rows, args.width)
        for i in range(1, args.banks): os.link(e / side / f"{side}_0.npy", e / side / f"{side}_{i}.npy")
    for i in range(args.banks):
        with open(e / "metadata" / f"metadata_{i}.jsonl", "w") as file:
            for row in range(i * args.rows, (i + 1) * args.rows):
                file.write(json.dumps({"image_path": f"/photos/{row % 997}/{row:09}.jpg", "price": row % 977,
                                       "caption": f"a photograph of thing {row} on a table, seen from the left"}) + "\n")
    for i in range(args.banks):
        subprocess.run([args.reco, "bank", "build", "--quiet", "--embeddings", e, "--shard", f"{i + 1}/{args.banks}",
                        "--out", folder / "banks" / f"{i:04}"], check=True, stdout=subprocess.DEVNULL)


def timed(command):
    os.sync()
    start = time.perf_counter()
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return time.perf_counter() - start, out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reco", required=True)
    parser.add_argument("--banks", type=int, default=100)
    parser.add_argument("--rows", type=int, default=10000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--work", type=pathlib.Path, default=None, help="where banks are made (default: a temporary folder)")
    parser.add_argument("--out", type=pathlib.Path, default=None, help="where they are merged and copied to, such as another file system")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.work) as work, tempfile.TemporaryDirectory(dir=args.out or args.work) as out:
        work, out = pathlib.Path(work), pathlib.Path(out)
        make_banks(args, work)
        banks = sorted((work / "banks").iterdir())
        seconds = {"cp": [], "merge": []}
        for _ in range(args.turns):
            took, _ = timed(["cp", "-r", work / "banks", out / "copy"])
            seconds["cp"].append(took)
            shutil.rmtree(out / "copy")
            took, said = timed([args.reco, "bank", "merge", "--json", "--quiet", *banks, "--out", out / "merged"])
            seconds["merge"].append(took)
            said = json.loads(said)
            shutil.rmtree(out / "merged")
        ratio = statistics.median(seconds["merge"]) / statistics.median(seconds["cp"])
        print(json.dumps({"banks": args.banks, "rows": said["rows"], "width": args.width, "linked": said["linked"], "copied": said["copied"],
                          "merge_s": [round(s, 2) for s in seconds["merge"]], "cp_s": [round(s, 2) for s in seconds["cp"]], "ratio": round(ratio, 2)}))
        return ratio > 1.5


if __name__ == "__main__":
    raise SystemExit(main())
