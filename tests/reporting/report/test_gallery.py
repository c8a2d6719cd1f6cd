import base64
import re
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from helpers.reports import save_run
from matplotlib.path import Path as Outline
from PIL import Image

from anomalib_memmc.reporting.report.gallery import outline_of, palette, pictures
from anomalib_memmc.reporting.report.run import load


def test_a_map_is_clear_where_nothing_is_unusual_and_full_from_its_threshold_on():
    opacity = [each[3] for each in palette(is_normalised=True)]
    assert opacity[: round(255 * 0.25)] == [0] * round(255 * 0.25)
    assert opacity[128:] == [1] * 128
    assert opacity == sorted(opacity)


def test_colours_grow_brighter_with_the_value():
    luminance = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b, _ in palette(is_normalised=True)]
    assert all(first <= second + 1 for first, second in pairwise(luminance))
    assert luminance[-1] - luminance[0] > 200


def test_the_outline_runs_around_the_mask():
    mask = np.zeros((12, 20), dtype=bool)
    mask[3:7, 0:9] = True
    mask[9:11, 14:18] = True
    parts = re.findall(r"M(.*?)Z", outline_of(mask))
    assert len(parts) == 2
    shapes = [Outline([tuple(map(float, point.split())) for point in part.split("L")]) for part in parts]
    rows, columns = np.mgrid[:12, :20] + 0.5
    inside = np.any([shape.contains_points(np.c_[columns.ravel(), rows.ravel()]) for shape in shapes], axis=0)
    np.testing.assert_array_equal(inside.reshape(12, 20), mask)


def test_cases_have_image_map_and_outline(tmp_path):
    run = load(save_run(tmp_path))
    shown, lost = pictures(run)
    assert lost == 0
    assert [case.score for case in shown] == sorted((case.score for case in shown), reverse=True)
    assert {case.kind for case in shown} == {"found", "missed", "alarm", "cleared"}
    sick = next(case for case in shown if case.truth == "anomalous")
    assert sick.verdict.startswith(("anomalous: score", "normal: score"))
    assert (sick.view, sick.iou) == ((32, 32), "0.40")
    coloured = Image.open(BytesIO(base64.b64decode(sick.map.partition(",")[2]))).convert("RGBA")
    alpha = np.asarray(coloured)[..., 3]
    assert alpha[5:12, 5:12].min() > alpha[20:, 20:].max()  # the anomaly is in the upper left
    assert next(case for case in shown if case.truth == "normal").outline is None


@pytest.mark.parametrize(("percentile", "said"), [(100.0, "all held-out"), (12.5, "12.5 % of")])
def test_the_verdict_says_how_unusual_an_image_is(tmp_path, percentile, said):
    run = load(save_run(tmp_path))
    run.table["percentile"] = percentile
    shown, _ = pictures(run)
    assert f"more unusual than {said} normal images" in shown[0].verdict
