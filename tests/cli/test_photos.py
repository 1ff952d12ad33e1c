"""Folders of photos as people have them, lists of paths, EXIF, and inputs that give nothing."""
import json
import os
import shutil
import struct
import unittest
import zlib

from common import MODEL, SOURCE, Case, jsonl, npy

FORMATS = SOURCE / "tests" / "golden" / "formats"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"
OPTIONAL = {"palette.gif": "GIF", "rgb-jpeg.tif": "TIFF", "rgb.avif": "AVIF", "rgb.heic": "HEIC", "lossless.jxl": "JPEG XL"}


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows, turn=0):
    """[h][w] greys, with an orientation in EXIF."""
    exif = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, turn, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0))
            + (chunk(b"eXIf", exif) if turn else b"")
            + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))) + chunk(b"IEND", b""))


SCENE = [[(x * 7 + y * 3) % 256 if y < 30 else 255 for x in range(60)] for y in range(40)]
LYING = [list(row) for row in reversed(list(zip(*SCENE)))]  # to be turned to the right: orientation 6


class Photos(Case):
    def album(self):
        """Everything that a folder of photos may hold; the names of what is embedded, and a word of each reason."""
        album = self.dir / "album"
        (album / "trip").mkdir(parents=True)
        jpeg, bmp = FORMATS / "turn-exif.jpg", FORMATS / "rgb-24.bmp"
        good = {"a.JPG": jpeg, "b.jfif": jpeg, "c.jpe": jpeg, "noext": jpeg, "IMG.2024": jpeg, "wrong.heic": jpeg, "d.bmp": bmp,
                "trip/page.html": bmp, "trip/wrong.png": bmp}
        for name, source in good.items():
            shutil.copy(source, album / name)
        bad = {"empty.png": (b"", "empty file"), "lfs.png": (LFS, "git-lfs"), "nothing": (b"", "empty file"),
               "annex.jpg": (b"/annex/objects/SHA256E-s12--ab.jpg\n", "git-annex"), "layers.psd": (b"8BPS\0\1" + bytes(40), "Photoshop"),
               "old.tga": (bytes(2) + b"\2" + bytes(60), "Targa"), "saved.jpg": (b"<!DOCTYPE html><html><head>", "HTML"),
               "drawing.svg": (b"<?xml version='1.0'?>\n<svg xmlns='x'/>", "SVG"), "clip.gif": (b"\0\0\0\x18ftypmp42" + bytes(60), "video"),
               "raw.cr2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(60), "camera raw"), "scan": (b"P5\n3 3\n255\n" + bytes(9), "Netpbm"),
               "junk": (b"\x01\x02\x03\x04" * 10, "starts with 01 02"), "p.jpg.dvc": (b"outs:\n- md5: ab\n  path: p.jpg\n", "DVC"),
               "layers.txt": (b"8BPS\0\1" + bytes(40), "Photoshop"), "cut.jpg": (jpeg.read_bytes()[:400], "truncated")}
        for name, (data, _) in bad.items():
            (album / name).write_bytes(data)
        (album / "fetch.png").symlink_to("../.git/annex/objects/xx/SHA256E-s123--abc.png")
        (album / "self.png").symlink_to("self.png")
        os.mkfifo(album / "pipe.png")
        bad |= {"fetch.png": (b"", "git annex get"), "self.png": (b"", "link"), "pipe.png": (b"", "not a regular file")}
        others = {"notes.txt": b"a text", "a.json": b"{}", "Thumbs.db": b"\xd0\xcf\x11\xe0" + bytes(20), "README": b"Read me.\n",
                  "list.md5": b"", "move.MOV": b"\0\0\0\x14ftypqt  " + bytes(40), "d.bmp.dvc": b"outs:\n- md5: ab\n  path: d.bmp\n",
                  "model.safetensors": b"\x10\0\0\0\0\0\0\0{}"}
        for name, data in others.items():
            (album / name).write_bytes(data)
        (album / "gone.txt").symlink_to("nowhere.txt")
        (album / ".hidden.png").write_bytes(b"")
        (album / ".git").mkdir()
        return sorted(good), {name: word for name, (_, word) in bad.items()}, len(others) + 1

    def test_every_file_is_embedded_or_listed(self):
        good, bad, others = self.album()
        result = self.json("embed", "--model", MODEL, "--images", "album", "--out", "o")
        failed = {row["item"]: row["reason"] for row in jsonl(self.dir / "o/failures.jsonl")}
        self.assertEqual(sorted(failed), sorted(f"album/{name}" for name in bad))
        for name, word in bad.items():
            self.assertIn(word, failed[f"album/{name}"])
        self.assertEqual([row["image_path"] for row in jsonl(self.dir / "o/metadata/metadata_0.jsonl")],
                         sorted(f"album/{name}" for name in good))
        self.assertEqual((result["rows"], result["failures"], result["others"], result["hidden"]), (len(good), len(bad), others, 2))
        said = self.reco("embed", "--model", MODEL, "--images", "album", "--out", "p").stdout
        self.assertIn(f"{others} other files, 2 hidden, all ignored", said)
        (self.dir / "folder").mkdir()
        self.reco("model", "check", MODEL, "--images", "album", "--out", "c")
        self.assertEqual(len(list((self.dir / "c").iterdir())), 3)

    def test_formats_that_need_a_library(self):
        for name in OPTIONAL:
            (self.dir / "album").mkdir(exist_ok=True)
            shutil.copy(FORMATS / name, self.dir / "album" / (name + ".jpg"))
        shutil.copy(FORMATS / "rgb-24.bmp", self.dir / "album")
        result = self.json("embed", "--model", MODEL, "--images", "album", "--out", "o")
        self.assertEqual(result["rows"] + result["failures"], len(OPTIONAL) + 1)
        for row in result["failed"]:
            kind = OPTIONAL[os.path.basename(row["item"])[:-4]]
            self.assertRegex(row["reason"], f": {kind} is not built in: install (lib|giflib)")

    def test_folders_that_cannot_be_read(self):
        deep = self.dir / "album"
        for _ in range(70):
            deep = deep / "d"
        deep.mkdir(parents=True)
        shutil.copy(FORMATS / "rgb-24.bmp", self.dir / "album" / "z.bmp")
        reason = "nested deeper"
        if os.geteuid() != 0:
            shut = self.dir / "album" / "shut"
            shut.mkdir(mode=0)
            self.addCleanup(shut.chmod, 0o700)
        result = self.json("embed", "--model", MODEL, "--images", "album", "--out", "o")
        self.assertEqual((result["rows"], result["failures"]), (1, 1 + (os.geteuid() != 0)))
        self.assertIn(reason, result["failed"][0]["reason"])
        self.fails("embed", "--model", MODEL, "--images", "missing", "--out", "p", says=("missing",))

    def test_links_in_circles(self):
        """Each folder links to every other one: listed once itself and once behind each link beside it, not without end."""
        names = [f"f{i}" for i in range(9)]
        for name in names:
            (self.dir / "album" / name).mkdir(parents=True)
            shutil.copy(FORMATS / "rgb-24.bmp", self.dir / "album" / name)
            for other in names:
                (self.dir / "album" / name / ("to-" + other)).symlink_to(f"../{other}")
            (self.dir / "album" / name / "up").symlink_to("..")
        result = self.json("embed", "--model", MODEL, "--images", "album", "--out", "o")
        self.assertEqual((result["rows"], result["failures"]), (9 + 9 * 8, 0))
        paths = [row["image_path"] for row in jsonl(self.dir / "o/metadata/metadata_0.jsonl")]
        self.assertEqual(paths, sorted(paths))

    def test_paths_of_a_list_stay_as_typed(self):
        (self.dir / "lists" / "sub").mkdir(parents=True)
        for name in ("lists/a.bmp", "lists/sub/b.bmp", "c.bmp"):
            shutil.copy(FORMATS / "rgb-24.bmp", self.dir / name)
        typed = ["a.bmp", "./a.bmp", "sub//b.bmp", "c.bmp", str(self.dir / "c.bmp"), "../c.bmp"]
        (self.dir / "lists" / "l.txt").write_text("\n".join([*typed, "missing.bmp", ""]))
        result = self.json("embed", "--model", MODEL, "--images", "lists/l.txt", "--out", "o")
        self.assertEqual([row["image_path"] for row in jsonl(self.dir / "o/metadata/metadata_0.jsonl")], typed)
        self.assertEqual([row["item"] for row in result["failed"]], ["missing.bmp"])
        self.json("embed", "--model", MODEL, "--images", "c.bmp", "--out", "one")
        self.assertEqual(jsonl(self.dir / "one/metadata/metadata_0.jsonl"), [{"image_path": "c.bmp"}])
        for name, data, word in (("a.svg", b"<svg/>\n", "SVG"), ("empty.png", b"", "empty file"), ("junk.jpg", bytes(9), "starts with")):
            (self.dir / name).write_bytes(data)
            failed = json.loads(self.reco("embed", "--model", MODEL, "--images", name, "--out", "no", "--json", code=1).stdout)["failed"]
            self.assertEqual([row["item"] for row in failed], [name])
            self.assertIn(word, failed[0]["reason"])

    def test_nothing_worked(self):
        (self.dir / "album").mkdir()
        (self.dir / "album" / "a.png").write_bytes(b"no picture")
        (self.dir / "texts.txt").write_bytes(b"a\0b\n")
        (self.dir / "other").mkdir()
        (self.dir / "other" / "notes.txt").write_text("a text")
        command = ["embed", "--model", MODEL, "--out", "o"]
        done = self.reco(*command, "--images", "album", "--json", code=1)
        self.assertEqual(len(json.loads(done.stdout)["failed"]), 1)
        self.assertNotIn("listed in", done.stderr)
        self.reco(*command, "--images", "other", code=1)
        self.reco(*command, "--texts", "texts.txt", code=1)
        self.assertFalse((self.dir / "o").exists())
        self.pictures(2)
        self.reco(*command, "--images", "pictures")
        before = {p: p.read_bytes() for p in (self.dir / "o").rglob("*") if p.is_file()}
        self.reco(*command, "--images", "album", code=1)
        self.assertEqual({p: p.read_bytes() for p in (self.dir / "o").rglob("*") if p.is_file()}, before)

    def test_exif(self):
        (self.dir / "album").mkdir()
        (self.dir / "album" / "lying.png").write_bytes(png(LYING, 6))
        (self.dir / "album" / "upright.png").write_bytes(png(SCENE))
        (self.dir / "pairs.csv").write_text("image,text\nalbum/lying.png,a hill\n")
        rows = {}
        for name, options in (("off", []), ("on", ["--exif"])):
            self.reco("embed", "--model", MODEL, "--images", "album", "--out", name, *options)
            self.assertEqual(json.loads((self.dir / name / "reco.json").read_text()).get("exif", False), name == "on")
            rows[name] = npy(self.dir / name / "img_emb/img_emb_0.npy")[1]
            self.reco("bank", "build", "--model", MODEL, "--pairs", "pairs.csv", "--out", name + ".bank", *options)
        self.assertEqual(rows["on"][0], rows["on"][1])
        self.assertEqual(rows["on"][1], rows["off"][1])
        self.assertNotEqual(rows["off"][0], rows["off"][1])
        score = lambda bank, name, *options: self.json("search", "--bank", bank + ".bank", "--model", MODEL, "--image", f"album/{name}.png",
                                                       *options)["hits"][0]["score"]
        self.assertGreater(score("on", "upright"), 0.9999)
        self.assertGreater(score("on", "lying", "--exif"), 0.9999)
        self.assertLess(score("on", "lying"), 0.9999)
        self.assertLess(score("off", "upright"), 0.9999)
        self.fails("bank", "build", "--model", MODEL, "--pairs", "pairs.csv", "--out", "off.bank", "--exif", says=("off.bank",))
        self.assertIs(self.json("model", "info", MODEL)["preprocess"]["exif"], False)
        self.assertIn("EXIF orientation not followed", self.reco("model", "info", MODEL).stdout)
        self.assertIs(self.json("model", "info", MODEL, "--exif")["preprocess"]["exif"], True)


if __name__ == "__main__":
    unittest.main()
