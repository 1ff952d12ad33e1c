"""What the pocket CLIP learns from: drawings and captions out of Debian packages.

prepare() unpacks the packages, pairs drawings with captions, leaves out every pair whose caption
names a new emoji or an old one that is held back, and stores 48-pixel drawings in one file.
"""
import hashlib
import html
import io
import json
import math
import pathlib
import re
import sys
import unicodedata
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor

import numpy
from PIL import Image, ImageChops, ImageDraw, ImageFile, ImageFont

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "demo"))
import emoji as demo_emoji  # noqa: E402

ImageFile.LOAD_TRUNCATED_IMAGES = True
Image.MAX_IMAGE_PIXELS = None

SIDE = 48
SEEN_PERCENT = 65
PACKAGES = (
    "openclipart-png", "openclipart-svg", "tuxpaint-stamps-default", "libjs-emojify",
    "oxygen-icon-theme", "gnome-icon-theme", "mate-icon-theme", "faenza-icon-theme",
    "elementary-xfce-icon-theme", "tango-icon-theme", "fonts-symbola", "firefox-esr")
THEMES = ("oxygen", "gnome", "mate", "Faenza", "elementary-xfce", "Tango")
GENERIC = {"", "hash", "icon", "icons", "theme", "clip art", "clipart", "svg", "png", "image",
           "unsorted", "nicubunu", "misc", "action", "actions", "computer", "symbol", "other",
           "stuff", "inkscape", "vector", "drawing", "open clip art library", "flat", "lemon"}


# Words and the filter.

def plain(text):
    """Lower case, one space between words, entities resolved."""
    text = html.unescape(unicodedata.normalize("NFC", text)).lower()
    return " ".join(re.sub(r"[_\-/.,;:()\[\]\"]+", " ", text).split())


def stem(word):
    """A word without its plural ending; rough, and the same on both sides of a comparison."""
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def stems(text):
    return tuple(stem(word) for word in re.findall(r"[^\W_]+", text.lower()))


class Names:
    """A set of names that can be found in captions: as words in a row, plural or not, or joined."""

    def __init__(self, names):
        self.rows, self.joined = defaultdict(set), {}
        for name in names:
            row = stems(name)
            if row:
                self.rows[row[0]].add(row)
                if len(row) > 1:
                    self.joined["".join(row)] = name

    def within(self, caption):
        """Whether the caption names one of these, anywhere."""
        words = stems(caption)
        return any(word in self.joined for word in words) or any(
            words[at:at + len(row)] == row
            for at, word in enumerate(words) for row in self.rows.get(word, ()))

    def whole(self, caption):
        """Whether the caption is one of these."""
        words = stems(caption)
        return bool(words) and (words in self.rows.get(words[0], ()) or
                                "".join(words) in self.joined)


def drawn(name):
    """Whether this name belongs to the part that the model sees; by hash, so order is no matter."""
    digest = hashlib.sha256(("pocket " + name).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < SEEN_PERCENT


# Pictures.

def square(picture, trim):
    """On white, square by padding, SIDE pixels, bicubic; as an array."""
    picture = picture.convert("RGBA")
    if max(picture.size) > 1200:
        picture = picture.reduce(max(picture.size) // 600)
    paper = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    picture = Image.alpha_composite(paper, picture).convert("RGB")
    if trim:
        box = ImageChops.difference(picture, Image.new("RGB", picture.size, "white")).getbbox()
        if box is None:
            return None
        picture = picture.crop(box)
    side = max(picture.size)
    if trim:
        side = max(int(math.ceil(side * 1.06)), 4)
    if picture.size != (side, side):
        canvas = Image.new("RGB", (side, side), "white")
        canvas.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        picture = canvas
    array = numpy.asarray(picture.resize((SIDE, SIDE), Image.BICUBIC))
    return array if array.std() > 4 else None


def load(path):
    """The drawing in a PNG or SVG file as an array, or None where it cannot be read."""
    try:
        if str(path).endswith(".svg"):
            import resvg_py
            data = bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=256))
            picture = Image.open(io.BytesIO(data))
        else:
            picture = Image.open(path)
        with picture:
            return square(picture, trim=True)
    except Exception:  # a broken drawing is no loss among thousands
        return None


def glyph(font, character):
    """A character drawn with a font, in colour where it has any; None where it lacks it."""
    canvas = Image.new("RGB", (160, 160), "white")
    ImageDraw.Draw(canvas).text((16, 16), character, font=font, fill="black",
                                embedded_color=True)
    return square(canvas, trim=True)


