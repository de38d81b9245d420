"""Beyond the paper: which runs are compared, and how searches without a bound stand beside tuned constant steps."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd
import torch

from fastls.algorithms.block_search import BlockFBLS
from fastls.algorithms.directions import compute_gramian, weigh
from fastls.algorithms.line_search import Backtracking
from fastls.algorithms.optimizers import FBLS
from fastls.algorithms.spaces import Evaluation, LatentSpace, task_loss
from fastls.experiments.frames import to_frame
from fastls.experiments.parallel import run_all
from fastls.experiments.runs import RunConfig
from fastls.experiments.store import Run, RunStore
from fastls.experiments.sweeps import LR_UB, SEARCH, Protocol, block_run, gain_run
from fastls.experiments.tables import mean_interval
from fastls.models.multitask import MultiTaskModel
from fastls.models.quadratic import scalar_chain

# The paper's grid, continued upwards at its own ratio: the best constant step must not be the last one tried.
STEP_SIZES = (0.007197, 0.01389, 0.02683, 0.05179, 0.1, 0.1931, 0.3728, 0.7197)
CONSTANT = ("EqualWeight", "MGDA-UB")
FREE = ("FBLS+gain", "BlockFBLS", "BlockFBLS+RMS")  # no step size, no bound, no schedule
REPEATED = 2  # so many of the best constant steps are repeated with every seed
MARGIN = 0.03


def run_comparison(protocol: Protocol, store: RunStore, jobs: int) -> list[Run]:
    """The constant steps of EqualWeight and MGDA-UB, of FBLS, and of the searches without a bound.

    Every constant step is run with the first seed; the `REPEATED` best of each method, by final test loss, with all.
    """
    first = [protocol.run(method, step, seed=0) for method in CONSTANT for step in protocol.step_sizes]
    runs = run_all(first, store, jobs)
    final = to_frame(runs).query("final")
    again = [
        protocol.run(method, step, seed)
        for method in CONSTANT
        for step in final[final["variant"] == method].nsmallest(REPEATED, "test_loss")["lr"]
        for seed in range(1, protocol.seeds)
    ]
    searches = [
        run
        for seed in range(protocol.seeds)
        for run in (
            gain_run(protocol, seed),
            block_run(protocol, seed),
            block_run(protocol, seed, preconditioner="rms"),
            protocol.run("FBLS", LR_UB, seed, **SEARCH),
        )
    ]
    return runs + run_all([*again, *searches], store, jobs)


def compare_with_tuned(frame: pd.DataFrame) -> pd.DataFrame:
    """Final test loss of each search against the best tuned constant step of each rival, seed by seed.

    The best step is that of the least mean of final test losses over all seeds, among the steps that have all seeds.
    A rival's best epoch, ``its best epoch``, is the least mean over seeds that any epoch of that step had.
    """
    final = frame[frame["final"]]
    rows = []
    for search in (*FREE, "FBLS"):
        ours = final[final["variant"] == search].set_index("seed")["test_loss"]
        mean, low, high = mean_interval(ours)
        for rival in CONSTANT:
            step, losses = find_tuned(final, rival)
            epochs = frame[(frame["variant"] == rival) & (frame["lr"] == step)].groupby("epoch")["test_loss"].mean()
            ratio, ratio_low, ratio_high = mean_interval(ours / losses)
            rows.append(
                {
                    "search": search,
                    "test loss": mean,
                    "low": low,
                    "high": high,
                    "rival": rival,
                    "its best step": step,
                    "its test loss": losses.mean(),
                    "its best epoch": epochs.min(),
                    "ratio": ratio,
                    "low, ratio": ratio_low,
                    "high, ratio": ratio_high,
                    "n": len(ours),
                    "within 3 %": judge_margin(ratio, ratio_low, ratio_high),
                }
            )
    return pd.DataFrame(rows)


def find_tuned(final: pd.DataFrame, rival: str) -> tuple[float, pd.Series]:
    """The best constant step of a rival, and its final test losses by seed."""
    losses = final[final["variant"] == rival].pivot(index="seed", columns="lr", values="test_loss")
    step = losses.dropna(axis="columns").mean().idxmin()
    return float(step), losses[step]


def judge_margin(ratio: float, low: float, high: float) -> str:
    """ "holds" where the ratio's interval ends at most `MARGIN` above 1, "does not hold" where it begins above, else
    "undecided", as with one seed, with the side that the mean is on."""
    if high <= 1 + MARGIN:
        return "holds"
    if low > 1 + MARGIN:
        return "does not hold"
    return "undecided, mean within" if ratio <= 1 + MARGIN else "undecided, mean above"


def sensitivity_runs(
    protocol: Protocol, bounds: Sequence[float], betas: Sequence[float], batch_sizes: Sequence[int], scales
) -> dict[str, list[RunConfig]]:
    """What is varied -> runs: the bound or step size, β, the batch size, the scale of z; with every seed.

    EqualWeight has 0.1 where its step is not what is varied, FBLS its bound of 1.
    """
    runs = {"bound": [], "beta": [], "batch_size": [], "latent_scale": [], "loss": [], "direction": []}
    for seed in range(protocol.seeds):
        for bound in bounds:
            plain = protocol.run("FBLS", bound, seed, **SEARCH)
            decayed = replace(plain, decay_every=protocol.decay_every)
            runs["bound"] += [protocol.run("EqualWeight", bound, seed), plain, decayed]
            runs["bound"] += [gain_run(protocol, seed, bound)]
        runs["bound"] += [block_run(protocol, seed)]
        runs["beta"] += [make(protocol, seed, beta=beta) for beta in betas for make in (gain_run, block_run)]
        for size in batch_sizes:
            runs["batch_size"] += _all_methods(replace(protocol, batch_size=size), seed)
        for scale in scales:
            options = {"model_options": (("latent_scale", scale),) if scale != 1 else ()}
            runs["latent_scale"] += _all_methods(replace(protocol, **options), seed)
        runs["loss"] += _all_methods(replace(protocol, model_options=(("reduction", "sum"),)), seed)
        for direction in ("mgda", "mean", "edm"):
            runs["direction"] += [replace(make(protocol, seed), direction=direction) for make in (gain_run, block_run)]
    return runs


def with_latent_scale(frame: pd.DataFrame) -> pd.DataFrame:
    """With a column ``latent_scale``, 1 where the model has no such option."""
    options = frame.get("model_options", pd.Series(index=frame.index, dtype=object))
    return frame.assign(
        latent_scale=[some.get("latent_scale", 1.0) if isinstance(some, dict) else 1.0 for some in options]
    )


def _all_methods(protocol: Protocol, seed: int) -> list[RunConfig]:
    searches = [gain_run(protocol, seed), block_run(protocol, seed), protocol.run("FBLS", LR_UB, seed, **SEARCH)]
    return [protocol.run("EqualWeight", 0.1, seed), *searches]


def sweep_scalar_chain(factors: Sequence[float], steps: int) -> pd.DataFrame:
    """Loss of z = cθ, L = z²/2, after some steps of FBLS, of FBLS with the gain and of BlockFBLS, for every c; infinite where it overflowed."""
    makers = {
        "FBLS": lambda model: FBLS(model),
        "FBLS+gain": lambda model: FBLS(model, match_gain=True),
        "BlockFBLS": BlockFBLS,
    }
    rows = []
    for c in factors:
        for method, make in makers.items():
            model = scalar_chain(float(c), 1.0)
            optimizer = make(model)
            try:
                for _ in range(steps):
                    optimizer.step(None, dict.fromkeys(model.tasks))
                loss = (c * model.encoder.theta.item()) ** 2 / 2
            except FloatingPointError:
                loss = float("inf")
            rows.append({"c": float(c), "method": method, "loss": loss})
    return pd.DataFrame(rows)


class Square(torch.nn.Module):
    """z = θ²/2: an encoder whose Jacobian is θ itself."""

    def __init__(self, start: float):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))

    def forward(self, _):
        return self.theta.square() / 2


def follow_curved_encoder(steps: int, start: float = 1.0, bound: float = 1000.0) -> pd.DataFrame:
    """L = z with z = θ²/2: in latent space a straight line, on which every step passes; in θ a parabola.

    Returns:
        One row a step: ``theta`` before it, ``loss``, ``step_size``, ``accepted``, ``trials`` and ``gain`` = θ².
    """
    model = MultiTaskModel(Square(start), {"task": torch.nn.Identity()}, {"task": lambda z, _: z.sum()})
    search = Backtracking(start="previous")
    optimizer = FBLS(model, bound, line_search=search, match_gain=True)
    optimizer.param_groups[0]["previous_step"] = 0.5
    rows = []
    for step in range(steps):
        theta = model.encoder.theta.item()
        record = optimizer.step(None, {"task": None})
        rows.append(
            {
                "step": step,
                "theta": theta,
                "loss": record.losses[0].item(),
                "step_size": record.step_size,
                "accepted": record.accepted,
                "trials": record.trials,
                "gain": record.gain.item(),
            }
        )
    return pd.DataFrame(rows)


def watch_steps(optimizer: FBLS | BlockFBLS, batches: Iterable, every: int) -> pd.DataFrame:
    """Take a step on every batch and look at some of them from outside, with the passes that this costs.

    Returns:
        One row a step looked at: ``step``; ``cosine`` of `measure_cosine`; ``gain`` and ``step_size``; ``fell``, the
        share of tasks whose loss on the batch is lower after the whole step, the same dropout masks drawn again.
    """
    rows = []
    for step, (inputs, targets) in enumerate(batches):
        looked_at = step % every == 0
        cosine = measure_cosine(optimizer, inputs, targets) if looked_at else None
        torch.manual_seed(step)  # again below: the same dropout masks
        record = optimizer.step(inputs, targets)
        if looked_at:
            torch.manual_seed(step)
            with torch.no_grad():
                z, model = optimizer.model.encoder(inputs), optimizer.model
                after = [task_loss(model, task, head(z), targets) for task, head in model.decoders.items()]
            rows.append(
                {
                    "step": step,
                    "cosine": cosine,
                    "gain": float(record.gain),
                    "step_size": record.step_size,
                    "fell": (torch.stack(after) < record.losses).double().mean().item(),
                }
            )
    return pd.DataFrame(rows)


def measure_cosine(optimizer: FBLS | BlockFBLS, inputs, targets) -> float:
    """cos ∠(J Jᵀ d_z, d_z) on a batch, by one JVP through the encoder: the share of z's move that is along d_z.

    1 means that z goes where the trial was; the part of the move that no trial sees is √(1 − cos²) of it.
    """
    model = optimizer.model
    batch = Evaluation(model, inputs, targets, replayable=True)
    gradients = LatentSpace().gradients(batch)
    weights, _ = weigh(optimizer.direction, compute_gramian(gradients), batch.own_slopes())
    direction = weights.to(gradients) @ gradients
    shared = batch.pull_back(direction, last=True)
    start = batch.encoder_start
    primals = {name: parameter.detach() for name, parameter in batch.encoder_parameters.items()}
    tangents = dict(zip(primals, shared, strict=True))
    with start.replay():
        _, moved = torch.func.jvp(lambda parameters: start.call(parameters, inputs), (primals,), (tangents,))
    return torch.nn.functional.cosine_similarity(moved.flatten(), direction, dim=0).item()
