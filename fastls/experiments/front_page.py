"""The front page: the paper's six claims judged over all workloads, and its tables of times beside ours.

Everything here is read from the files that the notebooks and the benchmark have written into ``figures``; no number
enters that is not in one of them, but for claim 6, whose counterexample is computed on the spot.
"""

from pathlib import Path

import pandas as pd

from fastls.experiments.measuring.timing import IN_TURN, METHODS, WARM_START
from fastls.experiments.reporting.tables import ABOUT_AS_MUCH, FAR_LESS, read_paper, to_markdown, write_table
from fastls.experiments.studies.beyond.comparison import WITHIN
from fastls.experiments.studies.beyond.gain import sweep_scalar_chain
from fastls.paths import ROOT, place

OVERVIEW = "claims"  # the table of all claims
AGAIN = "again"
# Where the rows come from: file -> title and the heading of the notebook's cell that shows them.
SOURCES = {
    "claims-multimnist": ("MultiMNIST", "03_multimnist", "The-claims,-judged"),
    "claims-cifar10": ("CIFAR-10", "04_cifar10", "The-claims,-judged"),
    "claims-cityscapes": ("Cityscapes (stand-in)", "05_cityscapes", "The-claims,-judged"),
    "claims-bert": ("BERT on STS-B", "06_bert_timing", "The-claims,-judged"),
    "claims-beyond": (AGAIN, "07_beyond_the_paper", "The-paper's-claims-again"),
}
CLOSED_FORM = ("closed form", "01_theory", "An-encoder-of-one-number")
FOR, AGAINST = ("agrees", "same direction"), ("differs",)
EVERYWHERE = (6,)  # claims of the form "every": one case against refutes them
HOLDS, CONDITION, FAILS, UNTESTED = "holds", "holds with a condition", "does not hold", "not tested"
# One sentence of why for each verdict that was met; another verdict gets `NO_SENTENCE` until someone has looked.
WHY = {
    (1, CONDITION): "A latent step costs one encoder backward whatever T is, so it is far below SGD with ten tasks or "
    "a large encoder; with two tasks the gain is small, and with heavy decoders the trials of a search that restarts "
    "at its bound cost more than they save.",
    (2, HOLDS): "Decoder trials stand where SGD has T − 1 encoder backwards: the larger the encoder's share, the "
    "less the trials weigh.",
    (3, FAILS): "Wherever the seeds decide, a best constant step ends lower. A search that tests the decoders alone "
    "does not see that a step is too large for the encoder.",
    (3, CONDITION): "In some comparisons the search ends beside the best constant step, in others above it. A search "
    "that tests the decoders alone does not see that a step is too large for the encoder.",
    (4, HOLDS): "Where the seeds decide FBLS is ahead; BLS pays an encoder forward for every trial.",
    (5, CONDITION): "Where the decoders curve little the test is all but always passed at the bound; where they curve "
    "more it binds, and the step stays below.",
    (5, HOLDS): "The test is all but always passed at the bound, so that the bound is the step size.",
    (6, FAILS): "The proof takes the step in θ for the step in z: with z = cθ and c = √2 the iterates "
    "alternate for ever between two points that are not stationary, and beyond it they diverge.",
}
NO_SENTENCE = "The counts beside decide; nobody has written down why yet."
TUNED = "ours-beyond-tuned-steps"
RIVALS = ("MGDA-UB", "SGD", "BLS")
MEASUREMENT = ["claim", "measured", "difference", "low", "high", "n"]
COLUMNS = {"MultiMNIST": "table-1-multimnist", "CIFAR-10": "table-1-cifar10", "Cityscapes": "table-2-cityscapes"}
COLUMNS |= {"BERT": "table-3-bert"}
OURS = ["ours / SGD", "low, SGD", "high, SGD"]
ORIGINS = ("Times: ", "Data, size, machine: ")  # how the note on the origin of a table of times begins
METHOD_ORDER = (*METHODS, IN_TURN, WARM_START)


