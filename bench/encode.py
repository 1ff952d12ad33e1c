"""Encoder: ours and each peer in turns, both processes warm; the ratio of the medians of one run.

    bench/run encode                            every case of the acceptance, about 25 minutes on 2 cores
    bench/run encode vit-b-32-batch-32 captions
    bench/run encode --pairs 3 --files 200 files        a first impression

The processes take turns run by run: ours, the peer, ours, the peer. The one that waits sleeps. Before the timing both
write the embeddings of the same input, and the mean cosine between them is printed: they do the same work."""
import argparse
import dataclasses
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("RECO_BENCH_CACHE", ROOT / ".cache" / "bench"))
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8")


@dataclasses.dataclass
class Case:
    name: str
    needs: tuple  # of bench/models.py
    peer: list  # command after python, or after build/bench/encode for our own
    pairs: int
    least: float  # 0: told, not wanted
    ours: tuple = ()


TORCH = ["bench/peers/torch_clip.py"]
CASES = {
    "vit-b-32-batch-32": [Case("vit-b-32-batch-32", ("vit-b-32", "pixels"), [*TORCH, "--via", via], 15, 1.15)
                          for via in ("transformers", "open_clip")],
    "vit-b-32-batch-1": [Case("vit-b-32-batch-1", ("vit-b-32", "pixels"), [*TORCH, "--via", via], 15, 1.3)
                         for via in ("transformers", "open_clip")],
    "vit-l-14-batch-8": [Case("vit-l-14-batch-8", ("vit-l-14", "pixels"), [*TORCH, "--via", via], 7, 1.1)
                         for via in ("transformers", "open_clip")],
    "captions": [Case("captions", ("vit-b-32", "captions"), ["bench/peers/open_clip_text.py"], 3, 3.0)],
    "files": [Case("files", ("vit-b-32", "images"), ["bench/peers/open_clip_files.py"], 3, 1.5)],
    "int8": [Case("vit-b-32-batch-32", ("vit-b-32", "pixels"), ["reco", "--precision", "auto"], 15, 1.4, ("--precision", "int8"))],
    "load": [Case("load", ("vit-b-32", "images"), ["bench/peers/open_clip_load.py"], 7, 5.0)],
    "onnx": [Case("vit-b-32-batch-32", ("vit-b-32", "pixels"), ["bench/peers/onnx_clip.py"], 7, 0)],
}


class Server:
    """A process of the protocol in bench/encode.c."""

    def __init__(self, command, environment):
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
                                        env=environment, stderr=None)
        self.row = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{' '.join(map(str, self.command))}: exit code {self.process.wait()}")
        return json.loads(line)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def embeddings(self, folder):
        path = pathlib.Path(folder) / "embeddings"
        n = self.ask(f"save {path}")["saved"]
        return np.fromfile(path, np.float32).reshape(n, -1)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def summary(seconds):
    return dict(median_s=statistics.median(seconds), min_s=min(seconds), max_s=max(seconds), runs=len(seconds))


