"""Defaults of a sweep. Importing them imports nothing else, so that a --help is fast."""

BATCH_SIZES = (1, 32)
"""The batch sizes at which latency is measured."""
BOOTSTRAP = 1000
"""How many times the images are resampled for intervals of AP."""
