"""The examples for Slurm and Spark, against stand-ins that do what those do with them."""
import os
import pathlib
import subprocess
import sys
import unittest

from common import MODEL, RECO, SOURCE, Case, jsonl, npy

# sbatch: copies the script to a spool folder and runs the copy, in the folder where it was submitted, once for each number of the
# array, in no order; a task that dies by a signal is queued again. --dependency=afterok waits for exit codes of 0. The environment
# that a task finds is that of slurm.schedmd.com/job_array.html.
SBATCH = r'''
import json, os, pathlib, random, re, shutil, subprocess, sys
spool = pathlib.Path(os.environ["SPOOL"])
options, arguments = {}, sys.argv[1:]
while arguments and arguments[0].startswith("--"):
    name, _, value = arguments.pop(0)[2:].partition("=")
    options[name] = value or (arguments.pop(0) if name in ("wrap", "array", "dependency", "export") else "")
number = len(list(spool.iterdir())) + 1
script = spool / f"job{number}"
if "wrap" in options: script.write_text("#!/bin/sh\n" + options["wrap"] + "\n")
else: shutil.copy(arguments[0], script)
assert script.read_text().startswith("#!"), "This does not look like a batch script."
script.chmod(0o700)
for line in script.read_text().splitlines()[1:]:
    if not line.startswith("#"): break  # as sbatch reads them
    for name, value in re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", line): options.setdefault(name, value)
for need in options.get("dependency", "").split(","):
    if need and (spool / ("job" + need.split(":")[1] + ".failed")).exists(): sys.exit("sbatch: error: dependency never satisfied")
environment = dict(os.environ, SLURM_JOB_ID=str(number), SLURM_CPUS_PER_TASK=options.get("cpus-per-task", ""))
for item in options.get("export", "ALL").split(","):
    if "=" in item: environment.update([item.split("=", 1)])
ids = [None]
if "array" in options:
    first, last = map(int, options["array"].split("-"))
    ids = list(range(first, last + 1))
    environment.update(SLURM_ARRAY_TASK_COUNT=str(len(ids)), SLURM_ARRAY_TASK_MIN=str(first), SLURM_ARRAY_TASK_MAX=str(last))
random.Random(1).shuffle(ids)
for i in ids:
    for attempt in range(3):
        if i is not None: environment["SLURM_ARRAY_TASK_ID"] = str(i)
        first_try = {"RECO_CRASH": "rename:1:kill"} if i == ids[0] and attempt == 0 and os.environ.get("LD_PRELOAD") else {"LD_PRELOAD": ""}
        done = subprocess.run([script], env={**environment, **first_try}, stdout=subprocess.DEVNULL)
        if done.returncode >= 0 or "requeue" not in options: break
        (spool / "requeued").touch()
    if done.returncode: (spool / f"job{number}.failed").touch()
print(number if "parsable" in options else f"Submitted batch job {number}")
'''

# RDD.pipe as pyspark/core/rdd.py has it: shlex.split, an environment that is empty unless one is given, a process for each
# partition, an element a line.
PYSPARK = r'''
import shlex, subprocess

class RDD:
    def __init__(self, partitions): self.partitions = partitions
    def pipe(self, command, env=None, checkCode=False):
        made = []
        for partition in self.partitions:
            done = subprocess.run(shlex.split(command), env=env or {}, input="".join(f"{x}\n" for x in partition), stdout=subprocess.PIPE, text=True)
            if checkCode and done.returncode:
                raise RuntimeError("Pipe function `%s' exited with error code %d" % (command, done.returncode))
            made.append(done.stdout.splitlines())
        return RDD(made)
    def collect(self): return [x for partition in self.partitions for x in partition]
    def count(self): return len(self.collect())

class SparkContext:
    def parallelize(self, items, numSlices):
        items = list(items)
        return RDD([items[i * len(items) // numSlices:(i + 1) * len(items) // numSlices] for i in range(numSlices)])

class SparkSession:
    class builder:
        @classmethod
        def appName(cls, name): return cls
        @classmethod
        def getOrCreate(cls): return SparkSession()
    sparkContext = SparkContext()
'''


class Jobs(Case):
    def setUp(self):
        super().setUp()
        self.bin = self.dir / "bin with a blank"
        self.bin.mkdir()
        (self.bin / "reco").symlink_to(RECO)
        self.pairs(70)
        with open(self.dir / "pairs.csv", "a") as file: file.write("none.png,nothing,x\n")
        self.reco("bank", "build", "--quiet", "--model", MODEL, "--pairs", "pairs.csv", "--out", "whole")

    def run_with(self, *command, **environment):
        return subprocess.run([str(x) for x in command], cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300,
                              env={**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", **environment})

    def assert_whole(self, bank):
        for name in ("whole", bank): self.reco("bank", "export", name, "--out", f"{name}-out")
        self.assertEqual(self.rows(bank), self.rows("whole"))
        for side in ("img_emb", "text_emb"):
            self.assertEqual(*(npy(self.dir / f"{name}-out/{side}/{side}_0.npy") for name in ("whole", bank)))
        self.assertEqual(*(jsonl(self.dir / name / "failures.jsonl") for name in ("whole", bank)))

    def test_slurm(self):
        """As the comments of the script say it."""
        stub, spool = self.bin / "sbatch", self.dir / "spool"
        stub.write_text(f"#!{sys.executable} -B\n{SBATCH}")
        stub.chmod(0o755)
        spool.mkdir()
        script = SOURCE / "examples" / "slurm.sh"
        hook = os.environ.get("RECO_TEST_HOOK", "")
        if hook:
            (self.dir / "hook.so").symlink_to(hook)
            hook = str(self.dir / "hook.so")
        first = self.run_with("sbatch", "--parsable", f"--export=ALL,MODEL={MODEL},PAIRS=pairs.csv,BANK=shop.bank", script, SPOOL=str(spool),
                              **({"LD_PRELOAD": hook} if hook else {}))
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertEqual(len(list((self.dir / "shop.bank.parts").iterdir())), 64)
        self.assertEqual((spool / "requeued").exists(), bool(hook))  # one was killed
        self.assertEqual(list(spool.glob("*.failed")), [])
        merge = [line for line in script.read_text().splitlines() if "--wrap" in line][0].split('"')[1]
        done = self.run_with("sbatch", f"--dependency=afterok:{first.stdout.strip()}", "--wrap", merge, SPOOL=str(spool))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assert_whole("shop.bank")

    def test_spark(self):
        stubs = self.dir / "stubs/pyspark"
        stubs.mkdir(parents=True)
        (stubs / "__init__.py").touch()
        (stubs / "sql.py").write_text(PYSPARK)
        run = lambda *arguments: self.run_with(sys.executable, "-B", SOURCE / "examples/spark.py", *arguments, PYTHONPATH=str(stubs.parent))
        done = run("pairs.csv", MODEL, "spark.bank", 9)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_whole("spark.bank")
        done = run("none.csv", MODEL, "b.bank", 2)
        self.assertNotEqual(done.returncode, 0)
        self.assertFalse((self.dir / "b.bank").exists())


if __name__ == "__main__":
    unittest.main()
