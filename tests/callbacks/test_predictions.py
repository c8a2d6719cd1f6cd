from pathlib import Path

import pandas as pd
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from anomalib.post_processing import PostProcessor
from helpers.brightness import Brightness, PictureData
from sklearn.metrics import roc_auc_score

from anomalib_memmc.callbacks import PredictionTable
from anomalib_memmc.model import NormalQuantilePostProcessor
from anomalib_memmc.reporting.baselines import aspect_ratio, file_bytes, laplacian_median, laplacian_variance


def run(tmp_path, datamodule, *callbacks, model=None, fit=True):
    model = model or Brightness()
    engine = Engine(
        callbacks=list(callbacks),
        default_root_dir=tmp_path / "results",
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        enable_progress_bar=False,
    )
    if fit:
        engine.fit(model, datamodule=datamodule)
    engine.test(model, datamodule=datamodule)
    return engine, Path(engine.trainer.default_root_dir)


def test_table_holds_every_test_image(tmp_path, datamodule, capsys):
    model = Brightness()
    _, folder = run(tmp_path, datamodule, PredictionTable(), model=model)
    table = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
    samples = datamodule.test_data.samples
    assert table["image_path"].tolist() == samples["image_path"].tolist()
    assert table["stratum"].tolist() == samples["stratum"].tolist()
    assert table["gt_label"].tolist() == samples["label_index"].tolist()
    # after and before the post-processor, which runs later than a callback of the engine
    for index in (0, 5):
        path = samples["image_path"].iloc[index]
        image = datamodule.test_data[index].image[None]
        resized = model.pre_processor.transform(image)
        expected = model.post_processor(model.model(resized))
        assert table["score"][index] == pytest.approx(resized.mean().item(), abs=1e-6)
        assert table["pred_score"][index] == pytest.approx(expected.pred_score.item(), abs=1e-6)
        assert table["label"][index] == int(expected.pred_label.item())
        assert table["mean_intensity"][index] == pytest.approx(resized.mean().item(), abs=1e-6)
        assert table["sharpness"][index] == pytest.approx(laplacian_variance(resized).item(), rel=1e-4)
        assert table["noise"][index] == pytest.approx(laplacian_median(resized).item(), rel=1e-4)
        assert table["file_bytes"][index] == file_bytes(path)
        assert table["aspect_ratio"][index] == aspect_ratio(path)
    assert list(folder.glob(".predictions*")) == []
    assert table["threshold"].unique() == pytest.approx([model.post_processor.image_threshold.item()])
    assert table["label"].tolist() == (table["score"] > table["threshold"]).astype(int).tolist()
    verdict = ["score", "threshold", "label", "percentile", "p_value", "pred_score"]
    baselines = ["mean_intensity", "sharpness", "noise", "file_bytes", "aspect_ratio"]
    assert table.columns.tolist() == ["image_path", "stratum", "gt_label", *verdict, *baselines]
    normals = model.post_processor.normal_scores.numpy()
    assert len(normals) == 6
    assert table["percentile"].tolist() == pytest.approx([100 * (normals < s).mean() for s in table["score"]])
    assert table["p_value"].tolist() == pytest.approx([(1 + (normals >= s).sum()) / 7 for s in table["score"]])
    printed = capsys.readouterr().out
    alarms = int((table["label"] * (1 - table["gt_label"])).sum())
    assert f"False alarms: {alarms} of 4 normal images" in printed
    assert "the threshold promises 14.3%" in " ".join(printed.split())  # 1 / 7: six normals are too few for 5 %
    assert "AUROC" in printed
    assert "mean intensity" in printed
    assert f"{roc_auc_score(table['gt_label'], table['pred_score']):.3f}" in printed


def test_a_host_that_clamps_is_judged_by_the_scores_before(tmp_path, datamodule, capsys):
    model = Brightness(post_processor=PostProcessor())
    _, folder = run(tmp_path, datamodule, PredictionTable(baselines=False), model=model)
    table = pd.read_csv(folder / "predictions.csv")
    assert (table["pred_score"] == 1).sum() > 1
    assert table["score"].is_unique
    assert table["label"].tolist() == (table["score"] > table["threshold"]).astype(int).tolist()
    assert 0 < table["label"].sum() < len(table)
    assert table.columns.tolist()[2:] == ["gt_label", "score", "threshold", "label", "pred_score"]


def test_behind_the_post_processor_only_the_normalised_score_is_known(tmp_path, datamodule):
    class Own(Brightness):
        def configure_callbacks(self):
            return [*super().configure_callbacks(), PredictionTable()]

    _, folder = run(tmp_path, datamodule, model=Own())
    table = pd.read_csv(folder / "predictions.csv")
    assert table.columns.tolist()[2:5] == ["gt_label", "label", "pred_score"]
    assert table["pred_score"].between(0, 1).all()


