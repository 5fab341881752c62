"""The processes of a cluster: how many cores a machine has, and how a worker is killed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CPUS = 2
"""The cores of each machine."""
KILLER = """
import os, pathlib, signal, sys, time
title, times, ours = f"ray::{sys.argv[1]}".encode(), int(sys.argv[2]), sys.argv[3]

def is_ours(process):
    while process not in (ours, "0"):
        status = pathlib.Path("/proc", process, "status").read_text()
        process = status.split("PPid:")[1].split()[0]
    return process == ours

while times:
    time.sleep(0.01)
    for place in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if times and place.read_bytes().startswith(title) and is_ours(place.parent.name):
                os.kill(int(place.parent.name), signal.SIGKILL)
                times -= 1
        except OSError:
            pass
print("killed")
"""
"""Kills this number of workers that run a function, by the title that Ray gives their processes.

Only those of the cluster that this process started: other tests may run beside.
"""


@contextmanager
def killing(work: str, times: int) -> Iterator[subprocess.Popen]:
    """Kill workers that run this function, from another process."""
    command = [sys.executable, "-c", KILLER, work, str(times), str(os.getpid())]
    killer = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield killer
    finally:
        killer.kill()
