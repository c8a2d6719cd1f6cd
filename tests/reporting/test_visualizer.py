"""anomalib's picture of an image: map and image line up where a data module crops."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch, PredictDataset
from anomalib.visualization import ImageVisualizer
from PIL import Image
from torch.utils.data import DataLoader

from anomalib_memmc import HyperKvasir, RegionVisualizer

SIDE = 256  # pixels of a panel


def trainer_with(folder, loader, predicting=False, datamodule=None):
    loaders = {"predict_dataloaders": loader, "test_dataloaders": None} if predicting else {"test_dataloaders": loader}
    return SimpleNamespace(default_root_dir=folder, predicting=predicting, datamodule=datamodule, **loaders)


def predicted(item):
    """A batch of one item with a map that is high in the lower right quarter of what the model saw."""
    maps = torch.zeros(1, 32, 32)
    maps[:, 16:, 16:] = 1
    batch = ImageBatch.collate([item])
    return batch.update(anomaly_map=maps, pred_mask=maps.bool(), pred_score=torch.ones(1))


def panels(file):
    """Input and, if there is one, ground truth; then the map and the mask over the input: (N, 256, 256, 3)."""
    picture = np.asarray(Image.open(file).convert("RGB")).astype(int)
    return np.split(picture, picture.shape[1] // SIDE, axis=1)


def draw(visualizer, folder, loader, batch, **arguments):
    visualizer.on_test_batch_end(trainer_with(folder, loader, **arguments), None, batch, batch, 0)
    (file,) = (path for path in (folder / "images").rglob("*") if path.is_file())
    return panels(file)


@pytest.fixture
def loader(hyperkvasir_root):
    """Frames that are green, but for a red border and a blue lower right quarter of the authors' crop."""
    for path in (hyperkvasir_root / "segmented-images" / "images").iterdir():
        frame = np.zeros((512, 512, 3), dtype=np.uint8)
        frame[..., 0] = 255
        frame[45:475, 45:475] = (0, 160, 0)
        frame[260:475, 260:475] = (0, 0, 255)
        Image.fromarray(frame).resize((96, 80), Image.Resampling.BOX).save(path, quality=100, subsampling=0)
        Image.new("L", (96, 80)).save(path.parents[1] / "masks" / path.name)
    datamodule = HyperKvasir(hyperkvasir_root, num_train_normal=24, num_test_normal=8, num_workers=0, eval_batch_size=1)
    datamodule.setup()
    return datamodule.test_dataloader()


def quarter(picture):
    """Where a panel is blue."""
    return (picture[..., 2] > 100) & (picture[..., 0] < 100)


def test_the_picture_is_of_the_crop_and_the_map_lies_where_it_belongs(loader, tmp_path):
    item = loader.dataset[13]
    image, _, _, mask = draw(RegionVisualizer(text_config={"enable": False}), tmp_path, loader, predicted(item))
    red = (image[..., 0] > 150).mean()
    assert red < 0.02
    blue = quarter(image)
    assert blue[140:, 140:].all()
    assert not blue[:116, :].any()
    outline = (mask[..., 0] > 200) & (mask[..., 2] < 100)  # the mask's contour is red
    rows, columns = outline.nonzero()
    assert rows.min() == pytest.approx(SIDE / 2, abs=8)
    assert columns.min() == pytest.approx(SIDE / 2, abs=8)


def test_anomalibs_own_does_not_line_up(loader, tmp_path):
    """The reason for ours; once this fails it may go."""
    visualizer = ImageVisualizer(text_config={"enable": False})
    image, *_ = draw(visualizer, tmp_path, loader, predicted(loader.dataset[13]))
    assert (image[..., 0] > 150).mean() > 0.2


def test_files_of_a_prediction_are_drawn_whole(loader, tmp_path):
    path = loader.dataset.samples["image_path"][13]
    whole = DataLoader(PredictDataset(path))
    batch = predicted(whole.dataset[0])
    image, *_ = draw(RegionVisualizer(text_config={"enable": False}), tmp_path, whole, batch, predicting=True)
    assert (image[..., 0] > 150).mean() > 0.2
    assert batch.image_path == [str(path)]


def test_a_16_bit_image_is_drawn_as_the_model_sees_it(covidx_root, tmp_path):
    from anomalib_memmc import CovidX

    for path in (covidx_root / "test").iterdir():
        ramp = np.linspace(0, 4000, 64 * 64).reshape(64, 64).astype(np.uint16)
        Image.fromarray(ramp).save(path, format="PNG")
    datamodule = CovidX(covidx_root, num_workers=0, eval_batch_size=1)
    datamodule.setup()
    loader = datamodule.test_dataloader()
    image, *_ = draw(RegionVisualizer(text_config={"enable": False}), tmp_path, loader, predicted(loader.dataset[0]))
    assert 100 < image.mean() < 155


def test_names_are_those_of_anomalib(loader, tmp_path):
    names = []
    for kind, visualizer in {"ours": RegionVisualizer(), "theirs": ImageVisualizer()}.items():
        batch = predicted(loader.dataset[13])
        datamodule = SimpleNamespace(name="HyperKvasir")
        draw(visualizer, tmp_path / kind, loader, batch, datamodule=datamodule)
        names.append({path.relative_to(tmp_path / kind) for path in (tmp_path / kind).rglob("*.*g")})
    assert names[0] == names[1]
