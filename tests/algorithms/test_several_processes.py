"""Several processes take the step of one process with the whole batch: gloo, unequal parts of the batch, float64.

A worker is this file run as a script, since a spawned process would import pytest's module under another name.
"""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from helpers import FIVE, batch, copies, equal, mlp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from fastls import DIRECTIONS, FBLS, AdamFBLS, MultiTaskModel, latent_backward, latent_line_search

STEPS = 20
METHODS = {method.__name__: method for method in [*FIVE, AdamFBLS]}
MANY = ["MGDAUB", "FBLS", "AdamFBLS", "EqualWeight"]  # those that are also trained on 40 tasks
CASES = [(name, 2) for name in METHODS] + [(name, 40) for name in MANY]
RATES = {"FBLS": 30.0, "BLS": 30.0}  # so high that searches need trials


def spread(model: MultiTaskModel) -> MultiTaskModel:
    wrap = DistributedDataParallel
    decoders = {task: wrap(decoder) for task, decoder in model.decoders.items()}
    return MultiTaskModel(wrap(model.encoder), decoders, model.losses)


def build(name: str, model: MultiTaskModel):
    return METHODS[name](model) if name == "AdamFBLS" else METHODS[name](model, RATES.get(name, 0.05))


def train(name: str, tasks: int, part: slice, model: MultiTaskModel) -> dict:
    optimizer = build(name, model)
    records = []
    for seed in range(STEPS):
        inputs, targets = batch(tasks, seed=seed)
        records.append(optimizer.step(inputs[part], {task: target[part] for task, target in targets.items()}))
    return {
        "parameters": copies(model),
        "losses": torch.stack([record.losses for record in records]),
        "steps": [(record.step_size, record.trials) for record in records],
        "gains": [record.gain for record in records],
    }


def loop(part: slice, model: MultiTaskModel, encoder: nn.Module | None = None) -> list[torch.Tensor]:
    """The functional layer, with a mover that has a momentum and one step of FBLS."""
    movers = [torch.optim.AdamW(model.parameters(), lr=0.01), torch.optim.SGD(model.parameters(), lr=1.0)]
    for seed, mover in enumerate([movers[0]] * 5 + [movers[1]]):
        inputs, targets = batch(4, seed=seed)
        mover.zero_grad()
        z = (encoder or model.encoder)(inputs[part])
        found = latent_backward(model, z, {task: target[part] for task, target in targets.items()})
        if mover is movers[1]:
            mover.param_groups[0]["lr"] = latent_line_search(found, 30.0).step_size
        mover.step()
    return [*copies(model), found.gain, found.losses]


def cut(rank: int, world: int) -> slice:
    """Eight samples over 2 or 4 ranks, unequally."""
    ends = {2: [0, 5, 8], 4: [0, 3, 5, 7, 8]}[world]
    return slice(ends[rank], ends[rank + 1])


def count_bytes(sent: list[int]) -> None:
    for name in ("all_reduce", "broadcast"):
        original = getattr(dist, name)

        def counted(tensor, *args, original=original, **options):
            sent.append(tensor.numel() * tensor.element_size())
            return original(tensor, *args, **options)

        setattr(dist, name, counted)


