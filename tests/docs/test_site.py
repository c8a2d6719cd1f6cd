"""The site: built strictly, without anything that a reader's browser would fetch from elsewhere."""

import re
import subprocess
import sys

import pytest
from helpers.shell import REPO

pytest.importorskip("material", reason="needs the extra docs")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)\b[^>]*\bsrc=\"?([^\s\">]+)", text)
        loaded += re.findall(r"<link\b[^>]*\bhref=\"?([^\s\">]+)", text)
        assert not [source for source in loaded if re.match(r"(https?:)?//", source)], page


def test_files_of_the_repository_are_named_and_pictures_are_links(site):
    results = (site / "results.html").read_text(encoding="utf-8")
    assert re.search(r"<code>docs/runs/nih-cxr/shift\.csv</code>|shift\.csv \(<code>docs/runs/nih-cxr/", results)
    assert '<a href="figures/nih-cxr-roc.png"><img' in results
    assert "<code>CONTRIBUTING.md</code>" in (site / "extending.html").read_text(encoding="utf-8")
    assert not (site / "runs").exists()
    assert (site / "notebooks" / "first-steps.ipynb").is_file()


def test_api_has_the_docstrings(site):
    api = (site / "api.html").read_text(encoding="utf-8")
    for anchor in ("anomalib_memmc.MemMCMAE", "anomalib_memmc.Detector.judge", "anomalib_memmc.metrics.p_values"):
        assert f'id="{anchor}"' in api
    assert "Share of new normal images that may be called anomalous" in api
