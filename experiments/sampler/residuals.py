"""Three Markdown tables of how well samplers reproduce residuals with exact clean estimates: python residuals.py

With exact estimates, every error is due to the steps. The first table has the variance of a Gaussian residual, which
follows from a deterministic recursion. The others use 20,000 states each: the distance to distributions that are not
Gaussian, and which of two motions a sample chooses.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from interp_refiner.model.sampler import Arc, Bridge, Even, Spacing, Step, steps_along

DEVIATION = 0.3
EVALUATIONS, ETAS, SIGMAS = (4, 8, 16), (0.0, 1.0), (0.2, 0.4, 0.8)
SPACINGS = {"even": Even(), "arc": Arc(DEVIATION)}
LAWS = {  # means, deviations and weights of a mixture of normal laws
    "two modes, 1 : 1": ([-0.3, 0.3], [0.05, 0.05], [0.5, 0.5]),
    "two modes, 4 : 1": ([-0.15, 0.6], [0.05, 0.05], [0.8, 0.2]),
    "three scales": ([0.0, 0.0, 0.0], [0.02, 0.2, 0.9], [0.7, 0.2, 0.1]),
}
STATES, SIGMA_OF_LAWS = 20_000, 0.6
QUANTILES = (torch.arange(STATES, dtype=torch.float64) + 0.5) / STATES
APART = (1.0, 2.0, 4.0, 16.0)  # of the two motions, over a whole patch


def first_order(spacing: Spacing, evaluations: int, eta: float, sigma: float) -> list[Step]:
    """The clean estimate as it is."""
    return Bridge(evaluations, 1, eta, spacing).along(sigma)


def by_log_snr(spacing: Spacing, evaluations: int, eta: float, sigma: float) -> list[Step]:
    """The two-step multistep of Lu et al. (2022): of first order where the logarithm is infinite."""
    taus = spacing(evaluations, sigma)
    steps = steps_along(taus, eta)
    clock = {n: math.log((1 - tau) / tau) for n, tau in enumerate(taus) if 0 < tau < 1}
    for n in range(2, evaluations - 1):
        steps[n] = replace(steps[n], ahead=(clock[n + 1] - clock[n]) / 2 / (clock[n] - clock[n - 1]))
    return steps


def second_order(spacing: Spacing, evaluations: int, eta: float, sigma: float) -> list[Step]:
    """The project's own steps."""
    return Bridge(evaluations, 2, eta, spacing).along(sigma)


METHODS: dict[str, Callable[[Spacing, int, float, float], list[Step]]] = {
    "first order": first_order,
    "log SNR (Lu et al.)": by_log_snr,
    "**order 2**": second_order,
}


def gain(tau: float, sigma: float) -> float:
    """``z0_hat - zbar = gain (x - zbar)`` of the Gaussian."""
    a, b = 1 - tau, tau * sigma
    return a * DEVIATION**2 / (a**2 * DEVIATION**2 + b**2)


def variance_kept(steps: Sequence[Step], sigma: float) -> float:
    """The state is linear in the noise of the start and of every step; these are its coefficients."""
    state, before = torch.zeros(len(steps) + 1, dtype=torch.float64), 0.0
    state[0] = sigma
    for number, step in enumerate(steps):
        estimate = gain(step.tau, sigma) * state
        state = step.keep * state + step.pull * (estimate + step.ahead * (estimate - before))
        state[number + 1] += step.fresh * sigma
        before = estimate
    return float(state.square().sum()) / DEVIATION**2


