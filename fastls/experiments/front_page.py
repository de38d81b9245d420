"""The front page: verdicts on the paper's six claims over all workloads, and its tables of times beside ours.

All numbers are read from the files that the notebooks and the benchmark have written into ``figures``. The only
exception is claim 6: its counterexample is computed here.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from fastls.experiments.measuring.timing import IN_TURN, METHODS, WARM_START
from fastls.experiments.reporting.claims import RULES, ClaimRow, Verdict, correct, describe, judge_claim, to_table
from fastls.experiments.reporting.comparisons import ABOUT_AS_MUCH, FAR_LESS
from fastls.experiments.reporting.tables import read_paper, to_markdown, write_table
from fastls.experiments.studies.beyond.comparison import WITHIN
from fastls.experiments.studies.theory.counterexamples import sweep_scalar_chain
from fastls.paths import ROOT, place, write_atomically

OVERVIEW = "claims"  # the table of all claims
# Where the rows come from: file -> notebook.
SOURCES = {
    "claims-multimnist": "03_multimnist",
    "claims-cifar10": "04_cifar10",
    "claims-cityscapes": "05_cityscapes",
    "claims-bert": "06_bert_timing",
    "claims-beyond": "07_beyond_the_paper",
}
EVERYWHERE = ("6",)  # claims of the form "every": one case against refutes them
# The reason for each verdict found so far; any other verdict gets `NO_SENTENCE` until someone writes its reason.
WHY = {
    ("1", Verdict.CONDITION): "A latent step needs one encoder backward whatever T is. With ten tasks or a large "
    "encoder FBLS costs far less than SGD. With heavy decoders the trials cost more than they save. All times are of a "
    "processor; on a GPU, where small networks wait for kernel launches, FBLS stood farther behind MGDA-UB.",
    ("2", Verdict.HOLDS): "SGD needs T − 1 more backward passes through the encoder; FBLS needs decoder trials. The "
    "larger the encoder, the cheaper these trials are in comparison.",
    ("3", Verdict.CONDITION): "The condition is the decay of the bound, and the metric. FBLS+decay ends at the best "
    "step's errors and train loss, but above its test loss: it fits the training set further. FBLS without decay "
    "ends above the best step in all four.",
    ("4a", Verdict.UNTESTED): "The claim is about the mean over four β. After a fifth of the epochs FBLS is ahead in "
    "that mean in three of four metrics, and undecided in test loss. At β = 0.1, the one β that was run for all 100 "
    "epochs, BLS ends lower in all four metrics. Neither votes.",
    ("4b", Verdict.FAILS): "FBLS is faster by far more than 36 %. The ratio follows the number of trials of BLS, which "
    "depends on γ; the paper does not give γ.",
    ("5", Verdict.FAILS): "After 100 epochs a part of the searches shortens the step: more of them, the larger β is. "
    "Where β is small nearly all steps are at the bound for a while. At β = 0.1 the median step is the bound.",
    ("6", Verdict.FAILS): "The proof takes the step in θ for the step in z. With z = cθ and c = √2 the iterates "
    "alternate for ever between two points that are not stationary.",
}
# A few more words, for verdicts that would mislead without them.
SHORT = {
    ("1", Verdict.CONDITION): "on a processor, where the encoder is most of a step",
    ("3", Verdict.CONDITION): "with a decaying bound, and not in test loss",
    ("4a", Verdict.UNTESTED): "in short runs FBLS leads; at full length, β = 0.1 alone, BLS does",
    ("4b", Verdict.FAILS): "FBLS is faster by far more than that",
    ("5", Verdict.FAILS): "where β is small it does for a while, then searches shorten it again",
    ("6", Verdict.FAILS): "one counterexample refutes a theorem",
}
NO_SENTENCE = "The counts decide; nobody has written down why yet."
IN_README = re.compile(r"(?<=front-page` -->)\n(?s:.*)(?=<!-- end -->)")
TUNED = "ours-beyond-tuned-steps"
DEFAULTS = "ours-defaults-ranking"
COUNTS = "for / against / undecided"
WITHOUT_VOTE = f"without a vote, {COUNTS}"
COLUMNS = {"MultiMNIST": "table-1-multimnist", "CIFAR-10": "table-1-cifar10", "Cityscapes": "table-2-cityscapes"}
COLUMNS |= {"BERT": "table-3-bert"}
OURS = ["ours / SGD", "low, SGD", "high, SGD"]
ORIGINS = ("Times: ", "Data, size, machine: ")  # beginnings of the note about the origin of a table of times
METHOD_ORDER = (*METHODS, IN_TURN, WARM_START)


def gather(figures: Path) -> pd.DataFrame:
    """The rows of all ``claims-*.csv`` that exist, each with the notebook that shows it, and the rows of claim 6."""
    paths = {place(figures, f"{name}.csv"): notebook for name, notebook in SOURCES.items()}
    parts = [
        pd.read_csv(path, dtype={"claim": str}).assign(notebook=notebook)
        for path, notebook in paths.items()
        if path.exists()
    ]
    parts.append(to_table(check_claim_6()).assign(notebook="01_theory"))
    return pd.concat(parts, ignore_index=True)


@cache
def check_claim_6(factors=(0.5, 1.0, 1.4, 2**0.5), steps: int = 400) -> tuple[ClaimRow, ...]:
    """FBLS on z = cθ, L = z²/2, from θ = 1: does it end where ∂L/∂θ = 0?

    For c beyond √2 the iterates diverge: there is no accumulation point, so the claim says nothing.
    """
    rows = []
    for row in sweep_scalar_chain(factors, steps, ["FBLS"]).itertuples():
        verdict = Verdict.HOLDS if row.loss < 1e-6 else Verdict.FAILS
        name = "√2" if row.c == 2**0.5 else f"{row.c:g}"
        values = ("loss", row.loss, 0.0, row.loss, np.nan, np.nan, 1, 0.0)
        rows.append(ClaimRow("6", f"z = cθ, c = {name}", "FBLS", "a stationary point", *values, verdict, votes=True))
    return tuple(rows)


def summarize_claims(rows: pd.DataFrame, claims: dict[str, str]) -> pd.DataFrame:
    """One row per claim: verdict, number of voting rows for and against, the reason, an example of each side."""
    table = []
    for claim, words in claims.items():
        part = rows[rows["claim"] == claim]
        verdict = judge_claim(part, claim in EVERYWHERE)
        voting = correct(part[part["votes"]])
        table.append(
            {
                "claim": f"{claim}. {words}",
                "verdict": str(verdict),
                COUNTS: _count(voting),
                "why": WHY.get((claim, verdict), NO_SENTENCE),
                WITHOUT_VOTE: _count(part[~part["votes"]]),
                "an example for": _example(voting, Verdict.HOLDS),
                "an example against": _example(voting, Verdict.FAILS),
            }
        )
    return pd.DataFrame(table)


def judge_claims(figures: Path) -> pd.DataFrame:
    """`summarize_claims` of the paper's claims, from the rows of this folder; the index is the number of the claim."""
    texts = {str(number): words for number, words in read_paper()["claims"].items()}
    return summarize_claims(gather(figures), texts).set_index(pd.Index(texts))