class Bench:
    def __init__(self, args):
        self.args = args
        self.environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1",
                            "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

    def command(self, case, program, more=()):
        common = ["--data", CACHE / "data", "--case", case.name, "--threads", str(self.args.threads), "--files",
                  str(self.args.files)]
        first = [self.args.encode] if program[0] == "reco" else [sys.executable, program[0]]
        return [*first, *program[1:], *common, *more]

    def precisions(self, case):
        """The commands of the peer that are tried: torch emulates bf16 where the processor has none, which is slower than f32."""
        if case.peer[0] == "reco" or case.name.startswith("onnx") or "onnx" in case.peer[0]: return [case.peer]
        return [[*case.peer, "--precision", p] for p in ("bf16", "f32")]

    def faster(self, case, result):
        """The peer in its faster precision, of which the others' times are told."""
        tried = [Server(self.command(case, command, ["--serve"]), self.environment) for command in self.precisions(case)]
        if len(tried) > 1:
            times = [[] for _ in tried]
            for i in range(2 * len(tried)):
                which = i if i < len(tried) else 2 * len(tried) - 1 - i
                times[which].append(tried[which].ask("run")["seconds"])
            result["peer_precisions"] = {t.row["precision"]: min(s) for t, s in zip(tried, times)}
            best = min(range(len(tried)), key=lambda i: min(times[i]))
            for other in tried[:best] + tried[best + 1:]: other.close()
            return tried[best]
        return tried[0]

    def take_turns(self, ours, peer, pairs):
        times = ([], [])
        for i in range(pairs):
            for which in ((0, 1), (1, 0))[i % 2]:
                time.sleep(0.05)  # the other's threads have stopped spinning
                times[which].append((ours, peer)[which].ask("run")["seconds"])
        return times

    def serve(self, case, result):
        precision = [] if "--precision" in case.ours else ["--precision", self.args.precision]
        ours = Server(self.command(case, ["reco", *case.ours, *precision], ["--serve"]), self.environment)
        peer = self.faster(case, result)
        with tempfile.TemporaryDirectory() as folder:
            a, b = ours.embeddings(folder), peer.embeddings(folder)
            result["cosine"] = float(cosines(a, b).mean())
            result["cosine_centred"] = float(cosines(a - a.mean(0), b - b.mean(0)).mean()) if len(a) > 1 else None
            if case.ours:  # int8 is judged against f32
                exact = Server(self.command(case, ["reco", "--precision", "f32"], ["--serve"]), self.environment)
                e = exact.embeddings(folder)
                result["cosine_to_f32"] = float(cosines(a, e).mean())
                result["cosine_to_f32_least"] = float(cosines(a, e).min())
                result["cosine_to_f32_centred"] = float(cosines(a - a.mean(0), e - e.mean(0)).mean())
                exact.close()
        times = self.take_turns(ours, peer, self.args.pairs or case.pairs)
        result["ours"] = {**ours.ask("case"), **summary(times[0])}
        result["peer"] = {**peer.row, **summary(times[1])}
        ours.close(), peer.close()

    def load(self, case, result):
        """A process each time: from its start to its answer, and of that the model's opening and the first embedding."""
        whole, inside = ([], []), ([], [])
        tried = {}
        for command in self.precisions(case):
            command = self.command(case, command)
            seconds = []
            for _ in range(2):  # the first brings the files into the page cache
                start = time.perf_counter()
                subprocess.run(command, cwd=ROOT, env=self.environment, stdout=subprocess.DEVNULL, check=True)
                seconds.append(time.perf_counter() - start)
            tried[min(seconds)] = command
        commands = (self.command(case, ["reco"]), tried[min(tried)])
        for i in range((self.args.pairs or case.pairs) + 1):
            for which, command in enumerate(commands):
                start = time.perf_counter()
                done = subprocess.run(command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, check=True)
                seconds = time.perf_counter() - start
                row = json.loads(done.stdout)
                if i == 0: continue  # brings the files into the page cache
                whole[which].append(seconds)
                inside[which].append(row["without_import_s"] if which else row["open_s"] + row["median_s"])
                result[("ours", "peer")[which]] = {k: v for k, v in row.items() if k != "embedding"}
        for which, side in enumerate(("ours", "peer")):
            result[side].update(summary(whole[which]), inside=summary(inside[which]))
        result["ratio_inside"] = result["peer"]["inside"]["median_s"] / result["ours"]["inside"]["median_s"]

    def run(self, name, case):
        subprocess.run([sys.executable, ROOT / "bench" / "models.py", CACHE / "data", *case.needs], check=True)
        result = {"case": name, "least": case.least}
        (self.load if case.name == "load" else self.serve)(case, result)
        result["ratio"] = result["peer"]["median_s"] / result["ours"]["median_s"]
        return result


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in text.splitlines()) if v}
    flags = fields.get("flags", "").split()
    return {"cpu": fields.get("model name", "?"), "family": fields.get("cpu family"), "model": fields.get("model"),
            "cores": len(os.sched_getaffinity(0)), "flags": [f for f in FLAGS if f in flags], "system": platform.platform(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)}