def heun(spacing: Spacing, evaluations: int, sigma: float) -> float:
    """Heun's method on ``dy/dtau = (y - u_hat) / tau``, its last step Euler's (Karras et al. 2022, algorithm 1).

    N evaluations are (N + 1) / 2 steps, so an even number leaves one evaluation unused.
    """
    y = sigma
    for tau, after in pairwise(spacing((evaluations + 1) // 2, sigma)):
        slope = y * (1 - gain(tau, sigma)) / tau
        ahead = y + (after - tau) * slope
        if after > 0:
            ahead = y + (after - tau) * (slope + ahead * (1 - gain(after, sigma)) / after) / 2
        y = ahead
    return y**2 / DEVIATION**2


def posterior_mean(y: Tensor, tau: float, sigma: float, law: Sequence[Sequence[float]]) -> Tensor:
    """``E[z0 - zbar | x - zbar = y]`` under a mixture of normal laws."""
    mean, deviation, weight = (torch.tensor(part, dtype=torch.float64) for part in law)
    a, b = 1 - tau, tau * sigma
    variance, off = a**2 * deviation**2 + b**2, y.unsqueeze(1) - a * mean
    share = torch.softmax(weight.log() - 0.5 * variance.log() - 0.5 * off**2 / variance, 1)
    return (share * (mean + a * deviation**2 / variance * off)).sum(1)


def sampled(steps: Sequence[Step], sigma: float, law: Sequence[Sequence[float]]) -> Tensor:
    """States at ``tau = 0``, from as many quantiles of the start."""
    generator = torch.Generator().manual_seed(0)
    y, before = sigma * torch.special.ndtri(QUANTILES), None
    for step in steps:
        u = posterior_mean(y, step.tau, sigma, law)
        ahead = u if before is None else u + step.ahead * (u - before)
        fresh = torch.randn(STATES, generator=generator, dtype=torch.float64)
        y = step.keep * y + step.pull * ahead + step.fresh * sigma * fresh
        before = u
    return y


def distance(steps: Sequence[Step], sigma: float, law: Sequence[Sequence[float]]) -> float:
    """Squared 2-Wasserstein distance between the samples and the law, in units of the law's variance."""
    mean, deviation, weight = (torch.tensor(part, dtype=torch.float64) for part in law)
    grid = torch.linspace(-4, 4, 400_001, dtype=torch.float64)
    below = (weight * torch.special.ndtr((grid.unsqueeze(1) - mean) / deviation)).sum(1)
    truth = grid[torch.searchsorted(below, QUANTILES)]
    return float((sampled(steps, sigma, law).sort().values - truth).square().mean() / truth.var())


def choice(steps: Sequence[Step], sigma: float, apart: float) -> str:
    """For two motions with probabilities .6 and .4: shares of the rarer one, of ghosts in between, and beyond both."""
    near, far, detail = -0.4 * apart, 0.6 * apart, 0.1
    y = sampled(steps, sigma, ([near, far], [detail, detail], [0.6, 0.4]))
    beyond = (y < near - 3 * detail) | (y > far + 3 * detail)
    shares = (y > 0.1 * apart, (y > near + 3 * detail) & (y < far - 3 * detail), beyond)
    return " ".join(f"{share.double().mean():.2f}" for share in shares)


def main() -> None:
    """Prints the tables."""
    columns = [(n, eta) for n in EVALUATIONS for eta in ETAS]
    print("| spacing | method | " + " | ".join(f"{n}, eta {eta:g}" for n, eta in columns) + " |")
    print("|---|---" + "|---" * len(columns) + "|")
    for name, spacing in SPACINGS.items():
        for method, make in METHODS.items():
            cells = [
                " ".join(f"{variance_kept(make(spacing, n, eta, sigma), sigma):.2f}" for sigma in SIGMAS)
                for n, eta in columns
            ]
            print(f"| {name} | {method} | " + " | ".join(cells) + " |")
        cells = ["" if eta else " ".join(f"{heun(spacing, n, sigma):.2f}" for sigma in SIGMAS) for n, eta in columns]
        print(f"| {name} | Heun | " + " | ".join(cells) + " |")
    print("\n| law | method | " + " | ".join(f"{n}, eta {eta:g}" for n, eta in columns) + " |")
    print("|---|---" + "|---" * len(columns) + "|")
    for name, law in LAWS.items():
        for method, make in METHODS.items():
            cells = [f"{distance(make(Even(), n, eta, SIGMA_OF_LAWS), SIGMA_OF_LAWS, law):.3f}" for n, eta in columns]
            print(f"| {name} | {method} | " + " | ".join(cells) + " |")
    print("\n| evaluations | method | sigma | " + " | ".join(f"apart {apart:g}" for apart in APART) + " |")
    print("|---|---|---" + "|---" * len(APART) + "|")
    for evaluations in (4, 8):
        for method in ("first order", "**order 2**"):
            for sigma in (0.2, 0.5, 1.0):
                steps = METHODS[method](Even(), evaluations, 0.0, sigma)
                cells = [choice(steps, sigma, apart) for apart in APART]
                print(f"| {evaluations} | {method} | {sigma} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
