"""The runtimes that int8 files are made for."""

from __future__ import annotations

ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
RUNTIMES = (ONNXRUNTIME, OPENVINO)
"""The names of their packages; the first one is the default."""
