"""Writes a network as one C file that runs without Python: the sparse engine's layout and kernels in C11."""
