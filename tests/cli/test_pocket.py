"""The pocket model has not been shown a new emoji: no caption it learned from names one."""
import re
import unittest

from common import SOURCE, Case

MODEL = SOURCE / "demo" / "model"


def words(text):
    return " " + " ".join(re.findall(r"[a-z0-9]+", text.lower())) + " "


class Pocket(Case):
    def test_no_new_emoji_was_seen(self):
        # A line is "title | keyword, keyword": a name that two keywords make together is nobody's name.
        captions = [words(phrase) for line in (MODEL / "captions.txt").read_text(encoding="utf-8").splitlines()
                    for phrase in re.split(r"[|,]", line)]
        self.assertGreater(len(captions), 1000)
        new = (SOURCE / "tests" / "cli" / "new_emoji.txt").read_text(encoding="utf-8").splitlines()
        self.assertEqual(len(new), 212)
        for name in new:
            self.assertEqual([c for c in captions if words(name) in c], [], name)

    def test_loads_and_is_small(self):
        self.assertEqual(self.json("model", "info", MODEL)["family"], "hf-clip")
        self.assertLess(sum(p.stat().st_size for p in MODEL.iterdir()), 6_000_000)


if __name__ == "__main__":
    unittest.main()
