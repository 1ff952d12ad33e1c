#!/usr/bin/env python3
"""The demo's pictures: the emoji that two hands have drawn and that have an English name.

Fetches four Debian packages (EmojiOne's and Noto's drawings, CLDR's names, Unicode's ages; from
Debian 13 on, where Noto's came to have no drawings, its font too), unpacks them without
installing anything, puts the drawings on white and writes the CSV files that reco reads. Needs
Python 3.11, Pillow, apt-get and dpkg-deb; root is not needed.

    python3 demo/emoji.py --work DIR --out DIR

An emoji is "old" when Unicode 6.1 (2012) or an earlier version has it, "new" when it came later.
Flags, skin tones and emoji joined from several (families, couples) are left out.
"""
import argparse
import csv
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

PACKAGES = ("ruby-gemojione", "ruby-tanuki-emoji", "unicode-cldr-core", "unicode-data")
GEMS = "usr/share/rubygems-integration/all/gems"
FONT_PACKAGE = "fonts-noto-color-emoji"
FONT, FONT_SIZE = "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf", 109  # the size of its bitmaps
OLD_AGE = (6, 1)
JOINER, EMOJI_STYLE, KEYCAP = 0x200D, 0xFE0F, 0x20E3
BLACK_FLAG, WHITE_FLAG = 0x1F3F4, 0x1F3F3


@dataclass(frozen=True)
class Emoji:
    """One emoji: its code points (without joiners and styles), names, age, and both drawings."""
    points: tuple
    name: str
    keywords: tuple
    age: tuple
    old: bool
    emojione: pathlib.Path
    noto: pathlib.Path

    @property
    def codepoint(self):
        return "-".join(f"{point:04x}" for point in self.points)

    @property
    def age_text(self):
        return ".".join(map(str, self.age))