def list_verdicts(figures: Path) -> list[str]:
    """One line per claim, from the rows of this folder: its verdict, and its counts for / against / undecided."""
    table = judge_claims(figures)
    width = table["verdict"].str.len().max()
    return [
        f"  claim {claim:<3} {row['verdict']:<{width}}  {row[COUNTS]}; without a vote {row[WITHOUT_VOTE]}"
        for claim, row in table.iterrows()
    ]


def _count(rows: pd.DataFrame) -> str:
    sides = (Verdict.HOLDS, Verdict.FAILS, Verdict.UNDECIDED)
    return " / ".join(str((rows["verdict"] == side).sum()) for side in sides)


def _example(rows: pd.DataFrame, side: Verdict) -> str:
    """The first row of a side with the most repetitions, and a link to the notebook that shows it."""
    rows = rows[rows["verdict"] == side]
    if rows.empty:
        return "–"
    row = rows.loc[rows["n"].idxmax()]
    link = f"[{row['notebook']}](../../notebooks/{row['notebook']}.ipynb)"
    return f"{row['data']}: {describe(row)} {link}"


def compare_printed(figures: Path, workloads: list[str]) -> pd.DataFrame:
    """Seconds relative to SGD, the paper's and ours with 95 % intervals, one row per method."""
    columns = {}
    for name in workloads:
        table = pd.read_csv(figures / f"{COLUMNS[name]}.csv").set_index("method")
        columns[f"{name}, paper"] = table["paper / SGD"].map("{:.2f}".format).replace("nan", "–")
        shown = [f"{ours:.2f} [{low:.2f}, {high:.2f}]" for ours, low, high in table[OURS].to_numpy()]
        columns[f"{name}, ours"] = pd.Series(shown, index=table.index)
    table = pd.DataFrame(columns)
    table = table.reindex([method for method in METHOD_ORDER if method in table.index])
    return table.fillna("–").rename_axis("seconds / SGD's").reset_index()