def work(rank: int, world: int, folder: str) -> None:
    """What every rank does: all cases, then random weights, the bytes of a step, a NaN in the trials of one rank."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meeting", rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
    part, found = cut(rank, world), {}
    for name, tasks in CASES:
        found[name, tasks] = train(name, tasks, part, spread(mlp(tasks)))
    inputs, targets = batch(4)
    here = inputs[part], {task: target[part] for task, target in targets.items()}

    torch.manual_seed(rank)  # pcgrad draws an order, another on each rank
    model = spread(mlp(4))
    FBLS(model, 0.1, DIRECTIONS["pcgrad"]).step(*here)
    found["pcgrad"] = copies(model)

    def loss(output, target):
        """NaN far away, on the last rank alone."""
        far = rank == world - 1 and not torch.is_grad_enabled() and len(seen) < 3
        seen.append(output)
        return F.mse_loss(output, target) * (float("nan") if far else 1)

    seen: list = []
    model = mlp(4)
    model = spread(MultiTaskModel(model.encoder, dict(model.decoders), model.losses | {"task1": loss}))
    optimizer = FBLS(model, 1e-3)
    optimizer.compared, optimizer.compared_mode = frozenset(optimizer.model.tasks), True
    record = optimizer.step(*here)
    found["nan"] = record.step_size, record.trials, copies(model)

    for name in METHODS:
        found["no label", name] = without_labels(name, part, rank == 0, spread(mlp()))
    found["loop"] = loop(part, spread(mlp(4)))
    plain = mlp(4)
    wrapped = DistributedDataParallel(plain.encoder)
    decoders = {task: DistributedDataParallel(decoder) for task, decoder in plain.decoders.items()}
    found["wrapped"] = loop(part, MultiTaskModel(wrapped, decoders, plain.losses), wrapped)
    z = model.encoder(here[0]).detach().requires_grad_()
    found["refused"] = refused(lambda: latent_backward(model, z, here[1]), NotImplementedError)
    encoder = DistributedDataParallel(mlp().encoder)
    found["half"] = refused(lambda: MultiTaskModel(encoder, dict(mlp().decoders), mlp().losses), ValueError)
    shards = mlp()
    fully_shard(shards.encoder, mesh=init_device_mesh("cpu", (world,)))
    found["sharded"] = refused(lambda: FBLS(shards), TypeError)
    found["whole"] = refused(lambda: FBLS(DistributedDataParallel(mlp())), TypeError)

    sent: list[int] = []
    count_bytes(sent)
    for name in ("EqualWeight", "MGDAUB", "FBLS"):
        optimizer = build(name, spread(mlp(4)))
        optimizer.compared, optimizer.compared_mode = frozenset(optimizer.model.tasks), True
        sent.clear()
        record = optimizer.step(*here)
        found["bytes", name] = list(sent), record.trials
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def without_labels(name: str, part: slice, here: bool, model: MultiTaskModel) -> tuple:
    """Four steps, and a search of one's own for FBLS: on the first rank no task has a label but in the third step."""
    loss = lambda output, target: F.mse_loss(output, target) if len(target) else None  # noqa: E731
    model.losses |= dict.fromkeys(model.tasks, loss)
    inputs, targets = batch()
    targets = {task: target[part] for task, target in targets.items()}
    without = {task: target[: 0 if here else None] for task, target in targets.items()}
    optimizer = build(name, model)
    records = [optimizer.step(inputs[part], some) for some in (without, without, targets, without)]
    losses = torch.stack([record.losses for record in records])
    if name == "FBLS":
        records.append(latent_line_search(latent_backward(model, model.encoder(inputs[part]), without), 30.0))
    return [record.step_size for record in records], losses, copies(model)


def refused(call, error) -> str:
    try:
        call()
    except error as refusal:
        return str(refusal)
    return "not refused"


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def ranks(request, tmp_path_factory) -> list[dict]:
    world, folder = request.param, tmp_path_factory.mktemp("ranks")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(world), str(folder)], env=environment)
        for rank in range(world)
    ]
    try:
        assert [worker.wait(200) for worker in workers] == [0] * world
    finally:
        for worker in workers:
            worker.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


