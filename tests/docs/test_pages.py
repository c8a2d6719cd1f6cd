"""README and docs: short paragraphs, links and commands that lead somewhere, code that fits the package."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import yaml

from anomalib_memmc.benchmark.job import parse

REPO = Path(__file__).parents[2]
PAGES = sorted([*REPO.glob("*.md"), *REPO.glob("docs/**/*.md")])
GENERATED = REPO / "docs" / "evidence" / "performance-tables.md"
LIMIT = 80
BANNED = ("honest column", "glance at the light", "without a word", "(ours)", " ours ", "benchmarks/", "PYTHONPATH")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPO).as_posix())


def prose(text):
    """A page without its code blocks, comments and tables."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    return re.sub(r"^\|.*$", "", text, flags=re.MULTILINE)


def paragraphs(text):
    """Paragraphs of a page; each item of a list is one."""
    return [part.strip() for part in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)", prose(text)) if part.strip()]


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", prose(text), flags=re.MULTILINE)
    documented = re.findall(r"^::: (\S+)$", text, flags=re.MULTILINE)
    members = {f"{name}.{member}" for name in documented for member in dir(pkgutil.resolve_name(name))}
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return {*slugs, *documented, *members}


@pages
def test_paragraphs_are_short(page):
    lengths = {part[:60]: len(part.split()) for part in paragraphs(page.read_text(encoding="utf-8"))}
    assert not {start: words for start, words in lengths.items() if words > LIMIT}


@pages
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pages
def test_no_words_that_only_their_writer_understands(page):
    text = page.read_text(encoding="utf-8")
    found = [phrase for phrase in BANNED if phrase in text]
    assert not found or page == GENERATED
    assert not re.search(r"(?<![\w/])/(work|tmp|root|home)/", text)


def test_m2_is_spelt_out_where_it_is_named():
    """What the paper calls M2 is the Meshed-Memory Transformer."""
    for page in PAGES:
        assert not re.search(r"\bM2\b", page.read_text(encoding="utf-8")), page


@pages
def test_files_and_modules_that_commands_name_exist(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"(?<![\w/.])((?:configs|tests|experiments|anomalib_memmc)/[\w./-]*\w/?)", text):
        assert "NAME" in path or (REPO / path).exists(), path
    for module in re.findall(r"python -m (experiments\.\w+)", text):
        if module != "experiments.NAME":
            path = REPO / module.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


@pages
def test_python_code_compiles(page):
    for code in blocks(page.read_text(encoding="utf-8"), "python"):
        compile(code, page.name, "exec")


def test_every_public_name_is_in_the_api():
    documented = re.findall(r"^::: (\S+)$", (REPO / "docs" / "api.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for module in ("anomalib_memmc", "anomalib_memmc.scoring", "anomalib_memmc.metrics", "anomalib_memmc.data"):
        for name in importlib.import_module(module).__all__:
            value = pkgutil.resolve_name(f"{module}.{name}")
            assert any(pkgutil.resolve_name(other) is value for other in documented), f"{module}.{name}"


def test_readmes_python_code_builds_its_model():
    (code,) = blocks((REPO / "README.md").read_text(encoding="utf-8"), "python")
    names = {}
    exec(code.partition("Engine(max_epochs")[0], names)
    assert names["model"].model.scorer.reduction == "top_k"


def test_readmes_yaml_is_a_model():
    (text,) = blocks((REPO / "README.md").read_text(encoding="utf-8"), "yaml")
    parse({**yaml.safe_load(text), "data": {"class_path": "anomalib_memmc.Phantom"}, "trainer": {}})
