#!/usr/bin/env python3
"""Write tests/golden/image and tests/golden/text: small awkward inputs and what the reference makes of them.

Needs Pillow >= 13 (older ones always resize horizontally first), numpy, transformers, tokenizers and ftfy. Run from
the repository's root; the output depends on the versions of these packages alone, no randomness."""
import io
import json
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"


# ---- pictures -------------------------------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def samples(pixels, depth):
    """[h][w][bands] to PNG scanlines with filter 0."""
    lines = b""
    for row in pixels:
        flat = row.reshape(-1)
        if depth == 16:
            lines += b"\0" + flat.astype(">u2").tobytes()
        elif depth == 8:
            lines += b"\0" + flat.astype(np.uint8).tobytes()
        else:
            bits = (flat[:, None] >> np.arange(depth - 1, -1, -1)) & 1
            lines += b"\0" + np.packbits(bits.astype(np.uint8)).tobytes()
    return lines


def png(pixels, colour, depth, extra=b"", interlaced=False):
    """A PNG of any kind, since Pillow writes few of them."""
    pixels = np.asarray(pixels)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    h, w = pixels.shape[:2]
    if interlaced:
        passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
        data = b""
        for y, x, dy, dx in passes:
            part = pixels[y::dy, x::dx]
            if part.size:
                data += samples(part, depth)
    else:
        data = samples(pixels, depth)
    head = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(data, 9))
            + chunk(b"IEND", b""))


def scene(w, h, bands, top=255):
    """Gradients, edges and a fine pattern, so that every filter tap and rounding shows."""
    y, x = np.mgrid[0:h, 0:w].astype(float)
    out = []
    for b in range(bands):
        v = 0.5 + 0.25 * np.sin((x * (b + 1) + y * 2) / 5.0) + 0.25 * np.cos((y * (b + 2) - x) / 7.0)
        v = np.where((x + y * (b + 1)) % (9 + b) < 2, 1 - v, v)
        v = np.where((x - w / 2) ** 2 + (y - h / 2) ** 2 < (min(w, h) / (3 + b)) ** 2, (b % 2) * 0.98, v)
        out.append(v)
    return np.clip(np.stack(out, -1) * (top + 1), 0, top).astype(np.uint16)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pictures():
    rgb = Image.fromarray(scene(61, 43, 3).astype(np.uint8))
    grey = Image.fromarray(scene(50, 37, 1).astype(np.uint8)[..., 0])
    rgba = Image.fromarray(scene(45, 52, 4).astype(np.uint8), "RGBA")
    cmyk = Image.fromarray(scene(40, 48, 4).astype(np.uint8), "CMYK")
    palette = chunk(b"PLTE", bytes(scene(16, 1, 3).astype(np.uint8).reshape(-1)))
    alphas = chunk(b"tRNS", bytes([0, 90, 255, 17]))
    yield "rgb.jpg", saved(rgb, "JPEG", quality=80)
    yield "rgb-444-progressive.jpg", saved(rgb, "JPEG", quality=90, progressive=True, subsampling=0)
    yield "rgb-422.jpg", saved(rgb.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=60, subsampling=1)
    yield "grey.jpg", saved(grey, "JPEG", quality=75)
    yield "cmyk.jpg", saved(cmyk, "JPEG", quality=85)
    yield "lossy.webp", saved(rgb, "WEBP", quality=70)
    yield "alpha.webp", saved(rgba, "WEBP", lossless=True, exact=True)
    frames = [rgba, rgba.transpose(Image.Transpose.ROTATE_180)]
    yield "animated.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], quality=50)
    yield "bilevel.png", png(scene(33, 29, 1, 1), 0, 1)
    yield "bilevel-interlaced.png", png(scene(33, 29, 1, 1), 0, 1, interlaced=True)
    yield "grey-2.png", png(scene(35, 31, 1, 3), 0, 2, interlaced=True)
    yield "grey-4.png", png(scene(31, 35, 1, 15), 0, 4)
    yield "grey-key.png", png(scene(36, 36, 1), 0, 8, chunk(b"tRNS", struct.pack(">H", 0)))
    yield "grey-16.png", png(scene(32, 47, 1, 400), 0, 16)
    yield "grey-16-wide.png", png(scene(47, 30, 1, 65535), 0, 16, interlaced=True)
    yield "rgb-key.png", png(scene(41, 33, 3), 2, 8, chunk(b"tRNS", struct.pack(">HHH", 0, 249, 0)))
    yield "rgb-16.png", png(scene(33, 41, 3, 65535), 2, 16)
    yield "palette-1.png", png(scene(39, 34, 1, 1), 3, 1, chunk(b"PLTE", bytes([200, 30, 40, 5, 250, 90])))
    yield "palette-4-alpha.png", png(scene(34, 39, 1, 15), 3, 4, palette + alphas, interlaced=True)
    yield "palette-short.png", png(scene(37, 37, 1, 60), 3, 8, palette)
    yield "grey-alpha.png", png(scene(44, 33, 2), 4, 8)
    yield "grey-alpha-16.png", png(scene(33, 44, 2, 65535), 4, 16)
    yield "rgba.png", png(scene(52, 38, 4), 6, 8, interlaced=True)
    yield "rgba-16.png", png(scene(38, 40, 4, 65535), 6, 16)
    yield "one.png", png([[[10, 200, 30]]], 2, 8)
    yield "tall.png", png(scene(9, 300, 3), 2, 8)
    yield "wide.png", png(scene(301, 8, 3), 2, 8)
    yield "very-tall-shrunk.png", png(scene(40, 131, 3), 2, 8)


