"""The averaged weights: against a slow loop, in a real fit, through a checkpoint."""

import lightning as L
import pytest
import torch

from interp_refiner.core import AVERAGED, BadValue
from interp_refiner.training.callback import EMA


class Regression(L.LightningModule):
    """A linear layer trained by SGD that records its weights after every optimizer step."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 1, dtype=dtype)
        self.history, self.seen = [], []

    def training_step(self, batch, index):
        return self.layer(batch[0]).float().square().mean()

    def validation_step(self, batch, index):
        self.seen.append(self.layer.weight.detach().clone())

    def on_train_batch_end(self, *_):
        self.history.append(self.layer.weight.detach().clone())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.3)


def fit(module, ema, tmp_path, steps=6, **trainer):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(64, 3, generator=generator, dtype=torch.float32).to(module.layer.weight.dtype)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs), batch_size=4)
    trainer = L.Trainer(
        max_steps=steps,
        callbacks=[ema],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
        accelerator="cpu",
        **trainer,
    )
    trainer.fit(module, loader, loader)
    return trainer


def slow_average(start, history, decay):
    average = start.double()
    for step, weight in enumerate(history, start=1):
        d = min(decay, (1 + step) / (10 + step))
        average = d * average + (1 - d) * weight.double()
    return average


def test_average_equals_a_slow_loop(tmp_path):
    module, ema = Regression(), EMA(decay=0.5)
    start = module.layer.weight.detach().clone()
    fit(module, ema, tmp_path)
    expected = slow_average(start, module.history, 0.5)
    torch.testing.assert_close(ema.average["layer.weight"].double(), expected, atol=1e-6, rtol=0)


def test_validation_sees_the_average_and_training_goes_on_with_the_raw_weights(tmp_path):
    module, ema = Regression(), EMA(decay=0.9)
    fit(module, ema, tmp_path, limit_val_batches=1, val_check_interval=6)
    assert torch.equal(module.seen[0], ema.average["layer.weight"])
    assert torch.equal(module.layer.weight, module.history[-1])
    assert not torch.allclose(module.seen[0], module.history[-1])


def test_accumulated_batches_count_once(tmp_path):
    module, ema = Regression(), EMA(decay=0.5)
    start = module.layer.weight.detach().clone()
    fit(module, ema, tmp_path, steps=3, accumulate_grad_batches=2)
    expected = slow_average(start, module.history[1::2], 0.5)
    torch.testing.assert_close(ema.average["layer.weight"].double(), expected, atol=1e-6, rtol=0)


def test_the_average_of_bfloat16_weights_is_float32_and_moves(tmp_path):
    module, ema = Regression(torch.bfloat16), EMA(decay=0.999)
    ema.steps, start = 0, module.layer.weight.detach().float().clone()
    fit(module, ema, tmp_path)
    average = ema.average["layer.weight"]
    assert average.dtype == torch.float32
    assert not torch.equal(average, start)
    assert not torch.equal(average, average.bfloat16().float())  # a bfloat16 average could not hold it


def test_checkpoint_holds_average_and_raw_weights_and_resumes(tmp_path):
    module, ema = Regression(), EMA(decay=0.5)
    trainer = fit(module, ema, tmp_path)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert torch.equal(checkpoint["state_dict"]["layer.weight"], module.history[-1])
    assert torch.equal(checkpoint[AVERAGED]["layer.weight"], ema.average["layer.weight"])
    again = EMA(decay=0.5)
    again.on_load_checkpoint(trainer, module, checkpoint)
    assert again.steps == 6
    assert torch.equal(again.average["layer.weight"], ema.average["layer.weight"])


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_bad_decay_is_refused(decay):
    with pytest.raises(BadValue, match=f"decay={decay}"):
        EMA(decay=decay)
