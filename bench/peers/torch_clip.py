"""Pictures in memory through torch: transformers' CLIPModel (scaled dot product attention) or open_clip, eager, on
the same weights, threads and pixels as ours."""
import serve

args = serve.options(via=dict(choices=("transformers", "open_clip"), default="transformers"),
                     compile=dict(action="store_true", help="torch.compile, which needs a C++ compiler"))

import torch  # noqa: E402  (after OMP_NUM_THREADS is set)

dtype = serve.torch_threads(args)
if args.via == "transformers":
    import transformers
    transformers.logging.set_verbosity_error()
    model = transformers.CLIPVisionModelWithProjection.from_pretrained(
        args.data / args.model, dtype=dtype, attn_implementation="sdpa").eval()
    version = transformers.__version__

    def embed(x):
        return model(pixel_values=x).image_embeds
else:
    import open_clip
    model = open_clip.create_model(f"local-dir:{args.data / args.model}-open-clip").to(dtype).eval()
    version = open_clip.__version__
    embed = model.encode_image
if args.compile:
    embed = torch.compile(embed)
x = torch.from_numpy(serve.pixels(args))


@torch.inference_mode()
def run():
    out = []
    for i in range(0, len(x), args.batch):
        e = embed(x[i:i + args.batch].to(dtype)).float()
        out.append(e / e.norm(dim=-1, keepdim=True))
    return torch.cat(out).numpy()


serve.main(args, {"impl": args.via, "version": version, "torch": torch.__version__, "compile": args.compile}, run)
