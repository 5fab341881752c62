"""A real Ray cluster of two machines, which both are this one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.processes import CPUS


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    """A cluster whose head has no cores, and two machines with some; this process is connected to it."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=CPUS)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
