"""Workers of a Ray cluster for a sweep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sparsity.cluster.connection import connected
from sparsity.cluster.files import Shipment
from sparsity.cluster.settings import ClusterSettings
from sparsity.cluster.tasks import Work
from sparsity.cluster.workers import RayWorkers
from sparsity.sweeping.workers import HireWorkers, Order
from sparsity.validation.inputs import make_loader


def ray_workers(settings: ClusterSettings) -> HireWorkers:
    """Return what hires the workers of a Ray cluster, for sweep and find_level. It connects when they start.

    Raises InputError then, where Ray is missing, no cluster answers, or it lacks the share asked for.
    """

    def hire(order: Order) -> AbstractContextManager[RayWorkers]:
        return _hired(settings, order)

    return hire


@contextmanager
def _hired(settings: ClusterSettings, order: Order) -> Iterator[RayWorkers]:
    with connected(settings, device=order.settings.device) as cluster:
        order.say(cluster.describe())
        loader = make_loader(order.images, order.pruner.network, order.settings)
        work = Work(order.wanted, order.settings, order.images, Shipment(), cluster.cpus)
        yield RayWorkers(
            cluster,
            order.pruner,
            work,
            batches=[len(batch) for batch in loader.batches],
            trainings=order.trainings,
            on_pruned=order.on_pruned,
            progress=order.progress,
            say=order.say,
        )
