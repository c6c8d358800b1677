"""Attention written as its equations, one query at a time."""

import math

import torch


def softmax_attention(q, k, v):
    return torch.stack([((q_i @ k.T) / math.sqrt(q.shape[1])).softmax(0) @ v for q_i in q])


def kept_sets(q, k, ratio, block_q, block_k):
    """The set of kept key blocks of every query block, for one head."""
    queries, keys = q.detach().split(block_q), k.detach().split(block_k)
    count = max(1, round(ratio * len(keys)))
    sets = []
    for rows in queries:
        affinity = [float(rows.mean(0) @ columns.mean(0)) for columns in keys]
        sets.append(set(sorted(range(len(keys)), key=lambda j: -affinity[j])[:count]))
    return sets


def sparse_attention(q, k, v, ratio, block_q, block_k):
    """Softmax over the kept key blocks of every query block, for one head."""
    keys, values, out = k.split(block_k), v.split(block_k), []
    for rows, kept in zip(q.split(block_q), kept_sets(q, k, ratio, block_q, block_k), strict=True):
        k_kept, v_kept = (torch.cat([blocks[j] for j in sorted(kept)]) for blocks in (keys, values))
        out.append(softmax_attention(rows, k_kept, v_kept))
    return torch.cat(out)


def linear_attention(q, k, v):
    """``O_l`` for one head: every query sums over every key."""
    out = []
    for q_i in q:
        weights = [q_i.softmax(0) @ k_j.softmax(0) for k_j in k]
        out.append(sum(w * v_j for w, v_j in zip(weights, v, strict=True)) / (1e-5 + sum(weights)))
    return torch.stack(out)


def over_heads(function, q, k, v):
    """Applies a function of one head to ``[b, n, h, d]``."""
    return torch.stack(
        [
            torch.stack([function(*(x[b, :, h] for x in (q, k, v))) for h in range(q.shape[2])], 1)
            for b in range(q.shape[0])
        ]
    )
