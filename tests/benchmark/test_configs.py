"""Every configuration of the repository names classes and arguments that exist."""

from pathlib import Path

import pytest
import yaml

from anomalib_memmc.benchmark.config import load, merge
from anomalib_memmc.benchmark.job import build, parse

CONFIGS = Path(__file__).parents[2] / "configs"
BENCHMARKS = sorted([CONFIGS / "benchmark.yaml", *CONFIGS.glob("benchmark/*.yaml"), *CONFIGS.glob("study/*.yaml")])
PRESETS = sorted([*(path for path in CONFIGS.glob("*.yaml") if path not in BENCHMARKS), *CONFIGS.glob("cpu/*.yaml")])
ABLATIONS = sorted(CONFIGS.glob("ablation/*.yaml"))


def sections(path):
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: config[name] for name in ("model", "data", "trainer") if name in config}


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_benchmarks_and_studies_parse(path):
    jobs = load(path).jobs
    assert jobs
    for job in {job.model: job for job in jobs}.values():
        parse(job.config)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: "-".join(path.with_suffix("").parts[-2:]))
def test_presets_parse(path):
    parse(sections(path))


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_ablations_parse_on_top_of_a_preset(path):
    parse(merge(sections(CONFIGS / "cpu" / "covidx.yaml"), sections(path)))


def test_training_on_frames_sees_the_shape_that_a_test_shows():
    _, datamodule, _ = build(sections(CONFIGS / "cpu" / "hyperkvasir.yaml"))
    squeeze, crop = datamodule.train_augmentations.transforms
    assert squeeze.size[0] == squeeze.size[1] > crop.size[0]
