"""Training steps of the paper's layer in torch, f32: torch_train.py DATA B K D THREADS full|token0

full computes the layer for all tokens; token0 computes keys and values of all and the rest of token 0 alone. Each line of standard
input is a step: forward of both sides, the three losses, backward, clipping, fused AdamW. Weights from DATA/start.safetensors."""
import json
import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

HEADS = 8


def read(folder, name, shape):
    return torch.from_numpy(np.fromfile(f"{folder}/{name}", np.float32).reshape(shape))


def heads(x):
    n, t, d = x.shape
    return x.view(n, t, HEADS, d // HEADS).transpose(1, 2)


def layer(p, side, tokens, full):
    """Refined token 0 of [n][T][d]."""
    g = lambda name: p[f"{side}.layers.0.{name}"]
    n, _, d = tokens.shape
    a = F.layer_norm(tokens, (d,), g("ln_1.weight"), g("ln_1.bias"))
    w, b = g("qkv.weight"), g("qkv.bias")
    if full:
        q, k, v = F.linear(a, w, b).split(d, dim=2)
        x = tokens
    else:
        q = F.linear(a[:, :1], w[:d], b[:d])
        k, v = F.linear(a, w[d:], b[d:]).split(d, dim=2)
        x = tokens[:, :1]
    o = F.scaled_dot_product_attention(heads(q), heads(k), heads(v))
    h = x + F.linear(o.transpose(1, 2).reshape(n, -1, d), g("out.weight"), g("out.bias"))
    m = F.layer_norm(h, (d,), g("ln_2.weight"), g("ln_2.bias"))
    y = h + F.linear(F.gelu(F.linear(m, g("fc.weight"), g("fc.bias"))), g("proj.weight"), g("proj.bias"))
    return F.normalize(y[:, 0], dim=1)


def nce(scale, a, b):
    logits, right = scale * a @ b.T, torch.arange(len(a))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def main():
    folder, b, k, d, threads = sys.argv[1], *map(int, sys.argv[2:6])
    full = sys.argv[6] == "full"
    torch.set_num_threads(threads)
    x = [read(folder, f"x{side}", (b, d)) for side in range(2)]
    tokens = [torch.cat([x[side][:, None], read(folder, f"r{side}", (b, k, d))], 1) for side in range(2)]
    p = {name: value.clone().requires_grad_() for name, value in load_file(f"{folder}/start.safetensors").items()}
    groups = [{"params": [v for v in p.values() if v.dim() == 2], "weight_decay": 0.1},
              {"params": [v for v in p.values() if v.dim() != 2], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), eps=1e-6, fused=True)
    print(json.dumps({"torch": torch.__version__, "threads": threads, "layer": sys.argv[6]}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        v2, t2 = (layer(p, side, tokens[i], full) for i, side in enumerate(("image", "text")))
        scale = p["logit_scale"].exp()
        loss = nce(scale, v2, t2) + nce(scale, v2, x[1]) + nce(scale, x[0], t2)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(p.values(), 1.0)
        optimiser.step()
        with torch.no_grad():
            p["logit_scale"].clamp_(max=math.log(100))
        print(json.dumps({"seconds": time.perf_counter() - start, "loss": float(loss.detach())}), flush=True)


if __name__ == "__main__":
    main()
