"""Defaults of a sweep. This module imports nothing, so that a --help is fast."""

BATCH_SIZES = (1, 32)
"""The batch sizes at which latency is measured."""
RESOLUTION = 0.01
"""The step between the sparsities that a search tries."""
DENSE, BELOW = "dense", "below"
PRUNED_FROM = (DENSE, BELOW)
"""What a level is pruned from: the dense network, or the fine-tuned one of the next smaller level."""
BOOTSTRAP = 1000
"""The number of resamples of the images for the intervals of AP."""
