"""Build a bank on many machines: ``python -m reco.ray build --pairs LIST --out BANK --model DIR --shards N``.

Ray runs the parts (``shard=I, shards=N``) on the machines of its cluster, and runs a part again if its machine died; it then continues
from its last commit. At the end the parts are merged. All machines see the same files under the same names.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import shutil
import sys
from typing import Any, Dict, Optional, Sequence

from . import errors, set_threads
from .bank import Bank
from .model import Model

try:
    import ray
except ImportError as error:
    raise ImportError("reco.ray needs Ray: pip install 'reco[ray]'") from error


@functools.lru_cache(maxsize=1)
def _model(path: str, precision: str) -> Model:
    return Model(path, precision=precision)


def _part(folder: str, shard: int, shards: int, source: dict[str, Any], model: Optional[str], precision: str, threads: int,
          options: dict[str, Any]) -> dict[str, Any]:
    """Build one part as a bank of its own, on some machine. If it is run again, it continues."""
    os.chdir(folder)  # that pictures with relative names are found, as they are here
    set_threads(threads)
    encoder = _model(model, precision) if model is not None else None
    bank = Bank.build(source["part"], model=encoder, shard=shard, shards=shards, progress=False, **source["from"], **options)
    assert bank.last is not None
    return {"shard": shard, "rows": len(bank), "failures": bank.last.counts.get("failures", 0), "embedded": bank.last.counts.get("embedded", 0)}


def build(out: str, *, shards: int, model: Optional[str] = None, pairs: Optional[str] = None, tars: Optional[Sequence[str]] = None,
          embeddings: Optional[str] = None, parts: Optional[str] = None, precision: str = "auto", threads: int = 1, retries: int = 10,
          several_captions: bool = False, keep_parts: bool = False, **options: Any) -> Bank:
    """Build a bank on the cluster that ``ray.init`` has joined.

    Parameters
    ----------
    out
        The bank to create; it appears once it is complete.
    shards
        Number of parts, several for each machine, so that a slow one does fewer.
    pairs, tars, embeddings, model, precision, options
        As in :meth:`reco.Bank.build`; paths must be the same on every machine.
    parts
        A folder for the parts, on the same file system as ``out`` (default: ``OUT.parts``). It is removed at the end, unless ``keep_parts`` is set.
    threads
        Threads of each part; the cluster reserves as many processors for it.
    retries
        How often a part is started again if its machine died; -1: without limit.
    """
    given = {name: value for name, value in (("pairs", pairs), ("tars", tars), ("embeddings", embeddings)) if value is not None}
    if len(given) != 1:
        raise ValueError("want one of pairs, tars and embeddings")
    if shards < 1:
        raise ValueError(f"shards = {shards}, want at least 1")
    out = os.path.abspath(out)
    folder = os.path.abspath(parts) if parts is not None else out + ".parts"
    names = [os.path.join(folder, f"{i}-of-{shards}") for i in range(1, shards + 1)]
    there = os.path.exists(os.path.join(out, "bank.sqlite"))
    if there and not os.path.isdir(folder):
        raise errors.Exists(f"{out}: is already a bank")
    if not there:
        os.makedirs(folder, exist_ok=True)
        how: Dict[str, Any] = {"max_retries": retries, "retry_exceptions": [errors.Busy], "num_cpus": threads}
        task = ray.remote(**how)(_part)
        waiting = [task.remote(os.getcwd(), i, shards, {"part": name, "from": given}, model, precision, threads,
                               {"several_captions": several_captions, **options}) for i, name in enumerate(names, 1)]
        while waiting:
            done, waiting = ray.wait(waiting)
            ray.get(done)  # an error of a part is one of the job: when it is run again, the others are there
    bank = Bank.merge(out, names, several_captions=several_captions)
    if not keep_parts:
        shutil.rmtree(folder, ignore_errors=True)
    return bank


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reco.ray", description="Build a bank on a Ray cluster.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("build", help="build a bank in parts, and merge them")
    source = verb.add_mutually_exclusive_group(required=True)
    source.add_argument("--pairs", metavar="FILE")
    source.add_argument("--tars", metavar="TAR", nargs="+")
    source.add_argument("--embeddings", metavar="DIR")
    verb.add_argument("--out", metavar="BANK", required=True)
    verb.add_argument("--model", metavar="DIR")
    verb.add_argument("--precision", default="auto", choices=("auto", "f32", "bf16", "int8"))
    verb.add_argument("--shards", type=int, required=True, metavar="N")
    verb.add_argument("--parts", metavar="DIR", help="a folder for the parts (default: BANK.parts)")
    verb.add_argument("--keep-parts", action="store_true")
    verb.add_argument("--several-captions", action="store_true")
    verb.add_argument("--threads", type=int, default=1, metavar="N", help="of each part (default: 1)")
    verb.add_argument("--retries", type=int, default=10, metavar="N", help="of a part whose machine died (default: 10; -1: for ever)")
    verb.add_argument("--address", help="of a cluster (default: RAY_ADDRESS, else this machine alone)")
    args = parser.parse_args(arguments)
    if args.pairs and not args.model or args.tars and not args.model:
        parser.error("--pairs and --tars go with --model")
    if args.shards < 1:
        print(f"reco.ray: shards = {args.shards}, want at least 1", file=sys.stderr)
        return 1
    ray.init(address=args.address, log_to_driver=False, logging_level=logging.ERROR)
    options = {k: v for k, v in vars(args).items() if k not in ("verb", "out", "address")}
    try:
        bank = build(args.out, **options)
    except ray.exceptions.RayTaskError as error:
        print(f"reco.ray: {error.cause}", file=sys.stderr)
        return 1
    except (errors.Error, ray.exceptions.RayError) as error:
        print(f"reco.ray: {error}", file=sys.stderr)
        return 1
    finally:
        ray.shutdown()
    print(json.dumps({"rows": len(bank), "bank": bank.path}))
    return 0


if __name__ == "__main__":
    from reco.ray import main as main_by_name  # by which the other machines find it

    sys.exit(main_by_name())
