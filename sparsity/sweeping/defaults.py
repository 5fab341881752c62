"""Defaults of a sweep. This module imports nothing, so that a --help is fast."""

BATCH_SIZES = (1, 32)
"""The batch sizes at which latency is measured."""
BOOTSTRAP = 1000
"""The number of resamples of the images for the intervals of AP."""
