"""spark-submit examples/spark.py PAIRS MODEL BANK SHARDS: build a bank on a Spark cluster whose machines see the same files."""
import os
import shlex
import subprocess
import sys

from pyspark.sql import SparkSession

pairs, model, bank, shards = *map(os.path.abspath, sys.argv[1:4]), int(sys.argv[4])
parts = bank + ".parts"
os.makedirs(parts, exist_ok=True)
build = shlex.join(["reco", "bank", "build", "--quiet", "--json", "--model", model, "--pairs", pairs])
script = f'while read i; do {build} --shard $i/{shards} --out {shlex.quote(parts)}/$(printf %05d $i) || exit 1; done'
context = SparkSession.builder.appName("reco").getOrCreate().sparkContext
# Each part is a task, which Spark runs again if its machine dies. Without env, the command would have no PATH.
context.parallelize(range(1, shards + 1), shards).pipe("sh -c " + shlex.quote(script), env=dict(os.environ), checkCode=True).count()
subprocess.run(["reco", "bank", "merge", *(f"{parts}/{i:05}" for i in range(1, shards + 1)), "--out", bank], check=True)
