"""Newton's method for two objectives: its definition, its order, and what the encoder cannot do to it."""

import pytest
import torch

from fastls.experiments.studies.toy.second_order import NewtonMOO, newton_weights
from fastls.experiments.studies.toy.toy import follow, two_quadratics


def random_problem(seed: int, p: int = 3):
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(2, p, generator=generator, dtype=torch.float64)
    roots = torch.randn(2, p, p, generator=generator, dtype=torch.float64)
    return gradients, roots @ roots.mT + torch.eye(p, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(8))
def test_the_direction_solves_the_min_max_problem(seed):
    """No other d, near or far, has a lower max_t g_tᵀd + ½ dᵀH_t d."""
    gradients, hessians = random_problem(seed)
    weights = newton_weights(gradients, hessians)
    direction = -torch.linalg.solve(torch.tensordot(weights, hessians, dims=1), weights @ gradients)

    def worst(d):
        return (d @ gradients.T + torch.einsum("ni,tij,nj->nt", d, hessians, d) / 2).amax(1)

    generator = torch.Generator().manual_seed(seed)
    others = (
        direction
        + torch.randn(4000, 3, generator=generator, dtype=torch.float64) * torch.logspace(-5, 1, 4000)[:, None]
    )
    assert (worst(others) >= worst(direction[None]) - 1e-9).all()
    assert worst(direction[None]).item() == pytest.approx((weights @ gradients @ direction).item() / 2, abs=1e-6)


def test_more_than_two_objectives_are_refused():
    with pytest.raises(ValueError, match="need two objectives, not 3"):
        newton_weights(torch.zeros(3, 2), torch.eye(2).expand(3, 2, 2))


@pytest.mark.parametrize("method", ["Newton", "latent Newton"])
def test_one_full_step_arrives_and_lowers_both_losses(method):
    run = follow(two_quadratics(), method, (2.0, 2.2), steps=20)
    assert run["outcome"].iloc[-1] == "arrived"
    assert len(run) == 2  # the minimiser of any weighted sum of two quadratics is on their Pareto set
    assert (run[["loss_1", "loss_2"]].diff().iloc[1:] <= 1e-12).all(axis=None)


@pytest.mark.parametrize("ratio", [1.0, 0.1, 0.01])
def test_with_a_linear_encoder_latent_newton_is_newton_whatever_its_conditioning(ratio):
    toy = two_quadratics(ratio=ratio)
    models = [toy.model((2.0, 2.2)) for _ in range(2)]
    for _ in range(3):
        for model, latent in zip(models, (False, True), strict=True):
            NewtonMOO(model, latent).step(None, dict.fromkeys(model.tasks))
        z = [model.encoder(None) for model in models]
        torch.testing.assert_close(z[0], z[1], rtol=1e-5, atol=1e-6)


def test_latent_trials_cost_decoders_alone():
    model = two_quadratics().model((2.0, 2.2))
    for latent in (False, True):
        record = NewtonMOO(model, latent).step(None, dict.fromkeys(model.tasks))
        assert record.passes.encoder_forward == (1 if latent else 1 + record.trials)


@pytest.mark.parametrize("latent", [False, True])
def test_losses_are_those_before_the_step(latent):
    model = two_quadratics().model((2.0, 2.2))
    z = model.encoder(None)
    before = [model.losses[task](model.decoders[task](z), None).item() for task in model.tasks]
    assert NewtonMOO(model, latent).step(None, dict.fromkeys(model.tasks)).losses.tolist() == pytest.approx(before)
