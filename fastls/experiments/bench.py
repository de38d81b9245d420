"""What a step costs on each workload, compared with the cheapest possible step: ``python -m fastls bench``.

The cheapest is equal-weight SGD: one encoder forward and backward, each decoder once forward and backward. All methods
take the same batches in turn, see `fastls.experiments.measuring.timing`. The targets say how close each method should
come to the cheapest step.
"""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from fastls.experiments.measuring.memory import Memory
from fastls.experiments.measuring.profile import Profile
from fastls.experiments.measuring.timing import (
    IN_TURN,
    LR,
    METHODS,
    PASSES,
    RETIRED,
    VARIANTS,
    WARM_START,
    Timing,
)
from fastls.experiments.reporting.frames import provenance
from fastls.experiments.reporting.intervals import name_interval, ratio_interval
from fastls.experiments.reporting.style import save_figure
from fastls.experiments.reporting.tables import seconds_by_round, to_markdown, write_table
from fastls.experiments.studies.growth import figures as growth_figures
from fastls.experiments.studies.growth.growth import PEER, Growth
from fastls.experiments.training.config import Setting
from fastls.experiments.training.store import Run, RunStore

DATA_SETS = {"multimnist": "multimnist", "cifar10": "cifar10", "cityscapes": "cityscapes", "bert": "stsb"}
# Data of the committed benchmark, so that its stored runs can also be drawn without the data.
RECORDED = {"multimnist": "mnist", "cifar10": "cifar10-jpeg", "cityscapes": "synthetic", "bert": "stsb"}

_PSPNET = (("encoder", "resnet50"), ("stages", 4), ("channels", 512), ("weights", "none"))
_BERT_BASE = (("layers", 12), ("width", 768), ("decoder_width", 768), ("weights", "random"))
# Size -> workload -> batch size, steps of a round, rounds, data and model options.
SIZES = {
    "laptop": {
        "multimnist": (256, 20, 10, (), ()),
        "cifar10": (256, 1, 8, (), ()),
        "cityscapes": (4, 1, 10, (("size", (64, 128)),), _PSPNET),
        "bert": (12, 1, 6, (), _BERT_BASE),
    },
    "gpu": {
        "multimnist": (256, 100, 20, (), ()),
        "cifar10": (256, 10, 10, (), ()),
        "cityscapes": (8, 5, 10, (("size", (256, 512)),), _PSPNET),
        "bert": (32, 10, 10, (), _BERT_BASE),
    },
    "tiny": {
        "multimnist": (16, 2, 2, (), ()),
        "cifar10": (4, 1, 2, (), (("stages", 1),)),
        "cityscapes": (2, 1, 2, (("size", (32, 64)),), (("encoder", "resnet18"), ("stages", 2), ("channels", 8))),
        "bert": (4, 1, 2, (), (("layers", 1), ("width", 64), ("decoder_width", 64))),
    },
}

SMALLER_LR = {"bert": 0.001}  # for the methods without a search, if `timing.LR` diverges

# Workload -> (rival, largest FBLS / rival); for `PEER` the smallest `PEER` / FBLS. None: the ratio is only reported.
TARGETS = {
    "multimnist": [("EqualWeight", 1.20), ("SGD", 1.00), ("MGDA-UB", 1.10), (PEER, 1.5)],
    "cifar10": [("EqualWeight", 1.05), ("SGD", 0.15), ("MGDA-UB", 1.05), (PEER, 7.0)],
    "cityscapes": [("EqualWeight", 1.30), ("SGD", 1.00), ("MGDA-UB", 1.20), (PEER, None)],
    "bert": [("EqualWeight", 1.05), ("SGD", 0.45), ("MGDA-UB", 1.05), (PEER, 2.0)],
}
# Parts of a step that the cheapest step has too.
LEAST = ("encoder forward", "decoders forward and backward", "encoder backward", "update")
MOST_MEMORY = 1.15  # of equal-weight SGD's peak
MOST_ELSEWHERE = 1.10  # of equal-weight SGD's time and peak: at the largest T of a `Growth`, and of its networks


