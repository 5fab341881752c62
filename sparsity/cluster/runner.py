"""Runs tasks on a cluster, and again those whose worker or machine died."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sparsity.base.errors import InputError
from sparsity.cluster.connection import Cluster, first_line
from sparsity.cluster.files import missing_paths

WAIT_SECONDS = 1.0


@dataclass
class Task:
    """A task that runs. failures: how often its worker died since it last got on."""

    label: str
    failures: int = 0


AnyTask = TypeVar("AnyTask", bound=Task)


class Runner:
    """Submits tasks, and takes what they yield.

    say: called with a line about each worker that died.
    """

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        self.cluster, self._ray, self._say = cluster, cluster.ray, say

    def remote(self, function: Callable[..., Any], **options: Any) -> Any:
        """Return a function that submits calls of this one, with a task's share of a machine."""
        share = {"num_cpus": self.cluster.cpus, "num_gpus": self.cluster.gpus}
        return self._ray.remote(function).options(**{"max_retries": 0, **share, **options})

    def get(self, references: Sequence[Any]) -> list[Any]:
        """Return the values. An InputError of a task is raised as it is."""
        try:
            return self._ray.get(list(references))
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(str(error.cause)) from None
            raise

    def missing(self, paths: Sequence[Path]) -> list[Path]:
        """Return the files and folders that some machine does not see. A machine that died is left out."""
        look = self._ray.remote(num_cpus=0)(missing_paths)
        asked = [look.options(**self.cluster.on_node(one)).remote(paths) for one in self.cluster.nodes]
        missing: set[Path] = set()
        for reference in asked:
            with suppress(*self.lost):
                missing |= set(self.get([reference])[0])
        return sorted(missing)

    def run(
        self,
        first: Sequence[AnyTask],
        start: Callable[[AnyTask], Any],
        take: Callable[[AnyTask, Any], bool],
        *,
        more: Callable[[], Sequence[AnyTask]] = lambda: (),
        forget: Callable[[AnyTask], None] = lambda _task: None,
    ) -> Iterator[AnyTask]:
        """Run tasks that yield items, and yield each task that is finished.

        start: submits a task, from where it stands. take: called with each item; returns whether the task got
        on by it, so that it need not be computed again. more: called after each finished task, gives those
        that can start now. forget: called with a task whose worker died.
        Raises InputError where a worker dies more often in a row than the settings allow.
        """
        running = {start(task): task for task in first}
        try:
            while running:
                wanted = list(running)
                streams, _ = self._ray.wait(wanted, num_returns=1, timeout=WAIT_SECONDS, fetch_local=False)
                for stream in streams:
                    task = running[stream]
                    try:
                        if take(task, self.get([next(stream)])[0]):
                            task.failures = 0
                    except StopIteration:
                        del running[stream]
                        yield task
                        running |= {start(one): one for one in more()}
                    except self.lost as error:
                        del running[stream]
                        forget(task)
                        self.count_failure(task, error, "computed again from where it stood")
                        running[start(task)] = task
        finally:
            for stream in running:
                with suppress(Exception):
                    self._ray.cancel(stream)

    def count_failure(self, task: Task, error: Exception, next_step: str) -> None:
        """Count a worker that died, and say what comes next. Raises InputError where it was one too many."""
        task.failures += 1
        reason = f"{type(error).__name__.removesuffix('Error')}: {first_line(error)[:120]}"
        if task.failures > self.cluster.settings.retries:
            raise InputError(
                f"{task.label}: its worker died {task.failures} times without progress ({reason}); what is "
                "finished is kept, and `resume` goes on"
            ) from error
        self._say(f"{task.label}: {reason}; it is {next_step}")

    @property
    def lost(self) -> tuple[type[Exception], ...]:
        """The errors that say that a worker or a machine died, not that its work failed."""
        found = self._ray.exceptions
        return (
            found.WorkerCrashedError,
            found.NodeDiedError,
            found.ObjectLostError,
            found.OutOfMemoryError,
            found.RaySystemError,
            found.LocalRayletDiedError,
            found.TaskUnschedulableError,
        )
