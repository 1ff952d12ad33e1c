#!/usr/bin/env python3
"""Write tests/golden/formats: small pictures of every format and what Pillow makes of them.

Needs Pillow >= 13, pillow-heif, pillow-jxl-plugin and numpy. Run from the repository's root.
index.txt has a line "NAME WIDTH HEIGHT UPRIGHT EXACT" for each; in pixels.rgb follow, for each, convert("RGB"), and two
that are resized to 12 x 12: in the picture's own mode and then converted, and laid over white first. UPRIGHT 1: turned by
exif_transpose first. EXACT 0: a library's own arithmetic (of colour differences, say) varies between its versions."""
import io
import pathlib
import struct
import zlib

import numpy as np
import pillow_heif
import pillow_jxl
from PIL import Image, ImageOps

from make_image_text import chunk, png, saved, scene

pillow_heif.register_heif_opener()
OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "formats"
W, H = 21, 13


def rgb(bands=3):
    a = scene(W, H, bands).astype(np.uint8)
    return Image.fromarray(a if bands > 1 else a[..., 0], {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[bands])


# ---- BMP ----------------------------------------------------------------------------------------------------------


def rows(pixels, bits):
    """[h][w] samples to padded rows, bottom up."""
    out = b""
    for row in pixels[::-1]:
        if bits >= 8:
            line = b"".join(int(v).to_bytes(bits // 8, "little") for v in row)
        else:
            line = np.packbits(((row[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)).tobytes()
        out += line + bytes(-len(line) % 4)
    return out


def bmp(data, bits, compression=0, palette=b"", masks=b"", header=40, height=H, colours=0):
    if header == 12:
        head = struct.pack("<IHHHH", 12, W, height, 1, bits)
    else:
        head = struct.pack("<IiiHHIIiiII", header, W, height, 1, bits, compression, len(data), 2835, 2835, colours, 0)
        if header > 40:
            head += (masks + bytes(header))[: header - 40]
            masks = b""
    offset = 14 + len(head) + len(masks) + len(palette)
    return struct.pack("<2sIHHI", b"BM", offset + len(data), 0, 0, offset) + head + masks + palette + data


def colours(n, each=4):
    c = scene(n, 1, 3).astype(np.uint8)[0]
    return b"".join(bytes([b, g, r]) + bytes(each - 3) for r, g, b in c)


def whole_runs(pixels, bits):
    out = b""
    for row in pixels[::-1]:
        x = 0
        while x < len(row):
            n = 1
            while x + n < len(row) and row[x + n] == row[x]:
                n += 1
            if n > 1 or len(row) - x < 5:
                out += bytes([n, int(row[x]) * (17 if bits == 4 else 1)])
                x += n
            else:
                v = [int(v) for v in row[x : x + 5]] + [0]
                body = bytes(v) if bits == 8 else bytes([v[0] << 4 | v[1], v[2] << 4 | v[3], v[4] << 4, 0])
                out += bytes([0, 5]) + body
                x += 5
        out += b"\0\0"
    return out + b"\0\1"


def delta_runs(pixels):
    """Starts with a jump of two pixels and a row, over the first rows."""
    flat = whole_runs(pixels[:-2], 8)
    return b"\0\2\2\1" + bytes([W - 2, 7]) + b"\0\0" + flat


def bmps():
    index = lambda top: scene(W, H, 1, top)[..., 0]
    three = scene(W, H, 3).astype(np.uint32)
    four = scene(W, H, 4).astype(np.uint32)
    yield "bilevel.bmp", bmp(rows(index(1), 1), 1, palette=b"\0\0\0\0\xff\xff\xff\0")
    yield "palette-1.bmp", bmp(rows(index(1), 1), 1, palette=colours(2))
    yield "palette-4.bmp", bmp(rows(index(15), 4), 4, palette=colours(16))
    yield "palette-8.bmp", bmp(rows(index(99), 8), 8, palette=colours(100), colours=100)
    yield "grey-8.bmp", bmp(rows(index(255), 8), 8, palette=b"".join(bytes([i, i, i, 0]) for i in range(256)))
    yield "os2.bmp", bmp(rows(index(15), 4), 4, palette=colours(16, 3), header=12)
    yield "rle-8.bmp", bmp(whole_runs(index(5), 8), 8, 1, palette=colours(256))
    yield "rle-8-delta.bmp", bmp(delta_runs(index(5)), 8, 1, palette=colours(256))
    yield "rle-4.bmp", bmp(whole_runs(index(3), 4), 4, 2, palette=colours(16))
    packed = three[..., 0] << 16 | three[..., 1] << 8 | three[..., 2]
    yield "rgb-24.bmp", bmp(rows(packed, 24), 24)
    yield "top-down.bmp", bmp(rows(packed[::-1], 24), 24, height=-H)
    yield "rgb-32.bmp", bmp(rows(packed | four[..., 3] << 24, 32), 32)
    fives = (three[..., 0] >> 3) << 10 | (three[..., 1] >> 3) << 5 | three[..., 2] >> 3
    yield "rgb-15.bmp", bmp(rows(fives, 16), 16)
    sixes = (three[..., 0] >> 3) << 11 | (three[..., 1] >> 2) << 5 | three[..., 2] >> 3
    yield "rgb-16.bmp", bmp(rows(sixes, 16), 16, 3, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F))
    alpha = four[..., 3] << 24 | four[..., 0] << 16 | four[..., 1] << 8 | four[..., 2]
    yield "alpha-v5.bmp", bmp(rows(alpha, 32), 32, 3, masks=struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000), header=124)
    yield "fields-v2.bmp", bmp(rows(alpha, 32), 32, 3, masks=struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0), header=56)


# ---- TIFF ---------------------------------------------------------------------------------------------------------


def tiff(data, tags, big=False, parts=1, more=b""):
    """A TIFF of one strip or tile, or of `parts` of equal size. tags: {number: (type, [values])}."""
    e = ">" if big else "<"
    each = len(data) // parts
    tags = dict(tags)
    place = 324 if 322 in tags else 273
    tags[place] = (4, [8 + i * each for i in range(parts)])
    tags[325 if place == 324 else 279] = (4, [each] * parts)
    at = 8 + len(data)
    body, extra = b"", b""
    start = at + 2 + 12 * len(tags) + 4
    for number in sorted(tags):
        kind, values = tags[number]
        packed = struct.pack(e + {3: "H", 4: "I"}[kind] * len(values), *values)
        if len(packed) > 4:
            value, extra = struct.pack(e + "I", start + len(extra)), extra + packed + bytes(len(packed) % 2)
        else:
            value = packed + bytes(4 - len(packed))
        body += struct.pack(e + "HHI", number, kind, len(values)) + value
    return ((b"MM\0*" if big else b"II*\0") + struct.pack(e + "I", at) + data + struct.pack(e + "H", len(tags)) + body
            + bytes(4) + extra)


def layout(bits, photometric, samples=1, **more):
    tags = {256: (3, [W]), 257: (3, [H]), 258: (3, [bits] * samples), 259: (3, [1]), 262: (3, [photometric]),
            277: (3, [samples]), 278: (3, [H])}
    names = {"extra": 338, "format": 339, "planar": 284, "turn": 274, "colours": 320, "compression": 259, "fill": 266}
    for name, value in more.items():
        tags[names[name]] = (3, value if isinstance(value, list) else [value])
    return tags


def bits_of(pixels, bits):
    out = b""
    for row in pixels:
        out += np.packbits(((row.reshape(-1)[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)).tobytes()
    return out


def tiffs():
    grey = rgb(1)
    deep = scene(W, H, 1, 400)[..., 0]
    yield "bilevel-g4.tif", saved(grey.point(lambda v: 255 * (v > 120), "1"), "TIFF", compression="group4")
    yield "white-is-0.tif", tiff(bits_of(scene(W, H, 1, 1), 1), layout(1, 0))
    yield "grey-2.tif", tiff(bits_of(scene(W, H, 1, 3), 2), layout(2, 0))
    yield "grey-4.tif", tiff(bits_of(scene(W, H, 1, 15), 4), layout(4, 1))
    yield "grey-lzw.tif", saved(grey, "TIFF", compression="tiff_lzw")
    yield "grey-inverted.tif", tiff(np.asarray(grey).tobytes(), layout(8, 0))
    yield "grey-12.tif", tiff(bits_of(np.pad(deep, ((0, 0), (0, 0))), 12), layout(12, 1))
    yield "grey-16.tif", saved(Image.fromarray(deep.astype(np.uint16)), "TIFF", compression="tiff_adobe_deflate")
    yield "grey-16-big.tif", tiff(deep.astype(">u2").tobytes(), layout(16, 1), big=True)
    yield "grey-16-signed.tif", tiff((deep.astype(int) - 70).astype("<i2").tobytes(), layout(16, 1, format=2))
    yield "grey-32.tif", tiff((deep.astype(int) - 70).astype("<i4").tobytes(), layout(32, 1, format=2))
    yield "grey-float.tif", tiff((deep * 0.9 - 50.5).astype("<f4").tobytes(), layout(32, 1, format=3))
    yield "grey-alpha.tif", saved(rgb(2), "TIFF")
    yield "rgb.tif", saved(rgb(), "TIFF")
    yield "rgb-packbits.tif", saved(rgb(), "TIFF", compression="packbits")
    yield "rgb-jpeg.tif", saved(rgb(), "TIFF", compression="jpeg", quality=90)
    three = scene(W, H, 3, 65535)
    yield "rgb-16-big.tif", tiff(three.astype(">u2").tobytes(), layout(16, 2, 3), big=True)
    yield "rgb-planes.tif", tiff(np.moveaxis(scene(W, H, 3).astype(np.uint8), 2, 0).tobytes(),
                                 layout(8, 2, 3, planar=2), parts=3)
    tiles = np.zeros((16, 32, 3), np.uint8)
    tiles[:H, :W] = scene(W, H, 3)
    tags = layout(8, 2, 3)
    del tags[278]
    tags[322] = tags[323] = (3, [16])
    yield "rgb-tiles.tif", tiff(tiles[:, :16].tobytes() + tiles[:, 16:].tobytes(), tags, parts=2)
    four = scene(W, H, 4).astype(np.uint8)
    yield "rgba.tif", saved(rgb(4), "TIFF", compression="tiff_lzw")
    associated = four.copy()
    associated[..., :3] = np.minimum(four[..., :3], four[..., 3:])
    associated[0, :5, 3] = 0
    yield "rgba-associated.tif", tiff(associated.tobytes(), layout(8, 2, 4, extra=1))
    yield "rgb-spare.tif", tiff(four.tobytes(), layout(8, 2, 4, extra=0))
    yield "rgba-16.tif", tiff(scene(W, H, 4, 65535).astype("<u2").tobytes(), layout(16, 2, 4, extra=2))
    yield "palette.tif", saved(rgb().quantize(40), "TIFF", compression="tiff_lzw")
    table = [int(v) * 257 for v in scene(16, 1, 3).astype(np.uint8)[0].T.reshape(-1)]
    yield "palette-4.tif", tiff(bits_of(scene(W, H, 1, 15), 4), layout(4, 3, colours=table))
    yield "cmyk.tif", saved(Image.fromarray(four, "CMYK"), "TIFF", compression="tiff_lzw")
    yield "cmyk-16.tif", tiff(scene(W, H, 4, 65535).astype(">u2").tobytes(), layout(16, 5, 4), big=True)
    yield "turned.tif", tiff(scene(W, H, 3).astype(np.uint8).tobytes(), layout(8, 2, 3, turn=6))


# ---- GIF ----------------------------------------------------------------------------------------------------------


def placed(gif, left, top, width, height):
    """Move a GIF's first frame on a canvas of another size."""
    out = bytearray(gif)
    out[6:10] = struct.pack("<HH", width, height)
    at = 13 + (3 << (out[10] & 7) + 1 if out[10] & 128 else 0)
    while out[at] == 0x21:
        at += 2
        while out[at]:
            at += out[at] + 1
        at += 1
    out[at + 1 : at + 5] = struct.pack("<HH", left, top)
    return bytes(out)


def gifs():
    small = rgb().quantize(16)
    frames = [small, rgb().transpose(Image.Transpose.ROTATE_180).quantize(16)]
    yield "palette.gif", saved(small, "GIF")
    yield "interlaced.gif", saved(rgb().quantize(200), "GIF", interlace=1)
    yield "grey.gif", saved(rgb(1), "GIF")
    yield "transparent.gif", saved(small, "GIF", transparency=3)
    yield "grey-transparent.gif", saved(rgb(1), "GIF", transparency=0)
    yield "animated.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    yield "placed.gif", placed(saved(small, "GIF"), 3, 4, 30, 20)
    yield "placed-transparent.gif", placed(saved(small, "GIF", transparency=3), 2, 1, 30, 20)
    yield "beyond.gif", placed(saved(small, "GIF"), 5, 6, 10, 10)


# ---- what libraries read ------------------------------------------------------------------------------------------


def even(bands):
    """Nothing for a clean aperture to cut off, which versions of libheif round differently."""
    return rgb(bands).crop((0, 0, 16, 8))


def others():
    yield "rgb.avif", saved(rgb(), "AVIF", quality=60), 0
    yield "rgba.avif", saved(rgb(4), "AVIF", quality=80, subsampling="4:4:4"), 0
    yield "grey.avif", saved(rgb(1), "AVIF", quality=70), 1
    frames = [rgb(), rgb().transpose(Image.Transpose.ROTATE_180)]
    yield "animated.avif", saved(frames[0], "AVIF", save_all=True, append_images=frames[1:], quality=50), 0
    yield "rgb.heic", saved(even(3), "HEIF", quality=60), 0
    yield "rgba.heic", saved(even(4), "HEIF", quality=80, chroma=444), 0
    yield "rgb.jxl", saved(rgb(), "JXL", quality=80), 0
    yield "lossless.jxl", saved(rgb(), "JXL", lossless=True), 1
    yield "alpha-lossless.jxl", saved(rgb(4), "JXL", lossless=True), 1
    yield "grey-lossless.jxl", saved(rgb(1), "JXL", lossless=True), 1


# ---- orientation --------------------------------------------------------------------------------------------------


def exif(turn, big=False):
    e = ">" if big else "<"
    return ((b"MM\0*" if big else b"II*\0") + struct.pack(e + "IHHHIHH", 8, 1, 0x0112, 3, 1, turn, 0) + bytes(4))


def turned():
    for turn in range(1, 9):
        yield f"turn-{turn}.png", png(scene(W, H, 3), 2, 8, chunk(b"eXIf", exif(turn, turn % 2)))
    segment = b"Exif\0\0" + exif(6, True)
    jpeg = saved(rgb(), "JPEG", quality=50)
    with_segment = lambda body: jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
    yield "turn-exif.jpg", with_segment(segment)
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf tiff:Orientation=\"8\"/></x:xmpmeta>"
    yield "turn-xmp.jpg", with_segment(xmp)
    yield "turn-zero.jpg", with_segment(b"Exif\0\0" + exif(0))
    yield "turn.webp", saved(rgb(), "WEBP", lossless=True, exif=b"Exif\0\0" + exif(5))
    text = "\nexif\n%8d\n%s\n" % (len(segment), segment.hex())
    yield "turn-profile.png", png(scene(W, H, 1), 0, 8, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text.encode())))
    yield "turn-xmp.png", png(scene(W, H, 1, 1), 0, 1, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<tiff:Orientation>3</tiff:Orientation>"))
    palette = chunk(b"PLTE", bytes(scene(16, 1, 3).astype(np.uint8).reshape(-1)))
    yield "turn-palette.png", png(scene(W, H, 1, 15), 3, 4, palette + chunk(b"eXIf", exif(7)))
    yield "turn-16.png", png(scene(W, H, 1, 400), 0, 16, chunk(b"eXIf", exif(8)))
    image_exif = Image.Exif()
    image_exif[0x0112] = 6
    yield "turn.avif", saved(rgb(1), "AVIF", quality=70, exif=image_exif.tobytes())
    yield "turn.heic", saved(even(3), "HEIF", quality=60, exif=image_exif.tobytes())


def references(data, upright):
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if upright:
            image = ImageOps.exif_transpose(image)
        yield np.asarray(image.convert("RGB"))
        wide = image.mode in ("I", "F")  # reco has no such modes: it converts them before it resizes
        own = image.convert("RGB") if wide else image
        if image.mode == "I;16B":  # which Pillow 13 resizes to noise
            own = Image.fromarray(np.asarray(image).astype(np.uint16))
        yield np.asarray(own.resize((12, 12), Image.Resampling.BICUBIC).convert("RGB"))
        rgba = (image.convert("RGB") if image.mode in ("I", "F", "I;16", "I;16B", "I;16N", "CMYK") else image).convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        white.alpha_composite(rgba)
        yield np.asarray(white.convert("RGB").resize((12, 12), Image.Resampling.BICUBIC))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    cases = [(n, d, 0, 1) for part in (bmps, tiffs, gifs) for n, d in part()]
    cases += [(n, d, 0, exact) for n, d, exact in others()]
    for n, d in turned():
        cases += [(n, d, 0, int(not n.endswith(".heic"))), (n, d, 1, int(not n.endswith(".heic")))]
    lines, pixels = [], []
    for name, data, upright, exact in cases:
        (OUT / name).write_bytes(data)
        own, resized, white = references(data, upright)
        lines.append(f"{name} {own.shape[1]} {own.shape[0]} {upright} {exact}\n")
        pixels += [own, resized, white]
    (OUT / "index.txt").write_text("".join(lines))
    (OUT / "pixels.rgb").write_bytes(b"".join(p.astype(np.uint8).tobytes() for p in pixels))


if __name__ == "__main__":
    main()
