"""What ``anomalib-memmc presets`` prints."""

import pytest
import yaml

from anomalib_memmc import cli
from anomalib_memmc.benchmark.config import load, read_config
from anomalib_memmc.presets import preset_names, preset_path

BENCHMARKS = [name for name in preset_names() if "models" in read_config(preset_path(name))]
OTHERS = [name for name in preset_names() if name not in BENCHMARKS]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def printed(name, capsys):
    assert cli.main(["presets", name]) == 0
    return capsys.readouterr().out


def test_list_has_a_line_for_each_that_fits_a_terminal(capsys):
    assert cli.main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == preset_names()
    assert all(20 < len(line) <= 100 and line.endswith(".") for line in lines)


@pytest.mark.parametrize("name", OTHERS)
def test_a_printed_preset_needs_no_other_file(name, tmp_path, capsys):
    text = printed(name, capsys)
    (tmp_path / "my.yaml").write_text(text)
    assert "config" not in yaml.safe_load(text)
    assert read_config("my.yaml") == read_config(preset_path(name))
    original = preset_path(name).read_text(encoding="utf-8").splitlines()
    assert text.splitlines()[1:4] == original[:3]  # its comment, below a line that says where it is from


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_printed_benchmark_has_the_same_jobs(name, tmp_path, capsys):
    (tmp_path / "my.yaml").write_text(printed(name, capsys))
    jobs, originals = (load(path).jobs for path in ("my.yaml", preset_path(name)))
    assert [job.config_hash for job in jobs] == [job.config_hash for job in originals]
    assert [job.folder for job in jobs] == [job.folder for job in originals]


def test_comments_within_a_preset_that_includes_none_are_kept(capsys):
    assert "# a phantom's lesion is small" in printed("quickstart", capsys)


@pytest.mark.parametrize("command", [["presets", "quickstrat"], ["train", "--config", "quickstrat"]])
def test_a_misspelt_name_is_one_message(command, capsys):
    assert cli.main(command) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: There is no")
    assert "(nearest preset: quickstart)" in last


@pytest.mark.parametrize("command", ["benchmark", "memory"])
def test_commands_of_the_plugin_find_presets(command, monkeypatch):
    seen = []
    monkeypatch.setitem(cli.COMMANDS, command, lambda argv: seen.append(argv) or 0)
    assert cli.main([command, "--config", "cpu/covidx", "--json"]) == 0
    assert seen == [["--config", str(preset_path("cpu/covidx")), "--json"]]


def test_commands_of_anomalib_find_presets_and_what_they_include(capsys):
    with pytest.raises(SystemExit):
        cli.main(["fit", "--config", "covidx", "--config", "ablation/mae", "--print_config"])
    model = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    assert (model["memory_slots"], model["encoder_dim"]) == (0, 768)