def judge(verdicts: list[str], everywhere: bool = False) -> str:
    """One verdict from those of the tests of a claim.

    Args:
        verdicts: of `fastls.experiments.reporting.tables`: those in `FOR` speak for the claim, those in `AGAINST`
            against it, and the others do not decide.
        everywhere: whether one test against it refutes the claim.

    Returns:
        "holds", "holds with a condition" where tests speak for both sides, "does not hold", or "not tested" where none
        decides.
    """
    in_favour = sum(verdict in FOR for verdict in verdicts)
    against = sum(verdict in AGAINST for verdict in verdicts)
    if not in_favour + against:
        return UNTESTED
    if not against:
        return HOLDS
    return FAILS if everywhere or not in_favour else CONDITION


def gather(figures: Path) -> pd.DataFrame:
    """The rows of all ``claims-*.csv`` with the notebook that shows each, and those of claim 6.

    Those that `votes` leaves out are left out, and a measurement that occurs again, of the same claim on the same data
    and with the same numbers, counts once: notebook 07 shows runs of 03 and 04 anew, and where no step is taken at the
    bound FBLS+decay is FBLS.
    """
    parts = [
        pd.read_csv(place(figures, f"{name}.csv")).assign(where=title, notebook=notebook, heading=heading)
        for name, (title, notebook, heading) in SOURCES.items()
    ]
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[[votes(row["claim"], row["statement"]) for _, row in rows.iterrows()]]
    # rows of notebook 07 begin with their data set
    rows["data"] = rows["where"].where(rows["where"] != AGAIN, rows["statement"].str.split(":").str[0])
    rows = rows.drop_duplicates(["data", *MEASUREMENT])
    title, notebook, heading = CLOSED_FORM
    closed = pd.DataFrame(check_claim_6()).assign(where=title, notebook=notebook, heading=heading)
    return pd.concat([rows, closed], ignore_index=True)


def votes(claim: int, statement: str) -> bool:
    """Whether a row tests the claim itself, of the paper's own algorithm and the rivals that it names.

    Of claim 1 these are costs of FBLS beside MGDA-UB, SGD and BLS. How near an epoch comes to a printed ratio does not
    tell whether FBLS is cheap; of variants, memory and EqualWeight the paper claims nothing.
    """
    return claim != 1 or (statement.startswith("a step of FBLS costs") and statement.endswith(RIVALS))


def check_claim_6(factors=(0.5, 1.0, 1.4, 2**0.5), steps: int = 400) -> list[dict]:
    """FBLS on z = cθ, L = z²/2, from θ = 1: does it end where ∂L/∂θ = 0?

    Beyond √2 the iterates diverge and there is no accumulation point of which the claim could say anything.
    """
    chain = sweep_scalar_chain(factors, steps, ["FBLS"])
    return [
        {
            "claim": 6,
            "statement": f"on z = cθ, L = z²/2 with c = {_show_factor(row.c)} FBLS ends at a stationary point",
            "measured": f"loss {row.loss:.3g} after {steps} steps from θ = 1",
            "n": 1,
            "verdict": "agrees" if row.loss < 1e-6 else "differs",
        }
        for row in chain.itertuples()
    ]


def _show_factor(c: float) -> str:
    return "√2" if c == 2**0.5 else f"{c:g}"


def summarize_claims(rows: pd.DataFrame, claims: dict[int, str]) -> pd.DataFrame:
    """A row a claim: its words, verdict and why, how many tests speak for and against it, and an example of each."""
    table = []
    for claim, words in claims.items():
        part = rows[rows["claim"] == claim]
        verdict = judge(list(part["verdict"]), claim in EVERYWHERE)
        sides = {"for": part[part["verdict"].isin(FOR)], "against": part[part["verdict"].isin(AGAINST)]}
        undecided = len(part) - sum(len(side) for side in sides.values())
        table.append(
            {
                "claim": f"{claim}. {words}",
                "verdict": f"**{verdict}**",
                "why": WHY.get((claim, verdict), NO_SENTENCE),
                "tests for": len(sides["for"]),
                "against": len(sides["against"]),
                "undecided": undecided,
                "an example for": _example(sides["for"]),
                "an example against": _example(sides["against"]),
            }
        )
    return pd.DataFrame(table)


