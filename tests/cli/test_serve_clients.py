"""The clients that reco serve speaks to unchanged, as their packages have them, and schemathesis on its OpenAPI. RECO_SERVE_EXTRAS names a
Python that has openai, infinity_client, schemathesis and clip-retrieval (pip install --no-deps); RECO_TEST_SECONDS how long schemathesis
looks (10)."""
import os
import subprocess
import unittest

from common import SOURCE
from serving import Serving

PYTHON = os.environ.get("RECO_SERVE_EXTRAS")
SECONDS = os.environ.get("RECO_TEST_SECONDS", "10")

CLIP_RETRIEVAL = """
import importlib.util, os
place = os.path.join(os.path.dirname(importlib.util.find_spec("clip_retrieval").origin), "clip_client.py")
spec = importlib.util.spec_from_file_location("clip_client", place)  # the package itself wants all that its server wants
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
ClipClient, Modality = module.ClipClient, module.Modality
client = ClipClient(url=f"{url}/knn-service", indice_name="shop", num_images=4, deduplicate=False)
hits = client.query(image="p/7.png")
assert len(hits) == 4 and hits[0]["caption"] == "thing number 7" and hits[0]["similarity"] > 0.999, hits
assert {"id", "image_path", "price"} <= hits[0].keys(), hits
words = ClipClient(url=f"{url}/knn-service", indice_name="shop", modality=Modality.TEXT, num_images=3)
assert words.query(text="thing number 3")[0]["id"] == 3
vector = list(range(1, width + 1))
assert len(client.query(embedding_input=vector)) == 4
"""

OPENAI = """
import base64, openai
client = openai.OpenAI(base_url=f"{url}/v1", api_key="0123456789abcdef")
plain = client.embeddings.create(model="x", input=["thing number 3", "another"], encoding_format="float")
assert [e.index for e in plain.data] == [0, 1] and len(plain.data[0].embedding) == width, plain
asked = client.embeddings.create(model="x", input="thing number 3")  # as base64, which the package decodes
assert max(abs(a - b) for a, b in zip(asked.data[0].embedding, plain.data[0].embedding)) < 1e-6
picture = "data:image/png;base64," + base64.b64encode(open("p/7.png", "rb").read()).decode()
assert len(client.embeddings.create(model="x", input=[picture], extra_body={"modality": "image"}).data[0].embedding) == width
assert [m.object for m in client.models.list().data] == ["model"]
for bad in ({"input": "a", "dimensions": 3}, {"input": [[1, 2]]}):
    try:
        client.embeddings.create(model="x", **bad)
    except openai.BadRequestError as e:
        assert e.body["message"], e
    else:
        raise SystemExit("accepted")
try:
    openai.OpenAI(base_url=f"{url}/v1", api_key="another token of some length", max_retries=0).models.list()
except openai.AuthenticationError:
    pass
else:
    raise SystemExit("accepted")
"""

INFINITY = """
import base64
from infinity_client import AuthenticatedClient
from infinity_client.api.default import embeddings, embeddings_image, health, models
from infinity_client.models import ImageEmbeddingInput, OpenAIEmbeddingInputImage, OpenAIEmbeddingInputImageModality, OpenAIEmbeddingInputText
client = AuthenticatedClient(base_url=url, token="0123456789abcdef", raise_on_unexpected_status=True)
assert health.sync(client=client)["unix"] > 0
assert [m.object_.value for m in models.sync(client=client).data] == ["model"]
text = embeddings.sync(client=client, body=OpenAIEmbeddingInputText.from_dict({"model": "x", "input": ["a", "b"], "modality": "text"}))
assert [len(e.embedding) for e in text.data] == [width, width] and text.usage.total_tokens > 0
picture = "data:image/png;base64," + base64.b64encode(open("p/7.png", "rb").read()).decode()
image = embeddings.sync(client=client, body=OpenAIEmbeddingInputImage(model="x", input_=[picture], modality=OpenAIEmbeddingInputImageModality.IMAGE))
assert embeddings_image.sync(client=client, body=ImageEmbeddingInput(model="x", input_=[picture])).data[0].embedding == image.data[0].embedding
"""


@unittest.skipUnless(PYTHON, "SKIPPED: RECO_SERVE_EXTRAS names no Python with the clients' packages")
class Clients(Serving):
    def start(self, *args):
        (self.dir / "tokens").write_text("alice 0123456789abcdef\n")
        super().start("--token-file", "tokens", *args)

    def want(self, package):
        found = f"import importlib.util, sys; sys.exit(not importlib.util.find_spec({package!r}))"
        if subprocess.run([PYTHON, "-c", found]).returncode:
            self.skipTest(f"SKIPPED: {PYTHON} has no {package}")

    def play(self, package, script):
        self.want(package)
        head = f"url, width = 'http://127.0.0.1:{self.port}', 16\n"
        done = subprocess.run([PYTHON, "-c", head + script], cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_clip_retrieval(self):
        Serving.start(self)  # this client has no tokens
        self.play("clip_retrieval", CLIP_RETRIEVAL)

    def test_openai(self):
        self.start()
        self.play("openai", OPENAI)

    def test_infinity(self):
        self.start()
        self.play("infinity_client", INFINITY)

    def test_schemathesis(self):
        self.want("schemathesis")
        self.reco("train", "--bank", "shop.bank", "--out", "f.safetensors", "--steps", "5", "--refine", "both")
        Serving.start(self, "--fusion", "f.safetensors")
        done = subprocess.run([PYTHON, "-m", "schemathesis.cli", "--config-file", SOURCE / "tests/schemathesis.toml", "run", "--no-color",
                               "--max-time", SECONDS, f"http://127.0.0.1:{self.port}/openapi.json"],
                              cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60 + 3 * int(SECONDS))
        self.assertEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    unittest.main()
