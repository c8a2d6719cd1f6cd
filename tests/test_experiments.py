"""Every experiment can be imported from the repository's root: none is left behind by a change of the package."""

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
SCRIPT = """
import importlib, pkgutil, runpy, sys
import experiments
broken = {}
for module in pkgutil.walk_packages(experiments.__path__, "experiments."):
    try:
        importlib.import_module(module.name)
    except Exception as error:
        broken[module.name] = repr(error)
assert not broken, broken
sys.argv[1:] = ["--help"]
runpy.run_module("experiments.performance", run_name="__main__")
"""


@pytest.mark.slow
def test_all_can_be_imported_and_performance_has_a_command_line():
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "--section" in result.stdout
    assert "--quick" in result.stdout
