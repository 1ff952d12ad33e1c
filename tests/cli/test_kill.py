"""kill -9 at random moments: the next run of the same command succeeds, and what it leaves is whole."""
import os
import random
import signal
import subprocess
import time
import unittest

from common import MODEL, RECO, Case, jsonl, npy

MOMENTS = int(os.environ.get("RECO_TEST_MOMENTS", 20))


class Kill(Case):
    def span(self, *arguments):
        start = time.monotonic()
        self.reco(*arguments)
        return time.monotonic() - start

    def whole(self, bank, n):
        """Every row holds its own picture, caption and uri."""
        info = self.json("bank", "info", bank)
        self.assertEqual((info["rows"], info["complete"]), (n, True))
        files = sorted(p.name for p in (self.dir / bank / "vectors").iterdir())
        self.assertEqual(len(files), info["segments"], files)
        for i in (0, n // 2, n - 1):
            hit = self.json("search", "--model", MODEL, "--bank", bank, "--image", f"pictures/{i:04d}.png", "-k", "1")["hits"][0]
            self.assertEqual((hit["uri"], hit["caption"]), (f"pictures/{i:04d}.png", f"thing {i}, a thing"))
            self.assertAlmostEqual(hit["score"], 1, places=3)

    def test_build(self):
        pairs = self.pairs(150)
        span = self.span("bank", "build", "--model", MODEL, "--pairs", pairs, "--out", "timing")
        rng = random.Random(1)
        for i in range(MOMENTS):
            command = ["bank", "build", "--model", MODEL, "--pairs", pairs, "--out", f"b{i}"]
            self.killed(command, rng.random() * span)
            self.reco(*command)
            self.whole(f"b{i}", 150)

    def test_add(self):
        pairs, more = self.pairs(20), self.pairs(150, "more.csv", first=20)
        self.reco("bank", "build", "--model", MODEL, "--pairs", pairs, "--out", "timing")
        span = self.span("bank", "add", "--model", MODEL, "--pairs", more, "timing")
        rng = random.Random(2)
        for i in range(MOMENTS):
            self.reco("bank", "build", "--model", MODEL, "--pairs", pairs, "--out", f"b{i}")
            command = ["bank", "add", "--model", MODEL, "--pairs", more, f"b{i}"]
            self.killed(command, rng.random() * span)
            self.assertIn(self.json("bank", "info", f"b{i}")["rows"], (20, 170))
            self.reco(*command)
            self.whole(f"b{i}", 170)

    def test_train(self):
        self.reco("bank", "build", "--model", MODEL, "--pairs", self.pairs(60), "--out", "b")
        command = ["train", "--bank", "b", "--steps", "60", "--seed", "3", "--out"]
        span = self.span(*command, "want.safetensors", "--log", "want.jsonl")
        whole = jsonl(self.dir / "want.jsonl")
        want = (self.dir / "want.safetensors").read_bytes()
        rng = random.Random(3)
        for i in range(MOMENTS):
            log = ["--log", f"log{i}.jsonl"]
            self.killed([*command, f"f{i}.safetensors", *log], rng.random() * span)
            self.reco(*command, f"f{i}.safetensors", *log)
            self.assertEqual((self.dir / f"f{i}.safetensors").read_bytes(), want)
            lines = jsonl(self.dir / f"log{i}.jsonl")
            self.assertEqual((lines[0]["event"], lines[-1]["event"]), ("start", "end"))
            for event in ("step", "validation"):
                at = [(line["run"], line["step"]) for line in lines if line["event"] == event]
                self.assertEqual(at, [(line["run"], line["step"]) for line in whole if line["event"] == event])
        left = sorted(p.name for p in self.dir.iterdir() if p.name.startswith("f"))
        self.assertEqual(left, sorted(f"f{i}.safetensors" for i in range(MOMENTS)))

    def test_study(self):
        """What was cut off goes on to the same tables, cells and layers, and leaves nothing else."""
        self.pairs(24)
        (self.dir / "classes.txt").write_text("".join(f"thing {i}, a thing\n" for i in range(24)))
        (self.dir / "labels.csv").write_text("image,label\n" + "".join(f'pictures/{i:04d}.png,"thing {i}, a thing"\n' for i in range(24)))
        (self.dir / "s.toml").write_text(f'''model = "{MODEL}"
classes = "classes.txt"
bank = "pairs.csv"
queries = "labels.csv"
seeds = [0, 1]
[train]
steps = 20
[rows]
controls = true
k = [1, 3]
wrong = [50]
''')
        command = ["study", "s.toml", "--out"]

        def files(out):
            """But for banks, whose segments are as they were committed, and whose content the cells are named by."""
            return {str(p.relative_to(self.dir / out)): p.read_bytes() for p in (self.dir / out).rglob("*")
                    if p.is_file() and "banks" not in p.parts and p.name != "writer.lock"}

        span = self.span(*command, "want")
        want = files("want")
        self.assertEqual(sum(name.startswith("checkpoints/") for name in want), 4, want.keys())
        rng = random.Random(6)
        for i in range(MOMENTS):
            out = f"s{i}"
            for _ in range(rng.randrange(1, 3)):
                self.killed([*command, out], rng.random() * span)
            self.reco(*command, out)
            got = files(out)
            self.assertEqual(got.keys(), want.keys())
            for name, content in want.items():
                self.assertEqual(got[name], content, name)
            self.assertEqual(sorted(p.name for p in (self.dir / out / "banks").iterdir()),
                             sorted(p.name for p in (self.dir / "want/banks").iterdir()))

    def test_train_auto(self):
        self.reco("bank", "build", "--model", MODEL, "--pairs", self.pairs(60), "--out", "b")
        command = ["train", "--bank", "b", "--layer", "auto", "--steps", "30", "--out"]
        span = self.span(*command, "want")
        rng = random.Random(4)
        for i in range(3):
            for _ in range(2):
                self.killed([*command, "f"], rng.random() * span)
            self.reco(*command, "f")
            self.assertEqual((self.dir / "f").read_bytes(), (self.dir / "want").read_bytes())
            self.assertEqual([p.name for p in self.dir.iterdir() if p.name.startswith("f.")], [])
            (self.dir / "f").unlink()

    def test_embed(self):
        self.pictures(60)
        command = ["embed", "--model", MODEL, "--images", "pictures", "--out"]
        span = self.span(*command, "want")
        rng = random.Random(4)
        for i in range(5):
            self.killed([*command, f"e{i}"], rng.random() * span)
            self.reco(*command, f"e{i}")
            self.assertEqual(npy(self.dir / f"e{i}/img_emb/img_emb_0.npy"), npy(self.dir / "want/img_emb/img_emb_0.npy"))

    def cut_off(self, command, out):
        """Kill the command once its state is on the disk."""
        process = subprocess.Popen([RECO, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.dir)
        state = self.dir / out / ".embed.json"
        while not state.exists():
            self.assertIsNone(process.poll(), "it ended before its first checkpoint")
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertTrue(state.exists(), "killed too late")
        self.assertFalse((self.dir / out / "metadata/metadata_0.jsonl").exists())

    def same_folder(self, a, b):
        files = [{str(p.relative_to(self.dir / name)): p.read_bytes() for p in (self.dir / name).rglob("*") if p.is_file()}
                 for name in (a, b)]
        self.assertEqual(files[0].keys(), files[1].keys())
        for name, data in files[0].items():
            self.assertEqual(data, files[1][name], name)

    def test_embed_goes_on(self):
        self.pictures(20)
        paths = [f"pictures/{i % 20:04d}.png" for i in range(9000)]
        paths[10] = paths[8990] = "missing.png"
        (self.dir / "list.txt").write_text("".join(f"{p}\n" for p in paths))
        (self.dir / "other.txt").write_text("".join(f"{p}\n" for p in paths[1:]))
        (self.dir / "captions.txt").write_bytes(b"".join(b"thing %d \xff\n" % i for i in range(40000)))
        images = ["embed", "--model", MODEL, "--images", "list.txt", "--out"]
        texts = ["embed", "--model", MODEL, "--texts", "captions.txt", "--out"]
        for command, name in ((images, "i"), (texts, "t")):
            want = self.json(*command, f"{name}-want")
            self.assertEqual(want["resumed"], 0)
            self.cut_off([*command, name], name)
            got = self.json(*command, name)
            self.assertGreaterEqual(got["resumed"], 1024)
            for key in ("rows", "failures", "repaired"):
                self.assertEqual(got[key], want[key], key)
            self.same_folder(name, f"{name}-want")
        self.cut_off([*images, "o"], "o")  # other pictures, another type: nothing of it is used
        other = self.json("embed", "--model", MODEL, "--images", "other.txt", "--out", "o")
        self.assertEqual((other["resumed"], other["rows"]), (0, 8997))
        self.cut_off([*images, "f"], "f")
        self.assertEqual(self.json(*images, "f", "--dtype", "float32")["resumed"], 0)
        self.cut_off([*images, "d"], "d")  # a part is gone
        (self.dir / "d/metadata/.metadata_0.jsonl.part").unlink()
        self.assertEqual(self.json(*images, "d")["resumed"], 0)
        self.same_folder("d", "i-want")

    def test_one_embeds_at_a_time(self):
        self.pictures(20)
        (self.dir / "list.txt").write_text("".join(f"pictures/{i % 20:04d}.png\n" for i in range(9000)))
        command = ["embed", "--model", MODEL, "--images", "list.txt", "--out", "o"]
        first = subprocess.Popen([RECO, *map(str, command)], stdout=subprocess.DEVNULL, cwd=self.dir)
        while not (self.dir / "o/.embed.json").exists():
            time.sleep(0.001)
        first.send_signal(signal.SIGSTOP)
        self.fails(*command, says=["img_emb_0.npy", "another process is writing it"])
        first.send_signal(signal.SIGCONT)
        self.assertEqual(first.wait(), 0)
        self.assertEqual(len(npy(self.dir / "o/img_emb/img_emb_0.npy")[1]), 9000)


if __name__ == "__main__":
    unittest.main()
