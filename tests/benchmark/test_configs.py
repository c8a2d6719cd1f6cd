"""Every configuration of the repository names classes and arguments that exist, and the presets keep their values."""

from pathlib import Path

import pytest
import yaml

from anomalib_memmc import cli
from anomalib_memmc.benchmark.config import load, merge, read_config
from anomalib_memmc.benchmark.job import build, parse

REPO = Path(__file__).parents[2]
CONFIGS = REPO / "configs"
BENCHMARKS = sorted([CONFIGS / "benchmark.yaml", *CONFIGS.glob("benchmark/*.yaml")])
STUDIES = sorted(CONFIGS.glob("study/*.yaml"))
PRESETS = sorted([*(path for path in CONFIGS.glob("*.yaml") if path not in BENCHMARKS), *CONFIGS.glob("cpu/*.yaml")])
ABLATIONS = sorted(CONFIGS.glob("ablation/*.yaml"))
FROZEN = yaml.safe_load((REPO / "tests" / "reference" / "presets.yaml").read_text(encoding="utf-8"))


def name(path):
    return path.relative_to(CONFIGS).as_posix()


@pytest.fixture
def in_repository(monkeypatch):
    """Class paths of ``experiments`` can be imported, as in the repository's folder."""
    monkeypatch.syspath_prepend(REPO)


@pytest.mark.parametrize("path", BENCHMARKS + STUDIES, ids=name)
def test_benchmarks_and_studies_parse(path, in_repository):
    jobs = load(path).jobs
    assert jobs
    for job in {job.model: job for job in jobs}.values():
        parse(job.config)


@pytest.mark.parametrize("path", STUDIES, ids=name)
def test_every_model_of_a_study_is_of_the_size_of_its_base(path, in_repository):
    """Also one whose class is derived from the base's; without the base's arguments it would be the paper's."""
    size = read_config(path.parent / read_config(path)["base"])["model"]["init_args"]["encoder_dim"]
    assert {job.config["model"]["init_args"].get("encoder_dim") for job in load(path).jobs} == {size}


@pytest.mark.parametrize("path", PRESETS, ids=name)
def test_presets_parse_and_the_command_line_reads_them_as_we_do(path, tmp_path, monkeypatch):
    parser, ours = parse(read_config(path))
    parser.add_argument("--config", action="config")
    monkeypatch.chdir(tmp_path)  # includes are relative to the file, not to the current folder
    theirs = parser.parse_args(["--config", str(path)])
    theirs.pop("config")
    assert theirs == ours


@pytest.mark.parametrize("path", ABLATIONS, ids=name)
def test_ablations_parse_on_top_of_a_preset(path):
    parse(merge(read_config(CONFIGS / "cpu" / "covidx.yaml"), read_config(path)))


def test_command_line_puts_an_ablation_and_options_on_top_of_a_preset(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = ["--config", str(CONFIGS / "covidx.yaml"), "--config", str(CONFIGS / "ablation" / "mae.yaml")]
    options = ["--model.init_args.scorer.init_args.num_masks", "4", "--data.init_args.root", "DIR"]
    with pytest.raises(SystemExit) as exit_:
        cli.main(["fit", "--model", "anomalib_memmc.MemMCMAE", *files, *options, "--print_config"])
    assert exit_.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert (model["memory_slots"], model["multi_level"], model["encoder_dim"]) == (0, False, 768)
    scorer = model["scorer"]["init_args"]
    assert (scorer["num_masks"], scorer["mask_sampler"]) == (4, "random")
    assert (data["root"], data["train_batch_size"]) == ("DIR", 64)
    assert (config["trainer"]["max_epochs"], config["trainer"]["precision"]) == (2000, "bf16-mixed")


@pytest.mark.parametrize("path", PRESETS, ids=name)
def test_presets_are_those_that_were_measured(path):
    assert read_config(path) == FROZEN["presets"][name(path)]


@pytest.mark.parametrize("path", BENCHMARKS, ids=name)
def test_baselines_are_those_that_were_measured(path):
    arguments = {job.model: job.config["model"]["init_args"] for job in load(path).jobs}
    for model, measured in FROZEN["baselines"][name(path)].items():
        assert arguments[model] == measured


@pytest.mark.parametrize("path", BENCHMARKS, ids=name)
def test_baselines_train_on_plain_images_for_one_epoch(path):
    for job in load(path).jobs:
        if job.model.startswith(("PaDiM", "PatchCore")):
            assert job.config["data"]["init_args"]["train_augmentations"] is None
            assert job.config["trainer"]["check_val_every_n_epoch"] == 1


@pytest.mark.parametrize("path", [path for path in BENCHMARKS if path.parent != CONFIGS], ids=name)
def test_benchmarks_on_real_images_compare_the_preset_and_its_ablations(path):
    preset = read_config(path.parent / yaml.safe_load(path.read_text(encoding="utf-8"))["base"])
    configs = {job.model: job.config for job in load(path).jobs}
    preset["data"]["init_args"] |= configs["MemMC-MAE"]["data"]["init_args"]  # the part of the image that is judged
    assert configs["MemMC-MAE"] == preset
    assert configs["MAE"] == merge(preset, read_config(CONFIGS / "ablation" / "mae.yaml"))


def test_training_on_frames_sees_the_shape_that_a_test_shows():
    _, datamodule, _ = build(read_config(CONFIGS / "cpu" / "hyperkvasir.yaml"))
    squeeze, crop, *_ = datamodule.train_augmentations.transforms
    assert squeeze.size[0] == squeeze.size[1] > crop.size[0]
