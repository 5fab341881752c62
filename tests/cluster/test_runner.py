"""Tasks that yield items: in turns, again after a death, and not for ever. A stand-in takes Ray's place."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest

from sparsity import InputError
from sparsity.cluster.connection import Cluster
from sparsity.cluster.runner import Runner, Task
from sparsity.cluster.settings import ClusterSettings

Stream = Iterator[object]


class DiedError(Exception):
    """A worker that died."""


class Ray:
    """Runs each task in this process, one item at a time."""

    def __init__(self) -> None:
        names = ("WorkerCrashed", "NodeDied", "ObjectLost", "OutOfMemory", "RaySystem", "LocalRayletDied")
        errors = {f"{name}Error": DiedError for name in (*names, "TaskUnschedulable")}
        self.exceptions = SimpleNamespace(**errors, RayTaskError=type("RayTaskError", (Exception,), {}))
        self.cancelled: list[Stream] = []

    def wait(self, streams: Sequence[Stream], **_how: object) -> tuple[list[Stream], list[Stream]]:
        return list(streams[:1]), list(streams[1:])

    def get(self, items: Sequence[object]) -> list[object]:
        for item in items:
            if isinstance(item, Exception):
                raise item
        return list(items)

    def cancel(self, stream: Stream) -> None:
        self.cancelled.append(stream)


@pytest.fixture
def ray() -> Ray:
    return Ray()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def runner(ray, said) -> Runner:
    return Runner(Cluster(ray, (), 1, 0, ClusterSettings(retries=2)), said.append)


def test_a_task_whose_worker_died_starts_again(runner, said):
    starts, taken, forgotten = [], [], []

    def start(task: Task) -> Stream:
        starts.append(task.label)
        return iter(["a", DiedError("no power")] if len(starts) == 1 else ["b", "c"])

    tasks = [Task("one")]
    done = list(
        runner.run(tasks, start, lambda _task, item: taken.append(item) is None, forget=forgotten.append)
    )
    assert done == tasks == forgotten
    assert taken == ["a", "b", "c"]
    assert said == ["one: Died: no power; it is computed again from where it stood"]


@pytest.mark.parametrize(("got_on", "starts"), [(True, 5), (False, 3)])
def test_only_what_got_on_gives_a_task_new_tries(runner, ray, got_on, starts):
    """A worker that always dies at the same place is given up, also where it says something before."""
    started = []

    def start(_task: Task) -> Stream:
        started.append(iter(["item", DiedError("again")] if len(started) < 3 else [DiedError("again")]))
        return started[-1]

    words = "one: its worker died 3 times without progress .Died: again.; what is finished is kept"
    with pytest.raises(InputError, match=words):
        list(runner.run([Task("one")], start, lambda _task, _item: got_on))
    assert len(started) == starts


def test_an_error_in_a_task_ends_all_and_the_others_are_cancelled(runner, ray):
    error = ray.exceptions.RayTaskError("traceback")
    error.cause = InputError("0.png: cannot be read")
    streams = {"one": iter([error]), "two": iter(["never"])}
    with pytest.raises(InputError, match=r"^0\.png: cannot be read$"):
        list(runner.run([Task("one"), Task("two")], lambda task: streams[task.label], lambda *_: True))
    assert streams["two"] in ray.cancelled


def test_more_tasks_start_when_one_is_finished(runner):
    later = [[Task("two")], []]
    done = runner.run([Task("one")], lambda _task: iter([1]), lambda *_: True, more=lambda: later.pop(0))
    assert [task.label for task in done] == ["one", "two"]
