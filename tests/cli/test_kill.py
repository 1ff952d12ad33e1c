"""kill -9 at random moments: the next run of the same command succeeds, and what it leaves is whole."""
import os
import random
import time
import unittest

from common import MODEL, Case, npy

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
        span = self.span(*command, "want.safetensors")
        want = (self.dir / "want.safetensors").read_bytes()
        rng = random.Random(3)
        for i in range(MOMENTS):
            self.killed([*command, f"f{i}.safetensors"], rng.random() * span)
            self.reco(*command, f"f{i}.safetensors")
            self.assertEqual((self.dir / f"f{i}.safetensors").read_bytes(), want)
        left = sorted(p.name for p in self.dir.iterdir() if p.name.startswith("f"))
        self.assertEqual(left, sorted(f"f{i}.safetensors" for i in range(MOMENTS)))

    def test_embed(self):
        self.pictures(60)
        command = ["embed", "--model", MODEL, "--images", "pictures", "--out"]
        span = self.span(*command, "want")
        rng = random.Random(4)
        for i in range(5):
            self.killed([*command, f"e{i}"], rng.random() * span)
            self.reco(*command, f"e{i}")
            self.assertEqual(npy(self.dir / f"e{i}/img_emb/img_emb_0.npy"), npy(self.dir / "want/img_emb/img_emb_0.npy"))


if __name__ == "__main__":
    unittest.main()
