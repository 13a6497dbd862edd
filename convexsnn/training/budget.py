"""The budget of a training: its deadline, its progress callback and its checkpoint file.

One object carries all three through the calls, so that no function forgets one of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from convexsnn.arrays import positive
from convexsnn.files import with_folder

Progress = Callable[[str, float], object]


@dataclass(frozen=True)
class Budget:
    """Limits and outputs of one training.

    Attributes
    ----------
    deadline : float or None
        Reading of `time.perf_counter` after which no further round begins, and at which a round stops between
        two batches and is undone; None: no limit.
    progress : callable or None
        Called with a description of the present work and the finished share of the training.
    checkpoint : Path or None
        File that the training writes. If it exists, the training resumes from it.
    """

    deadline: float | None = None
    progress: Progress | None = None
    checkpoint: Path | None = None

    @classmethod
    def of(
        cls,
        time_limit: float | None = None,
        progress: Progress | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> Budget:
        """Return the budget of one training; its time starts now.

        Raises
        ------
        ShapeError
            `time_limit` is not a positive number of seconds.
        ProblemFileError
            The folder of `checkpoint` does not exist.
        """
        limit = None if time_limit is None else positive("time_limit", time_limit)
        return cls(
            None if limit is None else time.perf_counter() + limit,
            progress,
            None if checkpoint is None else with_folder("checkpoint", checkpoint),
        )

    @property
    def left(self) -> float | None:
        """Seconds until the deadline, negative after it; None without one."""
        return None if self.deadline is None else self.deadline - time.perf_counter()

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.perf_counter() > self.deadline

    def report(self, what: str, share: float = 0.0) -> None:
        """Call `progress` with a description of the present work and the finished share."""
        if self.progress is not None:
            self.progress(what, share)

    def part(self, k: int, count: int, name: str) -> Budget:
        """Return the budget of the k-th of `count` equal parts, with a checkpoint of its own.

        All parts share the deadline. The checkpoint run.npz becomes run-1.npz, run-2.npz and so on.
        """
        if count == 1:
            return self

        def report_part(what: str, share: float) -> None:
            self.report(f"{name} {k + 1} of {count}, {what}", (k + share) / count)

        file = self.checkpoint
        if file is not None:
            file = file.with_name(f"{file.stem}-{k + 1}{file.suffix}")
        return replace(self, progress=None if self.progress is None else report_part, checkpoint=file)
