"""Anomaly scores: components that a model is given, one idea a file."""

from anomalib_memmc.gathering import gather
from anomalib_memmc.scoring.base import Scorer, Scores
from anomalib_memmc.scoring.error_maps import ErrorMap, MSSSIMMap, SquaredErrorMap, StructureMap
from anomalib_memmc.scoring.feature_errors import FeatureErrorScorer
from anomalib_memmc.scoring.features import FeatureScorer
from anomalib_memmc.scoring.fusion import FusedScorer
from anomalib_memmc.scoring.mahalanobis import MahalanobisScorer
from anomalib_memmc.scoring.masked import MaskedScorer
from anomalib_memmc.scoring.places import PlaceScorer
from anomalib_memmc.scoring.reconstruction import ReconstructionScorer
from anomalib_memmc.scoring.tokens import TokenScorer

__all__ = [
    "ErrorMap",
    "FeatureErrorScorer",
    "FeatureScorer",
    "FusedScorer",
    "MSSSIMMap",
    "MahalanobisScorer",
    "MaskedScorer",
    "PlaceScorer",
    "ReconstructionScorer",
    "Scorer",
    "Scores",
    "SquaredErrorMap",
    "StructureMap",
    "TokenScorer",
    "gather",
]