def show(result):
    ours, peer = result["ours"], result["peer"]
    least = f"{result['least']:.2f}" if result["least"] else "-"
    mark = "" if not result["least"] else "yes" if result["ratio"] >= result["least"] else "NO"
    other = peer["impl"] + (" " + peer["precision"])

    def span(row):
        return f"{row['median_s']:8.3f} ({row['min_s']:.3f}..{row['max_s']:.3f})"

    text = f"{result['case']:18} {other:20} {span(ours):28} {span(peer):28} {result['ratio']:6.2f} {least:>5} {mark:4}"
    more = []
    if "cosine" in result: more.append(f"cosine to the peer {result['cosine']:.5f}")
    if "cosine_to_f32" in result:
        more.append(f"to f32 {result['cosine_to_f32']:.5f} (least {result['cosine_to_f32_least']:.5f}, "
                    f"about the mean {result['cosine_to_f32_centred']:.5f})")
    if "ratio_inside" in result:
        more.append(f"{result['ratio_inside']:.2f} without starting and imports "
                    f"({ours['inside']['median_s']:.3f}, {peer['inside']['median_s']:.3f} s)")
    if len(result.get("peer_precisions", ())) > 1:
        more.append("peer tried: " + ", ".join(f"{k} {v:.3f} s" for k, v in result["peer_precisions"].items()))
    if "beside_mb" in ours: more.append(f"{ours['beside_mb']:.0f} MB beside weights")
    return text + (", ".join(more))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; all but onnx when none is named")
    parser.add_argument("--pairs", type=int, help="turns of each; default 3 to 15 by case")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both; default: all processors")
    parser.add_argument("--files", type=int, default=1000, help="pictures of the case files")
    parser.add_argument("--precision", default="auto", help="of ours: auto (bf16 where the processor has it, else f32), f32, bf16")
    parser.add_argument("--encode", default=str(ROOT / "build" / "bench" / "encode"), help="our program (build/bench/encode)")
    parser.add_argument("--via", help="only peers whose command has this word: transformers, open_clip")
    parser.add_argument("--json", action="store_true", help="one JSON row per case instead of the table")
    args = parser.parse_args()
    for name in args.cases:
        if name not in CASES: parser.error(f"{name}: want one of {', '.join(CASES)}")
    if not pathlib.Path(args.encode).exists(): sys.exit(f"{args.encode}: not built; meson setup build && ninja -C build")
    about, bench, results = machine(), Bench(args), []
    if not args.json:
        print(f"{about['cpu']} (family {about['family']}, model {about['model']}), {about['cores']} cores, "
              f"{about['memory_gb']} GB; {' '.join(about['flags'])}\n{args.threads} threads each; seconds of one run: "
              f"median (least..most)\n{'case':18} {'peer':20} {'reco':28} {'peer':28} {'ratio':>6} {'want':>5}", flush=True)
    for name in args.cases or [n for n in CASES if n != "onnx"]:
        for case in CASES[name]:
            if args.via and len(CASES[name]) > 1 and args.via not in case.peer: continue
            result = {**bench.run(name, case), "machine": about}
            results.append(result)
            print(json.dumps(result) if args.json else show(result), flush=True)
    if not args.json:
        versions = {r["peer"]["impl"]: r["peer"].get("version") for r in results}
        versions.update({"torch": r["peer"]["torch"] for r in results if "torch" in r["peer"]})
        print("; ".join(f"{name} {version}" for name, version in versions.items()))
    sys.exit(any(r["least"] and r["ratio"] < r["least"] for r in results))


if __name__ == "__main__":
    main()
