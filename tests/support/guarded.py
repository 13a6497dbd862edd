"""One input from anybody under limits: it is taken, or refused in one line, soon and in little memory."""

import contextlib
import gc
import io
import signal
import sys
import warnings

from convexsnn.errors import ConvexSNNError

PROCESSOR_SECONDS = 10  # whatever else the machine does; an input takes some milliseconds
WAITING_SECONDS = 120  # for what waits without work, such as a pipe that nobody fills
MOST_BYTES = 3 << 29  # of address space, beyond what the process has
LONGEST = 2000  # characters of a refusal

try:
    import resource
except ImportError:  # no limits on this system: what is refused is tested nevertheless
    resource = None


class Endless(BaseException):
    """An input took longer than the limits."""


def _size():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


@contextlib.contextmanager
def limits():
    """Hold a block to the limits; too much memory is a MemoryError, too much time is `Endless`."""
    if resource is None or not sys.platform.startswith("linux"):
        yield
        return

    def stop(number, frame):
        raise Endless(signal.Signals(number).name)

    timers = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}
    before = {number: signal.signal(number, stop) for number in timers}
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_size() + MOST_BYTES, hard))
    signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITING_SECONDS)
    try:
        yield
    finally:
        for timer in timers.values():
            signal.setitimer(timer, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        for number, handler in before.items():
            signal.signal(number, handler)


def outcome(read, *arguments, **options):
    """Return (value, None) if a call takes its input, (None, the refusal) if it refuses it.

    Whatever else happens fails: another exception, a refusal that is not one line that prints, an output, a
    warning, a limit.
    """
    said = io.StringIO()
    with (
        warnings.catch_warnings(record=True) as warned,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        limits(),
    ):
        warnings.simplefilter("always")
        gc.disable()  # what is left of others is not deleted in the midst of a deep recursion
        try:
            value, refusal = read(*arguments, **options), None
        except ConvexSNNError as error:
            value, refusal = None, error
        finally:
            gc.enable()
    assert not warned, [str(one.message) for one in warned]
    assert said.getvalue() == "", said.getvalue()
    if refusal is not None:
        told = str(refusal)
        assert told.strip() and told.isprintable() and len(told) <= LONGEST, ascii(told[:4000])
    return value, refusal
