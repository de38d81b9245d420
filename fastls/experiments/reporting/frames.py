"""Rows of runs as data frames, and the line of provenance that every figure and table carries."""

from collections.abc import Sequence

import pandas as pd

from fastls.experiments.training.store import Run
from fastls.experiments.training.sweeps import SEARCH

METRICS = ("train_loss", "test_loss", "train_error", "test_error")
CONSTANT = ("EqualWeight", "SGD", "MGDA-UB")  # variants with a step size to choose
PAPER_BATCH = 256
# Options with a name of their own: (field, value) -> name in the variant, in this order. Every other value that
# differs from `PLAIN` is spelled out, so that no two different searches share a name.
NAMED = {
    ("match_gain", True): "gain",
    ("order", "in turn"): "in turn",
}
PLAIN = {name: value for name, value in SEARCH.items() if name != "beta"}  # `beta` has a column
SPELLED = (*PLAIN, "start", "growth")


# Columns that identify a run of a frame.
KEYS = ["variant", "seed", "lr", "beta", "direction", "batch_size", "run"]


class MixedDataError(ValueError):
    """Runs with different data, devices or lengths were about to share a figure or table."""


def to_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run and epoch: configuration, the row's own values, and each of `METRICS` averaged over the tasks.

    Important columns: ``variant`` (method, with "+decay" if the bound decays), ``final`` (last epoch of its run),
    ``lr`` (the configured value; the value in an epoch, perhaps decayed, is ``bound``). The last row of a diverged run
    has ``diverged`` true and no metrics.
    """
    frame = pd.DataFrame(
        [
            row | {"bound": row.get("lr"), "variant": variant(run.config), "run": run.header["key"]} | run.config
            for run in runs
            for row in run.rows
        ]
    )
    for metric in METRICS:
        tasks = [column for column in frame if column.startswith(f"{metric}_")]
        frame[metric] = frame[tasks].mean(axis=1)
    frame["final"] = (frame["epoch"] == frame["epochs"]) | frame["diverged"]
    return frame


LAST = 5  # the end of a long training is the mean of so many epochs


def last_epochs(epochs: int) -> int:
    """Number of epochs in the mean for the end of a training: `LAST`, or a quarter if there are fewer than twenty.

    The last epoch of FBLS without decay is noise: one seed of MultiMNIST reads .333, .448, .369, .286 in a row.
    """
    return min(LAST, max(1, epochs // 4))


def end_of_training(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per run: its last row, with every number averaged over its last epochs, see `last_epochs`.

    A run that diverged keeps its last row, which has no metrics.
    """
    keys = [name for name in KEYS if name in frame]
    ends = frame[frame["final"]].copy()
    numbers = [name for name in frame.select_dtypes("number") if name not in (*KEYS, "epoch", "epochs")]
    late = frame[frame["epoch"] > frame["epochs"] - frame["epochs"].map(last_epochs)]
    means = late.groupby(keys, dropna=False)[numbers].mean()
    ends = ends.drop(columns=numbers).merge(means.reset_index(), on=keys, how="left")
    ends.loc[ends["diverged"], [name for name in METRICS]] = float("nan")
    return ends


def check_one_length(frame: pd.DataFrame) -> None:
    """Raise `MixedDataError` unless all runs are of the same data, images and epochs."""
    for what in ("source", "n_train", "n_test", "epochs"):
        if frame[what].nunique() > 1:
            counts = frame.groupby(what)["variant"].unique().map(lambda names: ", ".join(sorted(names))).to_dict()
            raise MixedDataError(f"Runs that are compared must share their {what}, found {counts}.")


def variant(config: dict) -> str:
    """The name of a run in figures: the method, then every option that differs from the paper.

    Example:
        >>> variant({"method": "FBLS", "beta": 0.1, "gamma": 0.8, "decay_every": 10})
        'FBLS+gamma 0.8+decay'
    """
    named = [name for (field, value), name in NAMED.items() if config.get(field) == value]
    usual = PLAIN | {"start": "previous" if config.get("match_gain") else None}
    spelled = [
        f"{field} {value or 'at the bound'}"
        for field in SPELLED
        if (value := config.get(field)) != usual.get(field)
        and (field, value) not in NAMED
        and (value is not None or field == "start")
    ]
    decay = ["decay"] if "decay_every" in config else []
    method = config["method"]
    method += ", unbounded" if method == "AdamFBLS" and not config.get("bounded") else ""
    return "+".join([method, *named, *spelled, *decay])


def provenance(runs: Sequence[Run]) -> str:
    """Data, sizes, epochs and device of these runs, in one line.

    Raises:
        MixedDataError: the runs were not made from the same data.
    """
    first = runs[0]
    check_same(runs, "data", [run.header["data"]["fingerprint"] for run in runs])
    check_same(runs, "device", [run.config["device"] for run in runs])
    config, environment = first.config, first.header["environment"]
    parts = [first.header["data"]["description"], *_describe_size(config)]
    if "epochs" not in config:
        parts.append(environment["device"])
        threads = environment["threads"]
        parts += [f"{threads} thread{'s' * (threads > 1)}"] if config["device"] == "cpu" else []
    return " · ".join([*parts, config["device"]])


