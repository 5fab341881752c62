"""Rounding to half precision leaves the zeros what they are, and no signs on them."""

import torch

from sparsity import prune
from sparsity.formats.half import round_to_half, to_half


def test_pruned_weights_have_no_signs(tiny):
    weight = prune(tiny, 0.6).get_parameter("model.1.conv.weight")
    zeros = weight == 0
    assert zeros[torch.signbit(weight)].any()
    round_to_half(tiny)
    assert torch.equal(weight == 0, zeros)
    assert not torch.signbit(weight[zeros]).any()


def test_a_half_tensor_is_copied():
    tensor = torch.tensor([-0.0, 1.0], dtype=torch.float16)
    to_half(tensor, "a")[1] = 2
    assert tensor.tolist() == [0, 1]
