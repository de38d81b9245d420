"""What the gain of the encoder is good for and what it cannot see: two examples, and steps watched from outside."""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice

import pandas as pd
import torch

from fastls.algorithms.block_search import GROWTH, GUARD, BlockFBLS
from fastls.algorithms.directions import compute_gramian, weigh
from fastls.algorithms.line_search import Backtracking
from fastls.algorithms.optimizers import FBLS
from fastls.algorithms.spaces import Evaluation, LatentSpace
from fastls.experiments.training.store import Run, RunStore
from fastls.experiments.training.sweeps import Protocol
from fastls.experiments.training.training import load_data_of, make_header
from fastls.models.lenet import lenet
from fastls.models.multitask import MultiTaskModel, task_loss
from fastls.models.quadratic import scalar_chain


def start_gain(model: MultiTaskModel) -> FBLS:
    """FBLS with the gain as in the comparison: β = 0.3, each search from 1.1 times its last step."""
    return FBLS(model, GUARD, line_search=Backtracking(0.3, growth=GROWTH), match_gain=True)


WATCHED = {"BlockFBLS": BlockFBLS, "FBLS+gain": start_gain}
ON_THE_CHAIN = {"FBLS": FBLS, "FBLS+gain": partial(FBLS, match_gain=True), "BlockFBLS": BlockFBLS}


def sweep_scalar_chain(factors: Sequence[float], steps: int, methods: Iterable[str] = ON_THE_CHAIN) -> pd.DataFrame:
    """Loss of z = cθ, L = z²/2, after some steps of each method, names of `ON_THE_CHAIN`, for every c.

    Infinite where it overflowed.
    """
    rows = []
    for c in factors:
        for method in methods:
            model = scalar_chain(float(c), 1.0)
            optimizer = ON_THE_CHAIN[method](model)
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
    search = Backtracking(growth=GROWTH)
    optimizer = FBLS(model, bound, line_search=search, match_gain=True)
    optimizer.param_groups[0]["previous_step"] = 2.0  # a step of 2 throws θ to −θ
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


def execute_watch(protocol: Protocol, steps: int, every: int, store: RunStore) -> Run:
    """`watch_steps` of BlockFBLS and of FBLS with the gain on LeNet, kept like any run, with a column ``method``."""
    names = ("dataset", "source", "n_train", "batch_size", "device")
    identity = {name: getattr(protocol, name) for name in names} | {"watched": steps, "every": every}

    def make() -> tuple[dict, list[dict]]:
        data = load_data_of(protocol)
        order = torch.arange(len(data.train)).repeat(-(-steps * protocol.batch_size // len(data.train)))
        batches = list(islice(data.train.batches(order, protocol.batch_size, training=True), steps))
        rows = []
        for method, start in WATCHED.items():
            torch.manual_seed(0)
            watched = watch_steps(start(lenet().to(protocol.device)), batches, every)
            rows += watched.assign(method=method).to_dict("records")
        return make_header(data, protocol.device), rows

    return store.get_or_make(f"{protocol.dataset}-watched", identity, make)


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
