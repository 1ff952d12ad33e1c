"""Captions through open_clip: tokenized and padded to 77, batches of 64."""
import serve

args = serve.options(reuse_tokens=dict(action="store_true", help="tokenize once, before the timing"))

import open_clip  # noqa: E402
import torch  # noqa: E402

dtype = serve.torch_threads(args)
folder = f"local-dir:{args.data / args.model}-open-clip"
model = open_clip.create_model(folder).to(dtype).eval()
tokenize = open_clip.SimpleTokenizer()  # of the vocabulary that bench/models.py copied
captions = (args.data / "captions.txt").read_text().splitlines()
tokens = tokenize(captions) if args.reuse_tokens else None


@torch.inference_mode()
def run():
    out = []
    for i in range(0, len(captions), args.batch):
        ids = tokens[i:i + args.batch] if tokens is not None else tokenize(captions[i:i + args.batch])
        e = model.encode_text(ids).float()
        out.append(e / e.norm(dim=-1, keepdim=True))
    return torch.cat(out).numpy()


serve.main(args, {"impl": "open_clip", "version": open_clip.__version__, "torch": torch.__version__, "batch": args.batch,
                  "tokens": "before" if args.reuse_tokens else "timed"}, run)
