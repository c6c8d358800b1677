"""Muon for the matrices of blocks, AdamW for the rest, as one optimizer."""

import copy

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.training.optimizer import AdamW, Muon, is_block_matrix, orthogonalised
from tests.model.backbone.small_ltx import small_ltx
from tests.model.backbone.small_wan import small_wan

RECIPE = Muon(lr=0.01, warmup_steps=0)


def with_gradients(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return model


def test_muon_takes_the_matrices_of_blocks_by_name():
    model = small_wan()
    muon, decayed, plain = RECIPE.optimizer(model).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    of = lambda group: {names[id(p)] for p in group["params"]}  # noqa: E731
    assert {"wan.blocks.0.attn1.to_q.weight", "wan.blocks.2.ffn.net.2.weight"} <= of(muon)
    assert all(name.startswith("wan.blocks.") and name.endswith(".weight") for name in of(muon))
    assert {"wan.patch_embedding.weight", "wan.proj_out.weight", "frame_numbers.out.weight"} <= of(decayed)
    assert {"wan.blocks.0.scale_shift_table", "wan.blocks.0.norm2.weight", "wan.proj_out.bias"} <= of(plain)
    assert plain["weight_decay"] == 0 < decayed["weight_decay"]
    assert len(of(muon)) + len(of(decayed)) + len(of(plain)) == len(names)


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (32, 32)], ids=str)
def test_orthogonalising_brings_singular_values_to_one_and_keeps_the_singular_vectors(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonalised(matrix, torch.float32) @ vt.T
    sizes = found.diagonal()
    assert sizes.min() > 0.6
    assert sizes.max() < 1.3
    torch.testing.assert_close(found, sizes.diag(), atol=1e-4, rtol=0)


def test_in_bfloat16_a_rounding_of_the_gradient_moves_the_update_a_hundred_times_more_than_in_float32():
    """Since it may round to another bfloat16; so several processes are not one (experiments/strategies)."""
    matrix = torch.randn(64, 192, generator=torch.Generator().manual_seed(2))
    nearly = matrix * (1 + 2**-20 * torch.randn(matrix.shape, generator=torch.Generator().manual_seed(3)))
    low, full = (
        (orthogonalised(nearly, dtype).float() - orthogonalised(matrix, dtype).float()).abs().max()
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert low > 100 * full > 0


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 1e-7), ("float32", 5e-4)])
def test_a_step_is_muons_on_matrices_and_adamws_on_the_rest(dtype, tolerance):
    """Muon's is torch's, which is in bfloat16."""
    joined, adamw = with_gradients(small_wan()), with_gradients(small_wan())
    matrices = [p for name, p in small_wan().named_parameters() if is_block_matrix(name, p)]
    muon = torch.optim.Muon(matrices, lr=0.01, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    start = {name: p.detach().clone() for name, p in joined.named_parameters()}
    for p, q in zip(matrices, [p for n, p in joined.named_parameters() if is_block_matrix(n, p)], strict=True):
        p.grad = q.grad.clone()
    Muon(lr=0.01, warmup_steps=0, orthogonalised_in=dtype).optimizer(joined).step()
    AdamW(lr=0.01, warmup_steps=0).optimizer(adamw).step()
    muon.step()
    expected, others = iter(matrices), dict(adamw.named_parameters())
    for name, parameter in joined.named_parameters():
        assert not torch.equal(parameter, start[name])
        reference = next(expected) if is_block_matrix(name, parameter) else others[name]
        torch.testing.assert_close(parameter, reference, atol=tolerance, rtol=0)


def test_its_rate_follows_the_schedule_and_its_state_resumes():
    first = with_gradients(small_wan())
    configured = Muon(lr=0.01, warmup_steps=4).configure(first, 100)
    optimizer = configured["optimizer"]
    optimizer.step()
    configured["lr_scheduler"]["scheduler"].step()
    assert {group["lr"] for inner in optimizer.optimizers for group in inner.param_groups} == {0.005}
    second = copy.deepcopy(first)
    resumed = RECIPE.optimizer(second)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for model, chosen in ((first, optimizer), (second, resumed)):
        with_gradients(model, seed=1)
        chosen.step()
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))


def test_bad_momentum_and_precision_are_refused():
    with pytest.raises(BadValue, match="momentum=1"):
        Muon(momentum=1.0)
    with pytest.raises(BadValue, match=r"orthogonalised_in=float16: expected float32 \| bfloat16; did you mean"):
        Muon(orthogonalised_in="float16")


def test_muon_takes_the_matrices_of_ltx_but_not_its_tables():
    model = small_ltx()
    names = {id(p): name for name, p in model.named_parameters()}
    taken = {names[id(p)] for p in RECIPE.optimizer(model).param_groups[0]["params"]}
    assert "ltx.transformer_blocks.0.attn1.to_q.weight" in taken
    assert all(".transformer_blocks." in name and name.endswith(".weight") for name in taken)


def test_a_module_without_matrices_in_blocks_is_refused():
    with pytest.raises(BadValue, match=r"^optimizer=muon: expected adamw, because no matrix .*is trained$"):
        RECIPE.optimizer(torch.nn.Linear(2, 2))