def _describe_size(config: dict) -> list[str]:
    """Images, epochs and rounds as far as they are given, the batch size if it is not the paper's, and options."""
    parts, things = [], "pairs" if config.get("dataset") == "stsb" else "images"
    if "n_train" in config:
        parts.append(f"{config['n_train']:,} training {things}")
    if "epochs" in config:
        evaluated = min(config["n_train"], config["n_test"])
        parts[-1] += f" (train metrics on {evaluated:,} of them)"
        parts += [f"{config['n_test']:,} test {things}", f"{config['epochs']} epochs"]
    if "rounds" in config:
        parts.append(f"{config['rounds']} interleaved {'epochs' if 'n_train' in config else 'steps'} a method")
    batch_size = config.get("batch_size", PAPER_BATCH)
    if batch_size != PAPER_BATCH or "n_train" not in config:
        parts.append(f"batches of {batch_size}")
    options = config.get("data_options", {}) | config.get("model_options", {})
    return parts + [f"{name}: {value}" for name, value in options.items()]


def describe_seeds(frame: pd.DataFrame, spread: str | None = None) -> str:
    """The number of seeds of a mean; if there are several, also `spread`, the marks that show their range."""
    count = frame["seed"].nunique()
    shown = f", {spread} from the lowest to the highest" if spread and count > 1 else ""
    return f"n = {count} seed{'s' * (count > 1)}{shown}"


def check_same(runs: Sequence[Run], what: str, values: list[str]) -> None:
    """Raise `MixedDataError` unless the values, one per run, are equal."""
    if len(set(values)) > 1:
        files = ", ".join(f"{run.header['key']}: {value}" for run, value in zip(runs, values, strict=True))
        raise MixedDataError(f"Runs in one figure or table must share their {what}, found {files}.")


def label_searches(
    constant: pd.DataFrame, betas: pd.DataFrame | None = None, also: dict[str, float] | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Epochs of the searches in `constant`, and of `also` (method -> β) in `betas`, with ``label``; label -> style."""
    plain = constant[~constant["variant"].isin(CONSTANT)]
    parts, lines = [plain.assign(label=plain["variant"])], {name: name for name in sorted(set(plain["variant"]))}
    for name, beta in (also or {}).items():
        label = f"{name}, β = {beta:g}"
        parts.append(betas[(betas["variant"] == name) & (betas["beta"] == beta)].assign(label=label))
        lines[label] = "FBLS, other β" if name == "FBLS" else name
    return pd.concat(parts, ignore_index=True), lines


def label_lines(
    constant: pd.DataFrame, betas: pd.DataFrame | None = None, also: dict[str, float] | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The lines of `label_searches`, then those of `label_constant_steps`."""
    (searched, searched_lines), (stepped, stepped_lines) = (
        label_searches(constant, betas, also),
        label_constant_steps(constant),
    )
    return pd.concat([searched, stepped]), searched_lines | stepped_lines


def average_steps(final: pd.DataFrame, metric: str) -> pd.DataFrame:
    """``mean`` of a metric and number of ``seeds`` by constant step, without the steps that diverged with some seed."""
    by_step = final.groupby("lr")
    means = by_step[metric].agg(lambda values: values.mean(skipna=False))
    return pd.DataFrame({"mean": means, "seeds": by_step["seed"].nunique()}).dropna()


def find_best_step(final: pd.DataFrame, name: str, metric: str = "test_loss") -> float | None:
    """The constant step of a variant with the smallest mean over seeds, among those with the most seeds.

    Steps that diverged with some seed do not count. None if every step did.
    """
    steps = average_steps(final[final["variant"] == name], metric)
    means = steps.loc[steps["seeds"] == steps["seeds"].max(), "mean"]
    return None if means.empty else float(means.idxmin())


def label_constant_steps(constant: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """As `label_searches`: each constant-step method at its best step by final test loss, and SGD at its smallest.

    If every step diverged, the smallest step is shown up to its divergence, and its label says so.
    """
    final = constant[constant["final"]]
    parts, lines = [], {}
    for name in [name for name in ("SGD", "EqualWeight", "MGDA-UB") if name in set(final["variant"])]:
        best, smallest = find_best_step(final, name), final.loc[final["variant"] == name, "lr"].min()
        if best is None:
            shown = {smallest: (f"{name} {smallest:g} (every step diverged)", name)}
        else:
            shown = {best: (f"{name} {best:g} (best)", name)}
        if name == "SGD" and smallest not in shown:
            shown[smallest] = (f"SGD {smallest:g} (smallest)", "SGD, smallest")
        for step, (label, style) in shown.items():
            parts.append(constant[(constant["variant"] == name) & (constant["lr"] == step)].assign(label=label))
            lines[label] = style
    return pd.concat(parts, ignore_index=True), lines
