#!/usr/bin/env python3
"""The demo: a memory of old emoji, a fusion trained on old emoji, then new emoji join the memory and nothing is retrained.

    demo/run.py --reco build/cli/reco --out demo/out

Standard library and Pillow (for emoji.py) alone. Writes OUT/results.json and OUT/index.html, and prints the table.
"""
import argparse
import csv
import json
import os
import pathlib
import subprocess
import sys
import time

import emoji
import page

DEMO = pathlib.Path(__file__).resolve().parent
# name: (checkpoint or control, sides to refine; None = what training chose, or the control's own)
METHODS = {
    "vote": ("vote", "image"),
    "mean": ("mean", None),
    "weighted": ("weighted.safetensors", None),
    "transformer": ("transformer.safetensors", None),
    "transformer_rotate": ("transformer_rotate.safetensors", None),
    "reco": ("relational.safetensors", None),
    "reco_text": ("relational.safetensors", "text"),
    "reco_image": ("relational.safetensors", "image"),
    "reco_both": ("relational.safetensors", "both"),
}
TRAIN = {
    "relational": ["--layer", "relational"],
    "transformer": ["--layer", "transformer"],
    "transformer_rotate": ["--layer", "transformer", "--rotate"],
    "weighted": ["--layer", "weighted"],
}


class Demo:
    def __init__(self, reco, out, model):
        self.reco = pathlib.Path(reco).resolve()
        self.out = pathlib.Path(out).resolve()
        self.model = pathlib.Path(model).resolve()
        self.data = self.out / "emoji"
        self.memory = self.out / "memory.bank"

    def run(self, *arguments):
        """One reco command; its JSON."""
        command = [str(self.reco), *map(str, arguments), "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"demo: {' '.join(command)} failed")
        return json.loads(done.stdout)

    def prepare(self):
        if not (self.data / "classes.txt").exists():
            emoji.write_demo(emoji.load_emoji(self.out / "packages"), self.data)
        built = self.run("bank", "build", "--model", self.model, "--pairs", self.data / "bank_old.csv", "--out", self.memory)
        print(f"memory: {built['rows']} old emoji as Noto drew them, with their names")

    def train(self):
        """Old emoji alone: EmojiOne's drawings and names against a memory of Noto's."""
        self.training = {}
        for name, options in TRAIN.items():
            checkpoint, report = self.out / f"{name}.safetensors", self.out / f"{name}.json"
            if not checkpoint.exists() or not report.exists():
                made = self.run("train", "--model", self.model, "--bank", self.memory, "--pairs", self.data / "train_old.csv",
                                "--cache", self.out / "train.bank", "--out", checkpoint, "--quiet", *options)
                report.write_text(json.dumps(made))
            self.training[name] = json.loads(report.read_text())
            print(f"trained {name}: refines {self.training[name]['refine']}, {self.training[name]['seconds']:.0f} s")

    def evaluate(self, what, details=None):
        """Accuracy of every method on OUT/emoji/labels_WHAT.csv; plain CLIP comes with each."""
        rows = {}
        for name, (fusion, sides) in METHODS.items():
            fusion = self.out / fusion if fusion.endswith(".safetensors") else fusion
            options = ["--refine", sides] if sides else []
            options += [] if name == "reco" else ["--mixture", "off"]  # cosines alone
            if details and name == "reco":
                options += ["--details", details]
            result = self.run("eval", "--model", self.model, "--bank", self.memory, "--fusion", fusion, "--classes",
                              self.data / "classes.txt", "--labels", self.data / f"labels_{what}.csv", *options)
            rows["clip"] = result["clip"]["acc1"]
            rows[name] = result["reco"]["acc1"]
            self.counts[what], self.classes = result["images"], result["classes"]
        return rows

    def measure(self):
        self.counts = {}
        results = {"new_before_adding": self.evaluate("new")}
        added = self.run("bank", "add", "--model", self.model, "--pairs", self.data / "bank_new.csv", self.memory)
        print(f"memory: {added['added']} new emoji added, nothing retrained")
        results["old"] = self.evaluate("old", self.out / "details_old.jsonl")
        results["new"] = self.evaluate("new", self.out / "details_new.jsonl")
        with open(self.data / "bank_new.csv", newline="", encoding="utf-8") as file:
            uris = [row["image"] for row in csv.DictReader(file)]
        gone = self.run("bank", "delete", self.memory, "--uri", *uris)
        print(f"memory: {gone['deleted']} new emoji deleted")
        results["new_after_deleting"] = self.evaluate("new")
        old, new = results["old"], results["new"]
        total = self.counts["old"] + self.counts["new"]
        results["harmonic_mean"] = {m: 2 * old[m] * new[m] / (old[m] + new[m]) if old[m] + new[m] else 0 for m in old}
        results["all"] = {m: (old[m] * self.counts["old"] + new[m] * self.counts["new"]) / total for m in old}
        for rows in results.values():
            rows["classes"] = self.classes
        results["mixture"] = self.training["relational"]["mixture"]
        results["chosen"] = {name: made["refine"] for name, made in self.training.items()}
        return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reco", required=True)
    parser.add_argument("--out", default=DEMO / "out")
    parser.add_argument("--model", default=DEMO / "model", help="another model folder")
    parser.add_argument("--serve", action="store_true", help="then show it at http://127.0.0.1:1234/, new emoji in memory")
    arguments = parser.parse_args()
    start = time.time()
    demo = Demo(arguments.reco, arguments.out, arguments.model)
    demo.out.mkdir(parents=True, exist_ok=True)
    demo.prepare()
    demo.train()
    results = demo.measure()
    (demo.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (demo.out / "index.html").write_text(page.render(results, demo.out, demo.data), encoding="utf-8")
    print()
    print(page.text_table(results))
    print(f"\n{demo.out / 'results.json'} and {demo.out / 'index.html'}, {time.time() - start:.0f} s")
    if not arguments.serve:
        print("scripts/demo --serve shows a page to search and classify with, at http://127.0.0.1:1234/")
        return
    demo.run("bank", "undelete", demo.memory, "--all")
    print("http://127.0.0.1:1234/ until Ctrl-C", flush=True)
    os.execv(demo.reco, [str(demo.reco), "serve", "--quiet", "--model", str(demo.model), "--bank", str(demo.memory), "--fusion",
                         str(demo.out / "relational.safetensors")])


if __name__ == "__main__":
    main()
