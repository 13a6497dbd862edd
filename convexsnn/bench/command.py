"""``convexsnn bench``; each command imports its modules itself, so that --help is fast."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from convexsnn.terminal import ThreadsOption

app = typer.Typer(no_args_is_help=True, help="Benchmarks: solvers, gradients.")


@app.callback()
def bench() -> None:
    """Benchmarks; results include the machine and the versions."""


@app.command()
def solvers(
    solver: Annotated[
        list[str] | None,
        typer.Option("--solver", help="Only this solver; can be repeated. alone:NAME skips the presolve."),
    ] = None,
    problem: Annotated[
        list[str] | None, typer.Option("--problem", help="Only this problem; can be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small problems of every kind only.")] = False,
    repeat: Annotated[
        int, typer.Option("--repeat", help="Measured runs of each pair; the median counts.")
    ] = 3,
    tolerance: Annotated[float, typer.Option("--tolerance", help="Relative gap to reach.")] = 1e-6,
    time_limit: Annotated[float, typer.Option("--time-limit", help="Seconds for each run.")] = 300.0,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of results; stored results are not run again.")
    ] = Path("bench-solvers"),
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Write the problems to this new folder, benchopt-style; solve nothing."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object only.")] = False,
    _threads: ThreadsOption = None,
) -> None:
    """Run solvers on problems: certified gaps, times and targets. Can be resumed."""
    from convexsnn.arrays import whole
    from convexsnn.bench.data import write_data
    from convexsnn.bench.machine import conditions
    from convexsnn.bench.problems import BITS, FULL, QUICK, find_problems
    from convexsnn.bench.run import Results, pairs_of, run_all, solver_of
    from convexsnn.solvers import check_limits

    among = QUICK if quick else FULL
    chosen = find_problems(problem or [], among)
    for name in solver or []:
        if name != BITS:
            solver_of(name)
    check_limits(tolerance, time_limit)
    whole("repeat", repeat)
    if data is not None:
        names = write_data(chosen, data)
        print(
            json.dumps({"data": str(data), "problems": names}) if as_json else f"wrote {data}: {len(names)}"
        )
        return
    pairs = pairs_of(chosen, solver or [])
    results = Results(out, conditions(tolerance, time_limit, repeat))
    count = 0

    def report(record: Any, known: bool) -> None:
        nonlocal count
        count += 1
        if not as_json:
            print(_line(record, known), flush=True)

    try:
        run_all(pairs, results, report)
    except (Exception, SystemExit):
        raise
    except BaseException as error:  # Ctrl-C, under any exception type
        words = f"{count} pairs are finished and kept in {out}; the same command goes on from there"
        print(f"convexsnn: interrupted; {words}", file=sys.stderr)
        raise typer.Exit(getattr(error, "status", 130)) from error
    _finish(among, results, out, as_json)


def _line(record: Any, known: bool) -> str:
    from convexsnn.bench.table import cell

    words = cell(record)
    if record["gap"] is not None and record["status"] == "optimal":
        words += f", gap {record['gap']:.1e}"
    if record["reason"]:
        words += f" ({record['reason']})"
    return f"{record['problem']:<26} {record['solver']:<22} {words}{', known' if known else ''}"


def _finish(among: Any, results: Any, out: Path, as_json: bool) -> None:
    """Write table and plot of the folder's results under these conditions; print table or JSON."""
    from convexsnn.bench.plot import PLOT, can_draw, draw
    from convexsnn.bench.run import write_text
    from convexsnn.bench.table import markdown, means
    from convexsnn.bench.verdicts import by_pair, verdicts

    names = {problem.name for problem in among}
    records = [record for record in results.records if record["problem"] in names]
    limit, tolerance = results.conditions["time_limit"], results.conditions["tolerance"]
    text = markdown(among, records, results.conditions)
    write_text(out / "table.md", text)
    files = ["results.json", "table.md"]
    if can_draw():
        draw(among, records, tolerance, out / PLOT)
        files.append(PLOT)
    if as_json:
        results_of = by_pair(records)
        run = {name for name, _ in results_of}
        judged = {p.name: verdicts(p, results_of, tolerance) for p in among if p.name in run}
        values = {
            "out": str(out), "files": files, "conditions": results.conditions, "results": records,
            "targets": judged, "means": means(results_of, limit),
        }  # fmt: skip
        return print(json.dumps(values, allow_nan=False))
    print(f"\n{text}\nwrote {', '.join(str(out / name) for name in files)}")


@app.command()
def gradients(
    steps: Annotated[
        list[int] | None, typer.Option("--steps", help="Number of steps T; can be repeated.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", help="Number of samples.")] = 256,
    units: Annotated[int, typer.Option("--units", help="Number of units of the layer.")] = 256,
    repeat: Annotated[int, typer.Option("--repeat", help="Measured runs; the median counts.")] = 5,
    device: Annotated[
        str, typer.Option("--device", help="cpu, cuda, or auto: a GPU if there is one.")
    ] = "auto",
    long: Annotated[
        bool,
        typer.Option(
            "--long", help="Also training steps, gradient norms over 50 layers, a residual network."
        ),
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="New folder of results.")] = Path("bench-gradients"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object only.")] = False,
    _threads: ThreadsOption = None,
) -> None:
    """Compare EXODUS and SLAYER with backpropagation through time, on one LIF layer."""
    from convexsnn.arrays import whole
    from convexsnn.bench.gradients import run_gradients
    from convexsnn.errors import ProblemFileError
    from convexsnn.files import locked
    from convexsnn.gradient.loop import device_of

    step_counts = sorted(set(steps or (25, 100, 400)))
    sizes = [("batch", batch), ("units", units), ("repeat", repeat), *(("steps", t) for t in step_counts)]
    for name, value in sizes:
        whole(name, value)
    where = device_of(device).type
    existed = out.exists()
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        reason = "exists; choose another folder" if out.exists() else error.strerror
        raise ProblemFileError(f"out: {out}: {reason}") from error
    report = (lambda line: None) if as_json else partial(print, flush=True)
    layer = {"steps": step_counts, "batch": batch, "units": units}
    try:
        with locked(out) as ours:
            if not ours or any(out.iterdir()):
                raise ProblemFileError(f"out: {out}: exists; choose another folder")
            values, text, files = run_gradients(layer, repeat, where, long, out, report)
    except BaseException:
        if not existed and not any(out.iterdir()):
            out.rmdir()
        raise
    if as_json:
        return print(json.dumps({"out": str(out), "files": files, **values}, allow_nan=False))
    print(f"\n{text}\nwrote {', '.join(str(out / name) for name in files)}")
