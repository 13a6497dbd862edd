"""What can go wrong, by whose doing.

Every exception raised on purpose derives from `ConvexSNNError`. `exit_status` is what the command
line returns: 2 where the caller's input is at fault, 1 where the work itself failed.
"""


class ConvexSNNError(Exception):
    """Base of all errors of this package."""

    exit_status = 1


class ShapeError(ConvexSNNError, ValueError):
    """An array has the wrong shape, type or values; the message names the argument."""

    exit_status = 2


class ProblemFileError(ConvexSNNError, ValueError):
    """A problem, network or result file is missing, unreadable or breaks its schema."""

    exit_status = 2


class LoweringError(ConvexSNNError, ValueError):
    """The problem is well formed but cannot be turned into the program asked for."""

    exit_status = 2


class UnsupportedError(ConvexSNNError, ValueError):
    """A program has no such form, or a solver does not take such a program."""

    exit_status = 2


class NotInstalled(ConvexSNNError, ImportError):
    """An optional package that is needed here is not installed; the message names the extra."""

    exit_status = 2


class SolverNotInstalled(NotInstalled):
    """A solver is not installed; the message says what to install."""


class SolverFailed(ConvexSNNError, RuntimeError):
    """A solver stopped without a usable point."""


class VerificationError(ConvexSNNError, AssertionError):
    """The simulator, or a re-computation, disagrees with what was claimed."""
