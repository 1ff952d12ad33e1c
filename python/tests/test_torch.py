"""torch's tensors, and code that was written for open_clip."""

from __future__ import annotations

import pathlib
import pickle
from typing import Any

import numpy as np
import pytest

import reco
from conftest import MODEL, picture

torch = pytest.importorskip("torch")


def test_tensors(vectors: tuple[reco.Bank, Any, Any]) -> None:
    bank, image, _ = vectors
    want = bank.search(image[:50], 5)
    x = torch.from_numpy(image[:50].copy())
    for tensor in (x, x.clone().requires_grad_(), x.double(), x.t().contiguous().t()):
        got = bank.search(tensor, 5)
        assert np.array_equal(got.ids, want.ids) and np.array_equal(got.scores, want.scores)
    near = bank.search(torch.nn.functional.normalize(x.bfloat16().float(), dim=-1), 1)
    assert np.array_equal(near.ids, want.ids[:, :1])
    assert np.array_equal(bank.partners(torch.tensor([3, 5])), bank.partners([3, 5]))
    back = torch.from_dlpack(bank.partners([3, 5]))
    assert back.shape == (2, 32)
    from reco import _arrays

    assert np.shares_memory(_arrays.rows(x, 32)[0], x.numpy())  # no copy


def test_open_clip_script(model: reco.Model, photos: list[str]) -> None:
    """The example of open_clip's README, but for the names."""
    Image = pytest.importorskip("PIL.Image")
    from reco import open_clip

    m, _, preprocess = open_clip.create_model_and_transforms(MODEL, pretrained="openai", precision="fp32", device="cpu")
    m.eval()
    tokenizer = open_clip.get_tokenizer(str(MODEL))
    image = preprocess(Image.open(photos[0])).unsqueeze(0)
    text = tokenizer(["a diagram", "a dog", "a cat"])
    assert image.shape == (1, 3, 24, 24) and text.dtype == torch.int64
    with torch.no_grad(), torch.autocast("cpu"):
        image_features = m.encode_image(image)
        text_features = m.encode_text(text)
        image_features /= image_features.norm(dim=-1, keepdim=True)
        text_features /= text_features.norm(dim=-1, keepdim=True)
        text_probs = (100.0 * image_features @ text_features.T).softmax(dim=-1)
    assert text_probs.shape == (1, 3)
    assert np.allclose(image_features.numpy(), model.encode_image(photos[0]), atol=1e-6)
    assert np.allclose(text_features.numpy(), model.encode_text(["a diagram", "a dog", "a cat"]), atol=1e-6)
    a, b, scale = m(image, text)
    assert a.shape == (1, 16) and b.shape == (3, 16) and abs(scale.item() - model.logit_scale) < 1e-3 * model.logit_scale
    assert m.to("cpu").float() is m and next(m.parameters()).device.type == "cpu"
    with pytest.raises(ValueError, match="model folder"):
        open_clip.create_model_and_transforms("ViT-B-32", pretrained="laion2b_s34b_b79k")


def test_open_clip_refined(model: reco.Model, bank: reco.Bank, photos: list[str]) -> None:
    from reco import open_clip

    mean = reco.Fusion("mean", d=16)
    m, transform, tokenizer = open_clip.create_model_and_transforms(MODEL, precision="fp32", bank=bank, fusion=mean, refine="image")
    pixels = torch.stack([transform(picture(i)) for i in range(5)])
    assert np.array_equal(m.encode_image(pixels).numpy(), mean.refine(bank, image=model.encode_image(photos[:5])))
    assert np.array_equal(m.encode_text(tokenizer("a red thing")).numpy(), model.encode_text("a red thing"))
    again = pickle.loads(pickle.dumps(transform))
    assert torch.equal(again(picture(0)), pixels[0])


@pytest.mark.filterwarnings("ignore")
def test_loader(photos: list[str]) -> None:
    """Pictures are prepared in the processes of a DataLoader."""
    from reco import open_clip

    _, transform, _ = open_clip.create_model_and_transforms(MODEL)

    class Data(torch.utils.data.Dataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return len(photos)

        def __getitem__(self, i: int) -> Any:
            return transform(photos[i])

    batches = list(torch.utils.data.DataLoader(Data(), batch_size=8, num_workers=2))
    assert torch.equal(torch.cat(batches), torch.stack([transform(p) for p in photos]))
