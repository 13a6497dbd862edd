"""The terminal: a status line while work goes on, what Ctrl-C means, and output that cannot be written."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from convexsnn.errors import ConvexSNNError
from convexsnn.files import STOPS, appeared


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
    from convexsnn.threads import checked, thread_limit, threads, use_threads

    count = thread_limit() if value is None else checked("threads", value)
    if count is None:
        threads()  # so that an error comes before any work
    else:
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
    """Ctrl-C or a signal that ends a process, under a name that no library swallows in silence.

    Attributes
    ----------
    words : str
        What a command says of its files; "" for what this process has put in place.
    status : int
        The exit status: 128 and the number of the signal.
    """

    def __init__(self, words: str, status: int = 130) -> None:
        super().__init__(words)
        self.words, self.status = words, status


def interrupt(number: int = signal.SIGINT, *_: object) -> None:
    """Raise `Interrupted`; a signal handler. What comes later, Ctrl-C apart, leaves the cleaning alone."""
    for one in STOPS[1:]:
        signal.signal(one, signal.SIG_IGN)
    raise Interrupted("", 128 + number)


def hear_signals() -> None:
    """Make Ctrl-C, and what ends a process, raise `Interrupted`, so that temporary files are deleted.

    Only the main thread can ask for that; a signal that is ignored, as under nohup, stays so.
    """
    if threading.current_thread() is threading.main_thread():
        for one in STOPS:
            if signal.getsignal(one) is not signal.SIG_IGN:
                signal.signal(one, interrupt)


def soften_output() -> None:
    """Let output that has no letter λ, such as ASCII, show its number in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # a stream that is closed underneath
                stream.reconfigure(errors="backslashreplace")


def flush_output() -> None:
    """Write what is left of standard output; raise the OSError of a closed pipe or a full disk.

    After an error nothing more is written there, not even when the process ends.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            nowhere, output = os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            if nowhere != output:
                os.dup2(nowhere, output)
                os.close(nowhere)
        raise


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
        if checkpoint is None or (stopped := interruption(error)) is None:
            raise
        words = f"what was written to --checkpoint {checkpoint} is kept, nothing else"
        raise Interrupted(words, stopped.status) from error


def run_and_exit(command: Callable[[], object]) -> NoReturn:
    """Run a command line; say its error or interruption in one line, and exit with its status."""
    hear_signals()
    soften_output()
    status = _status_of(command)
    try:
        flush_output()
    except BrokenPipeError:
        pass
    except OSError as error:  # such as a full disk: what is asked for with --out is written nevertheless
        print(f"convexsnn: error: standard output: {error.strerror or error}", file=sys.stderr)
        status = status or 1
    sys.exit(status)


def _words_of_files() -> str:
    written = ", ".join(str(path) for path in appeared())
    return f"written and whole: {written}" if written else "nothing was written"


def _status_of(command: Callable[[], object]) -> Any:
    try:
        command()
    except SystemExit as left:
        return left.code
    except ConvexSNNError as error:
        print(f"convexsnn: error: {error}", file=sys.stderr)
        return error.exit_status
    except MemoryError as error:
        print(f"convexsnn: error: out of memory: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of the pipe has closed it, for example `| head`
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"convexsnn: error: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except BaseException as error:
        if stopped := interruption(error):
            print(f"convexsnn: interrupted; {stopped.words or _words_of_files()}", file=sys.stderr)
            return stopped.status
        raise
    return 0
