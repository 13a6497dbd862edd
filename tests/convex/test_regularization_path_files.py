"""Files, plots and the command line of λ paths."""

import json

import pytest
from command_line import files_in, one_line
from small_paths import NUMBERS, SIGNS, problem

import convexsnn
from convexsnn.convex.regularization_path import path
from convexsnn.errors import ProblemFileError, SolverFailed
from convexsnn.report.plots import _path_figure, plot_path


def test_a_folder_holds_the_plot_data_and_the_chosen_solution(tmp_path):
    found = path(problem(), count=4, validation=0.25)
    found.save(tmp_path / "out")
    told = json.loads((tmp_path / "out" / "path.json").read_text())
    assert told == json.loads(json.dumps(found.summary()))
    assert convexsnn.verify_folder(tmp_path / "out")[0] == found.result.claim
    with pytest.raises(ProblemFileError, match="out: .*: exists"):
        found.save(tmp_path / "out")
    path(problem(), count=2).save(tmp_path / "out", force=True)
    assert files_in(tmp_path / "out") == ["manifest.json", "path.json"]
    found.save(tmp_path / "out", force=True)  # a folder with plot data alone is ours too
    assert "certificate.json" in files_in(tmp_path / "out") and files_in(tmp_path) == ["out"]


@pytest.mark.parametrize(("loss", "targets", "panels"), [("squared", NUMBERS, 2), ("hinge", SIGNS, 3)])
def test_a_plot_shows_the_rows(loss, targets, panels):
    found = path(problem(loss, targets=targets), count=4, validation=0.25)
    axes = _path_figure(found.summary()).axes
    assert len(axes) == panels
    shown = [line for axis in axes for line in axis.lines if len(line.get_xdata()) == 4]
    names = ["train_loss", "validation_loss", "train_accuracy", "validation_accuracy", "units"]
    names = names if panels == 3 else [name for name in names if "accuracy" not in name]
    for line, name in zip(shown, names, strict=True):
        assert line.get_xdata().tolist() == [row.fraction for row in found.rows]
        assert line.get_ydata().tolist() == [getattr(row, name) for row in found.rows]
    dashed = [line.get_xdata()[0] for axis in axes for line in axis.lines if line.get_linestyle() == "--"]
    assert dashed == [found.rows[found.chosen].fraction] * panels


def test_path_on_the_command_line(cli, tmp_path):
    status, out, err = cli("path", "exact-xor", "--count", 3)
    assert (status, err) == (0, "") and files_in(tmp_path) == []
    lines = out.splitlines()
    assert lines[0].startswith("exact-xor: 3 of 3 values of λ, from λ_max = ") and len(lines) == 5
    assert "held out" not in out and lines[2].split()[1:3] == ["1.0000", "0"]


def test_everything_on_the_command_line(cli, tmp_path):
    (tmp_path / "given").mkdir()
    problem().save(tmp_path / "given")
    arguments = ["path", "given/problem.toml", "--count", 3, "--smallest", 0.1, "--validation", 0.2]
    arguments += ["--seed", 1]
    files = ["--out", "out", "--plot", "plot.png"]
    status, out, err = cli(*arguments, *files, "--json")
    told = json.loads(out)
    assert (status, err) == (0, "") and out.count("\n") == 1
    assert (told["out"], told["plot"], told["status"]) == ("out", "plot.png", "finished")
    assert (told["samples"], told["held_out"], told["seed"]) == (32, 8, 1) and len(told["rows"]) == 3
    assert told["result"]["verified"] and told["result"]["expected"] is None
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert files_in(tmp_path) == ["given", "out", "plot.png"]
    assert cli("verify", "out")[0] == 0
    for missing in (["--out", "out"], ["--plot", "plot.png"]):
        status, out, err = cli(*arguments, *missing)
        assert (status, out) == (2, "") and "exists" in one_line(err)
    status, out, _ = cli(*arguments, *files, "--force")
    assert status == 0 and "* chosen by accuracy" in out and "convexsnn verify out" in out


def no_work(*_, **__):
    raise AssertionError("solved although the answer has nowhere to go")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["xor", "--plot", "plot.txt"], "plot: plot.txt: expected a name that ends in .png, .svg, .pdf"),
        (["xor", "--plot", "no/plot.png"], "plot: no/plot.png: no such folder no"),
        (["xor", "--out", "no/such"], "out: no/such: no such folder "),
        (["xorr"], "xorr: no such problem; did you mean 'xor'?"),
    ],
)
def test_mistakes_are_named_before_any_work(cli, monkeypatch, tmp_path, arguments, told):
    monkeypatch.setattr("convexsnn.convex.regularization_path.path", no_work)
    status, out, err = cli("path", *arguments)
    assert (status, out) == (2, "") and one_line(err).startswith(told) and files_in(tmp_path) == []


def test_without_matplotlib_a_plot_names_the_extra(cli, monkeypatch):
    monkeypatch.setattr("convexsnn.convex.regularization_path.path", no_work)
    monkeypatch.setattr("convexsnn.report.plots.find_spec", lambda name: None)
    status, out, err = cli("path", "xor", "--plot", "plot.png")
    assert (status, out) == (2, "")
    assert one_line(err) == "plot: needs matplotlib; pip install 'convexsnn[notebook]'"


def test_a_plot_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    found = path(problem(), count=2).summary()
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ProblemFileError, match="plot: .*: No space left on device"):
        plot_path(found, tmp_path / "plot.png")
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--count", 1], "count: expected a whole number >= 2, got 1"),
        (["--smallest", 2], "smallest: expected a fraction of λ_max between 0 and 1, got 2.0"),
        (["--validation", 1], "validation: expected a share of the samples in [0, 1), got 1.0"),
    ],
)
def test_wrong_numbers_on_the_command_line(cli, options, told):
    status, out, err = cli("path", "xor", *options, "--json")
    assert (status, out) == (2, "") and one_line(err) == told


def test_a_failure_is_a_failed_object(cli, monkeypatch):
    def fail(*_, **__):
        raise SolverFailed("highs: gave up")

    monkeypatch.setattr("convexsnn.convex.regularization_path.path", fail)
    status, out, err = cli("path", "xor", "--json")
    assert (status, one_line(err)) == (1, "highs: gave up")
    assert json.loads(out) == {"problem": "xor", "status": "failed", "reason": "highs: gave up"}
