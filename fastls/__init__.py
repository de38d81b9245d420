"""Fast line search for multi-task learning: the companion of Filatov and Merkulov (2021), arXiv 2110.00874."""

from fastls.algorithms.adam_search import AdamFBLS
from fastls.algorithms.directions import DIRECTIONS, edm, mean, mgda, pcgrad
from fastls.algorithms.evaluation.checks import compare_with_backward
from fastls.algorithms.functional import LatentStep, latent_backward, latent_line_search
from fastls.algorithms.line_search import Backtracking, SearchResult, Slopes
from fastls.algorithms.merit_search import GoldenSection, Parabolic
from fastls.algorithms.multitask_optimizer import StepRecord
from fastls.algorithms.optimizers import BLS, FBLS, MGDAUB, SGD, EqualWeight
from fastls.algorithms.pareto import dominates, pareto_front, stationarity_gap
from fastls.models.multitask import MultiTaskModel

__version__ = "0.1.0"

__all__ = [
    "BLS",
    "DIRECTIONS",
    "FBLS",
    "MGDAUB",
    "SGD",
    "AdamFBLS",
    "Backtracking",
    "EqualWeight",
    "GoldenSection",
    "LatentStep",
    "MultiTaskModel",
    "Parabolic",
    "SearchResult",
    "Slopes",
    "StepRecord",
    "compare_with_backward",
    "dominates",
    "edm",
    "latent_backward",
    "latent_line_search",
    "mean",
    "mgda",
    "pareto_front",
    "pcgrad",
    "stationarity_gap",
]
