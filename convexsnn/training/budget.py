"""The budget of a training: its deadline, who hears of its progress, and the file that keeps it.

One object goes through all calls, so that no station forgets one of the three.
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
    """What a training may spend.

    Attributes
    ----------
    deadline : float or None
        Reading of `time.perf_counter` after which no further round begins; None: no limit.
    progress : callable or None
        Called with what is being done and the finished share of it.
    checkpoint : Path or None
        File to write, and to go on from if it is there.
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
        """Return the budget of a call; its time begins now.

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
        """Tell what is being done, and the finished share of it."""
        if self.progress is not None:
            self.progress(what, share)

    def part(self, k: int, count: int, name: str) -> Budget:
        """Return the budget of the k-th of `count` equal parts, with a checkpoint of its own.

        The deadline is that of the whole; the checkpoint run.npz becomes run-1.npz, run-2.npz and so on.
        """
        if count == 1:
            return self

        def told(what: str, share: float) -> None:
            self.report(f"{name} {k + 1} of {count}, {what}", (k + share) / count)

        file = self.checkpoint
        if file is not None:
            file = file.with_name(f"{file.stem}-{k + 1}{file.suffix}")
        return replace(self, progress=None if self.progress is None else told, checkpoint=file)
