"""Compares FlexAttention on a CPU with the exact reference; prints the largest error as JSON.

It is a process of its own, because compiled code cannot contain the shape checks of the tests' import hook.
"""

import json
import sys

import torch

from interp_refiner.model.attention.blocks import block_attention, choose_blocks
from interp_refiner.model.attention.flex import flex_block_attention

if __name__ == "__main__":
    tokens = int(sys.argv[1])
    q, k, v = torch.randn(3, 2, 2, tokens, 32, generator=torch.Generator().manual_seed(0)).unbind()
    kept = choose_blocks(q, k, 0.5, 64, 32)
    with torch.no_grad():
        difference = flex_block_attention(q, k, v, kept) - block_attention(q, k, v, kept)
    print(json.dumps({"error": float(difference.abs().max())}))
