"""One way to say that an optional part is missing, for every one of them."""

import re
from pathlib import Path
from typing import get_args

import pytest

from anomalib_memmc.extras import Extra, missing_extra

REPO = Path(__file__).parents[1]
PAGES = [
    REPO / "README.md",
    *REPO.glob("docs/*.md"),
    *REPO.glob("configs/**/*.yaml"),
    *REPO.glob("anomalib_memmc/**/*.py"),
]
OF_A_CLONE = {"dev", "docs", "test"}


def extras():
    section = (REPO / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]")[1]
    return set(re.findall(r"^(\w+) = ", section.split("\n[")[0], flags=re.MULTILINE))


def test_the_extras_are_those_of_the_package():
    assert set(get_args(Extra)) | OF_A_CLONE == extras()


def test_the_message_names_the_command():
    assert missing_extra("dicom", "Reading a.dcm needs pydicom", "convert it") == (
        "Reading a.dcm needs pydicom: pip install 'anomalib-memmc[dicom]', or convert it."
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPO).as_posix())
def test_extras_are_written_one_way(page):
    for extra in re.findall(r"pip install '\.\[(\w+)\]'", page.read_text(encoding="utf-8")):
        assert extra in OF_A_CLONE, extra
