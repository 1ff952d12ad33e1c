"""Texts longer than the model's context: counted, said once, in JSON, and an error with --strict."""
import json
import unittest

from common import MODEL, SOURCE, Case

SIGLIP = SOURCE / "tests" / "golden" / "small" / "hf-siglip"
LONG = "a small red disc on a white table next to a lamp " * 40


class Cut(Case):
    def context(self, model=MODEL):
        return self.json("model", "info", model)["context"]

    def said(self, *arguments, warning, counted, code=0):
        """stderr is the warning alone, and the JSON counts as many; --strict fails and still prints."""
        for strict in ((), ("--strict",)):
            done = self.reco(*arguments, *strict, "--json", code=1 if strict and counted else code)
            self.assertEqual(done.stderr, warning)
            result = json.loads(done.stdout)
            self.assertEqual(result["truncated"], counted)
        return result

    def test_embed(self):
        for model in (MODEL, SIGLIP):
            (self.dir / "t.txt").write_text(f"red disc\n{LONG}\n\n{LONG}and more\na tent\n")
            warning = f"reco: warning: 2 captions are longer than the model's context of {self.context(model)} tokens, and truncated\n"
            self.said("embed", "--model", model, "--texts", "t.txt", "--out", "e", warning=warning, counted=2)
            (self.dir / "t.txt").write_text(LONG + "\n")
            self.said("embed", "--model", model, "--texts", "t.txt", "--out", "e", counted=1,
                      warning=f"reco: warning: 1 caption is longer than the model's context of {self.context(model)} tokens, and truncated\n")
            self.said("model", "check", model, "--texts", "t.txt", "--out", "c", counted=1,
                      warning=f"reco: warning: 1 caption is longer than the model's context of {self.context(model)} tokens, and truncated\n")
        self.said("embed", "--model", MODEL, "--images", self.pictures(1)[0].parent, "--out", "i", warning="", counted=0)

    def test_to_the_token(self):
        """A caption that just fits is not cut; white space at its end is none of its tokens."""
        (self.dir / "t.txt").write_text("".join("a " * n + "\n" for n in range(1, 100)))
        context = self.context()
        cut = self.json("embed", "--model", MODEL, "--texts", "t.txt", "--out", "e")["truncated"]
        self.assertEqual(cut, 99 - (context - 2))

    def test_banks(self):
        self.pairs(4)
        lines = (self.dir / "pairs.csv").read_text().splitlines()
        lines[2] = f"pictures/0001.png,{LONG},b"
        (self.dir / "pairs.csv").write_text("\n".join(lines) + "\n")
        warning = f"reco: warning: 1 caption is longer than the model's context of {self.context()} tokens, and truncated\n"
        done = self.reco("bank", "build", "--model", MODEL, "--pairs", "pairs.csv", "--out", "b", "--json")
        self.assertEqual((done.stderr, json.loads(done.stdout)["truncated"], json.loads(done.stdout)["added"]), (warning, 1, 4))
        done = self.reco("bank", "build", "--model", MODEL, "--pairs", "pairs.csv", "--out", "c", "--json", "--strict", code=1)
        self.assertEqual((done.stderr, json.loads(done.stdout)["added"]), (warning, 4))
        (self.dir / "more.csv").write_text(f"image,text\npictures/0002.png,other {LONG}\n")
        done = self.reco("bank", "add", "--several-captions", "--model", MODEL, "--pairs", "more.csv", "b", "--json")
        self.assertEqual((done.stderr, json.loads(done.stdout)["truncated"]), (warning, 1))

    def test_search(self):
        self.reco("bank", "build", "--model", MODEL, "--pairs", self.pairs(4), "--out", "b")
        search = "search", "--model", MODEL, "--bank", "b"
        warning = f"reco: warning: %s longer than the model's context of {self.context()} tokens, and truncated\n"
        self.said(*search, "--text", LONG, warning=warning % "1 text is", counted=True)
        self.said(*search, "--text", "a thing", warning="", counted=False)
        self.assertNotIn("truncated", self.json(*search, "--image", "pictures/0000.png"))
        done = self.reco(*search, "--text", LONG, "--text", "a", "--text", LONG + "b", "--image", "pictures/0000.png", "--json")
        self.assertEqual(done.stderr, warning % "2 texts are")
        self.assertEqual([r.get("truncated") for r in json.loads(done.stdout)["results"]], [True, False, True, None])
        self.reco(*search, "--text", LONG, "--text", "a", "--strict", code=1)

    def test_classes(self):
        self.reco("bank", "build", "--model", MODEL, "--pairs", self.pairs(4), "--out", "b")
        (self.dir / "classes.txt").write_text("disc\ntent\n")
        (self.dir / "templates.txt").write_text(f"a {{}}\n{LONG} {{}}\n{{}} {LONG}\n")
        (self.dir / "labels.csv").write_text("image,label\npictures/0000.png,disc\npictures/0001.png,tent\n")
        shared = "--model", MODEL, "--bank", "b", "--fusion", "mean", "--classes", "classes.txt", "--templates", "templates.txt"
        warning = f"reco: warning: 4 prompts are longer than the model's context of {self.context()} tokens, and truncated\n"
        self.said("eval", *shared, "--labels", "labels.csv", warning=warning, counted=4)
        self.said("classify", *shared, "pictures/0000.png", warning=warning, counted=4)
        (self.dir / "classes.txt").write_text(f"disc\n{LONG}\n")
        done = self.reco("classify", *shared[:-2], "pictures/0000.png", "--json")
        self.assertEqual(json.loads(done.stdout)["truncated"], 1)


if __name__ == "__main__":
    unittest.main()
