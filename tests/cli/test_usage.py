import unittest

from common import Case

COMMANDS = ["model", "embed", "bank", "search", "train", "refine", "classify", "eval", "explain"]
BANK = ["delete", "undelete", "list", "get", "export", "info", "index", "compact", "merge", "verify"]


class Usage(Case):
    def test_help(self):
        self.assertIn("reco bank", self.reco("--help").stdout)
        for command in COMMANDS:
            text = self.reco(command, "--help").stdout
            for word in ("Usage: reco " + command, "Example:", "--json", "--threads"):
                self.assertIn(word, text)

    def test_short_options(self):
        # argp takes a key that is a printable character for a short option.
        for command in [[c] for c in COMMANDS + ["study", "serve"]] + [["bank", b] for b in BANK]:
            text = self.reco(*command, "--help").stdout
            self.assertNotRegex(text, r"(?m)^ +-[^-a-zA-Z?]", command)

    def test_version(self):
        self.assertEqual(self.reco("--version").stdout, "reco 0.2.0\n")

    def test_usage_errors(self):
        self.assertIn("Usage", self.reco(code=2).stderr)
        self.fails("nonsense", code=2, says=['no command "nonsense"'])
        for command in COMMANDS:
            self.fails(command, "--nonsense", code=2, says=["reco " + command, "nonsense"])
            self.fails(command, code=2)
            self.fails(command, "--json=postgresql://me:hidden@h/d", code=2, says=["json"])
        self.assertIn("--threads = 0, want 1..1024", self.reco("embed", "--threads", "0", code=2).stderr)
        self.assertIn("k = 0, want 1..1024",
                      self.reco("search", "--model", "m", "--bank", "b", "--text", "t", "-k", "0", code=2).stderr)
        self.reco("embed", "--model", "m", "--images", "a", "--texts", "b", "--out", "c", code=2)

    def test_no_password_in_usage_errors(self):
        for wrong in ("--bnak=URL", "--b=URL", "--k=URL", "-k URL", "-kURL", "--side=URL", "--json=URL", "x URL", "--bnak=\nURL", "--text='URL' --no='URL'"):
            for password in ("hidden", "hid'den", "hid\tden?x", "hid%40den/x"):
                words = [w.replace("URL", f"postgresql://me:{password}@host/db") for w in wrong.split(" ")]
                told = self.fails("search", *words, code=2)
                for secret in ("hid", "den", "me:"):
                    self.assertNotIn(secret, told, words)
        self.assertIn("host/db", self.fails("search", "--bnak=postgresql://me:hidden@host/db", code=2, says=["unrecognized option"]))

    def test_missing_files(self):
        self.fails("model", "info", "no-such-folder", says=["no-such-folder"])
        self.fails("bank", "info", "no-such-bank", says=["no-such-bank"])


if __name__ == "__main__":
    unittest.main()
