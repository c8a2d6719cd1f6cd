"""The notebook of the first steps: committed without outputs, and run in a fresh kernel at its smallest."""

import re

import nbformat
import pytest
from helpers.shell import REPO
from nbclient import NotebookClient

NOTEBOOK = REPO / "docs" / "notebooks" / "first-steps.ipynb"
SMALLEST = {"NUM_TRAIN": 48, "NUM_TEST": 4, "EPOCHS": 1}


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_valid_and_holds_no_outputs(notebook):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 8
    assert not [cell for cell in code if cell.outputs or cell.execution_count is not None]
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert NOTEBOOK.stat().st_size < 50_000


@pytest.mark.slow
def test_it_runs(notebook, tmp_path, monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # pictures as in a notebook
    (sizes,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    for name, value in SMALLEST.items():
        sizes.source, found = re.subn(rf"^{name} = \d+", f"{name} = {value}", sizes.source, flags=re.MULTILINE)
        assert found == 1
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    errors = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stderr")
    assert len(pictures) == 6
    assert len(re.findall(r"^(?:anomalous|normal): score [\d.]+, threshold", printed, flags=re.MULTILINE)) == 2
    assert not errors, errors
    assert (tmp_path / "results/MemMCMAE/Phantom/v0/report.html").is_file()