def _example(rows: pd.DataFrame) -> str:
    """The first test with the most repetitions, with its interval, n and a link to the notebook that shows it."""
    if rows.empty:
        return "–"
    row = rows.loc[rows["n"].idxmax()]
    interval = (
        "" if pd.isna(row["low"]) else f", difference {row['difference']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"
    )
    link = f"[{row['notebook']}](../../notebooks/{row['notebook']}.ipynb#{row['heading']})"
    return f"{row['where']}: {row['statement']}; measured {row['measured']}{interval}, n = {row['n']} ({link})"


def compare_printed(figures: Path, workloads: list[str]) -> pd.DataFrame:
    """Seconds relative to SGD, the paper's and ours with its 95 % interval, a row a method."""
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
    """Final test loss of each search of notebook 07 over that of EqualWeight's best step, a row a data set."""
    table = pd.read_csv(place(figures, f"{TUNED}.csv")).query("rival == 'EqualWeight'")
    cells = [
        f"{ratio:.2f} [{low:.2f}, {high:.2f}], {verdict}" if n > 1 else f"{ratio:.2f}, {verdict}"
        for ratio, low, high, verdict, n in table[["ratio", "low, ratio", "high, ratio", WITHIN, "n"]].to_numpy()
    ]
    shown = table.assign(cell=cells).pivot(index="data set", columns="search", values="cell")
    return shown.loc[table["data set"].unique(), table["search"].unique()].reset_index()


def make_overview(figures: Path) -> list[str]:
    """The claims, the times and notebook 07 in short, as sections of Markdown; none where the claims are not judged."""
    if not place(figures, f"{OVERVIEW}.csv").exists():
        return []
    claims = pd.read_csv(place(figures, f"{OVERVIEW}.csv"))[["claim", "verdict", "why"]]
    parts = ["## The paper's claims", to_markdown(claims), "## What a step costs, the paper's tables beside ours"]
    for title, names in {"Table 1": ["MultiMNIST", "CIFAR-10"], "Table 2": ["Cityscapes"], "Table 3": ["BERT"]}.items():
        origins = " ".join(f"{name}: {read_origin(figures / f'{COLUMNS[name]}.md')}" for name in names)
        parts += [f"**{title}** of the paper beside ours:", to_markdown(compare_printed(figures, names)), origins]
    return [
        *parts,
        "Ours are medians over interleaved rounds with their 95 % intervals. The ratio of two methods is taken round "
        "by round, in the whole tables; it is not the quotient of two rows.",
        "## Searches without a learning rate",
        "Final test loss over that of equal-weight SGD at the best of its constant steps, mean over seeds with 95 % "
        f"interval, and whether it is {WITHIN} of it. FBLS is the paper's, at its bound of 1.",
        to_markdown(compare_untuned(figures)),
    ]


def read_origin(path: Path) -> str:
    """What a table of times says of its data, size and machine."""
    line = next(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(ORIGINS))
    return line.split(": ", 1)[1].split(" Memory: ")[0]


def write_front_page(root: Path = ROOT) -> list[Path]:
    """Write ``figures/claims/claims.md`` and ``.csv``.

    Returns:
        The files.

    Raises:
        ValueError: a table of ``figures`` is missing.
    """
    figures = root / "figures"
    missing = [name for name in (*SOURCES, *COLUMNS.values(), TUNED) if not place(figures, f"{name}.csv").exists()]
    if missing:
        raise ValueError(f"`figures` must have {', '.join(missing)}, found none; run `make figures`.")
    claims = summarize_claims(gather(figures), read_paper()["claims"])
    notes = [
        "A test speaks for a claim where its row agrees or has the paper's direction, against it where it differs; the "
        "rows, with sizes, machine and intervals, are in "
        + ", ".join(f"[{name}]({name}.md)" for name in SOURCES)
        + ". Holds: all tests that decide speak for it; with a condition: some do; does not hold: none does, or one "
        "speaks against a claim about every case; not tested: no test decides. Left out: how near an epoch comes to "
        "the printed ratio, which does not say whether FBLS is cheap; variants of ours, memory, EqualWeight (claim 1). "
        "A measurement that is shown twice counts once. About as much: at most "
        f"{ABOUT_AS_MUCH:.2f} times; far less: at most {FAR_LESS:.2f} times, or the limit in the row. Of many tests of "
        "one claim a few may decide by chance: read the counts."
    ]
    return write_table(claims, OVERVIEW, figures, "The six claims of the paper, judged", notes)
