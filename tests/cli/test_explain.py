"""Pages that explain answers: what they say, that nothing in them is obeyed, and how they look in a browser."""
import html.parser
import json
import os
import pathlib
import re
import shutil
import subprocess
import unittest
import zlib

from common import MODEL, SOURCE, Case, png

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = ["<script>document.title='owned'</script>", "\"><img src=x onerror=\"document.title='owned'\">", "</style></title><b>&amp;",
           "javascript:alert(1)", "right \u202e left", "' onload='x", "tab\tand\nline"]
VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """Everything that a page says and would load; tags must close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.pictures, self.words, self.rows = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, k, v) for k, v in attributes]
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (self.open, tag)
        self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "title"):
            self.words.append(data)


class Explain(Case):
    WITH = ["--model", MODEL, "--bank", "b", "--fusion", "mean"]

    def setUp(self):
        super().setUp()
        pairs = self.pairs(12)
        lines = pairs.read_text().splitlines()
        self.captions = [f"thing {i}, a thing" for i in range(12)]
        for i, caption in enumerate(HOSTILE):
            self.captions[i] = caption
        quoted = ['"' + c.replace('"', '""') + '"' for c in self.captions]
        pairs.write_text("\n".join([lines[0], *(f"pictures/{i:04d}.png,{q},x" for i, q in enumerate(quoted))]) + "\n", encoding="utf-8")
        self.reco("bank", "build", "--model", MODEL, "--pairs", pairs, "--out", "b")
        self.names = [*HOSTILE[:6], "red disc", "a blue box", "green tent"]
        (self.dir / "classes.txt").write_text("".join(f"{n}\n" for n in self.names), encoding="utf-8")
        self.images = sorted((self.dir / "pictures").iterdir())

    def page(self, name):
        """Nothing of it runs or loads anything, whatever stood in captions and names."""
        text = (self.dir / name).read_text(encoding="utf-8")
        page = Page(text)
        self.assertNotIn("script", page.tags)
        self.assertLessEqual(set(page.tags), {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "b", "i", "bdi", "br",
                                              "div", "span", "section", "article", "details", "summary", "ol", "li", "figure", "figcaption",
                                              "img", "table", "tr", "td", "th", "footer"})
        self.assertEqual({k for _, k, _ in page.attributes} - {"lang", "charset", "http-equiv", "content", "name", "class", "style", "alt", "src", "title"}, set())
        for _, key, value in page.attributes:
            if key == "style":
                self.assertRegex(value, r"^--p:\d+\.\d%$")
        for source in page.pictures:
            self.assertTrue(source.startswith("data:image/jpeg;base64,/9j/"), source[:40])
        self.assertIn("default-src 'none'", text)
        self.assertNotIn("\u202e", text)
        return page

    def check(self, one, *, retrieved):
        """What holds of every explanation."""
        self.assertEqual([r["by"] for r in one["retrieved"]], retrieved)
        for r in one["retrieved"]:
            self.assertEqual((r["compared"], r["fused"]), ("image", "text") if r["by"] == "image" else ("text", "image"))
        for r in one["retrieved"]:
            self.assertAlmostEqual(r["own"] + sum(row["weight"] for row in r["rows"]), 1, places=4)
            if "vote" in r["rows"][0]:
                self.assertAlmostEqual(sum(row["vote"] for row in r["rows"]), 1, places=4)
            self.assertEqual([row["caption"] for row in r["rows"]], [self.captions[row["id"]] for row in r["rows"]])
        for expert in one["experts"]:
            p = [t["probability"] for t in expert["top"]]
            self.assertEqual(p, sorted(p, reverse=True))
            self.assertLessEqual(sum(p), 1 + 1e-4)
        self.assertEqual(one["before"], one["experts"][0]["top"][0])
        self.assertEqual(one["after"], one["experts"][-1]["top"][0])

    def test_classes(self):
        want = self.json("classify", *self.WITH, "--classes", "classes.txt", "--mixture", "0.3,0.3", "-k", 4, *self.images[:2])
        done = self.json("explain", *self.WITH, "--classes", "classes.txt", "--mixture", "0.3,0.3", "-k", 4, *self.images[:2], "--out", "p.html")
        self.assertEqual(done["facts"]["mixture"], want["mixture"])
        for one, named in zip(done["queries"], want["results"]):
            self.check(one, retrieved=["image", "class"])
            self.assertEqual([e["name"] for e in one["experts"]], ["CLIP", "refined", "vote", "RECO"])
            self.assertEqual([e["weight"] for e in one["experts"]], [0.3, 0.3, 0.4, None])
            for expert, key in ((0, "clip"), (3, "reco")):
                self.assertEqual([t["label"] for t in one["experts"][expert]["top"]], [r["label"] for r in named[key]])
            for got, expected in zip(one["experts"][3]["top"], named["reco"]):
                self.assertAlmostEqual(got["probability"], expected["probability"], places=4)
            self.assertEqual([r["id"] for r in one["retrieved"][0]["rows"]], [r["id"] for r in named["neighbours"]["image"]])
            self.assertEqual({r["id"] for r in one["retrieved"][1]["rows"]}, {r["id"] for r in named["neighbours"]["text"]})
            self.assertEqual([r["weight"] for r in one["retrieved"][0]["rows"]], [0.2] * 4)  # mean of five
            for row in one["retrieved"][0]["rows"]:  # a caption that is a class votes for it
                self.assertEqual(row["class"], row["caption"] if row["caption"] in self.names else None)
        page = self.page("p.html")
        self.assertEqual(len(page.pictures), 2 * (1 + 4 + 4))
        for one in done["queries"]:
            self.assertIn(" ".join(one["after"]["label"].replace("\u202e", "\ufffd").split()), page.text)
        self.assertIn("0000.png", page.text)
        # As data, the same.
        self.reco("explain", *self.WITH, "--classes", "classes.txt", "--mixture", "0.3,0.3", "-k", 4, *self.images[:2], "--out", "p.json")
        data = json.loads((self.dir / "p.json").read_text(encoding="utf-8"))
        self.assertEqual(data["queries"][1]["retrieved"][1]["rows"][0]["caption"], done["queries"][1]["retrieved"][1]["rows"][0]["caption"])
        self.assertEqual(data.keys(), {"facts", "queries"})

    def test_templates(self):
        """Of several templates, the weights are the mean."""
        (self.dir / "t.txt").write_text("a {}\nthe {}\n{}\n")
        options = ["--classes", "classes.txt", "--templates", "t.txt", "--refine", "text", "-k", 3]
        one = self.json("explain", *self.WITH, *options, self.images[0])["queries"][0]
        self.assertEqual([r["by"] for r in one["retrieved"]], ["class"])
        self.assertAlmostEqual(one["retrieved"][0]["own"], 0.25, places=5)
        weights = [row["weight"] for row in one["retrieved"][0]["rows"]]
        self.assertEqual(len(weights), 3)
        self.assertEqual(weights, sorted(weights, reverse=True))
        for weight in weights:  # of 0.25 each, in one template of three, in two, or in all
            self.assertIn(round(weight * 12), (1, 2, 3))
            self.assertAlmostEqual(weight * 12, round(weight * 12), places=4)

    def test_other_ways(self):
        """What was compared and what was fused is said of the layer's own way."""
        one = self.json("explain", "--model", MODEL, "--bank", "b", "--fusion", "mean:cross-uni", "--classes", "classes.txt", self.images[0],
                        "--out", "p.html")["queries"][0]
        self.assertEqual([(r["compared"], r["fused"]) for r in one["retrieved"]], [("text", "image"), ("image", "text")])
        self.assertIn("Captions like this picture, whose pictures refined it", self.page("p.html").text)

    def test_no_layer(self):
        one = self.json("explain", "--model", MODEL, "--bank", "b", "--fusion", "none", "--classes", "classes.txt", self.images[0], "--out", "p.html")["queries"][0]
        self.assertEqual((one["retrieved"], one["before"]["label"]), ([], one["after"]["label"]))
        self.page("p.html")

    def test_questions(self):
        """Without classes, the memory's own captions and pictures are the answers."""
        done = self.json("explain", *self.WITH, self.images[3], "--text", self.captions[8], "--text", HOSTILE[0], "--mixture", "0.4,0.4",
                         "--top", 3, "--out", "p.html")
        picture, text, hostile = done["queries"]
        self.check(picture, retrieved=["image"])
        self.check(text, retrieved=["text"])
        self.assertEqual([e["name"] for e in picture["experts"]], ["CLIP", "refined", "vote", "RECO"])
        self.assertEqual([e["name"] for e in text["experts"]], ["CLIP", "refined", "RECO"])
        self.assertEqual(text["retrieved"][0]["rows"][0]["id"], 8)
        found = self.json("search", *self.WITH, "--text", self.captions[8], "--in", "image", "--distinct", "--mixture", "0.4,0.4", "-k", 3)["hits"]
        self.assertEqual([t["id"] for t in text["experts"][-1]["top"]], [h["id"] for h in found])
        found = self.json("search", *self.WITH, "--image", self.images[3], "--in", "text", "--mixture", "0.4,0.4", "-k", 3)["hits"]
        self.assertEqual([t["label"] for t in picture["experts"][-1]["top"]], [h["caption"] for h in found])
        for top in text["experts"][0]["top"]:
            self.assertTrue(pathlib.Path(top["path"]).exists())
        page = self.page("p.html")
        self.assertIn("\u201c" + HOSTILE[0] + "\u201d", page.text)
        self.assertEqual(len(page.pictures), (1 + 10) + 2 * (3 * 3 + 10))
        shutil.rmtree(self.dir / "pictures")  # whose rows are still there
        self.reco("explain", *self.WITH, "--text", "x", "--out", "p.html")
        self.assertEqual(self.page("p.html").pictures, [])
        self.assertIn("no picture at hand", self.page("p.html").text)

    def eval(self, *options):
        labels = [self.names[i % 9] for i in range(12)]
        said = self.json("classify", *self.WITH, "--classes", "classes.txt", *self.images)["results"]
        for i in range(4):  # some that CLIP knows
            labels[i] = said[i]["clip"][0]["label"]
        quote = lambda s: '"' + s.replace('"', '""') + '"'
        (self.dir / "l.csv").write_text("image,label\n" + "".join(f"pictures/{i:04d}.png,{quote(l)}\n" for i, l in enumerate(labels)), encoding="utf-8")
        return self.json("eval", *self.WITH, "--classes", "classes.txt", "--labels", "l.csv", "--mixture", "0.2,0.5", "--details", "d.jsonl", *options)

    def test_eval(self):
        result = self.eval("--explain", 12, "--page", "p.json")
        data = json.loads((self.dir / "p.json").read_text(encoding="utf-8"))
        rows = [json.loads(line) for line in (self.dir / "d.jsonl").read_text(encoding="utf-8").splitlines()]
        self.assertEqual([s["name"] for s in data["scores"]], ["CLIP", "refined cosines", "RECO"])
        self.assertAlmostEqual(data["scores"][2]["acc1"], result["reco"]["acc1"], places=6)
        by_image = {os.path.basename(r["image"]): r for r in rows}
        groups = {"won": 0, "lost": 0, "other": 0}
        for one in data["queries"]:
            self.check(one, retrieved=["image", "class"])
            row = by_image[os.path.basename(one["image"])]
            self.assertEqual((one["label"], one["before"]["label"], one["after"]["label"]), (row["label"], row["clip"][0], row["reco"][0]))
            right = row["clip"][0] == row["label"], row["reco"][0] == row["label"]
            self.assertEqual(one["group"], {(False, True): "won", (True, False): "lost"}.get(right, "other"))
            groups[one["group"]] += 1
        self.assertEqual(len({one["image"] for one in data["queries"]}), len(data["queries"]))
        pairs = {}
        for row in rows:
            for key in ("clip", "reco"):
                if row[key][0] != row["label"]:
                    pairs.setdefault((row["label"], row[key][0]), {"clip": 0, "reco": 0})[key] += 1
        self.assertEqual({(p["label"], p["answer"]): {"clip": p["clip"], "reco": p["reco"]} for p in data["confused"]}, pairs)
        counts = [p["clip"] + p["reco"] for p in data["confused"]]
        self.assertEqual(counts, sorted(counts, reverse=True))
        for n in (1, 2, 5):
            self.eval("--explain", n, "--page", "p.html")
            page = self.page("p.html")
            self.assertEqual(page.tags.count("article"), n)
        self.assertIn("The classes confused most", page.text)

    def test_mistakes(self):
        explain = ["explain", *self.WITH, "--classes", "classes.txt"]
        for usage in (["--out", "p.html"], [self.images[0]], [self.images[0], "--text", "x", "--out", "p.html"],
                      [self.images[0], "--images", "pictures", "--out", "p.html"], [self.images[0], "--top", 0, "--out", "p.html"]):
            self.reco(*explain, *usage, code=2)
        for options in (["--explain", 3], ["--page", "p.html"], ["--explain", 0, "--page", "p.html"]):
            self.reco("eval", *self.WITH, "--classes", "classes.txt", "--labels", "l.csv", *options, code=2)
        before = self.images[0].read_bytes()
        self.fails(*explain, self.images[0], "--out", self.images[0], says=["0000.png"])
        self.fails(*explain, self.images[0], "--out", "classes.txt", says=["classes.txt"])
        self.fails(*explain, self.images[0], "--out", "none/p.html", says=["none"])
        self.assertEqual(self.images[0].read_bytes(), before)
        (self.dir / "bad.png").write_text("no picture")
        done = self.reco(*explain, "bad.png", "--out", "p.html", code=1)
        self.assertIn("bad.png", done.stderr)
        self.assertFalse((self.dir / "p.html").exists())
        done = self.json(*explain, "bad.png", self.images[0], "--out", "p.html")
        self.assertEqual((done["failures"], len(done["queries"])), (1, 1))
        self.assertEqual([p.name for p in self.dir.iterdir() if "tmp" in p.name], [])

    def browse(self, page, *options):
        return subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-dev-shm-usage",
                               f"--user-data-dir={self.dir / 'browser'}", *options, (self.dir / page).as_uri()],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=300, check=True).stdout

    def colours(self, path):
        """How many rows of a screenshot are of more than one colour, and all of its pixels' mean."""
        data = path.read_bytes()
        width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        depth = {2: 3, 6: 4}[data[25]]
        packed, at = b"", 8
        while at < len(data):
            n = int.from_bytes(data[at:at + 4], "big")
            packed += data[at + 8:at + 8 + n] if data[at + 4:at + 8] == b"IDAT" else b""
            at += 12 + n
        raw, stride = zlib.decompress(packed), width * depth + 1
        self.assertEqual(len(raw), stride * height)
        busy, before, total = 0, bytearray(stride - 1), 0
        for y in range(height):
            kind, line = raw[y * stride], bytearray(raw[y * stride + 1:(y + 1) * stride])
            for i in range(len(line)):
                left, up = line[i - depth] if i >= depth else 0, before[i]
                corner = before[i - depth] if i >= depth else 0
                if kind == 4:
                    p = left + up - corner
                    add = min((left, up, corner), key=lambda v: abs(p - v))
                else:
                    add = (0, left, up, (left + up) // 2)[kind]
                line[i] = line[i] + add & 255
            busy += line[:-depth] != line[depth:]
            total += sum(line[::depth])
            before = line
        return width, height, busy, total / (width * height)

    @unittest.skipUnless(BROWSER, "SKIPPED: no chromium to take the page's picture")
    def test_in_a_browser(self):
        """It opens from file://, nothing in it runs, and there is something to see, light and dark."""
        self.eval("--explain", 3, "--page", "p.html")
        shown = self.browse("p.html", "--dump-dom")
        self.assertIn("<title>What the memory changes</title>", shown)
        self.assertEqual(Page(shown).tags.count("img"), len(self.page("p.html").pictures))
        mean = {}
        for scheme, number in (("dark", 0), ("light", 1)):
            self.browse("p.html", "--window-size=700,900", f"--screenshot={self.dir / scheme}.png", f"--blink-settings=preferredColorScheme={number}")
            width, height, busy, mean[scheme] = self.colours(self.dir / f"{scheme}.png")
            self.assertEqual((width, height), (700, 900))
            self.assertGreater(busy, 500)
        self.assertLess(mean["dark"], 90)
        self.assertGreater(mean["light"], 200)


if __name__ == "__main__":
    unittest.main()
