"""Connects to a Ray cluster, and finds what share of a machine each task takes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from sparsity.base.devices import usable_cores
from sparsity.base.errors import InputError
from sparsity.base.optional import optional_module
from sparsity.cluster.settings import LOCAL, MOST_CPUS, ClusterSettings

ANSWER_SECONDS = 5.0
"""How long a cluster's head may take to accept a connection."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: its id, and the cores and GPUs that Ray has there."""

    id: str
    cpus: int
    gpus: float


@dataclass(frozen=True)
class Cluster:
    """A connection to a cluster. cpus, gpus: the share of a machine that each task takes."""

    ray: ModuleType
    nodes: tuple[Node, ...]
    cpus: int
    gpus: float
    settings: ClusterSettings

    @property
    def tasks(self) -> int:
        """The number of tasks that run at the same time."""
        return sum(_fitting(node, self.cpus, self.gpus) for node in self.nodes)

    def describe(self) -> str:
        """Return one line for the user."""
        cores = f"{self.cpus} core{'s' * (self.cpus > 1)}"
        share = f"{cores} and {self.gpus:g} GPU" if self.gpus else cores
        machines = f"{len(self.nodes)} machine{'s' * (len(self.nodes) > 1)}"
        return f"Ray: {machines}, {self.tasks} task{'s' * (self.tasks > 1)} at a time, each with {share}"

    def on_node(self, node: Node) -> dict[str, Any]:
        """Return the options of a task that runs on this node."""
        strategies = optional_module("ray.util.scheduling_strategies", "`ray`")
        return {"scheduling_strategy": strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)}


@contextmanager
def connected(settings: ClusterSettings, *, device: str) -> Iterator[Cluster]:
    """Connect to the cluster, or start one of this machine alone, which is stopped at the end.

    device: where the networks compute, as a user gives it: with "cpu" no GPU is asked for.
    Raises InputError where Ray is not installed, no cluster answers, or no machine has the share asked for.
    """
    ray = optional_module("ray", "`ray`")
    # Ray would send statistics of its use.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ours = not ray.is_initialized()
    if ours:
        _initialise(ray, settings)
    try:
        here = ray.get_runtime_context().get_node_id()
        nodes = [_node(one) for one in ray.nodes() if one["Alive"]]
        nodes.sort(key=lambda node: node.id != here)  # This machine comes first: latency is measured there.
        yield _share(ray, nodes, settings, device)
    finally:
        if ours:
            ray.shutdown()


def _initialise(ray: ModuleType, settings: ClusterSettings) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if settings.address == LOCAL:
        ray.init(address="local", num_cpus=usable_cores(), include_dashboard=False, **quiet)
        return
    check_address(settings.address)
    try:
        ray.init(address=settings.address, **quiet)
    except Exception as error:
        raise _unanswered(settings.address, error) from error


def check_address(address: str) -> None:
    """Raise InputError where nothing listens at HOST:PORT; Ray itself would try for a minute."""
    if address in (LOCAL, "auto"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"`ray` is {address!r}; local, auto or HOST:PORT is expected")
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unanswered(address, error) from error


def _unanswered(address: str, error: Exception) -> InputError:
    where = "" if address == "auto" else " on that machine"
    reason = first_line(error)
    return InputError(
        f"`ray` {address}: no cluster answers there ({reason}); `ray start --head`{where} starts one"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _node(record: dict[str, Any]) -> Node:
    found = record["Resources"]
    return Node(record["NodeID"], cpus=int(found.get("CPU", 0)), gpus=float(found.get("GPU", 0)))


def _share(ray: ModuleType, nodes: Sequence[Node], settings: ClusterSettings, device: str) -> Cluster:
    gpus = settings.gpus
    if gpus is None:
        gpus = float(device != "cpu" and any(node.gpus for node in nodes))
    with_gpus = [node for node in nodes if node.gpus >= gpus and node.cpus]
    if not with_gpus:
        most = max((node.gpus for node in nodes), default=0)
        raise InputError(f"`ray_gpus` is {gpus:g}, but no machine of the cluster has more than {most:g} GPUs")
    cpus = settings.cpus or _default_cpus(with_gpus, gpus)
    fitting = tuple(node for node in with_gpus if node.cpus >= cpus)
    if not fitting:
        most_cpus = max(node.cpus for node in with_gpus)
        raise InputError(f"`ray_cpus` is {cpus}, but no machine for it has more than {most_cpus} cores")
    return Cluster(ray, fitting, cpus, gpus, settings)


def _default_cpus(nodes: Sequence[Node], gpus: float) -> int:
    if gpus:
        return max(1, min(int(node.cpus * gpus / node.gpus) for node in nodes))
    # With as many threads as this process has, the figures are those of a sweep without a cluster.
    return max(1, min(MOST_CPUS, torch.get_num_threads(), *(node.cpus for node in nodes)))


def _fitting(node: Node, cpus: int, gpus: float) -> int:
    by_gpu = int(node.gpus / gpus) if gpus else node.cpus
    return min(node.cpus // cpus, by_gpu)