# ---- preprocessing, in the words of torchvision, open_clip and transformers -----------------------------------


def shortest(image, size):
    w, h = image.size
    return (size, int(size * h / w)) if w <= h else (int(size * w / h), size)


def pad(image, borders, fill):
    bands = len(image.getbands())
    out = ImageOps.expand(image, borders, fill=(fill,) * bands if bands > 1 else fill)
    if image.mode == "P":
        out.putpalette(image.getpalette())
    return out


def crop_torchvision(image, crop, fill=0):
    w, h = image.size
    x, y = max(crop - w, 0), max(crop - h, 0)
    if x or y:
        image = pad(image, (x // 2, y // 2, (x + 1) // 2, (y + 1) // 2), fill)
    w, h = image.size
    left, top = round((w - crop) / 2), round((h - crop) / 2)
    return image.crop((left, top, left + crop, top + crop))


def crop_transformers(a, crop):
    h, w = a.shape[:2]
    out = np.zeros((max(h, crop), max(w, crop), 3), np.uint8)
    y, x = -((h - out.shape[0]) // 2), -((w - out.shape[1]) // 2)
    out[y:y + h, x:x + w] = a
    y, x = (out.shape[0] - crop) // 2, (out.shape[1] - crop) // 2
    return out[y:y + crop, x:x + crop]


def over_white(image):
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        white = Image.new("RGBA", image.size, (255,) * 4)
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def openai(image, size, crop, filter):
    return np.array(crop_torchvision(image.resize(shortest(image, size), filter), crop).convert("RGB"))


def hugging_face(image, size, crop, filter):
    image = over_white(image)
    return crop_transformers(np.array(image.resize(shortest(image, size), filter)), crop)


def longest(image, size, filter, fill):
    w, h = image.size
    ratio = max(w, h) / size
    return np.array(crop_torchvision(image.resize((max(1, round(w / ratio)), max(1, round(h / ratio))), filter), size,
                                     fill).convert("RGB"))


def squash(image, size, filter):
    return np.array(image.resize((size, size), filter).convert("RGB"))


SETTINGS = {  # as in tests/unit/image/golden.c
    "openai": lambda i: openai(i, 32, 32, Image.Resampling.BICUBIC),
    "openai-pad": lambda i: openai(i, 20, 25, Image.Resampling.BILINEAR),
    "hf": lambda i: hugging_face(i, 32, 29, Image.Resampling.BICUBIC),
    "hf-pad": lambda i: hugging_face(i, 15, 22, Image.Resampling.BICUBIC),
    "longest": lambda i: longest(i, 32, Image.Resampling.BICUBIC, 77),
    "squash": lambda i: squash(i, 24, Image.Resampling.BILINEAR),
}


def make_images():
    folder = ROOT / "image"
    folder.mkdir(parents=True, exist_ok=True)
    names, outputs = [], {name: [] for name in SETTINGS}
    for name, data in pictures():
        (folder / name).write_bytes(data)
        names.append(name)
        for setting, make in SETTINGS.items():
            image = Image.open(io.BytesIO(data))
            image.load()
            outputs[setting].append(make(image))
    (folder / "index.txt").write_text("".join(n + "\n" for n in names))
    for setting, rows in outputs.items():  # [n][side][side][3] u8, no header
        (folder / (setting + ".rgb")).write_bytes(np.stack(rows).tobytes())


if __name__ == "__main__":
    make_images()
