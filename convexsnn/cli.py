"""The command line: list, inspect, solve, path, verify, gap, solvers, export, bench.

Exit status: 0 done, 1 a failure or a refused certificate, 2 wrong input, 130 interrupted, 143 terminated.
Each command imports its modules itself, so that --help is fast.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convexsnn.bench import command as benchmark
from convexsnn.terminal import Progress, ThreadsOption, keeping, run_and_exit

if TYPE_CHECKING:
    from convexsnn.training.result import TrainingResult

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Spiking neural networks by convex optimization, with certificates that can be checked again.",
)
app.add_typer(benchmark.app, name="bench")

ProblemArgument = Annotated[
    str, typer.Argument(metavar="PROBLEM", help="A problem file (.toml) or a name from `convexsnn list`.")
]
SolverOption = Annotated[
    str | None, typer.Option("--solver", help="Solver to use, as listed by `convexsnn solvers`.")
]
ToleranceOption = Annotated[float | None, typer.Option("--tolerance", help="Relative duality gap to reach.")]
TimeLimitOption = Annotated[
    float | None,
    typer.Option("--time-limit", help="Time limit of the solver in seconds; the best point is kept."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object only.")]


def _print_json(values: Any) -> None:
    print(json.dumps(values, allow_nan=False))


def _show(as_json: bool, values: Any, text: Callable[[], str]) -> None:
    """Print values as JSON, or the text."""
    if as_json:
        _print_json(values)
    else:
        print(text())


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the problems of the package's library."""
    import tomllib

    from convexsnn.problem import library

    rows = []
    for path in sorted(library().glob("*.toml")):
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        rows.append({"name": tables["name"], "title": tables.get("title", "")})
    if as_json:
        return _print_json(rows)
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['title']}")


@app.command()
def solvers(as_json: JsonOption = False) -> None:
    """List the solvers: their programs, and whether they are installed."""
    from convexsnn.solvers import SOLVERS, installed

    rows: list[dict[str, Any]] = []
    for name, cls in SOLVERS.items():
        can = cls.capabilities
        rows.append({
            "name": name, "installed": installed(name), "programs": sorted(can.programs), "duals": can.duals,
            "warm_start": can.warm_start, "time_limit": can.time_limit, "extra": can.extra,
            "losses": sorted(can.losses) if can.losses else None, "methods": list(cls.methods or ()),
        })  # fmt: skip
        if name == "cvxpy" and installed(name):
            import cvxpy

            rows[-1]["backends"] = sorted(s.lower() for s in cvxpy.installed_solvers())
    if as_json:
        return _print_json(rows)
    for row in rows:
        package = f"'convexsnn[{row['extra']}]'" if row["extra"] else "convexsnn"
        state = "installed" if row["installed"] else f"pip install {package}"
        losses = f" (losses {', '.join(row['losses'])})" if row["losses"] else ""
        print(f"{row['name']:<12} {state:<12} takes {', '.join(row['programs'])}{losses}")
        for method in row["methods"]:
            print(f"{'':<12} as {row['name']}:{method}")
        if "backends" in row:
            print(f"{'':<12} as cvxpy:NAME, NAME one of {', '.join(row['backends'])}")


@app.command()
def inspect(
    problem: ProblemArgument,
    form: Annotated[
        str | None,
        typer.Option("--form", help="Show a compiled form: qp, cone, cvxpy or dual."),
    ] = None,
    row: Annotated[
        int | None, typer.Option("--row", help="Explain this row of the form (qp if none is given).")
    ] = None,
    column: Annotated[
        int | None, typer.Option("--column", help="Explain this column of the form (qp if none is given).")
    ] = None,
    splitting: Annotated[
        bool, typer.Option("--splitting", help="Show the blocks of the ADMM training.")
    ] = False,
    _threads: ThreadsOption = None,
) -> None:
    """Show a problem's formulation with its numbers, without solving it."""
    from convexsnn.admm.splitting import AdmmSplitting
    from convexsnn.arrays import choice
    from convexsnn.convex.training import lower
    from convexsnn.errors import ShapeError
    from convexsnn.problem import load_problem
    from convexsnn.programs import FORMS
    from convexsnn.report.forms import explained, form_text
    from convexsnn.report.formulation import formulation
    from convexsnn.report.splitting import splitting_text

    if form is not None:
        choice("form", form, FORMS)
    loaded = load_problem(problem)
    if splitting:
        given = {"--form": form, "--row": row, "--column": column}
        if options := [name for name, value in given.items() if value is not None]:
            raise ShapeError(f"splitting: has no {', '.join(options)}; its blocks are shown whole")
        return print(splitting_text(AdmmSplitting().lower(loaded)))
    with Progress(quiet=False) as progress:
        if progress:
            progress("dictionary", 0.0)
        lowered = lower(loaded)
    places = [(kind, index) for kind, index in (("row", row), ("column", column)) if index is not None]
    if places:
        texts = [explained(lowered, index, kind, form or "qp") for kind, index in places]
    else:
        texts = [form_text(lowered, form) if form else formulation(lowered)]
    print("\n\n".join(texts))


