"""Unit rows to search among, of three kinds:

mixture    1,000 round clusters moved off the origin: variance is the same in all directions
spectrum   as CLIP's: cosines, and how much of the variance lies in which directions; no clusters
clustered  the same in 4,000 clusters, some with hundreds of times as many rows as others

Variances are those along the principal directions of 12,801 pictures of OpenAI's ViT-B/32 (their logarithm between the points of
SPECTRUM), the means' lengths and the cosines of pairs those of its pictures and captions of COCO. Same arguments, same rows."""
import os

import numpy as np

KINDS = ("mixture", "spectrum", "clustered")
# Share of variance along the directions of these numbers, of 512.
SPECTRUM = {0: 0.15, 1: 0.075, 2: 0.061, 3: 0.039, 5: 0.025, 8: 0.015, 12: 0.01, 20: 0.0068, 31: 0.0049, 50: 0.0032, 80: 0.002,
            127: 0.0013, 200: 0.00072, 255: 0.00051, 350: 0.00029, 450: 0.00015, 500: 7.5e-05, 511: 2.7e-05}
MEAN = 0.73  # length of the mean of pictures, and of captions, which have a cosine of 0.3
PAIR = 0.32  # cosine of a picture and its caption once the means are taken away
WITHIN = 0.5  # share of the variance within a cluster
BLOCK = 50000


def spectrum(d):
    at = np.arange(d) * (511 / max(d - 1, 1))
    share = np.exp(np.interp(at, list(SPECTRUM), np.log(list(SPECTRUM.values()))))
    return share / share.sum()


class Source:
    """Blocks of rows; seed says which, everything else is the same for all seeds."""

    def __init__(self, kind, d, seed, side="image"):
        fixed = np.random.default_rng(7)
        self.kind, self.d, self.side, self.rng = kind, d, side, np.random.default_rng(seed)
        if kind == "mixture":
            self.mean = fixed.standard_normal(d)
            self.mean /= np.linalg.norm(self.mean)
            self.clusters = fixed.standard_normal((1000, d)) / np.sqrt(d)
            self.rng = np.random.default_rng(seed + (side == "text"))
            return
        means = np.linalg.qr(fixed.standard_normal((d, 2)))[0].T if d > 1 else np.ones((2, 1))
        self.mean = MEAN * (means[0] if side == "image" else 0.3 * means[0] + np.sqrt(1 - 0.09) * means[1])
        turn = np.linalg.qr(fixed.standard_normal((d, d)))[0]
        self.turn = np.ascontiguousarray((np.sqrt(spectrum(d) * (1 - MEAN**2))[:, None] * turn).astype(np.float32))
        self.clusters = fixed.standard_normal((4000, d)).astype(np.float32)
        share = fixed.pareto(1.2, 4000) + 0.05
        self.share = share / share.sum()

    def latent(self, n):
        z = self.rng.standard_normal((n, self.d), dtype=np.float32)
        if self.kind == "clustered":
            which = self.rng.choice(4000, n, p=self.share)
            z = np.sqrt(WITHIN).astype(np.float32) * z + np.sqrt(1 - WITHIN).astype(np.float32) * self.clusters[which]
        return z

    def rows(self, n):
        if self.kind == "mixture":
            y = (0.55 * self.mean + 0.85 * self.clusters[self.rng.integers(1000, size=n)]
                 + 0.45 * self.rng.standard_normal((n, self.d)) / np.sqrt(self.d))
        else:
            # A caption shares part of its picture, which is the same seed's; the pictures of a seed never depend on the side asked for.
            z, own = self.latent(n), self.latent(n)
            if self.side == "text": z = np.float32(PAIR) * z + np.float32(np.sqrt(1 - PAIR**2)) * own
            y = self.mean.astype(np.float32) + z @ self.turn
        return y / np.linalg.norm(y, axis=1, keepdims=True)


def write(path, kind, n, d, seed, dtype=np.float16, side="image"):
    """[n][d] in a .npy file, block by block."""
    source = Source(kind, d, seed, side)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    out = np.lib.format.open_memmap(path + ".tmp", "w+", dtype, (n, d))
    for i in range(0, n, BLOCK):
        out[i : i + BLOCK] = source.rows(min(BLOCK, n - i))
    out.flush()
    os.rename(path + ".tmp", path)
