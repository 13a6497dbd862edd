"""Cases of a test that are in the default tests, and those that only `.ci/run` takes, marked slow."""

import pytest


def one_of(cases, every):
    """Return the cases, all but each `every`-th one marked slow; a case is a value or a tuple of values."""
    return [case if k % every == 0 else slow(case) for k, case in enumerate(cases)]


def slow(case):
    if isinstance(case, type(pytest.param())):  # has marks of its own
        return pytest.param(*case.values, marks=[*case.marks, pytest.mark.slow])
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