@app.command()
def solve(
    problem: ProblemArgument,
    solver: SolverOption = None,
    tolerance: ToleranceOption = None,
    time_limit: TimeLimitOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Output folder: problem, network, dictionary, certificate.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace an earlier result in --out; files that are not ours stay."),
    ] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint", help="ADMM, gradients: checkpoint file; if it exists, training continues."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="ADMM: processes that share the samples; needs dask.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="ADMM: address of a Dask cluster for the samples.")
    ] = None,
    as_json: JsonOption = False,
    _threads: ThreadsOption = None,
) -> None:
    """Solve a problem by its convex program and check the network by simulation; or train by ADMM."""
    from convexsnn.admm.cluster import cluster
    from convexsnn.errors import SolverFailed, VerificationError
    from convexsnn.problem import load_problem
    from convexsnn.roads import train

    with _reserved(out, force) as there:
        loaded = load_problem(problem)
        try:
            where = cluster(loaded, workers, scheduler)
            with keeping(checkpoint), Progress(quiet=as_json) as progress, where as place:
                result = train(
                    loaded, solver=solver, tolerance=tolerance, time_limit=time_limit, progress=progress,
                    checkpoint=checkpoint, place=place,
                )  # fmt: skip
        except (SolverFailed, VerificationError) as error:
            if as_json:
                _print_json(_failed(loaded.name, str(error)))
            raise
        if out is not None:
            _save(result, out, there)
    written = None if out is None else str(out)
    _show(as_json, {**result.summary(), "out": written}, lambda: result.text(written))


def _reserved(out: Path | None, force: bool) -> AbstractContextManager[bool]:
    """Keep the place of a result for this run; yield whether an earlier result is to be replaced."""
    from convexsnn.training.folder import reserved

    return nullcontext(False) if out is None else reserved(out, force)


def _save(result: TrainingResult, out: Path, force: bool) -> None:
    """Write a result to its folder, with curves if it has any."""
    from convexsnn.report.plots import draw_curves
    from convexsnn.training.manifest import CURVES

    rows = result.curves
    also = (lambda target: draw_curves(rows, target / CURVES)) if rows else None
    _tell_kept(out, result.save(out, force=force, also=also))


def _tell_kept(out: Path, names: list[str]) -> None:
    if names:
        print(f"convexsnn: kept in {out}, as not ours: {', '.join(map(repr, names))}", file=sys.stderr)


def _failed(name: str, reason: str) -> dict[str, Any]:
    keys = (
        "objective", "lower_bound", "gap", "scope", "patterns", "units", "max_output_error", "min_margin",
        "train_accuracy", "test_accuracy", "solver", "seconds", "out",
    )  # fmt: skip
    failed = {"problem": name, "status": "failed", **dict.fromkeys(keys), "verified": False}
    stages = ("dictionary", "solve", "reconstruct", "verify", "total")
    return {**failed, "seconds": dict.fromkeys(stages), "reason": reason}


