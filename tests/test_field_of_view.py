"""The field of view: borders, boxes and text are left out, tissue is kept."""

import numpy as np
import pytest
import torch
from helpers.images import burnt_in_text
from scipy import ndimage
from torch.export import Dim
from torchvision.transforms.v2.functional import normalize, resize

from anomalib_memmc import FieldOfView, HyperKvasir
from anomalib_memmc.configurable import build

SIZES = [(64, 64), (128, 128), (224, 224), (96, 160)]


def tissue(size, channels=3):
    """Mottled tissue without anything dark, (1, C, H, W)."""
    rough = torch.rand(1, channels, 6, 6, generator=torch.Generator().manual_seed(0))
    return 0.3 + 0.5 * torch.nn.functional.interpolate(rough, size=size, mode="bilinear")


def framed(size):
    """A frame as an endoscope gives it, with what is outside: black corners, a black box, text, noise on black."""
    height, width = size
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    outside = (rows + columns < 0.3) | (rows + 1 - columns < 0.3) | (columns < 0.08)
    outside |= (rows > 0.66) & (columns < 0.34)
    image = torch.where(outside, torch.tensor(0.0), tissue(size))
    noise = 0.03 * torch.rand(image.shape, generator=torch.Generator().manual_seed(1))
    image = torch.where(outside, noise, image)
    burnt_in_text(image, row=int(0.03 * height), column=int(0.02 * width))
    return image, outside[None, None]


