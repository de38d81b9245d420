"""What decides a run: every field of a `RunConfig`, whose hash is the key of the run in the store."""

from dataclasses import asdict, dataclass
from typing import Any

Options = tuple[tuple[str, Any], ...]  # keyword arguments, hashable

# Fields that a method reads, beside data, lr, epochs and seed, which all of them do. One that a method does not read
# must stay unset: it would change the key and nothing else.
SEARCH_FIELDS = frozenset({"direction", "beta", "gamma", "floor", "form", "start", "growth", "order"})
FIELDS = {
    "SGD": frozenset({"direction"}),
    "SGD, T forwards": frozenset({"direction"}),
    "MGDA-UB": frozenset({"direction"}),
    "TorchJD MGDA": frozenset({"direction"}),
    "BLS": SEARCH_FIELDS,
    "FBLS": SEARCH_FIELDS | {"match_gain"},
    "BlockFBLS": frozenset({"direction", "beta", "preconditioner"}),
    "EqualWeight": frozenset(),
}
OPTIONAL = sorted(frozenset().union(*FIELDS.values()))


@dataclass(frozen=True)
class RunConfig:
    """All that decides a run's rows; its hash is the key of the run.

    Attributes:
        dataset, source, n_train, n_test: the data, as its loader takes them; source is resolved, never "auto".
        method: "SGD", "BLS", "MGDA-UB", "FBLS", "EqualWeight" or "BlockFBLS"; for timings also "SGD, T forwards" and
            "TorchJD MGDA".
        lr: constant step size, or the upper bound lr_ub of a search.
        direction: rule for the common direction; None for EqualWeight.
        beta, gamma, floor, form: of the Armijo test; None without a search.
        match_gain: whether trials of FBLS go as far along d_z as the step will; None for no, as in the paper.
        start: "previous" for searches that begin near the last accepted step; None for the bound, as in the paper.
        growth: with ``start="previous"``, times the last step that a search begins at; None for 1.1.
        order: "in turn" for trials that begin with the task that refused the last one; None for all together.
        preconditioner: "rms" for BlockFBLS with `RootMeanSquare`; None for none.
        decay_every: epochs after which `lr` is halved, again and again; None for never.
        data_options, model_options: (name, value) pairs, further arguments of the workload's loader and model.
        batch_size, epochs, seed, device: as usual; the seed decides initial weights, order of batches and dropout.

    Raises:
        ValueError: an unresolved source, an unknown method, a field that the method does not read, or a number of
            epochs or a batch size below 1.
    """

    dataset: str
    source: str
    n_train: int
    n_test: int
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
    growth: float | None = None
    match_gain: bool | None = None
    order: str | None = None
    preconditioner: str | None = None
    decay_every: int | None = None
    batch_size: int = 256
    device: str = "cpu"
    data_options: Options = ()
    model_options: Options = ()

    def __post_init__(self):
        if self.source == "auto":
            raise ValueError("`source` must be a source by name, since it is part of the key, found 'auto'.")
        if self.method not in FIELDS:
            raise ValueError(f"`method` must be one of {', '.join(FIELDS)}, found {self.method!r}.")
        idle = [name for name in OPTIONAL if getattr(self, name) is not None and name not in FIELDS[self.method]]
        if idle:
            raise ValueError(
                f"{self.method} does not read {', '.join(idle)}; leave out what would only change the key."
            )
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, found {getattr(self, name)}.")

    @property
    def label(self) -> str:
        return f"{self.dataset}-{self.method}"

    @property
    def identity(self) -> dict:
        """What the key is made of: the fields that are set, so that a field added later leaves old keys alone."""
        options = {"data_options": dict(self.data_options), "model_options": dict(self.model_options)}
        return {name: value for name, value in (asdict(self) | options).items() if value not in (None, {})}