class LayeredFont:
    """A font whose glyphs are stacks of coloured outlines (COLR, version 0)."""

    def __init__(self, path):
        from fontTools.ttLib import TTFont
        self.font = TTFont(path)
        self.glyphs, self.names = self.font.getGlyphSet(), self.font.getBestCmap()
        self.colours = self.font["CPAL"].palettes[0]

    def draw(self, character):
        """The character as an array, or None where the font lacks it."""
        from fontTools.pens.svgPathPen import SVGPathPen
        import resvg_py
        layers = self.font["COLR"].ColorLayers.get(self.names.get(ord(character)), ())
        shapes = []
        for layer in layers:
            pen, colour = SVGPathPen(self.glyphs), self.colours[layer.colorID]
            self.glyphs[layer.name].draw(pen)
            shapes.append(f'<path d="{pen.getCommands()}" fill="#{colour.red:02x}'
                          f'{colour.green:02x}{colour.blue:02x}"'
                          f' fill-opacity="{colour.alpha / 255:.3f}"/>')
        if not shapes:
            return None
        em = self.font["head"].unitsPerEm
        svg = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-em // 4} {-em * 5 // 4}'
               f' {em * 3 // 2} {em * 3 // 2}"><g transform="scale(1,-1)">'
               + "".join(shapes) + "</g></svg>")
        data = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=256))
        return square(Image.open(io.BytesIO(data)), trim=True)


# Sources: each yields (hand, path, title, keywords).

def first(pattern, text):
    found = re.search(pattern, text, re.S)
    return found[1] if found else ""


def clip_art(root):
    base = root / "usr/share/openclipart"
    rows = []
    for path in sorted((base / "png").rglob("*.png")):
        inside = path.relative_to(base / "png")
        if inside.parts[:2] == ("shapes", "stars"):
            continue
        title, words, author = "", [], ""
        svg = (base / "svg" / inside).with_suffix(".svg")
        if svg.exists():
            with open(svg, encoding="utf-8", errors="replace") as file:
                text = first(r"<metadata(.*?)</metadata>", file.read(400000))
            title = plain(first(r"<dc:title[^>]*>([^<]*)", text))
            subject = first(r"<dc:subject>(.*?)</dc:subject>", text)
            words = [plain(w) for w in re.findall(r"<rdf:li[^>]*>([^<]*)", subject)]
            author = plain(first(r"<dc:creator>.*?<dc:title[^>]*>([^<]*)", text))
        kept = [w for w in plain(path.stem).split() if w not in author.split() and
                not re.fullmatch(r"\d+|v\d+|ganso|nicubunu", w)]
        rows.append((path, title, [w for w in words if w not in GENERIC], " ".join(kept)))
    counts = defaultdict(int)
    for row in rows:
        counts[row[1]] += 1
    for path, title, words, name in rows:
        if counts[title] > 6 or title in GENERIC or len(title) < 3 or len(title) > 60:
            words = [title] + words if 2 < len(title) < 25 and title not in GENERIC else words
            title = name
        yield "openclipart", path, title, words


def stamps(root):
    base = root / "usr/share/tuxpaint/stamps"
    for path in sorted(base.rglob("*")):
        text = path.with_suffix(".txt")
        if path.suffix not in (".png", ".svg") or not text.exists():
            continue
        lines = text.read_text(encoding="utf-8", errors="replace").splitlines()
        title = plain(lines[0]) if lines else ""
        title = re.sub(r"^(an?|the|some) ", "", title.rstrip(".!"))
        words = [plain(part) for part in path.relative_to(base).parts[:-1]]
        yield "tuxpaint", path, title, [w for w in words if w not in GENERIC and w != "cartoon"]


def icons(root):
    for theme in THEMES:
        best = {}
        for path in sorted((root / "usr/share/icons" / theme).rglob("*.png")):
            inside = str(path.relative_to(root))
            sizes = re.findall(r"/(\d+)(?:x\d+)?/", inside)
            size = int(sizes[0]) if sizes else 0
            if size < 32 or path.is_symlink() or "animation" in inside or "symbolic" in inside:
                continue
            rank = (abs(size - 64), inside)
            if path.stem not in best or rank < best[path.stem][0]:
                best[path.stem] = (rank, path)
        for name, (_, path) in sorted(best.items()):
            title = re.sub(r"^(gtk|stock|gnome|xfce|mate|faenza|kde|xfce4|org) ", "", plain(name))
            yield theme, path, title, []


