"""What reaches a terminal, and where output may go."""
import json
import shutil
import signal
import subprocess
import time
import unittest

from common import MODEL, RECO, Case, write_npy

HOSTILE = "red\x1b[2Jkettle \u202egnp.exe\u2066 \x9b31m\x07 \u2028 end \U0001f469\u200d\U0001f680"
SHOWN = "red\\x1b[2Jkettle \\u202egnp.exe\\u2066 \\u009b31m\\x07 \\u2028 end \U0001f469\u200d\U0001f680"
OBEYED = "\x1b\u202e\u2066\x9b\x07\u2028"


class Output(Case):
    def hostile_bank(self):
        write_npy(self.dir / "e/img_emb/img_emb_0.npy", [[1.0] + [0.0] * 15, [0.0, 1.0] + [0.0] * 14])
        write_npy(self.dir / "e/text_emb/text_emb_0.npy", [[1.0] + [0.0] * 15, [0.0, 1.0] + [0.0] * 14])
        (self.dir / "e/metadata").mkdir()
        (self.dir / "e/metadata/metadata_0.jsonl").write_text("".join(
            json.dumps({"caption": f"{i} {HOSTILE}", "image_path": f"{i}{HOSTILE}.jpg"}) + "\n" for i in range(2)))
        self.reco("bank", "build", "--embeddings", "e", "--out", "b")

    def assert_harmless(self, text):
        self.assertEqual([c for c in OBEYED if c in text], [], repr(text))

    def test_hostile_captions_are_shown(self):
        self.hostile_bank()
        for arguments in (["bank", "list", "b"], ["bank", "get", "b", 1], ["search", "--bank", "b", "--near", 0],
                          ["bank", "delete", "b", "--id", 1, "--dry-run"]):
            shown = self.reco(*arguments).stdout
            self.assertIn(SHOWN, shown, arguments)
            self.assert_harmless(shown)
        self.assertEqual(self.rows("b")[0]["caption"], "0 " + HOSTILE)  # JSON has it as it is

    def test_hostile_names_in_errors(self):
        for arguments in (["bank", "info", HOSTILE], ["model", "info", HOSTILE], [HOSTILE],
                          ["search", "--bank", HOSTILE, "--near", 1]):
            done = self.run_raw(*arguments)
            self.assertIn(done.returncode, (1, 2))
            self.assert_harmless(done.stderr)
            self.assertIn("end", done.stderr)
        (self.dir / "list.txt").write_text("no-such" + HOSTILE.replace("\u2028", "") + ".png\n")
        done = self.run_raw("embed", "--model", MODEL, "--images", "list.txt", "--out", "o")
        self.assertIn("no-such", done.stderr)
        self.assert_harmless(done.stderr)

    def test_one_row(self):
        """One of a thing is not several."""
        self.hostile_bank()
        self.assertEqual(self.reco("bank", "delete", "b", "--id", 1).stdout, "1 row deleted, 0 not found\n")
        self.assertEqual(self.reco("bank", "export", "b", "--pairs", "p.jsonl").stdout, "1 row in p.jsonl\n")
        self.assertIn("1 deleted row removed, 1 row in 1 segment ", self.reco("bank", "compact", "b").stdout)
        self.assertIn("1 row (0 deleted) in 1 segment, ", self.reco("bank", "verify", "b").stdout)
        write_npy(self.dir / "q.npy", [[2.0] + [0.0] * 15])
        done = self.reco("search", "--bank", "b", "--queries", "q.npy", "--side", "image", "--out", "h").stdout
        self.assertRegex(done, r"^1 query in .*; 1 was not of norm 1 and was normalised\n$")
        (self.dir / "t.txt").write_text("a cat\n")
        self.assertIn("1 caption embedded in", self.reco("embed", "--model", MODEL, "--texts", "t.txt", "--out", "t").stdout)

    def test_interrupted_where_the_end_is_unknown(self):
        (self.dir / "t.txt").write_text("".join(f"thing {i}\n" for i in range(400000)))
        process = subprocess.Popen([RECO, "embed", "--model", str(MODEL), "--texts", "t.txt", "--out", "t"], cwd=self.dir,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(1000):
            if (self.dir / "t/.embed.json").exists():
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
        self.assertEqual(process.returncode, 1)
        self.assertRegex(said, r"reco: embedding: interrupted at \d+\n$")

    def test_an_output_is_no_input(self):
        """Same folder, another spelling of it, a link to it, or a place within it."""
        self.pictures(3)
        pairs = self.pairs(3)
        (self.dir / "t.txt").write_text("a cat\na dog\nan owl\n")
        self.reco("embed", "--model", MODEL, "--images", "pictures", "--out", "e")
        self.reco("embed", "--model", MODEL, "--texts", "t.txt", "--out", "e")
        self.reco("bank", "build", "--model", MODEL, "--pairs", pairs, "--out", "b")
        (self.dir / "link").symlink_to("e")
        (self.dir / "hard.npy").hardlink_to(self.dir / "e/img_emb/img_emb_0.npy")
        before = {p: p.read_bytes() for p in self.dir.rglob("*") if p.is_file()}
        refine = ["refine", "--bank", "b", "--fusion", "mean", "--embeddings", "e", "--out"]
        search = ["search", "--bank", "b", "--side", "image", "--queries"]
        train = ["train", "--bank", "b", "--embeddings", "e", "--out"]
        for command in ([*refine, "e"], [*refine, "./e/"], [*refine, "link"], [*refine, self.dir / "e"], [*refine, "e/new/deep"], [*refine, "new/../e"], [*refine, "new/more/../../e/"],
                        [*refine, "pictures/../e/img_emb"], [*refine, "b"], [*refine, "b/r"], [*train, "b/f.safetensors"], [*train, "e"],
                        [*train, "e/f.safetensors"], ["train", "--bank", "b", "--model", MODEL, "--pairs", pairs, "--out", pairs],
                        ["train", "--bank", "b", "--model", MODEL, "--pairs", pairs, "--out", "f", "--cache", "b"],
                        [*search, "hard.npy", "--out", "b/h"], ["embed", "--model", MODEL, "--images", "pictures", "--out", "pictures"],
                        ["embed", "--model", MODEL, "--images", ".", "--out", "pictures"],
                        ["embed", "--model", MODEL, "--texts", "t.txt", "--out", MODEL], ["bank", "export", "b", "--out", "b/x"],
                        ["bank", "export", "b", "--pairs", "b/bank.sqlite"], ["bank", "build", "--embeddings", "e", "--out", "e/b"],
                        ["bank", "build", "--embeddings", "e", "--out", "link"], ["model", "check", MODEL, "--texts", "t.txt", "--out", MODEL]):
            self.assertRegex(self.fails(*command), "is the input|lies within the input|holds pictures of the input|is a directory")
        (self.dir / "h").mkdir()
        (self.dir / "h/ids.npy").hardlink_to(self.dir / "hard.npy")
        self.fails(*search, "hard.npy", "--out", "h", says=["is the input"])
        (self.dir / "h/ids.npy").unlink()
        (self.dir / "h").rmdir()
        self.assertEqual({p: p.read_bytes() for p in self.dir.rglob("*") if p.is_file()}, before)

    def test_embeddings_among_the_pictures(self):
        """Below the folder of the pictures, where they are neither pictures nor others, however often it is run."""
        self.pictures(3)
        (self.dir / "notes.txt").write_text("mine\n")
        for images, out in ((".", "e"), ("pictures", "pictures/deep/emb"), (".", "e")):
            others = images == "."
            for _ in range(2):
                done = self.json("embed", "--model", MODEL, "--images", images, "--out", out)
                self.assertEqual((done["rows"], done["failures"], done["others"], done["hidden"]), (3, 0, others, 0))
            shutil.rmtree(self.dir / out)
        done = self.json("model", "check", MODEL, "--images", ".", "--out", "pictures/check")
        self.assertEqual((done["images"], done["failures"]), (3, 0))

    def test_where_nothing_can_be_written(self):
        """Said before the work: the inputs, which are not there, are not even looked at."""
        (self.dir / "file").write_text("in the way\n")
        for command in (["embed", "--model", "m", "--images", "p", "--out", "file"], ["embed", "--model", "m", "--texts", "t", "--out", "file/e"],
                        ["refine", "--bank", "b", "--fusion", "f", "--embeddings", "e", "--out", "file"],
                        ["search", "--bank", "b", "--queries", "q.npy", "--side", "text", "--out", "file/h"],
                        ["train", "--bank", "b", "--out", "file/f"], ["train", "--bank", "b", "--out", "no-folder/f"],
                        ["train", "--bank", "b", "--out", "."], ["bank", "export", "b", "--pairs", "no-folder/p.csv"],
                        ["bank", "export", "b", "--out", "file"], ["bank", "build", "--embeddings", "e", "--out", "file/b"],
                        ["model", "check", "m", "--images", "p", "--out", "file/c"]):
            said = self.fails(*command)
            self.assertTrue("file" in said or "folder" in said or "directory" in said, said)
        self.assertEqual([p.name for p in self.dir.iterdir()], ["file"])

    def test_embed_of_nothing(self):
        (self.dir / "list.txt").write_text("no.png\nnone.png\n")
        done = self.reco("embed", "--model", MODEL, "--images", "list.txt", "--out", "o", code=1)
        self.assertIn("nothing was embedded: every input failed", done.stderr)
        self.assertFalse((self.dir / "o").exists())
        (self.dir / "t.txt").write_text("")
        self.reco("embed", "--model", MODEL, "--texts", "t.txt", "--out", "t", code=1)
        self.assertFalse((self.dir / "t").exists())
        self.pictures(2)  # what was there before stays
        self.reco("embed", "--model", MODEL, "--images", "pictures", "--out", "o")
        before = (self.dir / "o/img_emb/img_emb_0.npy").read_bytes()
        self.reco("embed", "--model", MODEL, "--images", "list.txt", "--out", "o", code=1)
        self.assertEqual((self.dir / "o/img_emb/img_emb_0.npy").read_bytes(), before)


if __name__ == "__main__":
    unittest.main()
