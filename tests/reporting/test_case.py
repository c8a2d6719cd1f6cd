"""The case picture says the verdict beside the image, and never on it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from anomalib_memmc.data import ImageReadError
from anomalib_memmc.detection.result import Result
from anomalib_memmc.reporting import case_figure

NORMAL = Result(
    score=0.5,
    threshold=1.2,
    label=0,
    percentile=40.0,
    spread=0.1,
    anomaly_map=torch.full((32, 32), 0.2).index_fill(0, torch.arange(8, 16), 0.9),
    map_threshold=0.5,
    reconstruction=torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)),
)
ANOMALOUS = replace(NORMAL, score=3.1, label=1, percentile=99.4)
MASK = torch.zeros(32, 32, dtype=torch.bool).index_fill(1, torch.arange(16, 32), True)


def picture(height=400, width=600, channels=3):
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(1))


def words(figure):
    return " ".join(text.get_text() for text in figure.texts)


def titles(figure):
    return [" ".join(axes.get_title().split()) for axes in figure.axes if axes.get_title()]


def panel(figure, title):
    (axes,) = (axes for axes in figure.axes if " ".join(axes.get_title().split()).startswith(title))
    return axes


def outlines(axes):
    """Width and height of what is outlined, as shares of the panel."""
    points = [path.vertices for collection in axes.collections for path in collection.get_paths()]
    return np.ptp(np.concatenate(points), axis=0) if points else None


def drawn(figure, axes):
    """The pixels of a panel (H, W, 3) as they are drawn."""
    figure.canvas.draw()
    left, bottom, width, height = axes.get_window_extent().bounds
    top = figure.canvas.get_width_height()[1] - bottom - height
    rows, columns = (slice(round(start), round(start + size)) for start, size in ((top, height), (left, width)))
    return np.asarray(figure.canvas.buffer_rgba())[rows, columns, :3]


@pytest.mark.parametrize(("height", "width"), [(400, 600), (700, 500)])
def test_the_image_is_drawn_pixel_for_pixel_with_nothing_on_it(height, width):
    image = picture(height, width)
    figure = case_figure(image, ANOMALOUS)
    axes = panel(figure, "image")
    assert (len(axes.images), axes.lines[:], axes.collections[:], axes.texts[:]) == (1, [], [], [])
    pixels = drawn(figure, axes)
    assert pixels.shape == (height, width, 3)
    expected = (255 * image).round().permute(1, 2, 0).numpy().astype(int)
    inner = (slice(5, -5), slice(5, -5))  # the frame of the panel lies on the border
    assert np.abs(pixels[inner] - expected[inner]).max() <= 1


def test_a_normal_image_has_no_outline_whatever_its_map():
    figure = case_figure(picture(), NORMAL)
    assert titles(figure) == ["image", "reconstruction (32 x 32 pixels)", "anomaly map (bright = unusual)"]
    assert all(outlines(axes) is None for axes in figure.axes if axes.get_title())
    assert "normal: score 0.5, threshold 1.2, more unusual than 40.0 % of normal images; spread 0.1" in words(figure)
    assert "Ground truth" not in words(figure)


def test_an_anomalous_image_has_its_outline_beside_the_image():
    figure = case_figure(picture(), ANOMALOUS)
    assert titles(figure)[:2] == ["image", "outlined: map above its threshold"]
    width, height = outlines(panel(figure, "outlined"))
    assert width == pytest.approx(1, abs=0.02)  # rows 8 to 16 of 32, to both borders
    assert height == pytest.approx(0.25, abs=0.02)
    assert "anomalous: score 3.1, threshold 1.2, more unusual than 99.4 %" in words(figure)
    quiet = case_figure(picture(), replace(ANOMALOUS, anomaly_map=torch.full((32, 32), 0.2)))
    assert outlines(panel(quiet, "nothing in the map is above its threshold")) is None


@pytest.mark.parametrize("verdict", [NORMAL, ANOMALOUS])
def test_the_ground_truth_stands_apart_from_the_verdict(verdict):
    figure = case_figure(picture(), replace(verdict, gt_label=1, gt_mask=MASK))
    assert titles(figure)[-1] == "ground truth: annotated region"
    axes = panel(figure, "ground truth")
    assert outlines(axes) == pytest.approx([0.5, 1], abs=0.03)
    ((_, dashes),) = axes.collections[0].get_linestyle()
    assert dashes  # and the line of the verdict is solid
    (line,) = (text for text in figure.texts if "Ground truth" in text.get_text())
    assert line.get_text() == "Ground truth: anomalous"
    assert line.get_position()[1] < min(axes.get_position().y0 for axes in figure.axes)
    without = case_figure(picture(), replace(verdict, gt_label=1))
    assert "Ground truth: anomalous (no region is annotated)" in words(without)
    empty = case_figure(picture(), replace(verdict, gt_label=0, gt_mask=torch.zeros(32, 32)))
    assert "Ground truth: normal" in words(empty)
    assert "ground truth" not in " ".join(titles(empty) + titles(without))


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(200, 900, 3), (900, 200, 3), (4, 3, 3), (60, 1, 1), (2200, 2600, 1), (30, 33, 1)]
)
@pytest.mark.parametrize("label", [0, 1])
def test_words_lie_on_white_at_every_shape(height, width, channels, label):
    mask = torch.ones(height, width, dtype=torch.bool)
    result = replace(ANOMALOUS, label=label, path=f"/scans/{'long-' * 40}.png", gt_label=1, gt_mask=mask)
    figure = case_figure(picture(height, width, channels), result)
    figure.canvas.draw()
    sheet = figure.bbox
    fields = [axes.get_window_extent() for axes in figure.axes]
    texts = [*figure.texts, *(axes.title for axes in figure.axes)]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    for box in boxes:
        assert sheet.x0 <= box.x0 and box.x1 <= sheet.x1 + 1 and sheet.y0 <= box.y0 and box.y1 <= sheet.y1  # noqa: PT018
        assert not any(box.overlaps(field) for field in fields)
    assert sum(box.overlaps(other) for box in boxes for other in boxes) == len(boxes)  # each with itself
    assert max(figure.canvas.get_width_height()) < 6000
    assert f"{width} x {height} pixels" in words(figure)


def test_all_maps_have_one_scale_that_names_the_threshold():
    low = case_figure(picture(), replace(NORMAL, anomaly_map=torch.full((32, 32), 0.1)))
    for figure in (low, case_figure(picture(), NORMAL)):
        assert panel(figure, "anomaly map").images[0].get_clim() == (0, 1)
        labels = [text.get_text() for text in figure.axes[-1].get_yticklabels()]
        assert sorted(labels) == ["0", "0.5\nthreshold", "1"]
    raw = case_figure(picture(), replace(NORMAL, anomaly_map=torch.linspace(2, 3, 1024).view(32, 32), map_threshold=4))
    assert panel(raw, "anomaly map").images[0].get_clim() == (2, 4)


def test_the_colours_keep_their_order_in_grey_print():
    from matplotlib import colormaps

    from anomalib_memmc.reporting.case import COLOURS

    grey = colormaps[COLOURS](np.linspace(0, 1, 256))[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) > 0).all()
    assert grey[-1] - grey[0] > 0.9


def test_what_a_result_lacks_is_left_out(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((20, 30), dtype=np.uint8)).save(path)
    figure = case_figure(path, Result(str(path), score=0.3))
    assert titles(figure) == ["image"]
    assert "no verdict: score 0.3, and no threshold was learnt" in words(figure)
    assert "a.png, 30 x 20 pixels" in words(figure)


def test_a_16_bit_file_is_shown_in_its_full_range(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.linspace(100, 4000, 64 * 64).reshape(64, 64).astype(np.uint16)).save(path)
    shown = np.asarray(panel(case_figure(path, NORMAL), "image").images[0].get_array())
    assert (shown.min(), shown.max()) == (0, 1)


def test_what_is_no_image_is_refused(tmp_path):
    for image in (
        torch.rand(32, 32),
        torch.rand(2, 8, 8),
        torch.full((3, 8, 8), 2.0),
        torch.full((1, 8, 8), torch.nan),
    ):
        with pytest.raises(ValueError, match=r"\(C, H, W\)"):
            case_figure(image, NORMAL)
    with pytest.raises(ImageReadError, match=r"gone\.png"):
        case_figure(tmp_path / "gone.png", NORMAL)
