"""Make the files of all techniques: here, one technique after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsity.base.errors import InputError
from sparsity.comparing.asked import Asked
from sparsity.comparing.running import Made, make
from sparsity.comparing.techniques import Plan


@dataclass(frozen=True)
class Job:
    """A technique that is to be made. folder: of its files.

    resume: whether commands that succeeded in folder earlier are reused.
    """

    technique: str
    plan: Plan
    folder: Path
    resume: bool

    def describe(self) -> str:
        """Return one line for the user."""
        return f"{self.technique}: {self.plan.note}"


@dataclass(frozen=True)
class Outcome:
    """What came of a technique: its file in each engine; or, where a command failed, the error."""

    made: tuple[Made, ...] = ()
    error: str = ""


Say = Callable[[str], None]
MakeAll = Callable[[Sequence[Job], Asked, Say], list[Outcome]]
"""Takes the techniques, and what is asked of all, and returns what came of each, in their order."""


def make_here(jobs: Sequence[Job], asked: Asked, say: Say) -> list[Outcome]:
    """Make one technique after another. Where one fails, the others go on."""
    outcomes = []
    for job in jobs:
        say(job.describe())
        for item in make_one(job, asked):
            if isinstance(item, Outcome):
                outcomes.append(item)
            else:
                say(item)
    return outcomes


def make_one(job: Job, asked: Asked) -> Iterator[str | Outcome]:
    """Make one technique. Yields lines for the user, and the outcome last."""
    made: list[Made] = []
    try:
        for item in make(job.technique, job.plan, asked, job.folder, resume=job.resume):
            if isinstance(item, str):
                yield item
            else:
                made.append(item)
    except InputError as error:
        yield f"  FAILED: {error}"
        yield Outcome(error=str(error))
    else:
        yield Outcome(tuple(made))
