import unittest

from common import Case

COMMANDS = ["model", "embed", "bank", "search", "train", "refine", "classify", "eval", "explain"]


class Usage(Case):
    def test_help(self):
        self.assertIn("reco bank", self.reco("--help").stdout)
        for command in COMMANDS:
            text = self.reco(command, "--help").stdout
            for word in ("Usage: reco " + command, "Example:", "--json", "--threads"):
                self.assertIn(word, text)

    def test_version(self):
        self.assertEqual(self.reco("--version").stdout, "reco 0.2.0\n")

    def test_usage_errors(self):
        self.assertIn("Usage", self.reco(code=2).stderr)
        self.fails("nonsense", code=2, says=['no command "nonsense"'])
        for command in COMMANDS:
            done = self.reco(command, "--nonsense", code=2)
            self.assertIn("nonsense", done.stderr)
            self.reco(command, code=2)
        self.assertIn("--threads = 0, want 1..1024", self.reco("embed", "--threads", "0", code=2).stderr)
        self.assertIn("k = 0, want 1..1024",
                      self.reco("search", "--model", "m", "--bank", "b", "--text", "t", "-k", "0", code=2).stderr)
        self.reco("embed", "--model", "m", "--images", "a", "--texts", "b", "--out", "c", code=2)

    def test_missing_files(self):
        self.fails("model", "info", "no-such-folder", says=["no-such-folder"])
        self.fails("bank", "info", "no-such-bank", says=["no-such-bank"])


if __name__ == "__main__":
    unittest.main()
