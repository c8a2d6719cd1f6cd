"""Scoring on a cluster of two machines, one of which is lost half-way."""

import os
import secrets
import subprocess
import sys
from types import SimpleNamespace

import pyarrow as pa
import pytest

from anomalib_memmc import cli
from anomalib_memmc.archive.cluster import Worker, _blocks, last_error, score_on_cluster
from anomalib_memmc.archive.run import score_here
from anomalib_memmc.archive.verdict import Judge
from anomalib_memmc.checksum import digest
from anomalib_memmc.detection.detector import Detector
from anomalib_memmc.detection.inputs import find_images
from anomalib_memmc.detection.paths import Paths

SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


@pytest.fixture
def cluster(monkeypatch):
    """A head that computes nothing and two machines of one processor, as processes of this one."""
    pytest.importorskip("ray", reason="Ray is not installed (extra cluster)")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes one into the user's home
    monkeypatch.setenv("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": SOON})
    cluster.machines = [cluster.add_node(num_cpus=1) for _ in range(2)]
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
def test_a_lost_machine_costs_no_row_and_doubles_none(trained, cluster):
    paths = find_images([trained.folder]).paths
    detector = Detector(trained.checkpoint, "cpu")
    rate = 0.1
    arrived = []
    for rows in score_on_cluster(cluster.address, trained.checkpoint.read_bytes(), rate, paths, 2, maps=True):
        arrived.append(rows)
        if len(arrived) == 5:
            cluster.remove_node(cluster.machines[0], allow_graceful=False)
    assert len(arrived) > 10  # work was left when the machine was lost
    here = score_here(detector, Judge(detector.normals, rate), paths, "", 2, workers=0, maps=True)
    expected, found = (pa.concat_tables(tables).to_pandas().sort_values("path") for tables in (here, arrived))
    assert found["path"].tolist() == expected["path"].tolist()
    for column in ("score", "spread", "percentile", "p_value", "label"):
        assert found[column].to_numpy() == pytest.approx(expected[column].to_numpy(), abs=1e-6), column
    assert found["map"].tolist() == expected["map"].tolist()


@pytest.mark.skipif("ray" in sys.modules, reason="Ray is loaded")
def test_without_ray_one_message_says_what_to_install(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    arguments = ["score", str(trained.folder), "--checkpoint", str(trained.checkpoint), "--output", str(tmp_path / "o")]
    assert cli.main([*arguments, "--ray", "auto"]) == 1
    assert "pip install 'anomalib-memmc[cluster]'" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_blocks_and_workers_give_the_rows_of_this_machine(trained, tmp_path, monkeypatch):
    """What the cluster runs, without one: the paths on their way, and what a worker makes of them."""
    monkeypatch.setattr("anomalib_memmc.archive.cluster.require_ray", lambda: SimpleNamespace(get=lambda value: value))
    paths = Paths([*find_images([trained.folder / "anomalous"]).paths, str(tmp_path / os.fsdecode(b"gr\xfcn.png"))])
    blocks = _blocks(paths, 4)
    assert [len(block) for block in blocks] == [4, 4, 3]
    worker = Worker(trained.checkpoint.read_bytes(), 0.1, maps=True)
    detector = Detector(trained.checkpoint, "cpu")
    here = score_here(detector, Judge(detector.normals, 0.1), paths, worker.versions, 4, workers=0, maps=True)
    for block, expected in zip(blocks, here, strict=True):
        columns = [name for name in expected.column_names if name != "seconds"]
        assert worker(block).select(columns).equals(expected.select(columns))
    assert digest(trained.checkpoint)[:12] in worker.versions


def test_many_paths_are_not_many_more_than_a_thousand_blocks():
    blocks = _blocks(Paths(map(str, range(9999))), 2)
    assert sum(map(len, blocks)) == 9999
    assert len(blocks) <= 1000
    assert {len(block) % 2 for block in blocks[:-1]} == {0}


def test_a_finished_table_needs_no_cluster(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("anomalib_memmc.archive.score.require_ray", lambda: None)
    arguments = ["score", str(trained.folder / "normal"), "--checkpoint", str(trained.checkpoint)]
    arguments += ["--output", str(tmp_path), "--workers", "0"]
    assert cli.main(arguments) == 0
    assert cli.main([*arguments, "--ray", "nowhere:1"]) == 0


def test_of_a_workers_traceback_the_message_is_left():
    text = "ray::f() (pid=1)\n  File x, line 1\nKeyError: 'a'\n\nThe above ...\nValueError: Cannot take it: bad.\nMore."
    assert last_error(text) == "ValueError: Cannot take it: bad.\nMore."
    assert last_error("no cluster there") == "no cluster there"


def test_the_package_does_not_load_ray():
    code = "import sys, anomalib_memmc.cli; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