@pytest.mark.parametrize("post_processor", [PostProcessor, NormalQuantilePostProcessor])
def test_without_a_validation_there_is_no_verdict(tmp_path, datamodule, post_processor):
    """anomalib would compare the raw scores with 0.5."""
    model = Brightness(post_processor=post_processor())
    _, folder = run(tmp_path, datamodule, PredictionTable(), model=model, fit=False)
    table = pd.read_csv(folder / "predictions.csv")
    assert table[["threshold", "label"]].isna().all(axis=None)
    assert table["score"].notna().all()


def test_a_model_that_labels_by_itself_has_no_threshold(tmp_path, datamodule):
    class Own(Brightness):
        def test_step(self, batch, batch_idx):
            batch = self.validation_step(batch, batch_idx)
            batch.pred_label = batch.pred_score < 0.3
            return batch

    _, folder = run(tmp_path, datamodule, PredictionTable(), model=Own())
    table = pd.read_csv(folder / "predictions.csv")
    assert table["label"].tolist() == (table["score"] < 0.3).astype(int).tolist()
    assert table["threshold"].isna().all()


def test_groups_are_noted_where_they_say_something(tmp_path, picture_parts):
    test = picture_parts["test"]
    test["group"] = test["image_path"]  # each image a group of its own
    _, folder = run(tmp_path, PictureData(picture_parts), PredictionTable(), fit=False)
    assert "group" not in pd.read_csv(folder / "predictions.csv").columns
    test["group"] = [f"{index // 3:04d}" for index in range(len(test))]
    _, folder = run(tmp_path, PictureData(picture_parts), PredictionTable(), fit=False)
    table = pd.read_csv(folder / "predictions.csv", dtype=str)
    assert table["group"].tolist() == test["group"].tolist()
    assert table.columns[:3].tolist() == ["image_path", "stratum", "group"]


def test_second_test_starts_anew_and_prediction_has_its_own_file(tmp_path, datamodule, picture_parts):
    table = PredictionTable()
    engine, folder = run(tmp_path, datamodule, table)
    before = (folder / "predictions.csv").read_text()
    engine.trainer.test(engine.model, datamodule=datamodule)
    assert (folder / "predictions.csv").read_text() == before
    engine.predict(engine.model, data_path=Path(picture_parts["train"]["image_path"][0]).parent)
    predicted = pd.read_csv(Path(engine.trainer.default_root_dir) / "predict.csv")
    assert len(predicted) == 16
    assert predicted["gt_label"].isna().all()
    assert (folder / "predictions.csv").read_text() == before


def test_one_class_only(tmp_path, picture_parts, capsys):
    picture_parts["test"] = picture_parts["test"][picture_parts["test"]["label_index"] == 0].reset_index(drop=True)
    _, folder = run(tmp_path, PictureData(picture_parts), PredictionTable(), fit=False)
    assert len(pd.read_csv(folder / "predictions.csv")) == 4
    assert "both classes" in capsys.readouterr().out


def test_a_name_that_is_not_utf_8_costs_no_row(tmp_path, picture_parts, caplog):
    test = picture_parts["test"]
    names = [f"{Path(path).parent}/\udcff-{Path(path).name}" for path in test["image_path"]]
    for path, name in zip(test["image_path"], names, strict=True):
        Path(path).rename(name)
    test = test.astype({"image_path": object})
    test["image_path"] = pd.Series(names, dtype=object)
    picture_parts["test"] = test
    _, folder = run(tmp_path, PictureData(picture_parts), PredictionTable(), fit=False)
    table = pd.read_csv(folder / "predictions.csv")
    assert table["image_path"].tolist() == [name.replace("\udcff", "\\udcff") for name in names]
    assert table["stratum"].tolist() == test["stratum"].tolist()
    assert table["file_bytes"].tolist() == [Path(name).stat().st_size for name in names]
    assert "could not be finished" not in caplog.text


def test_trouble_with_the_table_does_not_end_the_run(tmp_path, datamodule, monkeypatch, caplog):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    engine, _ = run(tmp_path, datamodule, PredictionTable())
    assert engine.trainer.callback_metrics["image_AUROC"] > 0.5
    assert "could not be finished" in caplog.text


def test_scores_come_from_the_map_where_there_are_none():
    table = PredictionTable(baselines=False)
    batch = ImageBatch(image=torch.zeros(2, 3, 4, 4), anomaly_map=torch.arange(32.0).view(2, 4, 4))
    table._pending = (batch, None, 0)
    table._flush()
    assert [row["pred_score"] for row in table._rows] == [15.0, 31.0]


def test_max_rows_is_checked():
    with pytest.raises(ValueError, match="max_rows"):
        PredictionTable(max_rows=0)
