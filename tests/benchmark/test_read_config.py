"""Includes and dotted keys of configuration files."""

from pathlib import Path

import pytest

from anomalib_memmc.benchmark.config import load, read_config

BASE = """
model: {class_path: a.A, init_args: {x: 1, part: {class_path: b.B, init_args: {y: 2, z: 3}}}}
trainer: {max_epochs: 5, precision: 32-true}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("shared/base.yaml", BASE)


def write(path, text):
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(text)


def test_include_is_relative_to_the_file_and_dotted_keys_change_single_values():
    write("cpu/a.yaml", "config: ../shared/base.yaml\nmodel.init_args.x: 7\nmodel.init_args.part.init_args.y: 8\n")
    arguments = {"x": 7, "part": {"class_path": "b.B", "init_args": {"y": 8, "z": 3}}}
    assert read_config("cpu/a.yaml") == {
        "model": {"class_path": "a.A", "init_args": arguments},
        "trainer": {"max_epochs": 5, "precision": "32-true"},
    }


def test_include_may_include_another():
    write("shared/middle.yaml", "config: base.yaml\ntrainer.max_epochs: 6\n")
    write("a.yaml", "config: shared/middle.yaml\ntrainer.precision: 16-mixed\ndata.class_path: d.D\n")
    config = read_config("a.yaml")
    assert config["trainer"] == {"max_epochs": 6, "precision": "16-mixed"}
    assert config["data"] == {"class_path": "d.D"}


def test_class_may_be_named_after_its_arguments():
    write("shared/data.yaml", "data: {init_args: {workers: 0}}\n")
    write("a.yaml", "config: shared/data.yaml\ndata.class_path: d.D\ndata.init_args.root: r\n")
    assert read_config("a.yaml") == {"data": {"class_path": "d.D", "init_args": {"workers": 0, "root": "r"}}}


def test_mapping_of_another_class_replaces():
    write("a.yaml", "config: shared/base.yaml\nmodel.init_args.part: {class_path: c.C}\n")
    assert read_config("a.yaml")["model"]["init_args"]["part"] == {"class_path": "c.C"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("config: shared/base.yaml\ntrainer: {max_epochs: 3}", r"a\.yaml: trainer would replace.*trainer\.max_epochs"),
        ("config: shared/base.yaml\nmodel: {class_path: a.A}", r"a\.yaml: model would replace"),
        ("config: shared/base.yaml\nmodel.class_path: c.C", r"a\.yaml: model\.class_path names another class"),
        ("config: shared/base.yaml\ntrainer.max_epochs.x: 3", r"a\.yaml: trainer\.max_epochs\.x: max_epochs is no map"),
        ("x: 1\nconfig: shared/base.yaml", r"a\.yaml: config must be the first key"),
        ("config: [shared/base.yaml]", r"a\.yaml: config must be the first key, and name one file"),
        ("config: a.yaml", r"a\.yaml includes itself"),
        ("- 1", r"a\.yaml must hold a mapping"),
        ("x: [1", r"(?s)a\.yaml is not valid YAML.*line"),
        ("x: 1\nx: 2", r"(?s)a\.yaml is not valid YAML.*duplicate key x"),
    ],
)
def test_mistakes_name_the_file_and_the_key(text, message):
    write("a.yaml", text)
    with pytest.raises(ValueError, match=message):
        read_config("a.yaml")


def test_missing_files_are_named_with_the_file_that_includes_them():
    write("a.yaml", "config: shared/nothing.yaml")
    with pytest.raises(FileNotFoundError, match=r"shared/nothing\.yaml does not exist \(a\.yaml includes it\)"):
        read_config("a.yaml")
    with pytest.raises(FileNotFoundError, match=r"missing\.yaml does not exist\."):
        read_config("missing.yaml")


def test_benchmark_includes_models_and_its_base_includes_too():
    write("cpu/preset.yaml", "config: ../shared/base.yaml\ntrainer.max_epochs: 6\n")
    write("shared/models.yaml", "models: {P: {class_path: p.P, init_args: {k: 1}}}\n")
    text = "config: ../shared/models.yaml\noutput: out\nseeds: [0]\nbase: ../cpu/preset.yaml\n"
    write("benchmark/b.yaml", text + "models.P.init_args.l: 2\nmodels.MAE+memory: {init_args: {x: 4}}\n")
    first, second = (job.config for job in load("benchmark/b.yaml", ["trainer.precision=64-true"]).jobs)
    assert first["model"] == {"class_path": "p.P", "init_args": {"k": 1, "l": 2}}
    assert second["model"]["init_args"]["x"] == 4
    assert second["trainer"] == {"max_epochs": 6, "precision": "64-true"}
