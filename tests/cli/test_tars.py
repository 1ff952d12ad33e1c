"""webdataset tars as people have them: gaps, patterns, compression, odd members, dots in names."""
import bz2
import gzip
import io
import json
import lzma
import shutil
import subprocess
import tarfile
import unittest

from common import MODEL, SOURCE, Case, png

FORMATS = SOURCE / "tests" / "golden" / "formats"


class Tars(Case):
    def picture(self, seed):
        png(self.dir / "x.png", seed)
        return (self.dir / "x.png").read_bytes()

    def tar(self, name, members):
        """members: (name, bytes, or a link's target as text, or None for a folder)."""
        with tarfile.open(self.dir / name, "w", format=tarfile.GNU_FORMAT) as tar:
            for path, data in members:
                info = tarfile.TarInfo(path)
                if data is None:
                    info.type = tarfile.DIRTYPE
                elif isinstance(data, str):
                    info.type, info.linkname = tarfile.SYMTYPE, data
                else:
                    info.size = len(data)
                tar.addfile(info, None if data is None or isinstance(data, str) else io.BytesIO(data))

    def shard(self, number, folder=""):
        name = f"{folder}x-{number:05d}.tar"
        self.tar(name, [(f"{number}{i}.{end}", data) for i in range(2)
                        for end, data in (("png", self.picture(10 * number + i)), ("txt", f"thing {number} {i}".encode()))])
        return name

    def build(self, *tars, out="b", code=0):
        shutil.rmtree(self.dir / out, ignore_errors=True)
        return self.json("bank", "build", "--model", MODEL, "--out", out, "--tars", *tars, code=code)

    def uris(self, out="b"):
        return [row["uri"] for row in self.rows(out)]

    def test_gaps_and_patterns(self):
        for number in (0, 1, 3):
            self.shard(number)
        (self.dir / "in").mkdir()
        self.shard(4, "in/")
        built = self.build("x-{00000..00003}.tar")
        self.assertEqual((built["added"], built["failures"]), (6, 1))
        self.assertEqual((built["failed"][0]["row"], built["failed"][0]["item"]), (4, "x-00002.tar"))
        self.assertIn("No such file", built["failed"][0]["reason"])
        shards = lambda: list(dict.fromkeys(uri.rsplit("/", 1)[0] for uri in self.uris()))
        for pattern, want in (("x-*.tar", [0, 1, 3]), ("x-{00003,00000}.tar", [3, 0]), ("x-0000[01].tar", [0, 1]), ("x-0000?.tar", [0, 1, 3]),
                              ("x-{0000{0,1},00003}.tar", [0, 1, 3]), ("x-0000{0..1}.tar", [0, 1]), ("{x,none}-00003.tar", [3])):
            self.build(pattern)
            self.assertEqual(shards(), [f"x-{number:05d}.tar" for number in want], pattern)
        self.build("*/x-*.tar", "x-{00001,00000,00001}.tar")
        self.assertEqual(shards(), ["in/x-00004.tar", "x-00001.tar", "x-00000.tar"])
        self.tar("odd{1,2}[a].tar", [("k.png", self.picture(1)), ("k.txt", b"a thing")])
        self.build("odd{1,2}[a].tar")
        self.assertEqual(self.uris(), ["odd{1,2}[a].tar/k.png"])
        for pattern in ("none-{0..2}.tar", "none-*.tar", "none.tar"):
            self.fails("bank", "build", "--model", MODEL, "--out", "c", "--tars", pattern, says=["none-0.tar" if "{" in pattern else pattern])
            self.assertFalse((self.dir / "c").exists())

    def test_compressed(self):
        plain = (self.dir / self.shard(0)).read_bytes()
        packed = {"a.tar.gz": gzip.compress(plain), "a.tgz": gzip.compress(plain), "a.tar.bz2": bz2.compress(plain),
                  "a.tar.xz": lzma.compress(plain), "named-wrongly.tar": gzip.compress(plain)}
        if shutil.which("zstd"):
            packed["a.tar.zst"] = subprocess.run(["zstd", "-c"], input=plain, stdout=subprocess.PIPE, check=True).stdout
        for name, data in packed.items():
            (self.dir / name).write_bytes(data)
            self.assertEqual(self.build(name)["added"], 2, name)
            self.assertEqual(self.uris(), [f"{name}/00.png", f"{name}/01.png"])
        (self.dir / "cut.tar.gz").write_bytes(packed["a.tar.gz"][:-300])
        built = self.build("cut.tar.gz", "x-00000.tar")
        self.assertEqual([f["item"] for f in built["failed"]], ["cut.tar.gz"])
        self.assertEqual(self.uris()[-2:], ["x-00000.tar/00.png", "x-00000.tar/01.png"])

    def test_odd_members_cost_nothing(self):
        one, two = self.picture(1), self.picture(2)
        self.tar("x.tar", [
            ("d", None), ("d/1.png", one), ("d/._1.png", b"\0\5\26\7" + bytes(60)), ("__MACOSX/d/._1.png", b"\0\5\26\7"),
            ("PaxHeaders.12/1.png", b"20 atime=1\n"), ("d/README", b"no ending"), ("d/link.png", "1.png"), ("d/.hidden.txt", b"x"),
            ("d/1.json", b'{"caption": null, "score": NaN, "id": 18446744073709551615, "size": Infinity, "n": 1}'), ("d/1.npy", b"\x93NUMPY"),
            ("d/1.txt", b"\xef\xbb\xbfone\n"),
            ("d/2.json", b"[1, 2]"), ("d/2.png", two), ("d/2.txt", b"two"),
            ("d/3.png", self.picture(3)), ("d/3.txt", b"\xff\xfe\x00"), ("d/3.json", b'{"caption": "three"}'),
            ("d/4.png", self.picture(4)), ("d/4.txt", b"four"), ("d/4.json", b'{"a": "' + b"x" * (1 << 20) + b'"}'),
            ("d/5.cls", b"5"), ("stats.json", b"{}")])
        built = self.build("x.tar")
        self.assertEqual([(row["uri"], row["caption"]) for row in self.rows("b")],
                         [(f"x.tar/d/{i}.png", word) for i, word in enumerate(("one", "two", "three", "four"), 1)])
        self.assertEqual(self.rows("b")[0]["meta"]["n"], 1)
        self.assertNotIn("score", self.rows("b")[0]["meta"])
        self.assertEqual([(f["item"], f["reason"]) for f in built["failed"]], [("x.tar/stats", "no image")])

    def test_names_with_dots(self):
        """Grouped by the name up to its first dot, as webdataset does; what has words of its own is a pair of its own."""
        p = [self.picture(i) for i in range(12)]
        self.tar("x.tar", [
            ("a.b.c/0001.jpg", p[0]), ("a.b.c/0001.txt", b"in a folder with dots"), ("x.tar.d/1.0.png", p[1]), ("x.tar.d/1.0.txt", b"version 1.0"),
            ("x.tar.d/1.1.png", p[2]), ("x.tar.d/1.1.txt", b"version 1.1"), ("k.png", p[3]), ("k.seg.png", p[4]), ("k.TXT", b"plain"),
            ("pair.left.png", p[5]), ("pair.right.png", p[6]), ("pair.txt", b"two sides"),
            ("j.1.png", p[7]), ("j.1.json", b'{"caption": "first"}'), ("j.2.png", p[8]), ("j.2.json", b'{"caption": "second"}'),
            ("o.png", p[9]), ("o.ocr.txt", b"STOP"), ("o.json", b'{"caption": "a sign"}'), ("e.png", p[10]), ("e.en.txt", b"in English")])
        built = self.build("x.tar")
        self.assertEqual([(row["uri"][6:], row["caption"]) for row in self.rows("b")], [
            ("a.b.c/0001.jpg", "in a folder with dots"), ("x.tar.d/1.0.png", "version 1.0"), ("x.tar.d/1.1.png", "version 1.1"),
            ("k.png", "plain"), ("pair.left.png", "two sides"), ("j.1.png", "first"), ("j.2.png", "second"), ("o.png", "a sign"),
            ("e.png", "in English")])
        self.assertEqual([f["item"] for f in built["failed"]], ["x.tar/pair.right.png"])
        many = [(f"photo.{i:04d}.{end}", data) for i in range(80) for end, data in (("png", self.picture(i)), ("txt", f"photo {i}".encode()))]
        self.tar("y.tar", many)
        self.assertEqual(self.build("y.tar")["added"], 80)
        self.assertEqual(sorted(self.uris()), [f"y.tar/photo.{i:04d}.png" for i in range(80)])

    def test_pictures_by_content(self):
        bmp, jpeg = (FORMATS / "rgb-24.bmp").read_bytes(), (FORMATS / "turn-exif.jpg").read_bytes()
        self.tar("x.tar", [("1.jfif", jpeg), ("1.txt", b"one"), ("2.img", bmp), ("2.txt", b"two"), ("3.JPEG", jpeg), ("3.txt", b"three"),
                           ("4.txt", b"four"), ("4.npy", b"\x93NUMPY" + bytes(100)), ("4.input", jpeg), ("5.gif", bmp), ("5.txt", b"five")])
        built = self.build("x.tar")
        self.assertEqual((built["added"], built["failures"]), (5, 0))
        self.assertEqual(self.uris(), ["x.tar/1.jfif", "x.tar/2.img", "x.tar/3.JPEG", "x.tar/4.input", "x.tar/5.gif"])

    def test_a_shard_that_breaks_off(self):
        whole = (self.dir / self.shard(0)).read_bytes()
        self.shard(1)
        with tarfile.open(self.dir / "x-00000.tar") as tar:
            ends = [m.offset_data + -(-m.size // 512) * 512 for m in tar.getmembers()]
        for size, rows in ((ends[1], 1), (ends[1] + 600, 1), (ends[2] + 100, 1), (ends[3], 2), (ends[0] + 10, 0)):
            (self.dir / "x-00000.tar").write_bytes(whole[:size])
            built = self.build("x-{00000..00001}.tar")
            self.assertEqual(([f["item"] for f in built["failed"]], built["added"]), (["x-00000.tar"], rows + 2), size)


if __name__ == "__main__":
    unittest.main()
