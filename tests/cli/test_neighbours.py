"""train --neighbours: what the pairs retrieve is found once, and kept."""
import json
import random
import struct
import unittest

from common import Case, checkpoint, write_npy

N, D = 900, 8


class Neighbours(Case):
    def setUp(self):
        super().setUp()
        rng = random.Random(1)
        centres = [[rng.gauss(0, 1) for _ in range(D)] for _ in range(60)]
        rows = [[[c + rng.gauss(0, 0.4) for c in centres[i % 60]] for i in range(N)] for _ in range(2)]
        for side, vectors in zip(("img_emb", "text_emb"), rows): write_npy(self.dir / f"e/{side}/{side}_0.npy", vectors)
        (self.dir / "e/metadata").mkdir()
        (self.dir / "e/metadata/metadata_0.jsonl").write_text("".join(json.dumps({"image_path": f"/{i}.jpg", "caption": f"thing {i}"}) + "\n" for i in range(N)))
        self.reco("bank", "build", "--quiet", "--embeddings", "e", "--out", "b")

    def train(self, out, *more):
        return ["train", "--quiet", "--bank", "b", "--out", out, "--layer", "transformer", "--steps", 4, "--batch", 32, *more]

    def test_same(self):
        """With the file, without it, and with one that is there: the same checkpoint."""
        self.reco(*self.train("plain"))
        want = checkpoint(self.dir / "plain")
        self.reco(*self.train("first", "--neighbours", "near"))
        self.assertTrue(checkpoint(self.dir / "first") == want)
        kept = (self.dir / "near").read_bytes()
        self.assertEqual(len(kept), 128 + N * (100 + 30) * 12)
        self.reco(*self.train("second", "--neighbours", "near"))
        self.assertTrue(checkpoint(self.dir / "second") == want)
        self.assertEqual((self.dir / "near").read_bytes(), kept)
        # Cut off after 512 pairs of the first list, and of the second: what is behind is searched, and nothing before.
        for done, first in ((512, 128 + 512 * 100 * 8), (N + 256, 128 + N * 100 * 12 + 256 * 30 * 8)):
            cut = bytearray(kept)
            struct.pack_into("<Q", cut, 88, done)
            cut[first:first + 800] = b"\x7f" * 800
            (self.dir / "near").write_bytes(cut)
            self.reco(*self.train("again", "--neighbours", "near"))
            self.assertTrue(checkpoint(self.dir / "again") == want)
            self.assertEqual((self.dir / "near").read_bytes(), kept)
        # It is used: what it says is what is trained with.
        changed = bytearray(kept)
        for i in range(N):
            first, second = 128 + 800 * i, 128 + 800 * i + 8 * 15
            changed[first:first + 80], changed[second:second + 80] = changed[second:second + 80], changed[first:first + 80]
        (self.dir / "near").write_bytes(changed)
        self.reco(*self.train("third", "--neighbours", "near"))
        self.assertFalse(checkpoint(self.dir / "third")[1] == want[1])
        # Of another layer, too; of another k it is searched anew.
        self.reco(*self.train("other", "--layer", "weighted", "--neighbours", "near"))
        self.reco(*self.train("fourth", "-k", 20, "--neighbours", "near"))
        self.assertNotEqual(len((self.dir / "near").read_bytes()), len(kept))
        self.reco(*self.train("fifth", "--neighbours", "near"))
        self.assertTrue(checkpoint(self.dir / "fifth") == want)
        # A row that is deleted is found no more.
        self.reco("bank", "delete", "b", "--id", 5)
        self.reco(*self.train("sixth"))
        self.reco(*self.train("seventh", "--neighbours", "near"))
        self.assertTrue(checkpoint(self.dir / "sixth") == checkpoint(self.dir / "seventh"))

    def test_others(self):
        """Pairs that are not the bank's own."""
        self.reco(*self.train("plain", "--embeddings", "e"))
        for out in ("first", "second"):
            self.reco(*self.train(out, "--embeddings", "e", "--neighbours", "near"))
            self.assertTrue(checkpoint(self.dir / out) == checkpoint(self.dir / "plain"))

    def test_recall(self):
        """What was found at one recall is not taken for what is found at another."""
        self.reco("bank", "index", "b", "--lists", 60, "--recall", 0.9)
        self.reco(*self.train("exact", "--neighbours", "near", "--exact"))
        exact = (self.dir / "near").read_bytes()
        told = json.loads(self.reco(*self.train("plain", "--json")).stdout)
        self.assertAlmostEqual(told["recall"], 0.9, 6)
        self.reco(*self.train("found", "--neighbours", "near"))
        self.assertNotEqual((self.dir / "near").read_bytes(), exact)
        self.assertTrue(checkpoint(self.dir / "found")[1] == checkpoint(self.dir / "plain")[1])

    def test_bad(self):
        (self.dir / "mine").write_text("precious")
        self.fails(*self.train("o", "--neighbours", "mine"), says=("mine: is not a file of neighbours",))
        self.assertEqual((self.dir / "mine").read_text(), "precious")
        (self.dir / "empty").write_text("")
        self.reco(*self.train("o", "--neighbours", "empty"))
        for offset, kind, value in ((128, "<q", N), (128, "<q", -2), (128, "<q", 2**62), (128 + N * 100 * 8, "<f", float("nan")), (128 + N * 100 * 8, "<f", 7.0)):
            data = bytearray((self.dir / "empty").read_bytes())
            struct.pack_into(kind, data, offset, value)
            (self.dir / "bad").write_bytes(data)
            self.fails(*self.train("p", "--neighbours", "bad"), says=("bad: is damaged; remove it",))
        data = (self.dir / "empty").read_bytes()
        for cut in (b"reco-neighbours1", data[:100], data[:-1], data[:16] + b"x" * 40 + data[56:], data[:88] + b"\xff" * 8 + data[96:]):
            (self.dir / "bad").write_bytes(cut)
            self.reco(*self.train("q", "--neighbours", "bad"))
            self.assertTrue(checkpoint(self.dir / "q") == checkpoint(self.dir / "o"))
        self.fails(*self.train("r", "--neighbours", "b"), says=("b",))

    def test_no_room(self):
        self.fails(*self.train("o", "--neighbours", "/dev/full"), says=("/dev/full",))


if __name__ == "__main__":
    unittest.main()
