"""The four algorithms against a textbook implementation: plain autograd, nested lists, no shortcut of the package.

The min-norm point is found over all supports; a trial copies the model, moves the copy and runs it.
"""

import copy
import itertools

import pytest
import torch
from helpers import batch, copies, mlp

from fastls import BLS, FBLS, MGDAUB, SGD, Backtracking, EqualWeight

BETA, GAMMA = 0.1, 0.5


def min_norm(G: torch.Tensor) -> torch.Tensor:
    """The shortest of the points that are stationary on the face of some support."""
    best, shortest = None, float("inf")
    for size in range(1, len(G) + 1):
        for support in map(list, itertools.combinations(range(len(G)), size)):
            x = torch.linalg.solve(G[support][:, support], torch.ones(size, dtype=G.dtype))
            alpha = torch.zeros(len(G), dtype=G.dtype)
            alpha[support] = x / x.sum()
            if (alpha >= 0).all() and alpha @ G @ alpha < shortest:
                best, shortest = alpha, alpha @ G @ alpha
    return best


def textbook_step(model, inputs, targets, latent: bool, lr: float, search: bool) -> int:
    """One step of SGD, BLS, MGDA-UB or FBLS; returns the number of trials."""
    shared = list(model.encoder.parameters())
    z = model.encoder(inputs)
    losses = [model.losses[t](model.decoders[t](z), targets[t]) for t in model.tasks]
    own = [
        torch.autograd.grad(loss, list(model.decoders[t].parameters()), retain_graph=True)
        for t, loss in zip(model.tasks, losses, strict=True)
    ]
    wanted = [z] if latent else shared
    pieces = [torch.autograd.grad(loss, wanted, retain_graph=True) for loss in losses]
    F = torch.stack([torch.cat([piece.flatten() for piece in row]) for row in pieces])
    alpha = min_norm(F @ F.T)
    weighted = sum(a * loss for a, loss in zip(alpha, losses, strict=True))
    d_sh = torch.autograd.grad(weighted, shared, retain_graph=True)
    slopes = [sum((g**2).sum() for g in row) + F[t] @ (alpha @ F) for t, row in enumerate(own)]

    def moved(eta):
        trial = copy.deepcopy(model)
        with torch.no_grad():
            for t, row in zip(model.tasks, own, strict=True):
                for p, g in zip(trial.decoders[t].parameters(), row, strict=True):
                    p -= eta * g
            for p, g in zip(trial.encoder.parameters(), d_sh, strict=True):
                p -= eta * g
        return trial

    def passes(eta):
        trial = moved(eta)
        with torch.no_grad():
            trial_z = z - eta * (alpha @ F).view_as(z) if latent else trial.encoder(inputs)
            values = [model.losses[t](trial.decoders[t](trial_z), targets[t]) for t in model.tasks]
        return all(v <= loss - eta * BETA * s for v, loss, s in zip(values, losses, slopes, strict=True))

    eta, trials = lr, int(search)
    while search and not passes(eta):
        eta, trials = eta * GAMMA, trials + 1
    model.load_state_dict(moved(eta).state_dict())
    return trials


@pytest.mark.parametrize("tasks", [2, 3])
@pytest.mark.parametrize(
    ("algorithm", "rate"),
    [(SGD, 0.05), (SGD, 0.2), (MGDAUB, 0.05), (MGDAUB, 0.2)]
    + [(BLS, 0.3), (BLS, 3.0), (BLS, 30.0), (FBLS, 0.3), (FBLS, 3.0), (FBLS, 30.0)],
)
def test_twenty_steps_equal_the_textbook(algorithm, rate, tasks):
    search, latent = algorithm in (BLS, FBLS), algorithm in (MGDAUB, FBLS)
    ours, textbook = mlp(tasks), mlp(tasks)
    start = copies(ours)
    optimizer = algorithm(ours, rate, line_search=Backtracking(BETA, GAMMA)) if search else algorithm(ours, rate)
    trials = []
    for step in range(20):
        inputs, targets = batch(tasks, seed=step % 4)
        record = optimizer.step(inputs, targets)
        trials.append(record.trials)
        assert textbook_step(textbook, inputs, targets, latent, rate, search) == record.trials
        for p, q in zip(ours.parameters(), textbook.parameters(), strict=True):
            assert torch.allclose(p, q, rtol=1e-6, atol=1e-6)
    assert max((p - q).abs().max() for p, q in zip(ours.parameters(), start, strict=True)) > 0.01
    if rate >= 3:
        assert max(trials) > 1  # backtracking did happen
    if not search:
        assert max(trials) == 0


@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_equal_weight_is_torch_sgd_on_the_mean_loss(tasks):
    ours, plain = mlp(tasks), mlp(tasks)
    optimizer, reference = EqualWeight(ours, lr=0.1), torch.optim.SGD(plain.parameters(), lr=0.1)
    for step in range(20):
        inputs, targets = batch(tasks, seed=step)
        record = optimizer.step(inputs, targets)
        outputs = plain(inputs)
        losses = torch.stack([plain.losses[t](outputs[t], targets[t]) for t in plain.tasks])
        reference.zero_grad()
        losses.mean().backward()
        reference.step()
        assert torch.allclose(record.losses, losses.detach())
        for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
            assert torch.allclose(p, q, rtol=1e-10, atol=1e-12)
