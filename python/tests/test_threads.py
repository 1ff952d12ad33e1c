"""Objects are shared between threads; answers are those of one."""

from __future__ import annotations

import concurrent.futures
import os
import time
from typing import Any

import numpy as np
import pytest

import reco


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_searches(vectors: tuple[reco.Bank, Any, Any], threads: int) -> None:
    """10,000 searches of one query."""
    bank, image, _ = vectors
    queries = [image[i % 900] for i in range(10000)]
    want_scores, want_ids = bank.search(image, 10)
    reco.set_threads(1)
    try:
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            hits = list(pool.map(lambda q: bank.search(q, 10), queries, chunksize=100))
    finally:
        reco.set_threads(0)
    for i, (scores, ids) in enumerate(hits):
        assert np.array_equal(ids, want_ids[i % 900]) and np.array_equal(scores, want_scores[i % 900])


def test_everything_at_once(model: reco.Model, bank: reco.Bank, photos: list[str]) -> None:
    """Rows, conditions, searches and embeddings of one bank and model, from 8 threads with teams of their own."""
    want = [model.encode_image(photos), model.encode_text("a red thing"), bank.search(model.encode_image(photos), 3, where="price < 200").ids]

    def work(i: int) -> bool:
        x = model.encode_image(photos)
        return (np.array_equal(x, want[0]) and np.array_equal(model.encode_text("a red thing"), want[1])
                and np.array_equal(bank.search(x, 3, where="price < 200").ids, want[2]) and bank[i % 40].id == i % 40
                and bank.ids("brand = 'Fiat'").size == 10)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(32)))


def test_number(vectors: tuple[reco.Bank, Any, Any]) -> None:
    bank, image, _ = vectors
    want = bank.search(image, 10)
    try:
        for n in (1, 2, 3):
            reco.set_threads(n)
            assert reco.get_threads() == n
            got = bank.search(image, 10)
            assert np.array_equal(got.ids, want.ids) and np.array_equal(got.scores, want.scores)
    finally:
        reco.set_threads(0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork(vectors: tuple[reco.Bank, Any, Any], model: reco.Model) -> None:
    """A child of fork, which has none of the threads, answers with one of its own."""
    bank, image, _ = vectors
    want = bank.search(image, 5).ids
    model.encode_text(["x"] * 100)
    child = os.fork()
    if child == 0:
        good = reco.get_threads() == 1 and np.array_equal(bank.search(image, 5).ids, want) and len(model.encode_text("x")) == 1
        os._exit(0 if good else 1)
    for _ in range(600):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")
