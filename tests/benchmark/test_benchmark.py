import csv
import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import timm
import yaml
from helpers.models import TINY_MEMMC
from helpers.tables import prediction_table, small_table
from PIL import Image

from anomalib_memmc.benchmark import job, process
from anomalib_memmc.benchmark.config import load, merge
from anomalib_memmc.benchmark.gallery import choose_cases
from anomalib_memmc.benchmark.predictions import Predictions
from anomalib_memmc.benchmark.results import Results
from anomalib_memmc.cli import main
from anomalib_memmc.model import lite0
from anomalib_memmc.reporting.comparisons import compare, judged

PADIM = {
    "class_path": "anomalib.models.Padim",
    "init_args": {"pre_trained": False, "layers": ["layer1"], "n_features": 4},
}
MEMMC = {
    "class_path": "anomalib_memmc.MemMCMAE",
    "init_args": {
        **TINY_MEMMC,
        "scorer": {
            "class_path": "anomalib_memmc.scoring.ReconstructionScorer",
            "init_args": {
                "error_map": {"class_path": "anomalib_memmc.scoring.SquaredErrorMap"},
                "num_masks": 1,
            },
        },
        "max_epochs": 1,
        "seed": 5,
    },
}
DATA = {
    "class_path": "Phantom",
    "init_args": {
        "image_size": 32,
        "num_train": 4,
        "num_test_normal": 2,
        "num_test_anomalous": 2,
        "num_val_normal": 1,
        "num_workers": 0,
        "train_augmentations": {
            "class_path": "torchvision.transforms.v2.Compose",
            "init_args": {
                "transforms": [
                    {"class_path": "torchvision.transforms.v2.RandomHorizontalFlip", "init_args": {"p": 0.5}}
                ]
            },
        },
    },
}
TRAINER = {"accelerator": "cpu", "enable_progress_bar": False, "max_epochs": 1}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A temporary working directory with ``base.yaml`` and ``benchmark.yaml``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # restored at the end; seed_everything changes it
    write("base.yaml", {"model": MEMMC, "data": DATA, "trainer": TRAINER, "seed_everything": 3})
    write("benchmark.yaml", {"output": "out", "base": "base.yaml", "seeds": [0, 1], "models": {"A": PADIM, "B": None}})
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    """Run jobs in this process, which saves importing anomalib for each; the list of the folders that ran."""
    folders = []

    def start(folder, environment, log):
        folders.append(folder.name)
        log.write_text("a line of the log\n")
        try:
            job.main(folder)
        except Exception:
            return 1
        return 0

    monkeypatch.setattr(process, "start", start)
    return folders


def write(name, content):
    Path(name).write_text(yaml.safe_dump(content, sort_keys=False))


