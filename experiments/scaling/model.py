"""Computes memory and step time on nodes of 8 GPUs from assumptions: ``python experiments/scaling/model.py``.

Nothing is measured; every assumption is a field below.
"""

from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class Assumptions:
    """The assumptions of the tables.

    Attributes:
        parameters: of Wan2.1 1.3B with the refiner's additions.
        compute_seconds: of a step of 2 clips on one GPU, without communication.
        nvlink, network: bytes per second that a collective moves per GPU inside a node and between nodes.
        hidden: share of the compute time that communication can overlap with: the backward pass.
        latency: seconds of one hop of a collective.
        jitter: relative standard deviation of a process's compute time from step to step; the slowest one sets it.
        blocks: collectives of one kind in a step.
        sharing: processes that share clips under ``sequence``, a divisor of 12 heads and of 8 GPUs.
        tokens, width, layers: of a clip, of a token, blocks of the transformer.
    """

    parameters: float = 1.42e9
    compute_seconds: float = 1.3
    nvlink: float = 350e9
    network: float = 40e9
    hidden: float = 0.66
    latency: float = 20e-6
    jitter: float = 0.01
    blocks: int = 31
    sharing: int = 4
    tokens: int = 32760
    width: int = 1536
    layers: int = 30


GPUS = 8


def state_gigabytes(a: Assumptions, shards: int) -> float:
    """Weights, gradients, two moments and the average, float32, per GPU."""
    return 5 * 4 * a.parameters / shards / 1e9


def traffic(a: Assumptions, strategy: str, nodes: int, itemsize: int) -> tuple[float, float]:
    """Bytes that a GPU sends in a step inside its node and between nodes.

    A ring of n GPUs sends (n - 1) / n of a tensor to gather or reduce-scatter it, twice that to all-reduce it. Weights
    are gathered in ``itemsize`` bytes for the forward and again for the backward pass; gradients are float32.
    """
    gradients, weights, world = 4 * a.parameters, itemsize * a.parameters, GPUS * nodes
    inside, across = (GPUS - 1) / GPUS, (nodes - 1) / nodes
    if strategy == "ddp":  # reduce-scatter in the node, all-reduce of the eighths across, gather in the node
        return 2 * gradients * inside, 2 * gradients / GPUS * across
    if strategy == "hsdp":  # the same, without gathering gradients but gathering weights twice
        return (gradients + 2 * weights) * inside, 2 * gradients / GPUS * across
    if strategy == "sequence":  # as hsdp, with shards among those that share clips
        share, replicas = (a.sharing - 1) / a.sharing, world // a.sharing
        gathered, averaged = (gradients + 2 * weights) * share, 2 * gradients / a.sharing * (replicas - 1) / replicas
        return (gathered, averaged) if nodes > 1 else (gathered + averaged, 0.0)
    ring = (gradients + 2 * weights) * (world - 1) / world
    return ring, ring / GPUS if nodes > 1 else 0.0  # fsdp2: 8 rings over all GPUs, each through one network card a node


def exchanged(a: Assumptions, strategy: str) -> float:
    """Bytes of tokens that a GPU sends in a step and that cannot overlap with compute: only ``sequence`` has them.

    Queries, keys, values and outputs of 2 clips, in bfloat16, except the GPU's own share of the heads. They are sent
    forward, again where blocks are recomputed, and backward.
    """
    sent = 4 * 2 * 2 * a.tokens * a.width * (a.sharing - 1) / a.sharing
    return 3 * a.layers * sent if strategy == "sequence" else 0.0


def step_seconds(a: Assumptions, strategy: str, nodes: int, itemsize: int) -> tuple[float, float]:
    """Seconds of a step and of communication in it."""
    inside, across = traffic(a, strategy, nodes, itemsize)
    collectives = a.blocks * (1 if strategy == "ddp" else 3)
    members = nodes * (GPUS if strategy == "fsdp2" else 1)  # hops of its longest ring
    communication = inside / a.nvlink + across / a.network + collectives * a.latency * members
    slowest = a.compute_seconds * (1 + a.jitter * expected_maximum(GPUS * nodes))
    tokens = exchanged(a, strategy) / a.nvlink
    return slowest + tokens + max(0.0, communication - a.hidden * a.compute_seconds), communication + tokens


def expected_maximum(n: int) -> float:
    """The expected maximum of n standard normal numbers (Blom 1958)."""
    return NormalDist().inv_cdf((n - 0.375) / (n + 0.25))


def main() -> None:
    """Prints the tables of the README."""
    a = Assumptions()
    print("| strategy | shards | state per GPU, GB |\n|---|---|---|")
    for strategy, shards in (("ddp", 1), ("hsdp, 8 per node", GPUS), ("fsdp2, 64 nodes", GPUS * 64)):
        print(f"| {strategy} | {shards} | {state_gigabytes(a, shards):.2f} |")
    print(
        "\n| strategy | nodes | GB inside a node | GB between nodes | communication s | step s | clips/s | efficiency |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for strategy, itemsize in (("ddp", 4), ("hsdp", 2), ("fsdp2", 2), ("sequence", 2)):
        for nodes in (1, 2, 4, 8, 16, 32, 64):
            inside, across = (bytes_ / 1e9 for bytes_ in traffic(a, strategy, nodes, itemsize))
            inside += exchanged(a, strategy) / 1e9
            seconds, communication = step_seconds(a, strategy, nodes, itemsize)
            row = [strategy, nodes, f"{inside:.1f}", f"{across:.2f}", f"{communication:.3f}", f"{seconds:.3f}"]
            row += [f"{2 * GPUS * nodes / seconds:.0f}", f"{a.compute_seconds / seconds:.1%}"]
            print("| " + " | ".join(map(str, row)) + " |")


if __name__ == "__main__":
    main()
