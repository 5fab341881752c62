"""Where a cluster's tasks are computed: on which machines, and with what share of one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sparsity.base.errors import InputError

LOCAL = "local"
"""Stands for a cluster of this machine alone, which is started, and stopped at the end."""
MOST_CPUS = 4
"""The cores of a task on a CPU where none are given: a detector computes four images at a time."""


@dataclass(frozen=True)
class ClusterSettings:
    """Where the levels of a sweep, or the techniques of a comparison, are computed.

    address: LOCAL; "auto" for the cluster that `ray start` made on this machine; or HOST:PORT of its head.
    cpus: the cores of a task; None: four, or fewer on smaller machines; with GPUs, those of a GPU's share.
    gpus: the GPUs of a task, such as 0.5 for two tasks on one; None: one, where there are GPUs.
    retries: how often a task is computed again in a row, without progress, after its worker died.
    """

    address: str = LOCAL
    cpus: int | None = None
    gpus: float | None = None
    retries: int = 3

    def __post_init__(self) -> None:
        """Raise InputError for a value out of range."""
        if self.cpus is not None and (not isinstance(self.cpus, int) or self.cpus < 1):
            raise InputError(f"`ray_cpus` is {self.cpus!r}; a number of cores from 1 on is expected")
        if self.gpus is not None and not (math.isfinite(self.gpus) and self._is_share(self.gpus)):
            raise InputError(
                f"`ray_gpus` is {self.gpus:g}; 0, a share such as 0.5, or a whole number is expected"
            )
        if not isinstance(self.retries, int) or self.retries < 0:
            raise InputError(f"`ray_retries` is {self.retries!r}; a number from 0 on is expected")

    @staticmethod
    def _is_share(gpus: float) -> bool:
        return 0 <= gpus <= 1 or (gpus > 1 and gpus == int(gpus))