@pytest.mark.parametrize("size", SIZES)
def test_border_box_and_text_are_outside(size):
    image, outside = framed(size)
    field = FieldOfView()(image)
    assert field.shape == (1, 1, *size)
    assert field.dtype == torch.bool
    wrong = field == outside
    assert wrong.float().mean() < 0.01
    assert not field[..., : size[0] // 8, : size[1] // 8].any()  # where the text is


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_tissue_is_kept_whole(size, channels):
    assert FieldOfView()(tissue(size, channels)).all()


def test_a_dark_lumen_in_the_middle_is_tissue_and_one_at_the_edge_is_not():
    image = tissue((128, 128))
    image[..., 40:80, 50:90] = 0
    assert FieldOfView()(image).all()
    image[..., 40:80, 90:] = 0
    field = FieldOfView()(image)
    assert (~field).sum() == 40 * 78


@pytest.mark.parametrize(("wall", "holds"), [(6, False), (7, True), (9, True)])
def test_a_wall_that_is_not_narrow_keeps_a_lumen_from_the_border(wall, holds):
    image = tissue((128, 128))
    image[..., :20] = 0
    image[..., 50:80, 20 + wall : 60] = 0
    lumen = FieldOfView(radius=3 / 128)(image)[..., 50:80, 20 + wall : 60]
    assert lumen.all() if holds else not lumen.any()


def test_narrow_borders_count_and_narrow_dark_lines_do_not():
    image = tissue((128, 128))
    image[..., :1, :] = 0
    image[..., 60:63, :] = 0  # a hair from edge to edge
    field = FieldOfView()(image)
    assert not field[..., :1, :].any()
    assert field[..., 1:, :].all()


def test_colour_that_is_dark_on_average_is_tissue():
    red = torch.zeros(1, 3, 32, 32)
    red[:, 0] = 0.15
    red[..., :8] = 0
    assert FieldOfView()(red).float().mean() == 0.75


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_field_is_never_empty(level):
    images = torch.cat([torch.full((1, 3, 32, 48), level), framed((32, 48))[0]])
    field = FieldOfView()(images)
    assert field[0].all()
    assert not field[1].all()


def test_a_winding_border_is_followed_to_its_end():
    image = tissue((128, 128))
    for column in range(0, 128, 32):
        image[..., :, column : column + 10] = 0
        wall = slice(0, 20) if (column // 32) % 2 else slice(108, 128)
        image[..., wall, column : column + 32] = 0
    dark = (image.amax(dim=1, keepdim=True) == 0).float()
    field = FieldOfView(radius=3 / 128)(image)
    assert torch.equal(~field, dark.bool())


@pytest.mark.parametrize("seed", range(3, 9))
@pytest.mark.parametrize("size", SIZES)
def test_it_is_what_scipy_finds(size, seed):
    """Random blotches, opened, closed and followed from the edge by scipy, pixel by pixel.

    Outside are at least the dark squares that can be slid in from the edge, and at most what touches them.
    """
    rough = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(seed))
    image = (torch.nn.functional.interpolate(rough, size=size, mode="bicubic") - 0.3).clamp(0, 1)
    outside = ~FieldOfView()(image)[0, 0].numpy()
    margin = 2 * max(1, round(0.02 * min(size))) + 1
    square, touching = np.ones((margin, margin)), np.ones((3, 3))
    dark = np.pad(image[0, 0].numpy(), margin)
    dark = ndimage.grey_closing(ndimage.grey_opening(dark, footprint=square), footprint=square) < 0.06
    edge = np.ones_like(dark)
    edge[1:-1, 1:-1] = False
    centres = ndimage.binary_erosion(dark, square, border_value=1)
    slid = ndimage.binary_dilation(ndimage.binary_propagation(edge, touching, mask=centres), square)
    touched = ndimage.binary_propagation(edge, touching, mask=dark)
    slid, touched = (found[margin:-margin, margin:-margin] for found in (slid, touched))
    assert slid.any()
    assert not (slid & ~outside).any()
    assert not (outside & ~touched).any()


def test_an_image_does_not_depend_on_its_batch():
    images = torch.cat([framed((64, 96))[0], tissue((64, 96)), torch.zeros(1, 3, 64, 96)])
    whole = FieldOfView()(images)
    for index in range(3):
        assert torch.equal(FieldOfView()(images[index : index + 1]), whole[index : index + 1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_precision_gives_the_same_field(dtype):
    image, _ = framed((64, 64))
    assert (FieldOfView()(image.to(dtype)) == FieldOfView()(image)).float().mean() > 0.999


def test_standardised_pixels_are_refused():
    image, _ = framed((64, 64))
    with pytest.raises(ValueError, match=r"pixels in \[0, 1\].*before any Normalize"):
        FieldOfView()(normalize(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


@pytest.mark.parametrize("arguments", [{"darkness": 0.0}, {"darkness": 1.0}, {"radius": 0.0}, {"radius": 0.5}])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="must lie in"):
        FieldOfView(**arguments)


def test_it_is_rebuilt_from_its_configuration():
    config = FieldOfView(darkness=0.1).config()
    assert config == {"class_path": "anomalib_memmc.FieldOfView", "init_args": {"darkness": 0.1, "radius": 0.02}}
    rebuilt = build(config, FieldOfView)
    assert (rebuilt.darkness, rebuilt.radius) == (0.1, 0.02)
    assert not rebuilt.state_dict()


def test_export_gives_the_same_field():
    images = torch.cat([framed((64, 96))[0], tissue((64, 96)), torch.zeros(1, 3, 64, 96)])
    shapes = ({0: Dim("batch", min=1, max=64)},)
    find = FieldOfView(radius=0.06)
    exported = torch.export.export(find, (images[:2],), dynamic_shapes=shapes).module()
    for batch in (1, 3):
        assert torch.equal(exported(images[:batch]), find(images[:batch]))


@pytest.mark.slow
def test_onnx_gives_the_same_field(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    images, find = torch.cat([framed((64, 64))[0], tissue((64, 64))]), FieldOfView(radius=0.06).eval()
    torch.onnx.export(find, (images,), tmp_path / "field.onnx", dynamo=True, input_names=["images"])
    session = onnxruntime.InferenceSession(tmp_path / "field.onnx")
    (field,) = session.run(None, {"images": images.numpy()})
    assert torch.equal(torch.from_numpy(field), find(images))


def test_compilation_breaks_no_graph():
    images = framed((64, 64))[0]
    find = FieldOfView(radius=0.06)
    assert torch.equal(torch.compile(find, fullgraph=True, backend="eager")(images), find(images))


def test_real_frames_lose_their_border_and_no_polyp(real_data):
    """Of 16 whole frames with a polyp 3 to 35 % are outside, of the polyps next to nothing."""
    datamodule = HyperKvasir(
        real_data / "hyper-kvasir", num_train_normal=350, num_test_normal=150, num_workers=0, region="frame"
    )
    datamodule.setup()
    rows = datamodule.test_data.samples.index[datamodule.test_data.samples["label_index"] == 1][:16]
    items = [datamodule.test_data[int(row)] for row in rows]
    field = torch.cat([FieldOfView()(resize(item.image, [128, 128], antialias=True)[None]) for item in items])
    masks = torch.stack([resize(item.gt_mask[None], [128, 128]) for item in items]).bool()
    outside = (~field).flatten(1).float().mean(dim=1)
    assert outside.min() > 0.03
    assert outside.max() < 0.35
    assert (masks & ~field).sum() < 0.005 * masks.sum()
