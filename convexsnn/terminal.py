"""The terminal: a status line while work goes on, and what Ctrl-C means."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer


class Progress:
    """A status line on standard error, on a terminal only; yields a callable or None."""

    def __init__(self, quiet: bool) -> None:
        self.shown = not quiet and sys.stderr.isatty()

    def __enter__(self) -> Any:
        if not self.shown:
            return None
        from rich import progress as bars
        from rich.console import Console

        columns = bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TimeElapsedColumn()
        self.bar = bars.Progress(*columns, console=Console(stderr=True), transient=True)
        self.bar.start()
        task = self.bar.add_task("", total=1.0)
        return lambda what, share: self.bar.update(task, description=what, completed=share)

    def __exit__(self, *_: object) -> None:
        if self.shown:
            self.bar.stop()


def take_threads(context: typer.Context, value: str | None) -> str | None:
    """Use the number of threads of ``--threads``, or of the variable, until the command ends."""
    from convexsnn.threads import checked, thread_limit, use_threads

    count = thread_limit() if value is None else checked("threads", value)  # an error comes before any work
    if count is not None:
        context.with_resource(use_threads(count))
    return value


ThreadsOption = Annotated[
    str | None,
    typer.Option(
        "--threads",
        metavar="N",
        callback=take_threads,
        expose_value=False,
        help="Threads to use; else CONVEXSNN_THREADS, OMP_NUM_THREADS, or all that the process may use.",
    ),
]


class Interrupted(BaseException):
    """Ctrl-C, under a name that the command-line library does not swallow in silence."""


def interrupt(*_: object) -> None:
    """Raise `Interrupted`; a signal handler."""
    raise Interrupted("nothing was written")


def hear_ctrl_c() -> None:
    """Make Ctrl-C raise `Interrupted`; only the main thread can ask for that."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)


def interruption(error: BaseException | None) -> Interrupted | None:
    """Return the `Interrupted` that an exception is or came of: what is cut off may fail while it is left.

    None where a command has said so itself and leaves with a status.
    """
    while error is not None and not isinstance(error, Interrupted | SystemExit):
        error = error.__context__
    return error if isinstance(error, Interrupted) else None


@contextmanager
def keeping(checkpoint: Path | None) -> Iterator[None]:
    """Say on Ctrl-C that a checkpoint's files stay, where one was asked for."""
    try:
        yield
    except BaseException as error:
        if checkpoint is None or interruption(error) is None:
            raise
        raise Interrupted(f"what was written to --checkpoint {checkpoint} is kept, nothing else") from error
