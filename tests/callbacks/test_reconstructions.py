from pathlib import Path

import pytest
import torch
from anomalib.engine import Engine
from helpers.brightness import Brightness
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from anomalib_memmc.callbacks import ReconstructionPictures
from anomalib_memmc.callbacks import reconstructions as module
from anomalib_memmc.reporting.pictures import ReconstructionRow, draw_reconstructions, paste_hidden


def engine_with(tmp_path, *callbacks, **arguments):
    return Engine(
        callbacks=list(callbacks),
        default_root_dir=tmp_path / "results",
        accelerator="cpu",
        devices=1,
        enable_progress_bar=False,
        **{"max_epochs": 3, **arguments},
    )


@pytest.fixture
def drawn(monkeypatch):
    """Rows of every picture, in order."""
    pictures = []

    def spy(rows, **arguments):
        pictures.append((rows, arguments))
        return draw_reconstructions(rows, **arguments)

    monkeypatch.setattr(module, "draw_reconstructions", spy)
    return pictures


def test_pictures_of_a_run(tmp_path, datamodule, drawn):
    engine = engine_with(tmp_path, ReconstructionPictures(every_n_epochs=2, num_images=4))
    model = Brightness()
    engine.fit(model, datamodule=datamodule)
    engine.test(model, datamodule=datamodule)
    folder = Path(engine.trainer.default_root_dir) / "reconstructions"
    assert sorted(path.name for path in folder.iterdir()) == ["epoch_002.png", "epoch_003.png", "test.png"]
    for path in folder.iterdir():
        assert Image.open(path).width > 800

    (second, _), (third, _), (test, arguments) = drawn
    assert [row.anomalous for row in second] == [False] * 4
    assert all(torch.equal(a.image, b.image) for a, b in zip(second, third, strict=True))
    validation = [model.pre_processor.transform(datamodule.val_data[i].image) for i in range(4)]
    for row, image in zip(second, validation, strict=True):
        torch.testing.assert_close(row.image, image)

    assert [row.anomalous for row in test] == [False, False, True, True]
    assert [bool(row.mask.any()) for row in test] == [False, False, True, True]
    assert arguments["threshold"] == 0.5
    expected = model.post_processor(model.model(test[0].image[None]))
    assert test[0].score == pytest.approx(expected.pred_score.item(), abs=1e-6)
    torch.testing.assert_close(test[0].anomaly_map, expected.anomaly_map.squeeze())
    # the dummy predicts half the brightness in the patches of every second row
    torch.testing.assert_close(test[0].reconstruction[:, :8], test[0].image[:, :8] * 0.5)
    torch.testing.assert_close(test[0].reconstruction[:, 8:16], test[0].image[:, 8:16])


def test_loggers_are_given_the_pictures(tmp_path, datamodule, monkeypatch):
    logged = []
    monkeypatch.setattr(module, "log_picture", lambda loggers, figure, name, step: logged.append((loggers, name, step)))
    logger = CSVLogger(tmp_path)
    engine = engine_with(tmp_path, ReconstructionPictures(num_images=2), logger=logger, max_epochs=1)
    model = Brightness()
    engine.fit(model, datamodule=datamodule)
    engine.test(model, datamodule=datamodule)
    steps = engine.trainer.global_step
    assert logged == [([logger], "reconstructions/epoch_001", steps), ([logger], "reconstructions/test", steps)]


def test_training_images_where_nothing_is_validated(tmp_path, datamodule, drawn):
    engine = engine_with(
        tmp_path, ReconstructionPictures(every_n_epochs=1, num_images=2), max_epochs=2, limit_val_batches=0
    )
    engine.fit(Brightness(), datamodule=datamodule)
    (first, arguments), (second, _) = drawn
    assert len(first) == 2
    assert arguments["threshold"] is None
    assert torch.equal(first[0].image, second[0].image)


def test_drawing_leaves_the_run_as_it_was(tmp_path, datamodule):
    def numbers(callbacks):
        torch.manual_seed(0)
        model = Brightness()
        model.model.dropout = torch.nn.Dropout().eval()
        modes = []
        model.on_train_epoch_start = lambda: modes.append((model.model.training, model.model.dropout.training))
        engine = engine_with(tmp_path, *callbacks, num_sanity_val_steps=0)
        model.model.reconstruct, plain = (lambda images: (torch.rand(1), plain(images))[1]), model.model.reconstruct
        engine.fit(model, datamodule=datamodule)
        return torch.rand(3), modes

    with_pictures, without = numbers([ReconstructionPictures(every_n_epochs=1)]), numbers([])
    assert torch.equal(with_pictures[0], without[0])
    assert with_pictures[1] == without[1]


def test_other_models_and_failures_do_not_end_the_run(tmp_path, datamodule, caplog):
    engine = engine_with(tmp_path, ReconstructionPictures(every_n_epochs=1))
    engine.fit(Brightness(reconstructs=False), datamodule=datamodule)
    assert caplog.text.count("no pictures") == 1

    model = Brightness()
    model.model.reconstruct = lambda images: 1 / 0
    engine_with(tmp_path, ReconstructionPictures(every_n_epochs=3)).fit(model, datamodule=datamodule)
    assert "could not be drawn" in caplog.text
    assert not list(tmp_path.rglob("*epoch_*.png"))


def test_picture_has_a_row_an_image_and_five_columns():
    image = torch.rand(3, 32, 48)
    mask = torch.zeros(32, 48, dtype=torch.bool)
    mask[:8, :8] = True
    rows = [
        ReconstructionRow(image, image, image, torch.rand(32, 48), mask, anomalous=True, score=0.7),
        ReconstructionRow(image, image, image, torch.rand(32, 48), torch.zeros_like(mask), anomalous=False, score=0.2),
        ReconstructionRow(image[:1], image[:1], image[:1] * 3 - 1),
    ]
    figure = draw_reconstructions(rows, title="a title", threshold=0.5)
    axes = figure.axes[:15]
    titles = [axis.get_title().splitlines()[0] for axis in axes[:5]]
    assert titles == ["input", "masked input", "reconstruction", "anomaly map", "ground truth"]
    assert len(figure.axes) == 16  # and the colour bar
    assert [axes[5 * i].get_ylabel() for i in range(3)] == [
        "anomalous\npred_score\n0.700",
        "normal\npred_score\n0.200",
        "no label",
    ]
    assert {axes[i].images[0].get_clim() for i in (3, 8)} == {axes[3].images[0].get_clim()}
    assert [axes[i].texts[0].get_text() for i in (9, 13, 14)] == ["nothing marked", "no anomaly map", "no annotation"]
    assert "ground truth" in figure.texts[1].get_text()
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_reconstructions([])


def test_paste_hidden():
    images, predicted = torch.zeros(2, 3, 8, 16), torch.ones(2, 1, 8, 16)
    masks = torch.zeros(2, 8, dtype=torch.bool)
    masks[0, 5] = True  # second row of 4 px patches, second of four
    pasted = paste_hidden(images, predicted, masks)
    expected = torch.zeros_like(images)
    expected[0, :, 4:8, 4:8] = 1
    assert torch.equal(pasted, expected)
    with pytest.raises(ValueError, match="do not tile"):
        paste_hidden(images, predicted, torch.zeros(2, 7, dtype=torch.bool))


@pytest.mark.parametrize("arguments", [{"every_n_epochs": -1}, {"num_images": 0}])
def test_arguments_are_checked(arguments):
    with pytest.raises(ValueError, match="must"):
        ReconstructionPictures(**arguments)
