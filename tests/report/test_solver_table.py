"""The table of solvers: what a solver refuses has no entry, what it takes has its gap."""

import numpy as np
import pytest

from convexsnn.errors import UnsupportedError
from convexsnn.programs import LOSSES, PENALTIES, L1Program
from convexsnn.report.solver_table import solver_table
from convexsnn.solvers import SOLVERS
from convexsnn.solvers.registry import check


def cells():
    table = [[cell.strip(" `") for cell in row.split("|")[1:-1]] for row in solver_table().splitlines()]
    return {row[0]: dict(zip(table[0], row, strict=True)) for row in table[2:]}


def test_every_solver_has_a_row():
    assert list(cells()) == list(SOLVERS)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("loss", LOSSES)
def test_an_entry_is_there_if_and_only_if_the_solver_takes_the_program(name, loss):
    shown = {"l1": "ℓ1"}
    for penalty, kind in PENALTIES.items():
        targets = np.array([[1.0, 0.0]]) if loss == "softmax" else np.array([[1.0, -1.0]])
        program = L1Program(np.ones((1, 1)), targets, loss, 1.0, penalty=kind.for_columns(1))
        solver = object.__new__(SOLVERS[name])
        entry = f"{shown.get(penalty, penalty)} " in cells()[name][loss]
        try:
            check(solver, program)
        except UnsupportedError:
            assert not entry
        else:
            assert entry
