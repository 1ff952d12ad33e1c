"""A process that loads ViT-B/32 with open_clip and embeds one JPEG file, then says how long each part took."""
import time

start = time.perf_counter()
import serve  # noqa: E402

args = serve.options()
import open_clip  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

imported = time.perf_counter()
dtype = serve.torch_threads(args)
model, _, transform = open_clip.create_model_and_transforms(
    f"local-dir:{args.data / args.model}-open-clip", precision="bf16" if args.precision == "bf16" else "fp32")
model = model.eval()
loaded = time.perf_counter()
with torch.inference_mode():
    e = model.encode_image(transform(Image.open(serve.files(args)[0]))[None].to(dtype)).float()
    e = (e / e.norm(dim=-1, keepdim=True)).numpy()
end = time.perf_counter()
serve.say({"case": args.case, "impl": "open_clip", "version": open_clip.__version__, "torch": torch.__version__,
           "precision": args.precision, "threads": args.threads, "import_s": imported - start, "load_s": loaded - imported,
           "first_s": end - loaded, "without_import_s": end - imported, "embedding": e[0].tolist()})