def fetch(packages, work):
    """Downloads and unpacks Debian packages below work; returns the unpacked tree's root.

    A package that has been unpacked there before is left as it is.
    """
    work = pathlib.Path(work)
    archives, root, done = work / "debs", work / "root", work / "unpacked"
    for folder in (archives, root, done):
        folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        if (done / package).exists():
            continue
        found = sorted(archives.glob(package + "_*.deb"))
        if not found:
            # Root's downloads would go through the user _apt, who may not write here.
            command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package]
            if subprocess.run(command, cwd=archives, stdout=subprocess.DEVNULL).returncode:
                sys.exit(f"emoji: cannot download the Debian package {package};"
                         " is there a network, and has apt-get update been run?")
            found = sorted(archives.glob(package + "_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(found[-1]), str(root)], check=True)
        (done / package).touch()
    return root


def normal(points):
    """Code points without joiners and emoji style marks: the sets keep or drop these freely."""
    return tuple(p for p in points if p not in (JOINER, EMOJI_STYLE))


def drawings(folder, prefix):
    """Maps code points to the picture files of a folder, by the code points in their names."""
    found = {}
    for path in sorted(folder.glob(prefix + "*.png")):
        parts = re.split("[-_]", path.stem[len(prefix):])
        if all(re.fullmatch("[0-9a-fA-F]{2,6}", part) for part in parts):
            found.setdefault(normal(int(part, 16) for part in parts), path)
    return found


def english(root):
    """Maps code points to (name, keywords) from CLDR's annotations."""
    names, keywords = {}, {}
    for folder in ("annotations", "annotationsDerived"):
        path = root / "usr/share/unicode/cldr/common" / folder / "en.xml"
        for entry in ElementTree.parse(path).iter("annotation"):
            points = normal(map(ord, entry.get("cp")))
            text = " ".join((entry.text or "").split())
            if entry.get("type") == "tts":
                names.setdefault(points, text)
            else:
                words = tuple(word.strip() for word in text.split("|"))
                keywords.setdefault(points, words)
    return {points: (name, keywords.get(points, ())) for points, name in names.items()}


def ages(root):
    """Maps a code point to the Unicode version that brought it, as (major, minor)."""
    found = {}
    with open(root / "usr/share/unicode/DerivedAge.txt", encoding="utf-8") as lines:
        for line in lines:
            match = re.match(r"([0-9A-F]+)(?:\.\.([0-9A-F]+))?\s*;\s*(\d+)\.(\d+)", line)
            if match:
                first, last = int(match[1], 16), int(match[2] or match[1], 16)
                if last - first < 5000:  # the long ranges hold ideographs and private use
                    age = (int(match[3]), int(match[4]))
                    found.update((point, age) for point in range(first, last + 1))
    return found


def is_flag(points):
    return any(0x1F1E6 <= p <= 0x1F1FF or 0xE0020 <= p <= 0xE007F for p in points) or (
        len(points) > 1 and points[0] in (BLACK_FLAG, WHITE_FLAG))


def has_skin_tone(points):
    return any(0x1F3FB <= p <= 0x1F3FF for p in points)


def is_joined(points):
    return len(points) > 1 and KEYCAP not in points


def draw_noto(wanted, work):
    """Draws what the font has of these code points; returns the folder."""
    font = ImageFont.truetype(str(fetch([FONT_PACKAGE], work) / FONT), FONT_SIZE)
    folder = pathlib.Path(work) / "noto"
    folder.mkdir(exist_ok=True)

    def drawn(text):
        left, top, right, bottom = font.getbbox(text)
        picture = Image.new("RGBA", (max(right - left, 1), max(bottom - top, 1)))
        ImageDraw.Draw(picture).text((-left, -top), text, font=font, embedded_color=True)
        return picture

    missing = drawn("\U0010ffff").tobytes()
    for points in wanted:
        picture = drawn("".join(map(chr, points)))
        # Two side by side: the font has no glyph for the sequence.
        if picture.tobytes() != missing and picture.width < 2 * picture.height:
            picture.save(folder / ("emoji_u" + "_".join(f"{point:04x}" for point in points) + ".png"))
    return folder


def load_emoji(work):
    """Fetches what is missing and returns the list of Emoji: the old first, by code point."""
    root = fetch(PACKAGES, work)
    emojione = drawings(next((root / GEMS).glob("gemojione-*")) / "assets/png", "")
    noto = drawings(next((root / GEMS).glob("tanuki_emoji-*")) /
                    "app/assets/images/tanuki_emoji", "emoji_u")
    names, age_of = english(root), ages(root)
    wanted = {points for points in emojione.keys() & names.keys()
              if not (is_flag(points) or has_skin_tone(points) or is_joined(points))}
    if not noto:
        noto = drawings(draw_noto(wanted, work), "emoji_u")
    found = []
    for points in sorted(wanted & noto.keys()):
        age = max(age_of.get(point, (99, 0)) for point in points)
        name, keywords = names[points]
        found.append(Emoji(points, name, keywords, age, age <= OLD_AGE,
                           emojione[points], noto[points]))
    names_seen = [emoji.name for emoji in found]
    if len(set(names_seen)) != len(names_seen):
        doubles = sorted({name for name in names_seen if names_seen.count(name) > 1})
        raise ValueError(f"two emoji share a name: {', '.join(doubles)}")
    return sorted(found, key=lambda emoji: (not emoji.old, emoji.points))


def on_white(path):
    """Reads a picture and returns it as RGB on white, in its own size."""
    with Image.open(path) as picture:
        picture = picture.convert("RGBA")
    paper = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(paper, picture).convert("RGB")


def write_csv(path, header, rows):
    """Writes an RFC 4180 file: UTF-8, CRLF line ends, quotes where needed."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def write_demo(found, out):
    """Writes the pictures on white, the CSV files and the class names below out."""
    out = pathlib.Path(out)
    for hand in ("emojione", "noto"):
        (out / hand).mkdir(parents=True, exist_ok=True)
        for emoji in found:
            picture = on_white(getattr(emoji, hand))
            picture.save(out / hand / f"{emoji.codepoint}.png", optimize=False)

    def described(hand, chosen):
        return [(f"{hand}/{emoji.codepoint}.png", emoji.name, emoji.codepoint, emoji.age_text,
                 " ".join(emoji.keywords)) for emoji in chosen]

    def labelled(chosen):
        return [(f"emojione/{emoji.codepoint}.png", emoji.name) for emoji in chosen]

    old = [emoji for emoji in found if emoji.old]
    new = [emoji for emoji in found if not emoji.old]
    columns = ("image", "text", "codepoint", "age", "keywords")
    write_csv(out / "bank_old.csv", columns, described("noto", old))
    write_csv(out / "bank_new.csv", columns, described("noto", new))
    write_csv(out / "train_old.csv", columns, described("emojione", old))
    write_csv(out / "labels_old.csv", ("image", "label"), labelled(old))
    write_csv(out / "labels_new.csv", ("image", "label"), labelled(new))
    write_csv(out / "labels.csv", ("image", "label"), labelled(old + new))
    # study.toml asks of old emoji that no layer has seen: every third
    write_csv(out / "study_train.csv", columns,
              described("emojione", [emoji for i, emoji in enumerate(old) if i % 3]))
    write_csv(out / "study_old.csv", ("image", "label"), labelled(old[::3]))
    (out / "classes.txt").write_text("".join(emoji.name + "\n" for emoji in old + new),
                                     encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", required=True, help="folder for the packages, kept and reused")
    parser.add_argument("--out", required=True, help="folder for the pictures and CSV files")
    arguments = parser.parse_args()
    found = load_emoji(arguments.work)
    write_demo(found, arguments.out)
    old = sum(emoji.old for emoji in found)
    print(f"{len(found)} emoji: {old} old, {len(found) - old} new")


if __name__ == "__main__":
    main()
