import json
import os
import subprocess
import unittest

from common import MODEL, RECO, SOURCE, Case, jsonl, npy, write_png


class Embed(Case):
    def bad_files(self):
        """(path, word of its reason) of everything that can be wrong with a picture."""
        jpeg = (SOURCE / "tests" / "golden" / "image" / "rgb.jpg").read_bytes()
        bad = {"truncated.jpg": jpeg[:len(jpeg) // 2], "text.png": b"this is no picture\n", "empty.png": b""}
        for name, data in bad.items():
            (self.dir / name).write_bytes(data)
        (self.dir / "folder.png").mkdir()
        write_png(self.dir / "huge.png", 60000, 60000, b"")
        return [*(self.dir / name for name in bad), self.dir / "folder.png", self.dir / "huge.png", self.dir / "missing.png"]

    def test_bad_among_good(self):
        good, bad = self.pictures(100), self.bad_files()
        mixed = list(good)
        for i, path in enumerate(bad):
            mixed.insert(3 + 17 * i, path)
        (self.dir / "list.txt").write_text("".join(f"{p}\n" for p in mixed))
        (self.dir / "good.txt").write_text("".join(f"{p}\n" for p in good))
        result = self.json("embed", "--model", MODEL, "--images", "list.txt", "--out", "a")
        self.assertEqual((result["rows"], result["failures"]), (100, 6))
        self.reco("embed", "--model", MODEL, "--images", "good.txt", "--out", "b")
        self.assertEqual(npy(self.dir / "a/img_emb/img_emb_0.npy"), npy(self.dir / "b/img_emb/img_emb_0.npy"))
        self.assertEqual([row["image_path"] for row in jsonl(self.dir / "a/metadata/metadata_0.jsonl")], [str(p) for p in good])
        failed = jsonl(self.dir / "a/failures.jsonl")
        self.assertEqual([row["item"] for row in failed], [str(p) for p in bad])
        self.assertEqual([row["row"] for row in failed], [3 + 17 * i for i in range(6)])
        for row in failed:
            self.assertIn(row["item"], row["reason"])
        self.assertFalse((self.dir / "b/failures.jsonl").exists())
        for threads, batch in ((1, 64), (2, 3), (2, 106), (3, 7), (5, 31)):  # whole pieces, and batches too small for them
            self.reco("embed", "--model", MODEL, "--images", "list.txt", "--out", "c", "--threads", threads, "--batch", batch)
            for name in ("img_emb/img_emb_0.npy", "metadata/metadata_0.jsonl", "failures.jsonl"):
                self.assertEqual((self.dir / "c" / name).read_bytes(), (self.dir / "a" / name).read_bytes(), (threads, batch))
        done = self.reco("embed", "--model", MODEL, "--images", "list.txt", "--out", "a", "--strict", code=1)
        self.assertIn("6 skipped, listed in failures.jsonl", done.stderr)

    def test_types(self):
        self.pictures(3)
        for dtype, code in (("float16", "<f2"), ("float32", "<f4")):
            self.reco("embed", "--model", MODEL, "--images", "pictures", "--out", dtype, "--dtype", dtype, "--precision", "f32")
            descr, rows = npy(self.dir / dtype / "img_emb/img_emb_0.npy")
            self.assertEqual((descr, len(rows), len(rows[0])), (code, 3, 16))
            for row in rows:
                self.assert_unit(row)

    def test_texts(self):
        (self.dir / "texts.txt").write_text("a cat\n\na dog on a roof\r\nlast, without an end")
        result = self.json("embed", "--model", MODEL, "--texts", "texts.txt", "--out", "t")
        self.assertEqual(result["rows"], 4)
        self.assertEqual([row["caption"] for row in jsonl(self.dir / "t/metadata/metadata_0.jsonl")],
                         ["a cat", "", "a dog on a roof", "last, without an end"])
        for row in npy(self.dir / "t/text_emb/text_emb_0.npy")[1]:
            self.assert_unit(row)

    def test_a_caption_with_a_nul(self):
        (self.dir / "texts.txt").write_bytes(b"a cat\nb\0c\nan owl\n")
        result = self.json("embed", "--model", MODEL, "--texts", "texts.txt", "--out", "t")
        self.assertEqual((result["rows"], result["failures"]), (2, 1))
        self.assertEqual(jsonl(self.dir / "t/failures.jsonl"), [{"row": 1, "item": "caption", "reason": "holds a NUL byte"}])
        self.assertEqual([row["caption"] for row in jsonl(self.dir / "t/metadata/metadata_0.jsonl")], ["a cat", "an owl"])

    def test_both_sides_in_one_folder(self):
        self.pictures(4)
        (self.dir / "texts.txt").write_text("a cat\na dog\nan owl\na hat\n")
        (self.dir / "fewer.txt").write_text("a cat\na dog\n")
        self.reco("embed", "--model", MODEL, "--images", "pictures", "--out", "o")
        self.reco("embed", "--model", MODEL, "--texts", "texts.txt", "--out", "o")
        want = [{"caption": caption, "image_path": f"pictures/{i:04d}.png"}
                for i, caption in enumerate(("a cat", "a dog", "an owl", "a hat"))]
        self.assertEqual(jsonl(self.dir / "o/metadata/metadata_0.jsonl"), want)
        self.reco("bank", "build", "--embeddings", "o", "--out", "b")
        rows = [json.loads(line) for line in self.reco("bank", "list", "b", "--json").stdout.splitlines()]
        self.assertEqual([(row["caption"], row["uri"]) for row in rows], [(w["caption"], w["image_path"]) for w in want])
        self.reco("embed", "--model", MODEL, "--texts", "fewer.txt", "--out", "o")
        self.assertEqual(jsonl(self.dir / "o/metadata/metadata_0.jsonl"), [{"caption": "a cat"}, {"caption": "a dog"}])

    def peak(self, n):
        """Peak resident KB of embedding n pictures."""
        (self.dir / "list.txt").write_text("".join(f"pictures/{i % 20:04d}.png\n" for i in range(n)))
        process = subprocess.Popen([RECO, "embed", "--model", MODEL, "--images", "list.txt", "--out", "m", "--quiet"],
                                   cwd=self.dir, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        self.assertEqual(status, 0)
        return usage.ru_maxrss

    @unittest.skipIf("ASAN_OPTIONS" in os.environ, "a sanitizer keeps freed memory")
    def test_memory_does_not_grow(self):
        self.pictures(20)
        self.assertLess(self.peak(3000) - self.peak(200), 4000)

    def test_threads_and_batches_make_no_difference(self):
        self.pictures(9)
        outputs = []
        for threads, batch in ((1, 1), (2, 4), (2, 64)):
            self.reco("embed", "--model", MODEL, "--images", "pictures", "--out", "o", "--dtype", "float32", "--precision", "f32",
                      "--threads", threads, "--batch", batch)
            outputs.append(npy(self.dir / "o/img_emb/img_emb_0.npy")[1])
        for other in outputs[1:]:
            for a, b in zip(outputs[0], other):
                self.assertLess(max(abs(x - y) for x, y in zip(a, b)), 1e-5)


if __name__ == "__main__":
    unittest.main()