def emojify(root):
    """Maps code points to libjs-emojify's drawings, by EmojiOne's short names."""
    index = next((root / demo_emoji.GEMS).glob("gemojione-*")) / "config/index.json"
    folder = root / "usr/share/javascript/emojify.js/images/emoji"
    found = {}
    for entry in json.loads(index.read_text(encoding="utf-8")).values():
        points = demo_emoji.normal(int(p, 16) for p in entry["unicode"].split("-"))
        for name in [entry["name"].replace(" ", "_"), entry.get("shortname", "")] + \
                list(entry.get("aliases", [])):
            path = folder / (name.strip(":") + ".png")
            if path.exists():
                found.setdefault(points, path)
    return found


# Putting it together.

def pairs(root, found):
    """All pairs to learn from, and the seen old emoji's names.

    Returns (list of (hand, picture, title, keywords)), seen names); a picture is a path or an
    array.
    """
    new = Names(e.name for e in found if not e.old)
    seen = [e for e in found if e.old and drawn(e.name) and not new.within(e.name)]
    names = {e.name for e in seen}
    unseen = Names(e.name for e in found if e.old and e.name not in names)
    rows = []
    for source in (clip_art, stamps, icons):
        for hand, path, title, words in source(root):
            if len(title) < 2 or any(new.within(t) for t in [title, plain(path.stem)] + words):
                continue
            if unseen.whole(title) or any(unseen.whole(w) for w in words):
                continue
            rows.append((hand, path, title, words))
    other = emojify(root)
    twemoji = LayeredFont(root / "usr/lib/firefox-esr/fonts/TwemojiMozilla.ttf")
    symbola = ImageFont.truetype(
        str(root / "usr/share/fonts/truetype/ancient-scripts/Symbola_hint.ttf"), 96)
    nothing = glyph(symbola, "\U000fffff")
    for e in seen:
        words = [plain(w) for w in e.keywords]
        words = [w for w in words if not new.within(w) and not unseen.whole(w)]
        for hand, path in (("emojione", e.emojione), ("noto", e.noto),
                           ("emojify", other.get(e.points))):
            if path:
                rows.append((hand, square(Image.open(path), trim=False), e.name, words))
        if len(e.points) == 1:
            character = chr(e.points[0])
            for hand, array in (("twemoji", twemoji.draw(character)),
                                ("symbola", glyph(symbola, character))):
                if array is not None and not numpy.array_equal(array, nothing):
                    rows.append((hand, array, e.name, words))
    return rows, sorted(names)


def prepare(work):
    """Writes work/pairs.npz and work/pairs.json once; returns (arrays, description)."""
    work = pathlib.Path(work)
    arrays, described = work / "pairs.npz", work / "pairs.json"
    if not described.exists():
        root = demo_emoji.fetch(demo_emoji.PACKAGES + PACKAGES, work / "packages")
        found = demo_emoji.load_emoji(work / "packages")
        rows, seen = pairs(root, found)
        paths = [row[1] for row in rows if not isinstance(row[1], numpy.ndarray)]
        with ProcessPoolExecutor(2) as pool:
            loaded = iter(list(pool.map(load, paths, chunksize=64)))
        groups, pictures, hands, seen_bytes = {}, [], [], set()
        for hand, picture, title, words in rows:
            if not isinstance(picture, numpy.ndarray):
                picture = next(loaded)
            key = " ".join(stems(title)) or title
            group = groups.setdefault(
                key, {"title": title, "keywords": [], "pictures": [], "emoji": False})
            if picture is None or (key, picture.tobytes()) in seen_bytes:
                continue
            seen_bytes.add((key, picture.tobytes()))
            group["pictures"].append(len(pictures))
            group["keywords"] += [w for w in words if w and w not in group["keywords"]]
            if title in seen:
                group["emoji"], group["title"] = True, title
            pictures.append(picture)
            hands.append(hand)
        groups = [g for g in groups.values() if g["pictures"]]
        for group in groups:
            group["keywords"] = group["keywords"][:12]
        numpy.savez(arrays, pictures=numpy.stack(pictures),
                    emojione=numpy.stack([square(Image.open(e.emojione), False) for e in found]),
                    noto=numpy.stack([square(Image.open(e.noto), False) for e in found]))
        described.write_text(json.dumps({
            "groups": groups, "hands": hands, "seen": seen,
            "names": [e.name for e in found], "old": sum(e.old for e in found)}, indent=0))
    return numpy.load(arrays), json.loads(described.read_text())


if __name__ == "__main__":
    stored, about = prepare(sys.argv[1])
    print(f"{len(stored['pictures'])} pictures, {len(about['groups'])} captions,"
          f" {len(about['seen'])} of {about['old']} old emoji seen")
    for hand in sorted(set(about["hands"])):
        print(f"  {hand}: {about['hands'].count(hand)}")
