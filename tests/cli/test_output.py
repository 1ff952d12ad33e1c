"""What reaches a terminal, and where output may go."""
import json
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
        self.assertEqual(self.reco("bank", "delete", "b", "--id", 1).stdout, "1 row deleted, 0 not there\n")
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


if __name__ == "__main__":
    unittest.main()
