"""Jobs on other machines: on a Ray cluster, and as the tasks of a SLURM array."""

import csv
import json
import os
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from helpers.models import TINY_MEMMC
from helpers.tables import prediction_table

from anomalib_memmc.benchmark import cluster, command, job, process
from anomalib_memmc.benchmark.config import load
from anomalib_memmc.benchmark.predictions import Predictions
from anomalib_memmc.cli import main

PHANTOM = {"image_size": 32, "num_train": 4, "num_test_normal": 2, "num_test_anomalous": 2, "num_val_normal": 1}
SCORER = {
    "class_path": "anomalib_memmc.scoring.ReconstructionScorer",
    "init_args": {"error_map": {"class_path": "anomalib_memmc.scoring.SquaredErrorMap"}, "num_masks": 1},
}
BENCHMARK = {
    "output": "out",
    "seeds": [0, 1],
    "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "max_epochs": 1},
    "data": {"class_path": "Phantom", "init_args": {**PHANTOM, "num_workers": 0}},
    "models": {"B": {"class_path": "anomalib_memmc.MemMCMAE", "init_args": {**TINY_MEMMC, "scorer": SCORER}}},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A temporary working directory with ``benchmark.yaml``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # restored at the end; seed_everything changes it
    Path("benchmark.yaml").write_text(yaml.safe_dump(BENCHMARK))
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    """Run jobs in this process, which saves importing anomalib for each; the list of the folders that ran."""
    folders = []

    def start(folder, environment, log):
        folders.append(folder.name)
        log.write_text("a line of the log\n")
        job.main(folder)
        return 0

    monkeypatch.setattr(process, "start", start)
    return folders


def run(*arguments):
    return main(["benchmark", "--config", "benchmark.yaml", *arguments])


def rows():
    with Path("out/results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_list_prints_the_names_alone(folder, started, capsys):
    assert run("--list") == 0
    assert capsys.readouterr().out.splitlines() == ["B-seed0", "B-seed1"]
    assert not started
    assert not Path("out").exists()


def test_job_runs_that_one_and_the_next_call_takes_its_row(folder, started, capsys):
    assert run("--job", "B-seed1") == 0
    assert run("--job", "B-seed1") == 0
    assert started == ["B-seed1"]
    assert "finished before" in capsys.readouterr().out
    assert not Path("out/results.csv").exists()
    assert run() == 0
    assert started == ["B-seed1", "B-seed0"]
    assert sorted((row["seed"], row["status"]) for row in rows()) == [("0", "ok"), ("1", "ok")]
    assert sorted(Predictions(Path("out")).table["job"].unique()) == ["B-seed0", "B-seed1"]
    assert re.search(r"^\| B +\| 2 +\|", capsys.readouterr().out, re.MULTILINE)


def test_a_row_of_another_configuration_is_not_taken(folder, started):
    assert run("--seeds", "[0]", "--job", "B-seed0") == 0
    assert run("--seeds", "[0]", "--models.B.init_args.memory_slots", "3") == 0
    assert started == ["B-seed0", "B-seed0"]


def test_predictions_are_those_of_the_row_that_a_job_left(folder, started):
    """Also where the benchmark has others under its name, of another configuration."""
    more = ("--models.B.init_args.encoder_depth", "1")
    assert run("--seeds", "[0]") == 0
    before = Predictions(Path("out")).of("B-seed0")["score"]
    assert run("--seeds", "[0]", *more, "--job", "B-seed0") == 0
    assert run("--seeds", "[0]", *more) == 0
    assert started == ["B-seed0", "B-seed0"]
    assert not Predictions(Path("out")).of("B-seed0")["score"].equals(before)


def test_jobs_at_once_leave_whole_rows_and_predictions(folder, monkeypatch):
    """Eight tasks of an array on one folder, which all end at the same time; then the table."""
    together = threading.Barrier(8)
    table = prediction_table().assign(image_path=[f"{index}.png" for index in range(70)])

    def start(folder, environment, log):
        log.write_text("")
        table.to_csv(folder / "predictions.csv", index=False)
        (folder / "result.json").write_text(json.dumps({"image_AUROC": 0.5}))
        together.wait(timeout=60)
        return 0

    def parse_in_turn(*arguments, parse=command.parse):
        with in_turn:
            return parse(*arguments)

    in_turn = threading.Lock()  # tasks are processes; in threads jsonargparse gets in its own way
    monkeypatch.setattr(command, "parse", parse_in_turn)
    monkeypatch.setattr(process, "start", start)
    names = [f"B-seed{seed}" for seed in range(8)]
    every = ("--seeds", "[0,1,2,3,4,5,6,7]")
    with ThreadPoolExecutor(8) as tasks:
        assert set(tasks.map(lambda name: run(*every, "--job", name), names)) == {0}
    monkeypatch.setattr(process, "start", None)  # nothing is left to run
    assert run(*every) == 0
    assert [(row["seed"], row["status"]) for row in rows()] == [(str(seed), "ok") for seed in range(8)]
    assert Predictions(Path("out")).table["job"].value_counts().to_dict() == dict.fromkeys(names, 70)


def test_failed_job_says_why(folder, monkeypatch, capsys):
    monkeypatch.setattr(process, "start", lambda folder, environment, log: log.write_text("last words\n") and 137)
    assert run("--job", "B-seed0") == 1
    assert "exit code 137" in capsys.readouterr().err
    assert json.loads(Path("out/B-seed0/row.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--job", "B-seed2"], "no job 'B-seed2'"), (["--job", "B-seed0", "--models.B.init_args.no", "1"], "model B")],
)
def test_mistakes_are_one_message(folder, started, capsys, arguments, message):
    assert run(*arguments) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not started


