import json
import unittest

from common import MODEL, OTHER_MODEL, Case, jsonl, png


class Bank(Case):
    def build(self, n=12):
        pairs = self.pairs(n)
        return self.json("bank", "build", "--model", MODEL, "--pairs", pairs, "--out", "b")

    def test_build_info_search(self):
        built = self.build()
        self.assertEqual((built["added"], built["rows"], built["failures"]), (12, 12, 0))
        info = self.json("bank", "info", "b")
        self.assertEqual((info["rows"], info["deleted"], info["next_id"], info["dimensions"], info["complete"]), (12, 0, 12, 16, True))
        self.assertEqual(info["encoder"], "hf-quickgelu")
        hits = self.json("search", "--model", MODEL, "--bank", "b", "--image", "pictures/0007.png", "-k", "3")["hits"]
        self.assertEqual(len(hits), 3)
        self.assertEqual((hits[0]["id"], hits[0]["caption"], hits[0]["uri"], hits[0]["meta"]),
                         (7, "thing 7, a thing", "pictures/0007.png", {"brand": "brand1"}))
        self.assertAlmostEqual(hits[0]["score"], 1, places=3)
        hits = self.json("search", "--model", MODEL, "--bank", "b", "--text", "thing 4, a thing")["hits"]
        self.assertEqual(hits[0]["id"], 4)
        self.assertEqual(len(hits), 10)
        self.assertEqual(hits, sorted(hits, key=lambda h: (-h["score"], h["id"])))
        self.assertEqual(len(self.json("search", "--model", MODEL, "--bank", "b", "--text", "x", "-k", "50")["hits"]), 12)

    def test_build_again_is_done_already(self):
        self.build()
        again = self.json("bank", "build", "--model", MODEL, "--pairs", "pairs.csv", "--out", "b")
        self.assertEqual((again["added"], again["rows"]), (0, 12))
        self.pairs(3, "other.csv")
        self.fails("bank", "build", "--model", MODEL, "--pairs", "other.csv", "--out", "b", says=["b"])

    def test_add_delete_add(self):
        self.build()
        more = self.pairs(5, "more.csv", first=12)
        self.assertEqual(self.json("bank", "add", "--model", MODEL, "--pairs", more, "b")["rows"], 17)
        again = self.json("bank", "add", "--model", MODEL, "--pairs", more, "b")
        self.assertEqual((again["added"], again["duplicates"], again["rows"]), (0, 5, 17))
        gone = self.json("bank", "delete", "b", "--uri", "pictures/0012.png", "pictures/0013.png", "pictures/9.png")
        self.assertEqual(gone, {"deleted": 2, "missing": 1})
        gone = self.json("bank", "delete", "b", "--id", "0", "3", "--id", "999")
        self.assertEqual(gone, {"deleted": 2, "missing": 1})
        hits = self.json("search", "--model", MODEL, "--bank", "b", "--image", "pictures/0003.png", "-k", "20")["hits"]
        self.assertEqual(sorted(h["id"] for h in hits), [1, 2, *range(4, 12), 14, 15, 16])
        # What was deleted can come back, under a new id.
        again = self.json("bank", "add", "--model", MODEL, "--pairs", more, "b")
        self.assertEqual((again["added"], again["duplicates"]), (2, 3))
        hits = self.json("search", "--model", MODEL, "--bank", "b", "--image", "pictures/0012.png", "-k", "1")["hits"]
        self.assertEqual((hits[0]["id"], hits[0]["uri"]), (17, "pictures/0012.png"))
        info = self.json("bank", "info", "b")
        self.assertEqual((info["rows"], info["deleted"], info["next_id"]), (15, 4, 19))

    def test_jsonl_and_bad_rows(self):
        self.pictures(3)
        rows = [{"image": "pictures/0000.png", "text": "one", "price": 3.5, "tags": ["a"]}, {"image": "pictures/0001.png"},
                {"image": "no.png", "text": "none"}, "not json", {"image": "pictures/0002.png", "text": "three"},
                {"image": "pictures/0002.png", "text": "three"}]
        (self.dir / "p.jsonl").write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
        built = self.json("bank", "build", "--model", MODEL, "--pairs", "p.jsonl", "--out", "b")
        self.assertEqual((built["added"], built["failures"], built["duplicates"]), (2, 4, 0))
        self.assertEqual([r["row"] for r in jsonl(self.dir / "b/failures.jsonl")], [1, 2, 3, 5])
        hit = self.json("search", "--model", MODEL, "--bank", "b", "--image", "pictures/0000.png", "-k", "1")["hits"][0]
        self.assertEqual((hit["caption"], hit["meta"]), ("one", {"price": 3.5, "tags": ["a"]}))
        self.reco("bank", "build", "--model", MODEL, "--pairs", "p.jsonl", "--out", "c", "--strict", code=1)

    def test_embeddings(self):
        self.pictures(6)
        (self.dir / "texts.txt").write_text("".join(f"text {i}\n" for i in range(6)))
        self.reco("embed", "--model", MODEL, "--images", "pictures", "--out", "e")
        self.reco("embed", "--model", MODEL, "--texts", "texts.txt", "--out", "e")
        built = self.json("bank", "build", "--embeddings", "e", "--out", "b")
        self.assertEqual(built["rows"], 6)
        hits = self.json("search", "--model", MODEL, "--bank", "b", "--text", "text 4", "-k", "1")["hits"]
        self.assertEqual((hits[0]["id"], hits[0]["caption"]), (4, "text 4"))
        self.assertEqual(self.json("bank", "build", "--embeddings", "e", "--out", "b")["added"], 0)

    def test_other_encoder_is_refused(self):
        self.build()
        for arguments in (["search", "--bank", "b", "--text", "x"], ["bank", "add", "--pairs", "pairs.csv", "b"]):
            self.fails(*arguments, "--model", OTHER_MODEL, says=["hf-quickgelu", "hf-gelu-bf16"])

    def test_damage(self):
        self.build()
        segment = next((self.dir / "b/vectors").glob("*.safetensors"))
        raw = segment.read_bytes()
        segment.write_bytes(raw[:-1])
        self.fails("bank", "info", "b", says=[segment.name])
        segment.unlink()
        self.fails("bank", "info", "b", says=[segment.name])
        segment.write_bytes(raw)
        self.reco("bank", "info", "b")
        (self.dir / "b/bank.sqlite").write_bytes(b"garbage" * 1000)
        self.fails("bank", "info", "b", says=["bank.sqlite"])


if __name__ == "__main__":
    unittest.main()