def compare_untuned(figures: Path) -> pd.DataFrame:
    """Final test loss of each search of notebook 07 over that of EqualWeight's best step, one row per data set."""
    table = pd.read_csv(place(figures, f"{TUNED}.csv")).query("rival == 'EqualWeight'")
    cells = [
        f"{ratio:.2f} [{low:.2f}, {high:.2f}], {verdict}" if n > 1 else f"{ratio:.2f}, {verdict}"
        for ratio, low, high, verdict, n in table[["ratio", "low, ratio", "high, ratio", WITHIN, "n"]].to_numpy()
    ]
    shown = table.assign(cell=cells).pivot(index="data set", columns="search", values="cell")
    return shown.loc[table["data set"].unique(), table["search"].unique()].reset_index()


def make_overview(figures: Path) -> list[str]:
    """Claims, times and notebooks 07 and 08 in short, as sections of Markdown; empty without a table of claims."""
    if not place(figures, f"{OVERVIEW}.csv").exists():
        return []
    claims = pd.read_csv(place(figures, f"{OVERVIEW}.csv"))[["claim", "verdict", COUNTS, "why"]]
    parts = ["## The paper's claims", to_markdown(claims), "## What a step costs, the paper's tables beside ours"]
    for title, names in {"Table 1": ["MultiMNIST", "CIFAR-10"], "Table 2": ["Cityscapes"], "Table 3": ["BERT"]}.items():
        origins = " ".join(f"{name}: {read_origin(figures / f'{COLUMNS[name]}.md')}" for name in names)
        parts += [f"**{title}** of the paper beside ours:", to_markdown(compare_printed(figures, names)), origins]
    return [
        *parts,
        "Ours are geometric means of the ratios of interleaved rounds, with their 95 % intervals. The ratio of two "
        "methods is taken round by round, in the whole tables; it is not the quotient of two rows.",
        "## What the texts also say",
        "Statements of the paper and the thesis that are not among the claims above. A ratio of times is a geometric "
        "mean over rounds; rows of claim 3 do not vote, since they are shorter than the paper's.",
        to_markdown(list_also_said(figures)),
        "## Searches without a learning rate",
        "Final test loss over that of equal-weight SGD at the best of its constant steps, mean over seeds with 95 % "
        f"interval, and whether it is {WITHIN} of it. FBLS is the paper's, at its bound of 1.",
        to_markdown(compare_untuned(figures)),
        "## No learning rate, against today's defaults",
        "Each method at its one setting, from [08_no_learning_rate](../notebooks/08_no_learning_rate.ipynb). Test "
        "losses over those of the best rival on each data set: the worst ratio, the geometric mean, the losses. "
        "[Verdicts](ours/ours-defaults-verdicts.md) say where the seeds decide.",
        to_markdown(pd.read_csv(place(figures, f"{DEFAULTS}.csv"))),
    ]


