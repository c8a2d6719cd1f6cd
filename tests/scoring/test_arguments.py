"""Arguments of scorers, and how scorers describe and rebuild themselves."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

from anomalib_memmc.configurable import build as build_component
from anomalib_memmc.scoring import (
    MahalanobisScorer,
    MSSSIMMap,
    ReconstructionScorer,
    Scorer,
    Scores,
    SquaredErrorMap,
    StructureMap,
)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("mask_sampler", "grid"),
        ("num_masks", 0),
        ("reduction", "median"),
        ("blur_sigma", 8),
        ("blur_sigma", -1),
        ("chunk_size", 0),
        ("mask_ratio", 1.5),
    ],
)
def test_impossible_arguments(build, argument, value):
    with pytest.raises(ValueError, match=argument):
        build(scorer=ReconstructionScorer(**{argument: value}))


@pytest.mark.parametrize("cell_size", [5, 0])
def test_impossible_cells(build, cell_size):
    with pytest.raises(ValueError, match="cell_size"):
        build(scorer=MahalanobisScorer(cell_size=cell_size))


@pytest.mark.parametrize("scale", [0, 3])
def test_scales_are_those_of_the_image(build, scale):
    assert build(scorer=ReconstructionScorer(StructureMap(2))).scorer.error_map.scale == 2
    with pytest.raises(ValueError, match="scale of StructureMap must be between 1 and 2"):
        build(scorer=ReconstructionScorer(StructureMap(scale)))


def test_an_option_of_another_scorer_is_refused():
    with pytest.raises(TypeError, match="cell_size"):
        ReconstructionScorer(cell_size=4)
    with pytest.raises(TypeError, match="reduction"):
        MahalanobisScorer(reduction="max")
    with pytest.raises(TypeError, match="scale"):
        MSSSIMMap(scale=2)


def test_what_is_no_error_map_is_refused():
    with pytest.raises(TypeError, match="error_map must be an ErrorMap of"):
        ReconstructionScorer("ssim")


def test_configuration_is_plain_complete_and_rebuilds():
    scorer = MahalanobisScorer(StructureMap(scale=2), cell_size=4, num_masks=8)
    config = scorer.config()
    assert config == {
        "class_path": "anomalib_memmc.scoring.MahalanobisScorer",
        "init_args": {
            "error_map": {"class_path": "anomalib_memmc.scoring.StructureMap", "init_args": {"scale": 2}},
            "cell_size": 4,
            "relative": False,
            "num_masks": 8,
            "mask_sampler": "random",
            "mask_seed": 0,
            "mask_ratio": None,
            "chunk_size": None,
            "blur_sigma": 0.0,
        },
    }
    assert build_component(config, Scorer).config() == config
    paper = ReconstructionScorer().config()["init_args"]
    assert paper["error_map"] == {"class_path": "anomalib_memmc.scoring.MSSSIMMap", "init_args": {}}
    assert (paper["reduction"], paper["num_masks"]) == ("mean", 10)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda scorer: pickle.loads(pickle.dumps(scorer))])
def test_copies_know_their_arguments(duplicate):
    scorer = ReconstructionScorer(SquaredErrorMap(), num_masks=3)
    assert duplicate(scorer).config() == scorer.config()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"class_path": "nowhere.Scorer"}, "Cannot import 'nowhere.Scorer'"),
        ({"class_path": "anomalib_memmc.scoring.Nothing"}, "Cannot import"),
        ({}, "Cannot import ''"),
        ({"class_path": "anomalib_memmc.scoring.MSSSIMMap"}, "is not a Scorer"),
        ({"class_path": "anomalib_memmc.scoring.gather"}, "is not a Scorer"),
        ({"class_path": "anomalib_memmc.scoring.ReconstructionScorer", "init_args": {"masks": 3}}, "masks"),
        ({"class_path": "anomalib_memmc.scoring.PlaceScorer"}, "abstract"),
    ],
)
def test_a_configuration_that_cannot_be_built_says_why(config, message):
    with pytest.raises(ValueError, match=message):
        build_component(config, Scorer)


class Brightness(Scorer):
    """A score that needs no reconstruction, with an argument that no checkpoint could hold."""

    def __init__(self, weights: Tensor | float = 1.0) -> None:
        super().__init__()
        self.weights = weights

    def score(self, network, images):
        maps = images.mean(dim=1, keepdim=True) * self.weights
        return Scores(maps.mean(dim=(1, 2, 3)), maps)


def test_a_scorer_without_masks(build, images):
    model = build(scorer=Brightness(2.0))
    assert not model.scorer.learns
    assert model.scorer.is_fitted
    scores = model.score(images)
    torch.testing.assert_close(scores.pred_score, 2 * images.mean(dim=(1, 2, 3)))
    assert scores.score_std is None
    assert model.reconstruct(images).masks.shape == (3, 10, 24)


def test_arguments_that_are_not_plain_are_refused():
    with pytest.raises(TypeError, match="plain values only, and weights of Brightness is of type Tensor"):
        Brightness(torch.ones(1)).config()
