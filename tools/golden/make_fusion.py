#!/usr/bin/env python3
"""Make tests/golden/fusion/fusion-*.safetensors: what PyTorch computes for small fusion layers.

    python3 -m venv venv && venv/bin/pip install torch numpy
    venv/bin/python tools/golden/make_fusion.py tests/golden/fusion

Every weight is random, those that start at zero in training too, so that a mistake anywhere shows. Each file holds
inputs, parameters, refined embeddings, the gradients of the first step before clipping, the parameters after the
last step, and in its metadata losses, gradient norms, heads, steps and the optimiser."""
import json
import math
import os
import struct
import sys

import torch
import torch.nn.functional as F

LR, BETAS, EPS, DECAY, CLIP = 1e-3, (0.9, 0.98), 1e-6, 0.1, 1.0


class Block(torch.nn.Module):
    def __init__(self, d, heads, mlp, scores):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = torch.nn.LayerNorm(d), torch.nn.LayerNorm(d)
        self.qkv, self.out = torch.nn.Linear(d, 3 * d), torch.nn.Linear(d, d)
        self.fc, self.proj = torch.nn.Linear(d, mlp), torch.nn.Linear(mlp, d)
        if scores:
            self.score_scale = torch.nn.Parameter(torch.zeros(heads))
            self.self_bias = torch.nn.Parameter(torch.zeros(heads))

    def forward(self, x, s, seen):
        B, T, d = x.shape
        q, k, v = self.qkv(self.ln_1(x)).view(B, T, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        logits = q @ k.transpose(-1, -2) / math.sqrt(d // self.heads)
        if hasattr(self, "score_scale"):
            terms = torch.cat([self.self_bias.view(1, -1, 1).expand(B, -1, 1),
                               self.score_scale.view(1, -1, 1) * s[:, None, :]], 2)
            logits = logits + terms[:, :, None, :]
        logits = logits.masked_fill(~seen[:, None, None, :], -math.inf)
        h = x + self.out((logits.softmax(-1) @ v).transpose(1, 2).reshape(B, T, d))
        return h + self.proj(F.gelu(self.fc(self.ln_2(h))))


class Transformer(torch.nn.Module):
    def __init__(self, d, heads, mlp, scores, layers):
        super().__init__()
        self.layers = torch.nn.ModuleList(Block(d, heads, mlp, scores) for _ in range(layers))

    def forward(self, x, R, s, valid):
        seen = torch.arange(R.shape[1] + 1)[None] <= valid[:, None]
        y = torch.cat([x[:, None], R], 1)
        for layer in self.layers:
            y = layer(y, s, seen)
        return torch.where(valid[:, None] > 0, F.normalize(y[:, 0], dim=-1), x)


class Relational(torch.nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.b, self.gamma = torch.nn.Parameter(torch.zeros(())), torch.nn.Parameter(torch.zeros(()))
        net = lambda: torch.nn.Sequential(torch.nn.Linear(5, hidden), torch.nn.GELU(), torch.nn.Linear(hidden, 1))
        self.u, self.w = net(), net()

    def forward(self, x, R, s, valid):
        seen = torch.arange(R.shape[1])[None] < valid[:, None].clamp(min=1)
        pair = seen[:, :, None] & seen[:, None, :] & ~torch.eye(R.shape[1], dtype=torch.bool)
        c = torch.einsum("bd,bkd->bk", x, R)
        a = (R @ R.transpose(1, 2) * pair).sum(-1) / pair.sum(-1).clamp(min=1)
        top = lambda y: y.masked_fill(~seen, -math.inf).amax(1, keepdim=True)
        f = torch.stack([s, c, a, s - top(s), c - top(c)], -1)
        p = (20 * self.b * s + 10 * self.u(f)[..., 0]).masked_fill(~seen, -math.inf).softmax(-1)
        mean = lambda y: (p * y).sum(1)
        e = torch.stack([mean(s), mean(c), top(s)[:, 0], top(c)[:, 0], mean(a)], -1)
        g = torch.exp(self.gamma + 3 * self.w(e))
        y = F.normalize(x + g * (p[..., None] * R).sum(1), dim=-1)
        return torch.where(valid[:, None] > 0, y, x)


class Fusion(torch.nn.Module):
    def __init__(self, make):
        super().__init__()
        self.image, self.text = make(), make()
        self.logit_scale = torch.nn.Parameter(torch.tensor(math.log(1 / 0.07)))


def nce(a, b, scale):
    logits, right = scale * a @ b.T, torch.arange(len(a))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def write(path, tensors, meta):
    header, data, at = {"__metadata__": meta}, b"", 0
    for name, t in tensors.items():
        t = t.detach().contiguous().numpy()
        raw = t.astype("<i4" if t.dtype.kind == "i" else "<f4").tobytes()
        header[name] = {"dtype": "I32" if t.dtype.kind == "i" else "F32", "shape": list(t.shape),
                        "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 64)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def make(path, make_side, B, d, k, steps, heads, masked, scores, seed):
    torch.manual_seed(seed)
    model = Fusion(make_side)
    for name, p in model.named_parameters():
        if name != "logit_scale":
            p.data += 0.1 * torch.randn_like(p)
    unit = lambda *shape: F.normalize(torch.randn(*shape), dim=-1)
    v, t, texts, images = unit(B, d), unit(B, d), unit(B, k, d), unit(B, k, d)
    rank = lambda: torch.rand(B, k).sort(1, descending=True).values
    s_image, s_text = (rank(), rank()) if scores else (torch.zeros(B, k), torch.zeros(B, k))
    count = lambda shift: (torch.arange(B) + shift) % (k + 1) if masked else torch.full((B,), k)
    valid_texts, valid_images = count(0), count(2)
    out = dict(v=v, t=t, retrieved_texts=texts, retrieved_images=images)
    if masked:
        out.update(valid_texts=valid_texts.int(), valid_images=valid_images.int())
    if scores:
        out.update(scores_image=s_image, scores_text=s_text)
    out.update({"param." + n: p.clone() for n, p in model.named_parameters()})
    matrices = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    adam = torch.optim.AdamW([{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0}],
                             lr=LR, betas=BETAS, eps=EPS)
    losses, norms = [], []
    for step in range(steps):
        adam.zero_grad()
        v2 = model.image(v, texts, s_image, valid_texts)
        t2 = model.text(t, images, s_text, valid_images)
        scale = model.logit_scale.clamp(max=math.log(100)).exp()
        loss = nce(v2, t2, scale) + nce(v2, t, scale) + nce(v, t2, scale)
        loss.backward()
        if step == 0:
            out.update(refined_image=v2, refined_text=t2)
            out.update({"grad." + n: p.grad.clone() for n, p in model.named_parameters()})
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP).item())
        adam.step()
    out.update({"final." + n: p.clone() for n, p in model.named_parameters()})
    write(path, out, dict(heads=str(heads), steps=str(steps), losses=json.dumps(losses), grad_norms=json.dumps(norms),
                          optimiser="AdamW lr 1e-3 constant, betas .9 .98, eps 1e-6, decay .1 on matrices, clip 1.0"))


def main():
    to = sys.argv[1]
    os.makedirs(to, exist_ok=True)
    file = lambda name: os.path.join(to, "fusion-" + name + ".safetensors")
    make(file("paper"), lambda: Transformer(16, 4, 40, False, 1), 9, 16, 4, 5, 4, False, False, 1)
    make(file("deep"), lambda: Transformer(12, 3, 20, True, 3), 8, 12, 3, 4, 3, True, True, 2)
    make(file("relational"), lambda: Relational(32), 14, 24, 5, 6, 0, True, True, 3)


main()
