"""JPEG files to embeddings through open_clip: Pillow, its transform, a DataLoader with as many workers as cores."""
import serve

args = serve.options(batch_size=dict(type=int, default=32), workers=dict(type=int, default=None))

import numpy as np  # noqa: E402
import open_clip  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

dtype = serve.torch_threads(args)
model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{args.data / args.model}-open-clip")
model = model.to(dtype).eval()


class Files(torch.utils.data.Dataset):
    paths = serve.files(args)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        with Image.open(self.paths[i]) as image:
            return transform(image)


workers = args.threads if args.workers is None else args.workers
loader = torch.utils.data.DataLoader(Files(), args.batch_size, num_workers=workers, persistent_workers=workers > 0)


@torch.inference_mode()
def run():
    out = []
    for x in loader:
        e = model.encode_image(x.to(dtype)).float()
        out.append((e / e.norm(dim=-1, keepdim=True)).numpy())
    return np.concatenate(out)


serve.main(args, {"impl": "open_clip", "version": open_clip.__version__, "torch": torch.__version__, "workers": workers,
                  "batch": args.batch_size}, run)
