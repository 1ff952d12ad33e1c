"""A bank larger than the memory that its reader may use: built, searched and verified all the same."""
import os
import pathlib
import resource
import struct
import subprocess
import unittest

from common import RECO, Case, array

ROWS, D, K, MB = 60000, 512, 10, 1 << 20
LIMIT = 128 * MB  # of memory, the files' cached pages too, where a control group can be made
DATA = 160 * MB  # else of what is not a file

# High bytes of halves whose size lies between 1/16 and 1, of either sign: any bytes become numbers that are finite.
HALVES = bytes((b & 0x80) | (0x2c + (b & 0x7f) % 16) for b in range(256))


def halves(path, rows, seed):
    """[rows][D] f2 of noise, and what rows 0, 5000, ... say in f32, for queries."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = repr({"descr": "<f2", "fortran_order": False, "shape": (rows, D)})
    header += " " * (117 - len(header)) + "\n"
    picked = []
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        for i in range(0, rows, 5000):
            block = bytearray(os.urandom(min(5000, rows - i) * D * 2))
            block[1::2] = block[1::2].translate(HALVES)
            file.write(block)
            picked.append(struct.unpack_from(f"<{D}e", block))
    return picked


def group(limit):
    """The folder of a new control group of so much memory; None where that is not allowed."""
    for root, name in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        folder = pathlib.Path(root) / f"reco-test-{os.getpid()}"
        try:
            folder.mkdir()
            if (folder / name).exists():
                (folder / name).write_text(str(limit))
                return folder
            folder.rmdir()
        except OSError:
            if folder.exists(): folder.rmdir()
    return None


@unittest.skipIf("ASAN_OPTIONS" in os.environ, "a sanitizer has memory of its own")
class Memory(Case):
    def limited(self, folder, *arguments):
        def enter():
            if folder:
                (folder / "cgroup.procs").write_text(str(os.getpid()))
            else:
                resource.setrlimit(resource.RLIMIT_DATA, (DATA, DATA))
        # It would fill what is never touched otherwise: a half more of memory.
        env = {k: v for k, v in os.environ.items() if k != "MALLOC_PERTURB_"}
        done = subprocess.run([RECO, *map(str, arguments), "--threads", "2"], cwd=self.dir, preexec_fn=enter, timeout=600, env=env,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 0, f"{arguments}\n{done.stderr}")

    def test_larger_than_memory(self):
        queries = halves(self.dir / "e/img_emb/img_emb_0.npy", ROWS, 1)
        halves(self.dir / "e/text_emb/text_emb_0.npy", ROWS, 2)
        header = repr({"descr": "<f4", "fortran_order": False, "shape": (len(queries), D)})
        header += " " * (117 - len(header)) + "\n"
        (self.dir / "q.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
                                         + b"".join(struct.pack(f"<{D}f", *q) for q in queries))
        folder = group(LIMIT)
        if folder: self.addCleanup(folder.rmdir)
        search = ["search", "--bank", "b", "--queries", "q.npy", "--side", "image", "-k", K, "--out"]
        self.limited(folder, "bank", "build", "--embeddings", "e", "--out", "b")
        size = sum(p.stat().st_size for p in (self.dir / "b").rglob("*") if p.is_file())
        self.assertGreater(size, LIMIT if folder else DATA)
        self.limited(folder, *search, "limited")
        self.limited(folder, "bank", "verify", "b")
        self.reco(*search, "free")
        for name in ("ids.npy", "scores.npy"):
            self.assertEqual((self.dir / "limited" / name).read_bytes(), (self.dir / "free" / name).read_bytes())
        _, (rows, k), ids = array(self.dir / "free/ids.npy")
        self.assertEqual([ids[i * k] for i in range(rows)], [i for i in range(0, ROWS, 5000)])
        if not folder: print("no control group of memory can be made here: only RLIMIT_DATA was set", flush=True)


if __name__ == "__main__":
    unittest.main()
