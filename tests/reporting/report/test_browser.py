"""The page in a browser: nothing fails, nothing is asked of a network, slider, filter and sorting work."""

import shutil

import pytest
from helpers.reports import predictions, save_run

from anomalib_memmc.reporting.report.comparison import write_comparison
from anomalib_memmc.reporting.report.page import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (1400, 400)

if CHROMIUM is None:
    pytest.skip("no Chromium: install it, for example with apt-get install chromium", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install '.[test]'")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser):
    """Open a file at a width; afterwards nothing may have failed, and only the file may have been asked for."""
    troubles, asked, contexts = [], [], []

    def open_at(path, width):
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert troubles == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == len(contexts)


def scores(page):
    """Scores of the cases shown, in order."""
    return [float(case.get_attribute("data-score")) for case in page.locator(".case:not([hidden])").all()]


@pytest.mark.parametrize("width", WIDTHS)
def test_page_fits_and_its_pictures_are_drawn(run, open_page, width, tmp_path):
    page = open_page(write_report(run, tmp_path / "report.html"), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    path = tmp_path / "page.png"
    page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 50_000


def test_slider_changes_the_opacity_of_the_maps(run, open_page):
    page = open_page(write_report(run), WIDTHS[0])
    opacity = "getComputedStyle(document.querySelector('.map')).opacity"
    before = page.locator(".stack").first.screenshot()
    assert page.evaluate(opacity) == "0.6"
    page.locator("#opacity").fill("0")
    assert page.evaluate(opacity) == "0"
    assert page.locator("output").inner_text() == "0 %"
    assert page.locator(".stack").first.screenshot() != before
    page.locator("#opacity").press("ArrowRight")
    assert page.evaluate(opacity) == "0.01"


def test_sorting(run, open_page):
    page = open_page(write_report(run), WIDTHS[0])
    shown = scores(page)
    assert shown == sorted(shown, reverse=True)
    page.locator("#sort").select_option("low")
    assert scores(page) == sorted(shown)
    page.locator("#sort").select_option("name")
    names = [case.get_attribute("data-name") for case in page.locator(".case").all()]
    assert names == sorted(names)
    page.locator("#sort").select_option("gap")
    gaps = [float(case.get_attribute("data-gap")) for case in page.locator(".case").all()]
    assert gaps == sorted(gaps)


def test_filters(run, open_page):
    page = open_page(write_report(run), WIDTHS[1])
    every = len(scores(page))
    for kind in ("missed", "alarm", "found", "cleared"):
        page.locator("#filter").select_option(kind)
        shown = page.locator(".case:not([hidden])")
        assert 0 < shown.count() < every
        assert {case.get_attribute("data-kind") for case in shown.all()} == {kind}
        assert page.locator("#count").inner_text() == f"{shown.count()} of {every} cases"
    page.locator("#filter").select_option("border")
    border = [float(case.get_attribute("data-gap")) for case in page.locator(".case:not([hidden])").all()]
    assert sorted(border) == sorted(float(case.get_attribute("data-gap")) for case in page.locator(".case").all())[:12]


def test_outline_of_the_truth_can_be_taken_away(run, open_page):
    page = open_page(write_report(run), WIDTHS[0])
    outline = page.locator(".outline").first
    assert outline.is_visible()
    page.locator("#outlines").uncheck()
    assert not outline.is_visible()


@pytest.mark.parametrize("width", WIDTHS)
def test_comparison_fits(run, open_page, width, tmp_path):
    other = save_run(tmp_path / "other", predictions(seed=1))
    page = open_page(write_comparison([run, other], tmp_path / "comparison.html"), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
