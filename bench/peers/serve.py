"""What the peers share: the options and the protocol of build/bench/encode.

A peer is a class: prepare(args) loads everything and returns nothing; run() does the work once and returns float32
embeddings [n][d] (a numpy array, made outside of the timing where that is possible); `row` says what it is.
Without --serve it prints one JSON row, as build/bench/encode does."""
import argparse
import json
import os
import pathlib
import statistics
import sys
import time

CASES = {  # name: (model, batch, repeat)
    "vit-b-32-batch-32": ("vit-b-32", 32, 1),
    "vit-b-32-batch-1": ("vit-b-32", 1, 16),
    "vit-l-14-batch-8": ("vit-l-14", 8, 1),
    "captions": ("vit-b-32", 64, 1),
    "files": ("vit-b-32", 32, 1),
    "load": ("vit-b-32", 1, 1),
}


def options(**more):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(".cache/bench/data"))
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--precision", choices=("f32", "bf16"), default="bf16")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--serve", action="store_true")
    for name, settings in more.items():
        parser.add_argument("--" + name.replace("_", "-"), **settings)
    args = parser.parse_args()
    args.model, args.batch, args.repeat = CASES[args.case]
    # OpenMP reads this when it is first used: set it before torch is imported.
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    return args


def torch_threads(args):
    import torch
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    return torch.bfloat16 if args.precision == "bf16" else torch.float32


def pixels(args):
    """[n][3][224][224] f32."""
    import numpy as np
    n, side = args.batch * args.repeat, 224
    return np.fromfile(args.data / "pixels.f32", np.float32, n * 3 * side * side).reshape(n, 3, side, side)


def files(args):
    return [str(args.data / "images" / f"{i:04d}.jpg") for i in range(args.files)]


def say(row):
    print(json.dumps(row), flush=True)


def main(args, row, run):
    """run() -> (embeddings, items)."""
    row = {"case": args.case, **row, "precision": args.precision, "threads": args.threads}
    if not args.serve:
        run()
        seconds = []
        for _ in range(args.runs):
            start = time.perf_counter()
            out = run()
            seconds.append(time.perf_counter() - start)
        median = statistics.median(seconds)
        say({**row, "items": len(out), "median_s": round(median, 6), "min_s": min(seconds), "max_s": max(seconds),
             "per_second": round(len(out) / median, 2), "runs": args.runs})
        return
    run()
    out = run()
    say({**row, "items": len(out)})
    for line in sys.stdin:
        command, _, rest = line.strip().partition(" ")
        if command == "run":
            start = time.perf_counter()
            out = run()
            say({"seconds": time.perf_counter() - start})
        elif command == "save":
            out.tofile(rest)
            say({"saved": len(out)})
        elif command == "case":
            say({**row, "items": len(out)})
        else:
            sys.exit(f"{line!r}: want run, case or save FILE")