def read_rows():
    with Path("out/results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def run(*arguments):
    return main(["benchmark", "--config", "benchmark.yaml", *arguments])


def test_two_models_two_seeds_and_resume(folder, started, capsys):
    assert run() == 0
    assert started == ["A-seed0", "A-seed1", "B-seed0", "B-seed1"]
    rows = read_rows()
    assert [(row["model"], row["seed"], row["status"]) for row in rows] == [
        ("A", "0", "ok"),
        ("A", "1", "ok"),
        ("B", "0", "ok"),
        ("B", "1", "ok"),
    ]
    for row in rows:
        for column in ("image_AUROC", "image_AP", "pixel_AUROC", "fit_seconds", "test_seconds", "peak_memory_mb"):
            assert float(row[column]) >= 0
        assert row["torch"]
        assert len(row["config_hash"]) == 12
        assert Path(row["folder"], "predictions.csv").is_file()
        assert float(row["aspect_ratio_matched_AUROC"]) == pytest.approx(
            float(row["image_AUROC"]), abs=1e-6
        )  # all square
    text = Path("out/table.md").read_text()
    assert text in capsys.readouterr().out
    assert text.startswith("`anomalib-memmc benchmark --config benchmark.yaml`")
    assert "| *mean intensity* " in text
    assert "image AUROC" in text
    assert " ± " in text

    predictions = Predictions(Path("out"))
    assert predictions.table["job"].unique().tolist() == started
    job = pd.read_csv("out/B-seed1/predictions.csv")
    assert predictions.of("B-seed1")["score"].tolist() == job["score"].tolist()
    assert [str(Path("datasets/Phantom", path)) for path in predictions.of("A-seed0")["path"]] == job[
        "image_path"
    ].tolist()

    Path("out/predictions.parquet").unlink()
    assert run() == 0  # nothing is run again
    assert Predictions(Path("out")).table.equals(predictions.table)  # as after an interruption
    assert len(started) == 4
    assert run("--models.B.init_args.memory_slots", "3") == 0  # only what changed is run again, in place of the old
    assert started[4:] == ["B-seed0", "B-seed1"]
    assert len(read_rows()) == 4


def test_failed_job_is_named_and_others_go_on(folder, started, capsys):
    broken = {**PADIM, "init_args": {**PADIM["init_args"], "n_features": 1000}}
    write("benchmark.yaml", {"output": "out", "base": "base.yaml", "seeds": [0], "models": {"Bad": broken, "A": PADIM}})
    assert run() == 1
    captured = capsys.readouterr()
    assert re.search(r"^\| Bad +\| 0 \(1 failed\) \|", captured.out, flags=re.MULTILINE)
    assert "n_features" in captured.err
    assert "Union" not in captured.err
    assert str(Path("out/Bad-seed0/log.txt")) in captured.err
    bad, good = read_rows()
    assert (bad["status"], good["status"]) == ("failed", "ok")
    assert "n_features" in bad["error"]

    assert run() == 1
    assert started == ["Bad-seed0", "A-seed0", "Bad-seed0"]  # a failed job is tried again


def test_same_seed_same_result(folder, started):
    write("benchmark.yaml", {"output": "out", "base": "base.yaml", "seeds": [0, 1], "models": {"B": None, "C": None}})
    assert run() == 0
    names = ("B-seed0", "C-seed0", "B-seed1")
    first, same, other = (Path("out", name, "predictions.csv").read_text() for name in names)
    assert first == same
    assert first != other


def test_model_seed_is_the_jobs():
    config = job.with_seed({"model": MEMMC, "data": DATA, "trainer": TRAINER}, 7)
    assert config["model"]["init_args"]["seed"] == 7
    assert job.with_seed({"model": PADIM}, 7) == {"model": PADIM}


def test_all_models_get_the_same_evaluator_and_post_processor(folder):
    models = [job.build({"model": model, "data": DATA, "trainer": TRAINER})[0] for model in (PADIM, MEMMC)]
    assert len({type(model.post_processor) for model in models}) == 1
    metrics = [[metric.name for metric in model.evaluator.test_metrics] for model in models]
    assert metrics[0] == metrics[1]
    assert all(model.visualizer is None for model in models)


def test_job_in_a_process_of_its_own(tmp_path):
    (tmp_path / "job.json").write_text(json.dumps({"seed": 0, "config": {"model": {"class_path": "NoSuchModel"}}}))
    log = tmp_path / "log.txt"
    assert process.start(tmp_path, dict(os.environ), log) == 1
    assert "NoSuchModel" in json.loads((tmp_path / "result.json").read_text())["error"]
    assert "Traceback" in log.read_text()


def test_evidence_of_a_jobs_predictions(tmp_path):
    table = prediction_table().assign(image_path=[f"{index}.png" for index in range(70)])
    table.to_csv(tmp_path / "predictions.csv", index=False)
    (overall, *_) = compare(judged(table))
    assert job.evidence(tmp_path / "predictions.csv") == {
        "image_AP": pytest.approx(overall.average_precision),
        "mean_intensity_matched_AUROC": pytest.approx(overall.trivial[1].matched.value),
    }  # nothing of the shape, in which no two images of both classes are alike, nor of sizes that are not all known
    table[:40].to_csv(tmp_path / "predictions.csv", index=False)
    assert job.evidence(tmp_path / "predictions.csv") == {}


def test_killed_job_shows_the_end_of_its_log(folder, monkeypatch, capsys):
    def start(folder, environment, log):
        log.write_text("first\nlast words\n")
        return -9

    monkeypatch.setattr(process, "start", start)
    assert run("--seeds", "[0]") == 1
    assert "exit code -9" in capsys.readouterr().err
    assert "last words" in read_rows()[0]["error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.init_args.no_such", "1"], "no_such"),
        (["--models.A.init_args.no_such", "1"], "model A"),
        (["--models.B.class_path", "json.dumps"], "model B"),
        (["--models.B.class_path", "7"], "model B"),
        (["--seed", "1"], "unknown key"),
        (["--seeds", "1"], "list of integers"),
        (["--models", "{a/b: null}"], "a/b"),
        (["--models.A.epochs", "3"], "epochs in model A; there are class_path, data, init_args, trainer"),
        (["--models", "x"], "models must map names to their arguments, got 'x'"),
        (["--base", "missing.yaml"], "missing.yaml"),
        (["seeds", "1"], "--key.sub VALUE"),
        (["--seeds"], "--key.sub VALUE"),
    ],
)
def test_mistakes_are_found_before_any_job(folder, started, capsys, arguments, message):
    assert run(*arguments) == 1
    assert message in capsys.readouterr().err
    assert not started


def test_base_is_shared_and_overridden(folder):
    plain = {"data": {"init_args": {"train_augmentations": None}}, "trainer": {"max_steps": 1}}
    models = {"A": {**PADIM, **plain}, "B": {"init_args": {"memory_slots": 0}}}
    write("benchmark.yaml", {"output": "out", "base": "base.yaml", "seeds": [0], "models": models})
    benchmark = load("benchmark.yaml", ["data.init_args.root=elsewhere"])
    padim, memmc = (job.config for job in benchmark.jobs)
    assert padim["model"] == PADIM
    assert memmc["model"]["init_args"] == {**MEMMC["init_args"], "memory_slots": 0}
    assert memmc["data"]["init_args"] == {**DATA["init_args"], "root": "elsewhere"}
    assert padim["data"]["init_args"] == {**memmc["data"]["init_args"], "train_augmentations": None}
    assert memmc["trainer"] == TRAINER
    assert padim["trainer"] == {**TRAINER, "max_steps": 1}


