"""Which share of a machine a task takes, and what is refused before anything is computed."""

import socket

import pytest
import torch

from sparsity.base.errors import InputError
from sparsity.cluster import connection
from sparsity.cluster.connection import Cluster, Node, connected
from sparsity.cluster.settings import ClusterSettings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cpus": 0}, "`ray_cpus` is 0; a number of cores from 1 on is expected"),
        ({"gpus": -1.0}, "`ray_gpus` is -1; 0, a share such as 0.5, or a whole number is expected"),
        ({"gpus": 1.5}, "`ray_gpus` is 1.5; 0, a share"),
        ({"gpus": float("nan")}, "`ray_gpus` is nan; 0, a share"),
        ({"retries": -1}, "`ray_retries` is -1; a number from 0 on is expected"),
    ],
)
def test_values_out_of_range(given, words):
    with pytest.raises(InputError, match=words):
        ClusterSettings(**given)


def share(*nodes: tuple[int, float], device: str = "", **given) -> Cluster:
    made = [Node(str(i), cpus, gpus) for i, (cpus, gpus) in enumerate(nodes)]
    return connection._share(None, made, ClusterSettings(**given), device)


@pytest.mark.parametrize(
    ("nodes", "given", "cpus", "gpus", "tasks"),
    [
        ([(16, 0)], {"cpus": 4}, 4, 0, 4),
        ([(16, 0), (6, 0)], {"cpus": 4}, 4, 0, 5),
        ([(32, 8)], {}, 4, 1, 8),
        ([(32, 8), (16, 2)], {}, 4, 1, 10),
        ([(8, 1)], {"gpus": 0.5}, 4, 0.5, 2),
        ([(32, 8), (16, 0)], {}, 4, 1, 8),
        ([(32, 8)], {"device": "cpu", "cpus": 8}, 8, 0, 4),
        ([(32, 8)], {"gpus": 0.0, "cpus": 2}, 2, 0, 16),
        ([(0, 0), (4, 0)], {"cpus": 2}, 2, 0, 2),
    ],
)
def test_the_share_of_a_task(nodes, given, cpus, gpus, tasks):
    found = share(*nodes, **given)
    assert (found.cpus, found.gpus, found.tasks) == (cpus, gpus, tasks)


def test_a_task_on_cores_has_as_many_threads_as_this_process_or_four():
    assert share((64, 0)).cpus == min(4, torch.get_num_threads())
    assert share((1, 0)).cpus == 1


@pytest.mark.parametrize(
    ("nodes", "given", "words"),
    [
        ([(8, 1)], {"gpus": 2.0}, "`ray_gpus` is 2, but no machine of the cluster has more than 1 GPUs"),
        ([(8, 0)], {"gpus": 0.5}, "`ray_gpus` is 0.5, but no machine of the cluster has more than 0 GPUs"),
        ([(8, 0), (4, 0)], {"cpus": 9}, "`ray_cpus` is 9, but no machine for it has more than 8 cores"),
    ],
)
def test_more_than_there_is(nodes, given, words):
    with pytest.raises(InputError, match=words):
        share(*nodes, **given)


def test_one_line_about_the_cluster():
    assert share((32, 8), (32, 8)).describe() == (
        "Ray: 2 machines, 16 tasks at a time, each with 4 cores and 1 GPU"
    )
    assert share((2, 0), cpus=1).describe() == "Ray: 1 machine, 2 tasks at a time, each with 1 core"


@pytest.mark.parametrize("address", ["somewhere", "host:", ":6379", "host:port", "host:99999999"])
def test_an_address_that_is_none(address):
    pytest.importorskip("ray")
    words = "local, auto or HOST:PORT is expected|no cluster answers there"
    with pytest.raises(InputError, match=words), connected(ClusterSettings(address), device="cpu"):
        pass


def test_nobody_at_the_address():
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ClusterSettings(f"127.0.0.1:{port}")
    words = rf"`ray` 127.0.0.1:{port}: no cluster answers there .*`ray start --head` on that machine"
    with pytest.raises(InputError, match=words), connected(settings, device="cpu"):
        pass


def test_no_cluster_on_this_machine(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")

    def init(**_given):
        raise ConnectionError("Could not find any running Ray instance.\nMore lines")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    words = r"`ray` auto: no cluster answers there \(Could not find any running Ray instance.\); `ray start"
    with pytest.raises(InputError, match=words), connected(ClusterSettings("auto"), device="cpu"):
        pass


def test_without_ray(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    words = "`ray` needs the package ray .*: pip install ray"
    with pytest.raises(InputError, match=words), connected(ClusterSettings(), device="cpu"):
        pass