def test_ray_that_is_missing_names_the_extra(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run("--ray", "auto") == 1
    assert "pip install 'anomalib-memmc[cluster]'" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("trainer", "workers", "node", "expected"),
    [
        ({"accelerator": "cpu"}, 0, {"CPU": 8, "GPU": 2}, (1, 0)),
        ({"accelerator": "auto"}, 4, {"CPU": 8, "GPU": 0}, (5, 0)),
        ({"accelerator": "auto"}, 4, {"CPU": 8, "GPU": 2}, (5, 1)),
        ({"accelerator": "gpu", "devices": 2}, 16, {"CPU": 8, "GPU": 2}, (8, 2)),
        ({"accelerator": "cuda", "devices": [0, 1]}, 0, {"CPU": 8, "GPU": 2}, (1, 2)),
    ],
)
def test_what_a_job_takes(folder, trainer, workers, node, expected):
    config = {**BENCHMARK, "trainer": trainer}
    config["data"] = {"class_path": "Phantom", "init_args": {**PHANTOM, "num_workers": workers}}
    Path("benchmark.yaml").write_text(yaml.safe_dump(config))
    assert cluster.resources(load("benchmark.yaml").jobs[0], node) == expected


def test_gpus_that_no_machine_has(folder):
    Path("benchmark.yaml").write_text(yaml.safe_dump({**BENCHMARK, "trainer": {"accelerator": "gpu", "devices": 4}}))
    with pytest.raises(ValueError, match=r"B-seed0 asks for 4 GPU\(s\)"):
        cluster.resources(load("benchmark.yaml").jobs[0], {"CPU": 8, "GPU": 2})


@pytest.fixture
def ray():
    return pytest.importorskip("ray", reason="Ray is not installed (extra cluster)")


def test_a_lost_process_is_started_again_and_what_it_sends_is_written(folder, ray, monkeypatch, capsys):
    elsewhere = folder / "another-machine"
    elsewhere.mkdir()
    table = prediction_table().assign(image_path=[f"{index}.png" for index in range(70)]).to_csv(index=False)
    (job,) = load("benchmark.yaml", ["seeds=[0]"]).jobs
    row = {"model": "B", "seed": "0", "status": "ok", "config_hash": job.config_hash, "folder": str(job.folder)}

    def work(fields, weights, directory):  # it imports nothing of the package, which would take its time
        attempt = elsewhere / "attempt"
        if not attempt.exists():
            attempt.touch()
            os._exit(1)
        files = {"predictions.csv": table.encode(), "log.txt": b"a line of the log"}
        return {**row, "image_AUROC": "0.5"}, files, 1.0

    monkeypatch.setattr(cluster, "_work", work)
    assert run("--ray", "local", "--seeds", "[0]") == 0
    assert (elsewhere / "attempt").exists()
    assert "[1/1] B, seed 0: ok after 1 s" in capsys.readouterr().out
    assert [(found["seed"], found["image_AUROC"]) for found in rows()] == [("0", "0.5")]
    assert len(Predictions(Path("out")).of("B-seed0")) == 70
    assert Path("out/B-seed0/log.txt").read_text() == "a line of the log"


@pytest.mark.slow
def test_a_real_job_on_a_cluster_of_this_machine(folder, ray, capsys):
    assert run("--ray", "local", "--seeds", "[0]") == 0
    (row,) = rows()
    assert (row["model"], row["seed"], row["status"]) == ("B", "0", "ok")
    assert float(row["image_AUROC"]) >= 0
    assert Predictions(Path("out")).table["job"].unique().tolist() == ["B-seed0"]
    assert run("--seeds", "[0]") == 0  # without the cluster: the rows are the same, and nothing runs again
    assert rows() == [row]
    assert "1 of 1 jobs finished before" in capsys.readouterr().out


def test_no_cluster_is_one_message(folder, ray, capsys):
    assert run("--ray", "127.0.0.1:1") == 1
    assert "There is no Ray cluster at '127.0.0.1:1'" in capsys.readouterr().err