def make_timing(workload: str, size: str, device: str, tasks: int | None = None, source: str | None = None) -> Timing:
    """The interleaved timing of a workload.

    Args:
        workload: a key of `DATA_SETS`.
        size: a key of `SIZES`.
        device: "cpu" or "cuda".
        tasks: for "cifar10", how many tasks.
        source: source of its data; None for the real data if they are found, else the stand-in.

    Raises:
        ValueError: `tasks` for another workload than "cifar10".
    """
    if tasks is not None and workload != "cifar10":
        raise ValueError(f"`tasks` can be chosen for cifar10 alone, found it with {workload}.")
    dataset = DATA_SETS[workload]
    batch_size, steps, rounds, data_options, model_options = SIZES[size][workload]
    chosen = (("tasks", tasks),) if tasks else ()  # of loader and network
    setting = Setting(
        dataset,
        source or import_module(f"fastls.datasets.{dataset}").find_source(),
        n_train=batch_size * steps,
        n_test=1,
        device=device,
        batch_size=batch_size,
        data_options=data_options + chosen,
        model_options=model_options + chosen,
    )
    peer = (PEER,) if find_spec("torchjd") else ()
    retired = RETIRED if source == RECORDED[workload] else ()  # the keys of the committed runs contain these names
    methods = (*METHODS, *VARIANTS, *retired, *peer)
    return Timing(setting, rounds, methods, SMALLER_LR.get(workload, LR))


def compare_steps(timing: Run, memory: Run) -> pd.DataFrame:
    """Milliseconds per step with interval, ratios to EqualWeight and SGD, trials and passes per step, peak memory.

    Milliseconds and ratios are geometric means over the rounds; a ratio is taken within its round.
    """
    seconds = seconds_by_round(timing)
    rows = pd.DataFrame(timing.rows)
    counted = rows.groupby("method")[["trials", *PASSES]].mean().rename(columns=lambda name: name.replace("_", " "))
    peaks = pd.DataFrame(memory.rows).set_index("method")["peak_mb"]
    table = []
    for method in dict.fromkeys(rows["method"]):
        row = {"method": method}
        scale = 1000 / rows["steps"].iloc[0]
        row |= name_interval("ms a step", ratio_interval(scale * seconds[method]))
        row |= name_interval("/ EqualWeight", ratio_interval(seconds[method] / seconds["EqualWeight"]))
        row |= name_interval("/ SGD", ratio_interval(seconds[method] / seconds["SGD"]))
        row |= {"n": len(seconds)} | counted.loc[method].to_dict()
        table.append(row | {"peak MB": peaks[method], "memory / EqualWeight": peaks[method] / peaks["EqualWeight"]})
    return pd.DataFrame(table)


def judge_targets(workload: str, timing: Run, memory: Run) -> list[dict]:
    """Compare each target of a workload with its measurement: for the paper's FBLS, "in turn" and "warm start".

    The mean decides "met" or "not met"; "undecided by its interval" if the 95 % interval contains the target.
    """
    seconds = seconds_by_round(timing)
    peaks = pd.DataFrame(memory.rows).set_index("method")["peak_mb"]
    judged = []
    for method in (name for name in ("FBLS", IN_TURN, WARM_START) if name in seconds):
        for rival, limit in TARGETS[workload]:
            if rival not in seconds:
                continue
            if rival == PEER:
                names, sign, ratio = (PEER, method), "≥", seconds[PEER] / seconds[method]
            else:
                names, sign, ratio = (method, rival), "≤", seconds[method] / seconds[rival]
            judged.append(judge_target(workload, " / ".join(names), sign, limit, *ratio_interval(ratio), len(ratio)))
        share = peaks[method] / peaks["EqualWeight"]
        name = f"{method} / EqualWeight, peak memory"
        judged.append(judge_target(workload, name, "≤", MOST_MEMORY, share, share, share, 1))
    return judged


def judge_target(
    workload: str, ratio: str, sign: str, limit: float | None, mean: float, low: float, high: float, n: int
) -> dict:
    """A row of the table of targets; without a limit the measurement is only reported."""
    row = {"workload": workload, "ratio": ratio, "target": "none", "measured": mean, "low": low, "high": high, "n": n}
    if limit is None:
        return row | {"verdict": "reported"}
    met, inside = (mean <= limit, high <= limit) if sign == "≤" else (mean >= limit, low >= limit)
    outside = low > limit if sign == "≤" else high < limit
    verdict = ("met" if met else "not met") + ("" if inside or outside else ", undecided by its interval")
    return row | {"target": f"{sign} {limit:.2f}", "verdict": verdict}


def describe_shares(profiled: Run) -> str:
    """Shares of a step in per cent: the parts that equal-weight SGD has too, the trials, and the rest."""
    shares = {row["part"]: row["share"] for row in profiled.rows}
    trials, least = shares["trials"], sum(shares[part] for part in LEAST)
    rest = 1 - least - trials
    return f"{least:.0%} encoder and decoders once each and the update, {trials:.0%} trials, {rest:.0%} rest"


def judge_compared(workload: str, compared: list[tuple[str, tuple, float]]) -> list[dict]:
    """As `judge_targets`, for a `Growth`: the targets at its largest T for every batch, or of its networks."""
    judged = []
    for name, measured, share in compared:
        judged.append(judge_target(workload, name, "≤", MOST_ELSEWHERE, *measured))
        judged.append(judge_target(workload, f"{name}, peak memory", "≤", MOST_ELSEWHERE, share, share, share, 1))
    return judged


