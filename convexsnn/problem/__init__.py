"""Problems: data, network, dictionary and training, from a file or from arrays."""

from convexsnn.problem.data import DATA_NAMES, Data
from convexsnn.problem.problem import Problem
from convexsnn.problem.read import library, load_problem, load_saved_problem, problem_path
from convexsnn.problem.specs import AdmmSpec, DictionarySpec, GradientSpec, SolverSpec, TrainingSpec

__all__ = [
    "DATA_NAMES",
    "AdmmSpec",
    "Data",
    "DictionarySpec",
    "GradientSpec",
    "Problem",
    "SolverSpec",
    "TrainingSpec",
    "library",
    "load_problem",
    "load_saved_problem",
    "problem_path",
]
