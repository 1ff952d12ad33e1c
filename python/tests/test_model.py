from __future__ import annotations

import pathlib
import pickle
from typing import Any

import numpy as np
import pytest

import reco
from conftest import MODEL, picture, png


def test_info(model: reco.Model) -> None:
    assert model.d == 16 and model.info["image_size"] == 24 and model.info["family"] == "hf-clip"
    assert len(model.fingerprint()) == 32
    assert "hf-clip" in repr(model)
    assert pickle.loads(pickle.dumps(model)).fingerprint() == model.fingerprint()


def test_forms_of_a_picture(model: reco.Model, photos: list[str]) -> None:
    """A path, its content and its pixels are the same picture."""
    pixels = [picture(i) for i in range(len(photos))]
    want = model.encode_image(photos)
    assert want.shape == (40, 16) and want.dtype == np.float32 and want.failed == ()
    assert np.allclose(np.linalg.norm(want, axis=1), 1, atol=1e-5)
    mixed = [[p, pathlib.Path(p), pathlib.Path(p).read_bytes(), bytearray(pathlib.Path(p).read_bytes()), a, {"bytes": png(a), "path": None},
              {"bytes": None, "path": p}][i % 7] for i, (p, a) in enumerate(zip(photos, pixels))]
    assert np.array_equal(model.encode_image(mixed), want)
    assert np.array_equal(model.encode_image(iter(mixed)), want)
    assert np.array_equal(model.encode_image(np.stack(pixels)), want)
    for one in mixed[:7]:
        got = model.encode_image(one)
        assert got.shape == (1, 16)
    assert np.array_equal(model.encode_image(pixels[3]), want[3:4])
    grey = picture(1)[:, :, 0]
    assert np.array_equal(model.encode_image(grey), model.encode_image(np.repeat(grey[:, :, None], 3, 2)))
    assert np.array_equal(model.encode_image(pixels[3][:, ::-1]), model.encode_image(png(pixels[3][:, ::-1])))  # not contiguous
    assert model.encode_image([]).shape == (0, 16)


def test_many_pictures(model: reco.Model, photos: list[str]) -> None:
    """More than are handed over at a time, some of them bad."""
    many = (photos * 30)[:1100]
    many[1050] = "/none/there.png"
    with pytest.warns(UserWarning, match="1 of 1100"):
        got = model.encode_image(many)
    assert got.index is not None and 1050 not in got.index and len(got) == 1099
    assert np.array_equal(got, model.encode_image(photos)[got.index % 40])
    assert got.failed[0].index == 1050


def test_failures(model: reco.Model, photos: list[str], tmp_path: pathlib.Path) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes(pathlib.Path(photos[0]).read_bytes()[:90])
    with pytest.warns(UserWarning, match="4 of 6 pictures could not be embedded"):
        got = model.encode_image([photos[0], str(cut), "/none/there.png", b"no picture", photos[1], b""])
    assert got.index is not None and got.index.tolist() == [0, 4]
    assert np.array_equal(got, model.encode_image(photos[:2]))
    assert [f.index for f in got.failed] == [1, 2, 3, 5]
    assert got.failed[0].item == str(cut) and str(cut) in got.failed[0].reason
    assert "No such file" in got.failed[1].reason
    assert got[:1].failed == () and got[:1].index is None
    for bad in (picture(0).astype(np.float32), np.zeros((3, 4, 5), np.uint8), 7, None):
        with pytest.raises((TypeError, ValueError)):
            model.encode_image([bad])
    with pytest.warns(UserWarning):
        assert len(model.encode_image(photos[:1], max_pixels=10)) == 0


def test_pil(model: reco.Model, photos: list[str], tmp_path: pathlib.Path) -> None:
    Image = pytest.importorskip("PIL.Image")
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1"):
        image = Image.fromarray(picture(5)).convert(mode)
        path = tmp_path / f"{mode}.png"
        image.save(path)
        assert np.array_equal(model.encode_image(image), model.encode_image(str(path))), mode
    assert np.array_equal(model.encode_image(Image.open(photos[0])), model.encode_image(photos[0]))
    cut = tmp_path / "cut.png"
    cut.write_bytes(pathlib.Path(photos[0]).read_bytes()[:90])
    with pytest.warns(UserWarning):
        got = model.encode_image([Image.open(photos[0]), Image.open(cut)])
    assert len(got) == 1 and got.failed[0].index == 1 and got.failed[0].reason


