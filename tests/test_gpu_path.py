"""The path on a GPU, on any machine: gpu_path.py in a process that registers a device without numbers."""

import subprocess
import sys
from pathlib import Path


def test_the_path_on_a_gpu():
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "tests/gpu_path.py"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
