"""What the command line tests share. Standard library alone: a tiny model from tests/golden/small, pictures made here."""
import json
import math
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest
import zlib

SOURCE = pathlib.Path(os.environ["RECO_TEST_SOURCE"])
RECO = os.environ["RECO"]
MODEL = SOURCE / "tests" / "golden" / "small" / "hf-quickgelu"
HOOK = os.environ.get("RECO_TEST_HOOK", "")  # library of faults; none under sanitizers
OTHER_MODEL = SOURCE / "tests" / "golden" / "small" / "hf-gelu-bf16"


def png(path, seed, size=(30, 26)):
    """A picture of a few coloured rectangles."""
    rng = random.Random(seed)
    width, height = size
    pixels = [[(rng.randrange(256),) * 3] * width for _ in range(height)]
    for _ in range(4):
        x, y, w, h = rng.randrange(width), rng.randrange(height), rng.randrange(4, 20), rng.randrange(4, 20)
        colour = tuple(rng.randrange(256) for _ in range(3))
        for row in range(y, min(height, y + h)):
            for column in range(x, min(width, x + w)):
                pixels[row] = [*pixels[row][:column], colour, *pixels[row][column + 1:]]
    raw = b"".join(b"\0" + bytes(c for p in row for c in p) for row in pixels)
    write_png(path, width, height, zlib.compress(raw))


def write_png(path, width, height, data):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pathlib.Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def array(path):
    """(dtype, shape, values) of an npy of f2, f4 or i8."""
    data = pathlib.Path(path).read_bytes()
    assert data[:6] == b"\x93NUMPY", path
    start = 10 + struct.unpack("<H", data[8:10])[0]
    header = eval(data[10:start].decode(), {"__builtins__": {}})  # a literal of our own writing
    code = {"<f4": "f", "<f2": "e", "<i8": "q"}[header["descr"]]
    return header["descr"], header["shape"], struct.unpack(f"<{math.prod(header['shape'])}{code}", data[start:])


def npy(path):
    """(dtype, rows) of a 2-d array."""
    descr, (rows, cols), values = array(path)
    return descr, [values[i * cols:(i + 1) * cols] for i in range(rows)]


def write_npy(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = repr({"descr": "<f4", "fortran_order": False, "shape": (len(rows), len(rows[0]))})
    header += " " * (117 - len(header)) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
                     + struct.pack(f"<{len(rows) * len(rows[0])}f", *[x for row in rows for x in row]))


def checkpoint(path):
    """Header and data of a checkpoint, without the command that made it."""
    content = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + size])
    provenance = json.loads(header["__metadata__"]["provenance"])
    del provenance["command"]
    header["__metadata__"]["provenance"] = provenance
    return header, content[8 + size:]


def jsonl(path):
    return [json.loads(line) for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines()]


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="reco-test-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        scratch = tempfile.mkdtemp(prefix="reco-test-")  # where a killed reco may leave something
        self.addCleanup(shutil.rmtree, scratch, ignore_errors=True)
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = scratch
        self.addCleanup(lambda: os.environ.update(TMPDIR=before) if before else os.environ.pop("TMPDIR", None))

    def run_raw(self, *arguments, **options):
        return subprocess.run([RECO, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              cwd=options.get("cwd", self.dir), timeout=600)

    def reco(self, *arguments, code=0, **options):
        done = self.run_raw(*arguments, **options)
        self.assertEqual(done.returncode, code, f"{arguments}\n{done.stdout}\n{done.stderr}")
        return done

    def json(self, *arguments, **options):
        return json.loads(self.reco(*arguments, "--json", **options).stdout)

    def fails(self, *arguments, says=(), code=1):
        """Exit code, and one line on stderr that has every one of `says`."""
        done = self.reco(*arguments, code=code)
        self.assertEqual(done.stdout, "")
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for word in says:
            self.assertIn(str(word), done.stderr)
        return done.stderr

    def pictures(self, n, folder="pictures"):
        (self.dir / folder).mkdir(exist_ok=True)
        paths = [self.dir / folder / f"{i:04d}.png" for i in range(n)]
        for i, path in enumerate(paths):
            png(path, i)
        return paths

    def pairs(self, n, name="pairs.csv", first=0):
        """A pairs file of n pictures with captions of their own; image paths relative to it."""
        (self.dir / "pictures").mkdir(exist_ok=True)
        lines = ["image,text,brand"]
        for i in range(first, first + n):
            png(self.dir / "pictures" / f"{i:04d}.png", i)
            lines.append(f'pictures/{i:04d}.png,"thing {i}, a thing",brand{i % 3}')
        (self.dir / name).write_text("\n".join(lines) + "\n")
        return self.dir / name

    def killed(self, arguments, after):
        """Start, kill -9 after so many seconds; True when it was still at work."""
        process = subprocess.Popen([RECO, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   cwd=self.dir)
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL

    def crashed(self, fault, arguments):
        """Run with a system call that goes wrong, as tests/crash/hook.c says it: "rename:3:kill"."""
        hook = self.dir / "hook.so"  # a path without the blanks that part LD_PRELOAD's names
        if not hook.exists(): hook.symlink_to(HOOK)
        environment = {**os.environ, "LD_PRELOAD": str(hook), "RECO_CRASH": fault, "OMP_WAIT_POLICY": "passive"}
        return subprocess.run([RECO, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.dir,
                              env=environment, timeout=600)

    def rows(self, bank):
        return [json.loads(r) for r in self.reco("bank", "list", bank, "--json").stdout.rstrip("\n").split("\n") if r]

    def assert_unit(self, row, digits=3):
        self.assertAlmostEqual(sum(x * x for x in row), 1, places=digits - 1)
