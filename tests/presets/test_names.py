"""Presets are found by name, files come first, and a misspelt name gets the nearest ones."""

import pytest

from anomalib_memmc.presets import find_config, preset_names, preset_path
from anomalib_memmc.presets.arguments import with_preset_files


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_names_are_those_of_the_files_without_blocks_and_studies():
    names = preset_names()
    assert {"quickstart", "cpu/folder", "benchmark/kermany", "ablation/mae"} <= set(names)
    assert not [name for name in names if name.startswith(("shared/", "study/"))]
    assert all(preset_path(name).is_file() for name in names)


def test_a_file_comes_before_a_preset_of_the_same_name(tmp_path):
    assert find_config("quickstart") == preset_path("quickstart")
    (tmp_path / "quickstart").write_text("model: MemMCMAE")
    assert find_config("quickstart").resolve() == tmp_path / "quickstart"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "quickstrat",
            r"There is no file and no preset 'quickstrat' \(nearest preset: quickstart\)\. anomalib-memmc p",
        ),
        ("folder", r"nearest preset: cpu/folder"),
        ("zzz", r"There is no file and no preset 'zzz'\. anomalib-memmc presets lists them"),
        ("configs/quickstart.yaml", r"configs/quickstart\.yaml does not exist \(nearest preset: quickstart\)\."),
        ("missing.yaml", r"The configuration file missing\.yaml does not exist\."),
        ("../shared/cpu", r"no preset '\.\./shared/cpu'"),
    ],
)
def test_what_is_neither_is_named_with_the_nearest(given, message):
    with pytest.raises(FileNotFoundError, match=message):
        find_config(given)


def test_names_on_a_command_line_become_files():
    quickstart, mae = str(preset_path("quickstart")), str(preset_path("ablation/mae"))
    given = ["fit", "--config", "quickstart", "--config=ablation/mae", "-c", "quickstart", "--data.name", "quickstart"]
    expected = ["fit", "--config", quickstart, f"--config={mae}", "-c", quickstart, "--data.name", "quickstart"]
    assert with_preset_files(given) == expected


@pytest.mark.parametrize("rest", [["--config"], ["--config", "{trainer: {max_epochs: 1}}"], ["-c", "--help"]])
def test_what_is_no_name_is_left(rest):
    assert with_preset_files(["fit", *rest]) == ["fit", *rest]
