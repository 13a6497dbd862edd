"""MPS and LP files: other solvers read the same optimum back; a file appears whole or not at all."""

import re
import shutil
import subprocess

import highspy
import pytest
from read_back import read_back
from small_programs import make_program, solve_cone

from convexsnn.errors import ProblemFileError, SolverFailed
from convexsnn.programs.mps import ENDINGS

QUADRATIC = ["hinge", "squared", "squared_hinge"]


@pytest.mark.parametrize("ending", [".mps", ".lp"])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", QUADRATIC)
def test_highs_reads_the_same_optimum(loss, weighted, outputs, ending, tmp_path):
    program = make_program(loss, outputs=outputs, weighted=weighted)
    program.to_mps(tmp_path / f"program{ending}")
    optimum = solve_cone(program.to_cone())[2]
    # HiGHS's QP solver is good to about 1e-5; its LP solver to rounding
    assert read_back(tmp_path / f"program{ending}") == pytest.approx(
        optimum, rel=1e-7 if loss == "hinge" else 1e-4
    )


READERS = {  # another solver's command line, and where it says the optimum
    "glpsol .mps": ("glpsol", ["--freemps", "{file}", "-o", "{out}"], r"Objective:\s+\S+ = (\S+)", ".mps"),
    "glpsol .lp": ("glpsol", ["--lp", "{file}", "-o", "{out}"], r"Objective:\s+\S+ = (\S+)", ".lp"),
    "cbc .mps": ("cbc", ["{file}", "solve", "solution", "{out}"], r"objective value\s+(\S+)", ".mps"),
    "cbc .lp": ("cbc", ["{file}", "solve", "solution", "{out}"], r"objective value\s+(\S+)", ".lp"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("outputs", [1, 2])
def test_other_solvers_read_the_same_optimum(reader, outputs, tmp_path):
    command, arguments, said, ending = READERS[reader]
    if shutil.which(command) is None:
        pytest.skip(f"{command} is not installed")
    program = make_program("hinge", outputs=outputs, weighted=True)
    file, out = tmp_path / f"program{ending}", tmp_path / "solution.txt"
    program.to_mps(file)
    subprocess.run(
        [command, *(a.format(file=file, out=out) for a in arguments)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    optimum = float(re.search(said, out.read_text())[1])
    assert optimum == pytest.approx(solve_cone(program.to_cone())[2], rel=1e-6)


def test_columns_and_rows_are_named_after_what_they_are(tmp_path):
    program = make_program("hinge")
    program.to_mps(tmp_path / "program.mps")
    words = set((tmp_path / "program.mps").read_text().split())
    columns, rows = program.shape[0], program.dictionary.rows
    wanted = {f"{kind}{j}" for kind in "pm" for j in range(columns)}
    wanted |= {f"{kind}{i}" for kind in ("s", "loss") for i in range(rows)}
    assert wanted <= words


def test_a_path_may_be_text_and_an_old_file_is_replaced(tmp_path):
    path = tmp_path / "program.lp"
    path.write_text("old")
    make_program("hinge").to_mps(str(path))
    assert "old" not in path.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["program.lp"]


@pytest.mark.parametrize(
    "name", ["program", "program.txt", "program.MPS", "program.mps.gz", "program.gz", "mps"]
)
def test_another_ending_is_refused(name, tmp_path):
    with pytest.raises(ProblemFileError, match=f"{name}: expected a name that ends in") as caught:
        make_program("hinge").to_mps(tmp_path / name)
    assert all(ending in str(caught.value) for ending in ENDINGS)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ProblemFileError, match="program.mps: no such folder .*absent"):
        make_program("hinge").to_mps(tmp_path / "absent" / "program.mps")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ProblemFileError, match="no such folder"):
        make_program("hinge").to_mps(tmp_path / "file" / "program.mps")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_in_the_way_stays(tmp_path):
    (tmp_path / "program.mps").mkdir()
    with pytest.raises(ProblemFileError, match="program.mps"):
        make_program("hinge").to_mps(tmp_path / "program.mps")
    assert [p.name for p in tmp_path.iterdir()] == ["program.mps"]
    assert list((tmp_path / "program.mps").iterdir()) == []


@pytest.mark.parametrize("half_written", [False, True])
def test_a_failed_write_leaves_nothing_behind(half_written, tmp_path, monkeypatch):
    def fails(solver, path):
        if half_written:
            with open(path, "w") as file:
                file.write("NAME")
        return highspy.HighsStatus.kError

    monkeypatch.setattr(highspy.Highs, "writeModel", fails)
    (tmp_path / "old.mps").write_text("old")
    for name in ("new.mps", "old.mps"):
        with pytest.raises(SolverFailed, match=f"{name}: HiGHS could not write"):
            make_program("hinge").to_mps(tmp_path / name)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("old.mps", "old")]


def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ProblemFileError, match="program.mps: No space left"):
        make_program("hinge").to_mps(tmp_path / "program.mps")
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_highs_takes_for_infinite_are_refused(tmp_path):
    program = make_program("squared", targets=[1e25] * 13)  # HiGHS: infinite from 1e20 on
    with pytest.raises((SolverFailed, ProblemFileError)):
        program.to_mps(tmp_path / "program.mps")
    assert list(tmp_path.iterdir()) == []
