"""Two processes that share a clip compute what one does, and refuse what cannot be shared."""

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.model.attention import SparseLinear
from interp_refiner.model.backbone import Backbone, FullRecomputation, Global
from interp_refiner.model.backbone.spread import Together
from interp_refiner.training.strategy import SequenceParallel, Ulysses
from tests.model.backbone.small_wan import clip, loss_and_gradients, small_wan
from tests.training.strategy.groups import difference, together

pytestmark = pytest.mark.xdist_group("processes")  # one worker has their server
CASES = {
    "dense": {},
    "recomputed": {"recomputation": FullRecomputation()},
    "one timestep": {"timestep": Global()},
    "sparse": {"attention": SparseLinear(ratio=0.5, block_q=16, block_k=8, tile=(2, 2, 2))},
}
UNEVEN = {"heads": ((8, 6), {"num_attention_heads": 3}), "tokens": ((6, 6), {})}  # 5 frames of 3 x 3 tokens


def outcome(model):
    with torch.no_grad():
        output = model(clip())
    loss, gradients = loss_and_gradients(model, clip())
    return {"output": output, "loss": loss, **gradients}


def work(rank):
    torch.distributed.init_process_group("gloo")

    def shared(settings):
        model = small_wan(**settings)
        model.spread_tokens(Ulysses(torch.distributed.group.WORLD))
        return model

    found = {name: outcome(shared(settings)) for name, settings in CASES.items()}
    for name, (space, settings) in UNEVEN.items():
        with pytest.raises(BadValue) as refused:
            shared(settings)(clip(space=space))
        found[name] = str(refused.value)
    torch.distributed.barrier()
    return found


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    return together(work, tmp_path_factory.mktemp("ulysses"), 2)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_that_share_a_clip_compute_what_one_does(processes, name):
    """Outputs and losses in each process, gradients in the mean of both, as strategies take it."""
    alone, (first, second) = outcome(small_wan(**CASES[name])), (found[name] for found in processes)
    assert first.keys() == second.keys() == alone.keys()
    assert torch.equal(first["output"], second["output"])
    torch.testing.assert_close(first["output"], alone["output"], atol=1e-5, rtol=1e-5)
    largest = max(float(value.abs().max()) for value in alone.values())
    mean = {key: (first[key] + second[key]) / 2 for key in alone}
    assert difference(mean, alone) < 1e-5 * largest
    apart = [key for key in alone if "blocks" in key and not torch.allclose(first[key], second[key])]
    assert apart, "each process has computed a part only"


@pytest.mark.parametrize(("name", "count"), [("heads", "3 heads of the backbone"), ("tokens", "45 tokens of a clip")])
def test_what_cannot_be_shared_evenly_is_refused_by_name(processes, name, count):
    assert processes[0][name] == f"trainer.strategy.size=2: expected a divisor of the {count}"


def test_a_network_without_tokens_and_a_bad_size_are_refused():
    class Pointwise(Backbone):
        def forward(self, corrupted):
            return corrupted.x

        def zero_output(self):
            pass

    with pytest.raises(BadValue, match="fsdp2 or hsdp: a Pointwise has no tokens"):
        Pointwise().spread_tokens(Together())
    with pytest.raises(BadValue, match="size=0"):
        SequenceParallel(size=0)
