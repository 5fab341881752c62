"""Makes the techniques of a comparison on a Ray cluster: each is a task."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparsity.base.errors import InputError
from sparsity.cluster.connection import connected
from sparsity.cluster.runner import Runner, Task
from sparsity.cluster.settings import ClusterSettings
from sparsity.comparing.asked import Asked
from sparsity.comparing.making import Job, MakeAll, Outcome, Say, make_one


@dataclass(kw_only=True)
class _Technique(Task):
    """The task of a technique."""

    job: Job


def ray_makers(settings: ClusterSettings, device: str, paths: Sequence[Path]) -> MakeAll:
    """Return what makes techniques on a cluster. The workers write into the comparison's folder.

    device: of what makes the files, as a user gives it. paths: the files and folders that commands read.
    When it starts, it raises InputError where Ray is missing, no cluster answers, it lacks the share asked
    for, or a machine does not see a path, the techniques' folders, or the folder of this process.
    """

    def make_all(jobs: Sequence[Job], asked: Asked, say: Say) -> list[Outcome]:
        with connected(settings, device=device) as cluster:
            say(cluster.describe())
            runner, here = Runner(cluster, say), Path.cwd()
            places = [here, *(job.folder.parent for job in jobs)]
            _check_seen(runner, [(here / path) for path in (*places, *paths)])
            return _make_all(runner, here, jobs, asked, say)

    return make_all


def _check_seen(runner: Runner, paths: Sequence[Path]) -> None:
    missing = runner.missing(list(dict.fromkeys(paths)))
    if missing:
        raise InputError(
            f"{missing[0]}: not every machine of the cluster sees this path; a comparison needs a file "
            "system that all machines share"
        )


def _make_all(runner: Runner, here: Path, jobs: Sequence[Job], asked: Asked, say: Say) -> list[Outcome]:
    outcomes: dict[str, Outcome] = {}
    submit = runner.remote(make_technique, num_returns="streaming").remote

    def start(task: _Technique) -> Any:
        # From the second start on, it reuses what the first one finished.
        job = replace(task.job, resume=task.job.resume or task.failures > 0)
        return submit(here, job, asked)

    def take(task: _Technique, item: str | Outcome) -> bool:
        if isinstance(item, Outcome):
            outcomes[task.label] = item
        else:
            say(f"{task.label}: {item.strip()}")
        return False  # Its commands run again until one succeeds: each death counts.

    for job in jobs:
        say(job.describe())
    for _task in runner.run([_Technique(job.technique, job=job) for job in jobs], start, take):
        pass
    return [outcomes[job.technique] for job in jobs]


def make_technique(here: Path, job: Job, asked: Asked) -> Iterator[str | Outcome]:
    """Run on a worker: make a technique. here: the folder in which relative paths are read."""
    os.chdir(here)
    yield from make_one(job, asked)
