"""A team of threads that run the same function together, many times."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import TypeAlias

Work: TypeAlias = "tuple[Callable[[int], None], SimpleQueue[BaseException | None]] | None"
"""A function, and the queue that receives None when it is done, or its error. A None ends a thread."""


class Team:
    """The calling thread and count - 1 others. They end when the last reference to the team is deleted."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._work: list[SimpleQueue[Work]] = [SimpleQueue() for _ in range(1, count)]
        for number, queue in enumerate(self._work, 1):
            Thread(target=_serve, args=(number, queue), name="sparse", daemon=True).start()
        weakref.finalize(self, _end, self._work)

    def run(self, function: Callable[[int], None]) -> None:
        """Call function(0) here and function(1), ... in the other threads, and wait for all of them.

        An error in another thread is raised here.
        """
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        for queue in self._work:
            queue.put((function, done))
        function(0)
        for error in [done.get() for _ in self._work]:
            if error is not None:
                raise error


def _serve(number: int, queue: SimpleQueue[Work]) -> None:
    while (work := queue.get()) is not None:
        function, done = work
        try:
            function(number)
            done.put(None)
        except BaseException as error:
            done.put(error)
        # A waiting thread would otherwise keep these objects in memory.
        del work, function, done


def _end(queues: Sequence[SimpleQueue[Work]]) -> None:
    for queue in queues:
        queue.put(None)
