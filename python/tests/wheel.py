"""What scripts/wheel --check runs where nothing but Python, numpy and the wheel is installed: the main job from end to end.

    python wheel.py MODEL
"""

import pathlib
import sys
import tempfile

import numpy as np

import reco

model = reco.Model(sys.argv[1])
rng = np.random.default_rng(1)
colours = {f"{name} square": np.array(rgb, np.uint8) for name, rgb in (
    ("red", (220, 30, 30)), ("green", (30, 160, 40)), ("blue", (40, 60, 220)), ("yellow", (240, 220, 40)), ("black", (10, 10, 10)),
    ("white", (245, 245, 245)), ("pink", (250, 150, 190)), ("orange", (250, 140, 20)), ("brown", (120, 70, 30)), ("purple", (130, 40, 160)))}


def square(colour):
    pixels = np.full((72, 72, 3), 255, np.uint8)
    x, y = rng.integers(4, 20, 2)
    pixels[y:y + 44, x:x + 44] = colour
    return pixels


with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder)
    pairs = [{"image": square(colour), "text": name, "number": i} for name, colour in colours.items() for i in range(6)]
    bank = reco.Bank.build(path / "bank", model=model, pairs=pairs)
    assert len(bank) == 60 and bank.verify() == []
    queries = [square(colour) for colour in colours.values()]
    scores, ids = bank.search(model.encode_image(queries), k=3, where="number < 5")
    right = sum(bank[int(i)].caption == name for i, name in zip(ids[:, 0], colours))
    report = reco.train(bank, path / "fusion", layer="relational", steps=20)
    named = reco.Classifier(model, bank, reco.Fusion("vote", d=model.d), classes=list(colours)).predict(queries)
    assert right >= 8, right
    print(report)
    print(f"{right} of 10 found, {sum(named == list(colours))} named; formats: {', '.join(reco.image_formats())}")
