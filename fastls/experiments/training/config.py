"""The configuration of a run: the hash of all fields of a `RunConfig` is the key of the run in the store."""

from dataclasses import KW_ONLY, asdict, dataclass, fields
from typing import Any

Options = tuple[tuple[str, Any], ...]  # keyword arguments, hashable

# Fields that a method reads, beside data, lr, epochs and seed, which all methods read. A field that a method does not
# read must stay unset: it would change the key and nothing else.
SEARCH_FIELDS = frozenset({"direction", "beta", "gamma", "floor", "form", "start", "order"})
FIELDS = {
    "SGD": frozenset({"direction"}),
    "SGD, T forwards": frozenset({"direction"}),
    "MGDA-UB": frozenset({"direction"}),
    "TorchJD MGDA": frozenset({"direction"}),
    "BLS": SEARCH_FIELDS,
    "FBLS": SEARCH_FIELDS | {"match_gain"},
    "AdamFBLS": frozenset({"direction", "bounded"}),
    **dict.fromkeys(("EqualWeight", "AdamW", "NAdam", "Prodigy", "ScheduleFree", "LDoG"), frozenset()),
}
OPTIONAL = sorted(frozenset().union(*FIELDS.values()))


@dataclass(frozen=True)
class Setting:
    """The setting of a training or measurement: data, device, batch size, and the options of loader and network.

    Attributes:
        dataset, source, n_train, n_test: the data, as its loader takes them; source is resolved, never "auto".
        batch_size, device: as usual.
        data_options, model_options: (name, value) pairs, further arguments of the workload's loader and model.

    Raises:
        ValueError: an unresolved source, or a batch size below 1.
    """

    dataset: str
    source: str
    n_train: int
    n_test: int
    _: KW_ONLY
    batch_size: int = 256
    device: str = "cpu"
    data_options: Options = ()
    model_options: Options = ()

    def __post_init__(self):
        if self.source == "auto":
            raise ValueError("`source` must be a source by name, since it is part of the key, found 'auto'.")
        if self.batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, found {self.batch_size}.")

    @property
    def setting(self) -> "Setting":
        """The setting alone, of a run or a sweep."""
        return Setting(**{field.name: getattr(self, field.name) for field in fields(Setting)})

    @property
    def identity(self) -> dict:
        """The fields that are set, from which the key is made: a field added later does not change old keys."""
        options = {"data_options": dict(self.data_options), "model_options": dict(self.model_options)}
        return {name: value for name, value in (asdict(self) | options).items() if value not in (None, {})}


@dataclass(frozen=True)
class RunConfig(Setting):
    """All that decides a run's rows: a setting and the fields below; its hash is the key of the run.

    Attributes:
        method: a name in `FIELDS`; "SGD, T forwards" and "TorchJD MGDA" are for timings.
        lr: constant step size, or the upper bound lr_ub of a search.
        epochs, seed: as usual; the seed decides initial weights, order of batches and dropout.
        direction: rule for the common direction; None for EqualWeight.
        beta, gamma, floor, form: of the Armijo test; None without a search.
        start: "previous" for searches that begin at `GROWTH` times the last step; None for the bound, as in the paper.
        match_gain: whether trials of FBLS go as far along d_z as the step will; None for no, as in the paper.
        order: "in turn" for trials that begin with the task that rejected the last trial; None for all together.
        decay_every: `lr` is halved each time after so many epochs; None for never.
        bounded: whether AdamFBLS has its bound L_t / s_t and a growth of 1.3. None for its first version, without the
            bound and with a growth of 1.1: it cannot be run any more, but its rows are kept.
        averaged: whether the running mean of the weights is evaluated beside the weights; None for no.

    Raises:
        ValueError: an unknown method, a field that the method does not read, or a number of epochs below 1.
    """

    method: str
    lr: float
    epochs: int
    seed: int
    direction: str | None = "mgda"
    beta: float | None = None
    gamma: float | None = None
    floor: float | None = None
    form: int | None = None
    start: str | None = None
    match_gain: bool | None = None
    order: str | None = None
    decay_every: int | None = None
    bounded: bool | None = None
    averaged: bool | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.method not in FIELDS:
            raise ValueError(f"`method` must be one of {', '.join(FIELDS)}, found {self.method!r}.")
        idle = [name for name in OPTIONAL if getattr(self, name) is not None and name not in FIELDS[self.method]]
        if idle:
            raise ValueError(
                f"{self.method} does not read {', '.join(idle)}; leave out what would only change the key."
            )
        if self.epochs < 1:
            raise ValueError(f"`epochs` must be at least 1, found {self.epochs}.")

    @property
    def label(self) -> str:
        return f"{self.dataset}-{self.method}"
