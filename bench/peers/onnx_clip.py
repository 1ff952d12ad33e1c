"""Pictures in memory through ONNX Runtime: torch's export of transformers' vision tower, f32 (its CPU provider has no
bf16 products)."""
import serve

args = serve.options()

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

path = args.data / f"{args.model}-image.onnx"
if not path.exists():
    import torch
    import transformers
    model = transformers.CLIPVisionModelWithProjection.from_pretrained(args.data / args.model, dtype=torch.float32).eval()
    part = path.with_suffix(".part.onnx")
    torch.onnx.export(model, (torch.from_numpy(serve.pixels(args)[:2]),), str(part), input_names=["pixels"],
                      output_names=["embeddings"], dynamic_shapes={"pixel_values": {0: "n"}}, dynamo=True,
                      external_data=False)
    part.rename(path)
settings = onnxruntime.SessionOptions()
settings.intra_op_num_threads = args.threads
session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
x = serve.pixels(args)


def run():
    out = []
    for i in range(0, len(x), args.batch):
        e = session.run(["embeddings"], {"pixels": x[i:i + args.batch]})[0]
        out.append(e / np.linalg.norm(e, axis=-1, keepdims=True))
    return np.concatenate(out)


args.precision = "f32"
serve.main(args, {"impl": "onnxruntime", "version": onnxruntime.__version__}, run)
