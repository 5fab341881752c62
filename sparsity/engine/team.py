"""Threads that run one function together, again and again."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread


class Team:
    """count - 1 threads beside the calling one. They end with close(), or with the process."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._work: list[SimpleQueue[Callable[[int], None] | None]] = []
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        for number in range(1, count):
            queue: SimpleQueue[Callable[[int], None] | None] = SimpleQueue()
            Thread(target=_serve, args=(number, queue, self._done), name="sparse", daemon=True).start()
            self._work.append(queue)

    def run(self, function: Callable[[int], None]) -> None:
        """Call function(0) here and function(1), ... in the threads; returns when all are done."""
        for queue in self._work:
            queue.put(function)
        function(0)
        for error in [self._done.get() for _ in self._work]:
            if error is not None:
                raise error

    def close(self) -> None:
        """End the threads."""
        for queue in self._work:
            queue.put(None)


def _serve(
    number: int,
    work: SimpleQueue[Callable[[int], None] | None],
    done: SimpleQueue[BaseException | None],
) -> None:
    while (function := work.get()) is not None:
        try:
            function(number)
            done.put(None)
        except BaseException as error:
            done.put(error)