def list_also_said(figures: Path) -> pd.DataFrame:
    """Statements of paper and thesis that belong to none of the claims, each beside our result."""
    rows = gather(figures)
    table = []
    for entry in read_paper()["also_said"]:
        if "ratio" in entry:
            ours = ", ".join(f"{name} {_divide_times(figures, name, *entry['ratio']):.2f}" for name in entry["data"])
            ours = f"{' / '.join(entry['ratio'])}: {ours}; said {entry['printed']:.2f}"
        else:
            part = rows[(rows["claim"] == "3") & (rows["data"] == entry["claim_3"]) & (rows["method"] == "FBLS")]
            part = part[(part["rival"].str.split(",").str[0] == "SGD") & part["metric"].str.startswith("test_loss")]
            ours = " ".join(describe(row) for row in part.itertuples())
        table.append({"said": entry["said"], "where": entry["where"], "ours": ours})
    return pd.DataFrame(table)


def _divide_times(figures: Path, workload: str, method: str, rival: str) -> float:
    beside_sgd = pd.read_csv(place(figures, f"{COLUMNS[workload]}.csv")).set_index("method")["ours / SGD"]
    return beside_sgd[method] / beside_sgd[rival]


def read_origin(path: Path) -> str:
    """The note of a table of times about its data, size and machine."""
    line = next(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(ORIGINS))
    return line.split(": ", 1)[1].split(" Memory: ")[0]


def write_front_page(root: Path = ROOT) -> list[Path]:
    """Write ``figures/claims/claims.md`` and ``.csv``, and their verdicts into ``README.md``.

    Returns:
        The files.

    Raises:
        ValueError: a table of ``figures`` is missing.
    """
    figures = root / "figures"
    missing = [
        name for name in (*SOURCES, *COLUMNS.values(), TUNED, DEFAULTS) if not place(figures, f"{name}.csv").exists()
    ]
    if missing:
        raise ValueError(f"`figures` must have {', '.join(missing)}, found none; run `make figures`.")
    claims = judge_claims(figures)
    short = [SHORT.get(entry, "") for entry in claims["verdict"].items()]
    claims["verdict"] = "**" + claims["verdict"] + "**"
    notes = [
        "Counted are the rows that vote: the paper's comparison with the paper's rival, for claims 3 to 5 on the "
        "paper's data at the paper's length. Their p-values are corrected for the number of rows of a claim (Holm). A "
        "claim holds or does not hold where all rows that decide agree; it holds with a condition where they do not; "
        "it is undecided where none decides, or one alone of more than two; one row refutes a claim about every case. "
        f"Rows, sizes and machines: {', '.join(f'[{name}]({name}.md)' for name in SOURCES)}. About as much: at most "
        f"{ABOUT_AS_MUCH:.2f} times. Far less: at most {FAR_LESS:.2f} times, or the limit in the row, where the paper "
        "prints a ratio that is not far less.",
        RULES,
    ]
    write_table(claims, OVERVIEW, figures, "The six claims of the paper, judged", notes)
    readme = root / "README.md"
    verdicts = claims["verdict"] + [f": {words}" if words else "" for words in short]
    shown = claims[["claim", "verdict", COUNTS]].assign(verdict=verdicts)
    table = to_markdown(shown.rename(columns={COUNTS: f"measurements {COUNTS}"}))
    write_atomically(readme, IN_README.sub(lambda _: f"\n{table}\n", readme.read_text(encoding="utf-8")))
    return [*(place(figures, f"{OVERVIEW}{ending}") for ending in (".md", ".csv")), readme]
