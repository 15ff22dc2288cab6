"""The notebooks under examples/ run from the first cell to the last, on made data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


@pytest.mark.filterwarnings("default")  # warnings of the notebook's own process and of its client are not ours
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell gives what its text promises: tables for the catalog, the model and the leaderboard."""
    import nbformat
    from nbclient import NotebookClient

    kernel = tmp_path / "kernels" / "python3"  # the interpreter of this test, whatever kernels are installed
    kernel.mkdir(parents=True)
    argv = f'["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    (kernel / "kernel.json").write_text(f'{{"argv": {argv}, "display_name": "Python 3", "language": "python"}}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook: Any = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pages = "".join(output.data.get("text/html", "") for cell in cells for output in cell.outputs if "data" in output)
    for shown in ("Catalog catalog", "Model mlp", "ridge", "note"):
        assert shown in pages
    assert all(cell.outputs == [] for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")


def test_there_is_a_notebook() -> None:
    """The test above runs at least once."""
    assert EXAMPLES