def test_base_is_relative_to_the_benchmarks_file(folder):
    Path("sub").mkdir()
    write("sub/benchmark.yaml", {"output": "out", "base": "../base.yaml", "seeds": [0], "models": {"B": None}})
    assert load("sub/benchmark.yaml").jobs[0].config["model"] == MEMMC


def test_merge_keeps_the_arguments_of_classes_apart():
    base = {"class_path": "a.A", "init_args": {"x": 1, "y": [1, 2]}}
    assert merge(base, {"class_path": "A", "init_args": {"y": [3]}})["init_args"] == {"x": 1, "y": [3]}
    assert merge(base, {"class_path": "B"}) == {"class_path": "B"}
    assert merge(None, base) == base


def test_figures_of_a_finished_benchmark(folder, started, capsys):
    assert run() == 0
    capsys.readouterr()
    shutil.move("out", "moved")  # as when results were copied
    assert main(["figures", "moved", "--output", "pictures", "--gallery", "B"]) == 0
    printed = capsys.readouterr().out.split()
    assert printed == [str(Path("pictures", f"moved-{kind}.png")) for kind in ("roc", "scores", "metrics", "gallery")]
    for path in printed:
        with Image.open(path) as image:
            assert min(image.size) > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], r"nowhere/results.csv does not exist"),
        (["out", "--gallery", "C"], r"no finished job of 'C'; there are A"),
        (["bare"], r"bare/predictions.parquet has no predictions of A-seed0; run the benchmark again"),
    ],
)
def test_figures_say_what_is_missing(folder, capsys, arguments, message):
    for name in ("out", "bare"):
        Path(name).mkdir()
        Path(name, "results.csv").write_text("model,seed,status,image_AUROC\nA,0,ok,0.5\n")
    Predictions(Path("out")).put("A-seed0", small_table([5, 4, 3, 2, 1]))
    assert main(["figures", *arguments]) == 1
    assert re.search(message, capsys.readouterr().err)


def test_gallery_takes_the_extremes_of_both_kinds():
    table = pd.DataFrame({"path": list("abcdef"), "label": [1, 1, 1, 0, 0, 0], "score": [1, 3, 2, 6, 4, 5]})
    assert choose_cases(table, per_kind=1) == ["b", "a", "e", "d"]


def test_results_survive_new_columns(tmp_path):
    path = tmp_path / "results.csv"
    common = {"status": "ok", "error": "", "config_hash": "x"}
    Results(path).put({"model": "A", "seed": "0", "a": "1", **common})
    Results(path).put({"model": "B", "seed": "0", "b": "2", **common})
    first, second = Results(path).rows
    assert (first["a"], first["b"], second["a"], second["b"]) == ("1", "", "", "2")


def test_lite0_weights_are_found_by_timm(tmp_path, monkeypatch):
    pytest.importorskip(lite0.PACKAGE)
    variables = lite0.environment(tmp_path)
    files = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(files) == ["main", "model.safetensors"]
    from huggingface_hub import try_to_load_from_cache

    assert timm.get_pretrained_cfg(lite0.BACKBONE).hf_hub_id == lite0.REPOSITORY
    assert try_to_load_from_cache(lite0.REPOSITORY, "model.safetensors", cache_dir=variables["HF_HUB_CACHE"])


def test_environment_of_a_job(folder, monkeypatch):
    monkeypatch.setattr(lite0, "is_installed", lambda: True)
    monkeypatch.setattr(lite0, "environment", lambda cache: {"HF_HUB_OFFLINE": "1"})
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    patchcore = {"class_path": "Patchcore", "init_args": {"backbone": "tf_efficientnet_lite0"}}
    write("benchmark.yaml", {"output": "o", "base": "base.yaml", "seeds": [0], "models": {"P": patchcore, "B": None}})
    first, second = (process._environment(job, Path("weights")) for job in load("benchmark.yaml").jobs)
    assert (first["MALLOC_MMAP_THRESHOLD_"], first["HF_HUB_OFFLINE"]) == ("1000000", "1")
    assert not {"MALLOC_MMAP_THRESHOLD_", "HF_HUB_OFFLINE"} & second.keys()


def test_missing_weights_name_the_extra(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no network")

    monkeypatch.setattr(timm, "create_model", fail)
    monkeypatch.setattr(lite0, "is_installed", lambda: False)
    model = {**PADIM, "init_args": {"backbone": "tf_efficientnet_lite0", "layers": ["blocks.1"], "n_features": 4}}
    with pytest.raises(RuntimeError, match=r"anomalib-memmc\[benchmark\]"):
        job.build({"model": model, "data": DATA, "trainer": TRAINER})