def write_growth(run: Run, folder: Path) -> str:
    """Figure and table ``bench-growth``; returns the text of the table."""
    save_figure(growth_figures.draw_growth(run), "bench-growth", folder)
    notes = [
        f"{growth_figures.describe(run)}.",
        "From the smallest size to the largest that a method was measured at. At first and at last: the time of a step "
        "over that of plain PyTorch, round by round, with 95 % t-intervals. Slope: of that ratio on logarithmic axes. "
        "At 0 a method grows as plain PyTorch does; at 1 twice the size doubles the ratio. Methods took turns, sizes "
        "did not: milliseconds of two sizes are not to be compared.",
    ]
    title = "Benchmark: how the cost of a step grows"
    return write_table(growth_figures.tabulate_growth(run), "bench-growth", folder, title, notes, hidden=("trials",))


def write_networks(run: Run, folder: Path) -> str:
    """Table ``bench-networks``; returns its text."""
    title = "Benchmark: networks of other kinds"
    notes = [
        f"{provenance([run])}.",
        "Milliseconds are geometric means over n rounds, in which the methods take turns; ratios within a round, with "
        "95 % t-intervals. MTAN: z is the eight feature maps of a ResNet-18, and every decoder a stack of attention "
        "masks with convolutions of its own, so that a trial costs much. Small BERT: 4 layers of width 256.",
    ]
    return write_table(growth_figures.tabulate_networks(run), "bench-networks", folder, title, notes)


def write_benchmarks(
    timings: dict[str, Timing],
    store: RunStore,
    folder: Path,
    growth: Growth | None = None,
    networks: Growth | None = None,
) -> Iterator[str]:
    """Run the benchmarks, write one table for each and the table of targets; yields the text of each when done.

    Args:
        timings: workload -> what to time, see `make_timing`.
        store: of the runs.
        folder: where ``bench-<workload>``, ``bench-growth``, ``bench-networks`` and ``bench-targets`` go.
        growth: the growing models, from `make_growth`, or None.
        networks: the networks of other kinds, from `make_networks`, or None.
    """
    judged, reasons, sizes = [], [], []
    for name, config in timings.items():
        measured = (config, Memory(config.setting, config.methods), Profile(config.setting))
        timing, memory, profiled = (measurement.execute(store) for measurement in measured)
        notes = [
            f"Times: {provenance([timing])}. Memory: {provenance([memory])}.",
            "Milliseconds and ratios are geometric means over n interleaved rounds, with 95 % t-intervals; a ratio is "
            "taken within a round. Passes are means per step; a decoder pass is that of one task, also where K steps "
            "are tried at once. Peak memory: weights, buffers, activations, gradients.",
            "What a step of FBLS spends its time on (torch.profiler):",
            to_markdown(pd.DataFrame(profiled.rows)),
        ]
        table = compare_steps(timing, memory)
        title, hidden = f"Benchmark, {name}: what a step costs", ("/ SGD", "memory / EqualWeight")
        text = write_table(table, f"bench-{name}", folder, title, notes, hidden=hidden)
        judged += judge_targets(name, timing, memory)
        reasons.append(f"{name} {describe_shares(profiled)}")
        sizes.append(f"{name}: {provenance([timing])}")
        yield text
    if growth:
        run = growth.execute(store)
        judged += judge_compared("growth", growth_figures.compare_at_most_tasks(run))
        sizes.append(f"growth: {growth_figures.describe(run)}")
        yield write_growth(run, folder)
    if networks:
        run = networks.execute(store)
        judged += judge_compared("networks", growth_figures.compare_networks(run))
        sizes.append(f"networks: {provenance([run])}")
        yield write_networks(run, folder)
    targets = pd.DataFrame(judged)
    notes = [
        "The verdict is that of the geometric mean. Undecided by its interval: the 95 % interval reaches over the "
        "target. FBLS is the paper's, which returns to its bound at every step and runs all decoders in every trial. "
        'In turn: `Backtracking(order="in turn")`, the same steps, a trial ending where the task that refused the last '
        "one refuses again. Warm start: `Backtracking(growth=1.1)`, other steps. Ratios as in the tables of the "
        "workloads, of a few steps near the start.",
        "; ".join(sizes) + ".",
    ]
    if reasons:
        notes.append(f"Where the time of a step of FBLS goes, and so why a target is missed: {'; '.join(reasons)}.")
    yield write_table(targets, "bench-targets", folder, "Benchmark: targets for the cost of a step", notes, digits=4)