def test_texts(model: reco.Model) -> None:
    texts = ["a red car", "", "ein Überfall \U0001f600", "x " * 500, "half a pair \ud800"]
    got = model.encode_text(texts)
    assert got.shape == (5, 16) and got.truncated is not None
    assert got.truncated.tolist() == [False, False, False, True, False]
    for i, text in enumerate(texts):
        assert np.array_equal(model.encode_text(text), got[i:i + 1])
    assert np.array_equal(model.encode_text("half a pair �"), got[4:5])
    assert model.encode_text([]).shape == (0, 16)
    many = [f"thing {i}" for i in range(9000)]
    assert np.array_equal(model.encode_text(many)[8999:], model.encode_text(many[8999]))
    with pytest.raises(ValueError, match="NUL"):
        model.encode_text(["a\0b"])
    with pytest.raises(TypeError):
        model.encode_text([b"bytes"])  # type: ignore[list-item]


def test_tokens(model: reco.Model) -> None:
    ids = model.tokenize(["a red car", "a thing"])
    assert ids.shape == (2, model.info["context"]) and ids.dtype == np.int32
    assert np.array_equal(model.embed_tokens(ids), model.encode_text(["a red car", "a thing"]))
    ids[1, 2] = 10**6
    with pytest.raises(reco.errors.InvalidArgument, match="token 1000000 of text 1"):
        model.embed_tokens(ids)
    with pytest.raises(ValueError, match="want"):
        model.embed_tokens(ids[:, :5])


def test_preprocess(model: reco.Model, photos: list[str]) -> None:
    pixels = np.stack([model.preprocess(p) for p in photos[:3]])
    assert pixels.shape == (3, 3, 24, 24)
    assert np.array_equal(model.embed_pixels(pixels), model.encode_image(photos[:3]))
    assert np.array_equal(model.preprocess(picture(0)), pixels[0])
    with pytest.raises(reco.errors.IOFailed, match="/none"):
        model.preprocess("/none")


def test_encode(model: reco.Model, photos: list[str]) -> None:
    """As sentence-transformers has it."""
    assert model.encode("a red car").shape == (16,)
    assert np.array_equal(model.encode(["a red car", "a thing"]), model.encode_text(["a red car", "a thing"]))
    assert np.array_equal(model.encode(["a red car", picture(0)], batch_size=8, show_progress_bar=False),
                          np.concatenate([model.encode_text("a red car"), model.encode_image(photos[0])]))
    assert model.encode(picture(0)).shape == (16,)
    with pytest.warns(UserWarning), pytest.raises(reco.errors.BadFormat, match="picture 0"):
        model.encode([b"no picture"])


def test_one_side(photos: list[str]) -> None:
    images = reco.Model(MODEL, sides="image")
    assert images.encode_image(photos[0]).shape == (1, 16)
    with pytest.raises(reco.errors.InvalidArgument, match="images alone"):
        images.encode_text("x")


def test_as_the_program(model: reco.Model, photos: list[str], cli: Any, tmp_path: pathlib.Path) -> None:
    cli("embed", "--model", MODEL, "--images", pathlib.Path(photos[0]).parent, "--out", tmp_path, "--dtype", "float32", "--precision", "f32")
    assert np.array_equal(np.load(tmp_path / "img_emb" / "img_emb_0.npy"), model.encode_image(photos))


def test_progress(model: reco.Model, photos: list[str]) -> None:
    seen: list[tuple[str, int, int]] = []
    model.encode_image(photos, progress=lambda *told: seen.append(told))
    assert seen[-1] == ("embedding", 40, 40)

    def stop(*_: Any) -> None:
        raise ZeroDivisionError("enough")

    with pytest.raises(ZeroDivisionError, match="enough"):
        model.encode_image(photos, progress=stop)
    assert len(model.encode_image(photos)) == 40