@pytest.mark.parametrize(("name", "tasks"), CASES)
def test_ranks_take_the_steps_of_one_process(ranks, name, tasks):
    whole = train(name, tasks, slice(None), mlp(tasks))
    for found in (rank[name, tasks] for rank in ranks):
        assert found["steps"] == whole["steps"]
        torch.testing.assert_close(found["losses"], whole["losses"], rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(found["parameters"], whole["parameters"], rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(found["gains"], whole["gains"], rtol=1e-6, atol=1e-9)
        for ours, theirs in zip(found["parameters"], ranks[0][name, tasks]["parameters"], strict=True):
            assert torch.equal(ours, theirs)  # ranks never drift


def test_a_loop_of_ones_own_takes_the_steps_of_one_process(ranks):
    for rank in ranks:
        torch.testing.assert_close(rank["loop"], loop(slice(None), mlp(4)), rtol=1e-6, atol=1e-9)
        assert all(torch.equal(a, b) for a, b in zip(rank["loop"], rank["wrapped"], strict=True))
        assert all(torch.equal(a, b) for a, b in zip(rank["loop"], ranks[0]["loop"], strict=True))


def test_some_search_needed_trials(ranks):
    assert any(trials > 1 for _, trials in ranks[0]["FBLS", 40]["steps"])


def test_ranks_agree_on_random_weights(ranks):
    for rank in ranks[1:]:
        assert all(torch.equal(a, b) for a, b in zip(rank["pcgrad"], ranks[0]["pcgrad"], strict=True))


def test_a_nan_on_one_rank_rejects_the_trial_on_all(ranks):
    step_size, trials, parameters = ranks[0]["nan"]
    assert trials > 1 and step_size < 1e-3
    for rank in ranks[1:]:
        assert rank["nan"][:2] == (step_size, trials)
        assert all(torch.equal(a, b) for a, b in zip(rank["nan"][2], parameters, strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_a_rank_without_any_label_counts_as_a_loss_of_zero(ranks, name):
    """The first step is that of the other ranks' samples, each with 1/8 of the weight."""
    world, model = len(ranks), mlp()
    rest = slice(cut(0, world).stop, 8)
    share = (8 - rest.start) / 8
    model.losses |= dict.fromkeys(model.tasks, lambda output, target: share * F.mse_loss(output, target))
    inputs, targets = batch()
    optimizer = build(name, model)
    record = optimizer.step(inputs[rest], {task: target[rest] for task, target in targets.items()})
    for steps, losses, parameters in (rank["no label", name] for rank in ranks):
        assert steps == ranks[0]["no label", name][0] and steps[0] == record.step_size and min(steps) > 0
        torch.testing.assert_close(losses[0], record.losses)
        assert equal(parameters, ranks[0]["no label", name][2])


def test_what_does_not_fit_is_refused(ranks):
    assert "z must not be a leaf" in ranks[0]["refused"]
    assert "not wrapped, ['Sequential']" in ranks[0]["half"]
    assert "`encoder` must be a plain module" in ranks[0]["sharded"]
    assert "must be a MultiTaskModel, found DistributedDataParallel" in ranks[0]["whole"]


def test_bytes_of_a_step(ranks):
    """In float64: gradients once, T losses, and for the latent methods T² products, T weights, and T losses a trial."""
    tasks, model = 4, mlp(4)
    shared, own = (
        8 * sum(p.numel() for p in part.parameters())
        for part in (model.encoder, nn.ModuleList(model.decoders.values()))
    )
    count, losses, norm = 8, 8 * tasks, 8
    assert ranks[0]["bytes", "EqualWeight"][0] == [count, losses, shared + own]
    latent = [count, losses, own, 8 * tasks**2, losses]
    assert ranks[0]["bytes", "MGDAUB"][0] == [*latent, shared, norm]
    sent, trials = ranks[0]["bytes", "FBLS"]
    assert sent == [*latent, *[losses] * trials, shared, norm]


def test_a_rank_that_dies_ends_the_others(tmp_path):
    script = Path(tmp_path) / "dies.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import os, torch.distributed as dist\n"
        "from datetime import timedelta\n"
        "from test_several_processes import spread, mlp, batch, FBLS\n"
        "rank = int(sys.argv[1])\n"
        f"dist.init_process_group('gloo', 'file://{tmp_path}/meeting', rank=rank, world_size=2,\n"
        "    timeout=timedelta(seconds=20))\n"
        "optimizer = FBLS(spread(mlp()), 0.1)\n"
        "optimizer.step(*batch())\n"
        "if rank == 1: os._exit(3)\n"
        "optimizer.step(*batch())\n"
    )
    workers = [subprocess.Popen([sys.executable, str(script), str(rank)], stderr=subprocess.PIPE) for rank in range(2)]
    try:
        errors = [worker.communicate(timeout=120)[1].decode() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert workers[1].returncode == 3 and workers[0].returncode not in (0, 3)
    assert "RuntimeError" in errors[0] or "DistBackendError" in errors[0]


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
