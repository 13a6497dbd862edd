"""The errors of the package, by their cause.

Every exception raised on purpose derives from `ConvexSNNError`. `exit_status` is the exit status of the
command line: 2 if the input is wrong, 1 if the computation failed.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 1000  # characters of a message; what is longer shows a value that is


def one_line(text: str) -> str:
    """Return a text as one line that prints: line breaks become spaces, other control characters are escaped.

    A message shows what files from anybody hold: names, words, arrays. Of a long one the middle is left out.
    """
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 300]} … {text[-200:]}"
    if text.isprintable():
        return text
    text = re.sub(r" *\r?\n\s*", " ", text.strip("\r\n "))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def nearest(name: object, known: Iterable[str], otherwise: str = "") -> str:
    """Return ``; did you mean …?`` with the known name nearest to a wrong one, or `otherwise`."""
    match = get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {match[0]!r}?" if match else otherwise


class ConvexSNNError(Exception):
    """Base of all errors of this package; its text is one line that prints."""

    exit_status = 1

    def __str__(self) -> str:
        return one_line(super().__str__())


class ShapeError(ConvexSNNError, ValueError):
    """An array has the wrong shape, type or values; the message names the argument."""

    exit_status = 2


class ProblemFileError(ConvexSNNError, ValueError):
    """A problem, network or result file is missing, unreadable or breaks its schema."""

    exit_status = 2


class LoweringError(ConvexSNNError, ValueError):
    """The problem is well formed, but cannot be converted to the requested program."""

    exit_status = 2


class UnsupportedError(ConvexSNNError, ValueError):
    """A program has no such form, or a solver or method does not accept such an object."""

    exit_status = 2


class NotInstalled(ConvexSNNError, ImportError):
    """A required optional package is not installed; the message names the extra."""

    exit_status = 2


class SolverNotInstalled(NotInstalled):
    """A solver is not installed; the message names the package to install."""


class SolverFailed(ConvexSNNError, RuntimeError):
    """A solver stopped without a usable point."""


class VerificationError(ConvexSNNError, AssertionError):
    """The simulator, or a recomputation, disagrees with a claim."""