@app.command()
def path(
    problem: ProblemArgument,
    count: Annotated[int, typer.Option("--count", help="Number of values of λ.")] = 20,
    smallest: Annotated[
        float, typer.Option("--smallest", help="The last λ, as a fraction of the largest.")
    ] = 0.01,
    validation: Annotated[
        float, typer.Option("--validation", help="Share of the samples held out to choose λ.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the held-out samples.")] = 0,
    solver: SolverOption = None,
    tolerance: ToleranceOption = None,
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", help="Time limit in seconds; finished rows are kept.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Output folder: path.json and the solution at the chosen λ.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Plot file (.png, .svg, .pdf) of loss, accuracy, units.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Replace an earlier result in --out, and --plot; files that are not ours stay."
        ),
    ] = False,
    as_json: JsonOption = False,
    _threads: ThreadsOption = None,
) -> None:
    """Solve and certify at falling λ; choose λ on held-out samples."""
    from convexsnn.convex.regularization_path import path as walk
    from convexsnn.convex.words import path_text
    from convexsnn.errors import SolverFailed, VerificationError
    from convexsnn.problem import load_problem
    from convexsnn.report.plots import check_plot, plot_path

    with _reserved(out, force) as there:
        if plot is not None:
            check_plot(plot, force)
        loaded = load_problem(problem)
        try:
            with Progress(quiet=as_json) as progress:
                result = walk(
                    loaded, count=count, smallest=smallest, validation=validation, seed=seed, solver=solver,
                    tolerance=tolerance, time_limit=time_limit, progress=progress,
                )  # fmt: skip
        except (SolverFailed, VerificationError) as error:
            if as_json:
                _print_json({"problem": loaded.name, "status": "failed", "reason": str(error)})
            raise
        if out is not None:
            _tell_kept(out, result.save(out, force=there))
    summary = result.summary()
    if plot is not None:
        plot_path(summary, plot, force=force)
    summary |= {name: None if file is None else str(file) for name, file in (("out", out), ("plot", plot))}
    _show(as_json, summary, lambda: path_text(summary))


@app.command()
def verify(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder written by `solve --out` or `path --out`.")
    ],
    exact: Annotated[
        bool, typer.Option("--exact", help="Decide every spike in rational arithmetic; slower.")
    ] = False,
    time_limit: Annotated[
        float | None,
        typer.Option("--time-limit", help="Seconds for a proof over all patterns; unproved is refused."),
    ] = None,
    as_json: JsonOption = False,
    _threads: ThreadsOption = None,
) -> None:
    """Prove a certificate again from data and weights alone; exit status 1 if it is refused."""
    from convexsnn.errors import VerificationError
    from convexsnn.roads import confirm_folder

    try:
        with Progress(quiet=as_json) as progress:
            confirmed = confirm_folder(folder, exact=exact, time_limit=time_limit, progress=progress)
    except VerificationError as error:
        refused = {"folder": str(folder), "accepted": False, "reason": str(error)}
        _show(as_json, refused, lambda: f"refused: {refused['reason']}")
        raise typer.Exit(1) from error
    _show(as_json, confirmed.summary(), confirmed.text)


@app.command()
def gap(
    problem: ProblemArgument,
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="A network saved as .npz, such as solve's network.npz.")
    ],
    tolerance: ToleranceOption = None,
    time_limit: TimeLimitOption = None,
    as_json: JsonOption = False,
    _threads: ThreadsOption = None,
) -> None:
    """Show the distance of a trained network from the optimum of its problem."""
    from convexsnn.convex.distance_to_optimum import distance
    from convexsnn.networks import load_network
    from convexsnn.problem import load_problem

    loaded, network = load_problem(problem), load_network(weights)
    with Progress(quiet=as_json) as progress:
        comparison = distance(loaded, network, tolerance=tolerance, time_limit=time_limit, progress=progress)
    _show(as_json, comparison.summary(), comparison.text)


@app.command()
def export(
    problem: ProblemArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Output file; ends in .mps or .lp.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    _threads: ThreadsOption = None,
) -> None:
    """Write a problem's program as MPS or LP, for any other solver."""
    from convexsnn.convex.training import lower
    from convexsnn.errors import ProblemFileError
    from convexsnn.problem import load_problem

    if file.exists() and not force:
        raise ProblemFileError(f"FILE: {file}: exists; choose another name, or --force to replace it")
    lower(load_problem(problem)).program.to_mps(file)
    print(f"wrote {file}")


def main() -> None:
    """Run the command line and exit with its status."""
    run_and_exit(app)
