import re
from pathlib import Path

import pytest

from anomalib_memmc import data

ROOT = Path(data.__file__).parent


@pytest.mark.parametrize("name", ["covidx", "hyperkvasir", "phantom"])
def test_a_data_set_is_one_folder(name: str) -> None:
    """It can be deleted whole: it needs what all share and nothing of the others, which do not need it."""
    for path in ROOT.glob("*/*.py"):
        needed = set(re.findall(r"^from anomalib_memmc\.data\.(\w+)", path.read_text(), re.MULTILINE))
        if path.parent.name == name:
            assert needed <= {name, "base", "io"}, path
        else:
            assert name not in needed, path
