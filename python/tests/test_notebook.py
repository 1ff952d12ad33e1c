"""The notebook runs from the demo's data, and ends where it says."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import pytest

from conftest import SOURCE


def test_catalogue(demo: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("RECO_DEMO_DATA", str(demo))
    notebook: Any = nbformat.read(SOURCE / "examples" / "catalogue.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": os.fspath(SOURCE / "examples")}}).execute()
    shown = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    text = "".join(o.get("text", "") for o in shown)
    assert "212 new rows" in text or "334 new rows" in text, text
    assert sum("text/html" in o.get("data", {}) for o in shown) == 3  # the search, the report, the explanation
    assert "<img" in shown[-1]["data"]["text/html"]
