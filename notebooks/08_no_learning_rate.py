# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 8. No learning rate: default against default
#
# Few people tune a step size with eight runs. They take AdamW at its default, or an optimizer that claims to need no
# learning rate. This notebook compares such defaults with `AdamFBLS`, a search in latent space along Adam's step.
# It has no number to choose: `fastls.AdamFBLS(model)`.
#
# **You will learn** how a search works with a metric, what the decoders can and cannot see of the step, and how to
# compare optimizers fairly: one setting for all data sets, several seeds, and the worst case first.
#
# **Regenerates** nothing of [Filatov and Merkulov (2021)](https://arxiv.org/abs/2110.00874): everything here is ours.
#
# **Takes** one or two minutes on two cores at the default size, which is too short for conclusions. Sizes are printed
# under every figure. Runs are kept, so a second execution only draws.

# %% tags=["parameters"]
mnist_source = "auto"  # "mnist", "digits" (the stand-in), or "auto": the first found
mnist_n_train = 1024
mnist_n_test = 256
mnist_epochs = 20
cifar_source = "auto"  # "cifar10", "cifar10-jpeg", "shapes" (the stand-in), or "auto"
cifar_n_train = 24
cifar_n_test = 20
cifar_epochs = 2
cifar_batch_size = 8
cifar_stages = 2  # of the four of ResNet-18
stsb_source = "auto"  # "stsb", "templates" (the stand-in), or "auto"
stsb_n_train = 64
stsb_n_test = 32
stsb_epochs = 6
stsb_batch_size = 8
stsb_weights = "random"  # or "minilm", the pretrained encoder: 6 layers of width 384 with 12 heads
stsb_layers = 1
stsb_width = 64
stsb_heads = 1
seeds = 1
timing_steps = 2  # of each method, in each round
timing_rounds = 3
device = "auto"  # "cpu", "cuda" or "auto"
jobs = 1  # training runs at once
runs_dir = "build/quick/runs"  # where runs are kept, from the root of the repository
figures_dir = "build/quick/figures"  # where figures and tables go

# %%
import pandas as pd
import torch
from IPython.display import Markdown, display

from fastls import AdamFBLS
from fastls.datasets import cifar10, multimnist, stsb
from fastls.environment import resolve_device
from fastls.experiments.measuring.constant_answer import ConstantAnswer
from fastls.experiments.parameters import check_notebook
from fastls.experiments.reporting import frames, style, tables
from fastls.experiments.studies.beyond import tried
from fastls.experiments.studies.defaults import comparison, figures
from fastls.experiments.training import parallel
from fastls.experiments.training.store import RunStore
from fastls.experiments.training.sweeps import Sweep
from fastls.models import resnet
from fastls.models.lenet import lenet
from fastls.paths import DATA, in_repository

check_notebook("08_no_learning_rate", globals())

device = resolve_device(device)
store = RunStore(in_repository(runs_dir))
folder = in_repository(figures_dir)


def choose(source, data_set):
    return data_set.find_source() if source == "auto" else source


bert_options = {"layers": stsb_layers, "width": stsb_width, "heads": stsb_heads, "weights": stsb_weights}
sweeps = {
    "MultiMNIST": Sweep(
        "multimnist",
        choose(mnist_source, multimnist),
        mnist_n_train,
        mnist_n_test,
        mnist_epochs,
        seeds,
        device=device,
    ),
    "CIFAR-10": Sweep(
        "cifar10",
        choose(cifar_source, cifar10),
        cifar_n_train,
        cifar_n_test,
        cifar_epochs,
        seeds,
        batch_size=cifar_batch_size,
        device=device,
        model_options=() if cifar_stages == resnet.STAGES else (("stages", cifar_stages),),
    ),
    "STS-B": Sweep(
        "stsb",
        choose(stsb_source, stsb),
        stsb_n_train,
        stsb_n_test,
        stsb_epochs,
        seeds,
        batch_size=stsb_batch_size,
        device=device,
        model_options=tuple(bert_options.items()),
    ),
}

# %% [markdown]
# ## The test of AdamFBLS
#
# Write $g_t = \partial L_t/\partial z$ for the gradients in latent space and $d_z$ for the MGDA direction. The encoder's
# gradient is $g_{sh} = J^\top d_z$ with $J = \partial z/\partial\theta_{sh}$. Adam divides each entry of a gradient by
# the root of its mean square. Call this diagonal metric $P$ for the encoder and $P_t$ for decoder $t$.
#
# The step follows a running mean of $g_{sh}$, as Adam's does. The test looks at the gradient itself, as if there were no
# momentum. A step $\eta$ along $P^{-1} g_{sh}$ moves $z$ by about $-\eta J P^{-1} J^\top d_z$. The part of this move along $d_z$ is
# $-\eta\rho\,d_z$ with
#
# $$\rho = \frac{\langle g_{sh}, P^{-1} g_{sh}\rangle}{\|d_z\|^2}.$$
#
# `AdamFBLS` tests there, with the decoders alone. It accepts the first $\eta$ that passes for every task $t$:
#
# $$L_t\big(z - \eta\rho\,d_z,\ \theta_t - \eta P_t^{-1} u_t\big) \le
# L_t - \eta\beta\left(\langle u_t, P_t^{-1} u_t\rangle + \rho\,\langle g_t, d_z\rangle\right),
# \qquad u_t = \partial L_t/\partial\theta_t.$$
#
# Call the bracket $s_t$: the decrease that is predicted for task $t$, per unit of step. A search starts at
#
# $$\eta_0 = \min\big(1.3\,\eta_{\text{last}},\ \min_t L_t/s_t\big)$$
#
# and halves the step until the test passes. The first step is $10^{-6}$. So the step warms up by itself: growing by a
# factor of 1.3 a step, it takes about 26 steps from $10^{-6}$ to $10^{-3}$.
#
# The second bound is Polyak's step for losses that are never negative. Its meaning is simple: no step promises more than
# the whole loss. It is needed because the test cannot see all that a step does to the encoder. The section on the bound
# compares AdamFBLS with its first version, which had none.

# %%
torch.manual_seed(0)
optimizer = AdamFBLS(lenet(dropout=0.0))
images = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
labels = {"left": torch.arange(64) % 10, "right": torch.arange(64).flip(0) % 10}
rows = []
for step in range(1, 121):
    record = optimizer.step(images, labels)
    if step in (1, 20, 40, 60, 80, 100, 120):
        losses = record.losses.tolist()
        row = {"step": step, "η": record.step_size, "trials": record.trials}
        rows.append(row | {f"loss, {task}": loss for task, loss in zip(labels, losses, strict=True)})
print(tables.to_markdown(pd.DataFrame(rows)))

# %% [markdown]
# ### What a metric takes away
#
# Notebook 07 proves that the search with the gain takes the steps of BLS where the encoder is $z = A\theta$ with
# $A A^\top = \rho I$. With a metric this fails, even for $A = I$. Take two tasks with gradients $g_1 = (3, -1)$ and
# $g_2 = (-1, 3)$. The shortest convex combination is $d_z = (1, 1)$. Let the metric divide the first entry by ten.

# %%
gradients = torch.tensor([[3.0, -1.0], [-1.0, 3.0]])
common, metric = gradients.mean(0), torch.tensor([10.0, 1.0])
move = common / metric
rho = (common @ move) / (common @ common)
slopes = pd.DataFrame(
    {
        "task": [1, 2, "mean"],
        "slope that the test sees": [*(rho * gradients @ common).tolist(), float(rho * common @ common)],
        "true slope": [*(gradients @ move).tolist(), float(common @ move)],
    }
)
print(tables.to_markdown(slopes))

# %% [markdown]
# The test predicts that both losses fall. To first order the loss of task 1 rises: its true slope is negative. The
# weighted sum $\sum_t \alpha_t L_t$ still falls, since $\langle d_z, P^{-1} d_z\rangle > 0$ for every positive metric.
# So this much carries over: to first order, a small step along $P^{-1} J^\top d_z$ lowers the weighted sum. Descent of
# every single loss is lost. The condition for it is $A P^{-1} A^\top = \rho I$, which Adam's metric meets only by chance.
# Momentum is a second gap: the test looks at the gradient, the step follows its running mean.
#
# ## The comparison
#
# All methods have one setting for all data sets. **AdamW**, **NAdam** and Schedule-Free AdamW (**ScheduleFree**,
# [Defazio et al. 2024](https://arxiv.org/abs/2405.15682)) use the default learning rate of their authors. **Prodigy**
# ([Mishchenko and Defazio 2023](https://arxiv.org/abs/2306.06101)) and **LDoG**
# ([Ivgi et al. 2023](https://arxiv.org/abs/2302.12022)) estimate their own. All of these minimise the mean of the losses.
# **AdamFBLS** follows the MGDA direction. Each is judged twice: by its weights, and by a running mean of its weights, in
# which the $n$-th step has weight $9/(n+9)$. **FBLS+gain** is the search of notebook 07 without a metric. LDoG is in the
# tables alone: six curves in a panel are hard to tell apart.

# %%
compared = {name: comparison.default_runs(sweep) for name, sweep in sweeps.items()}
runs = parallel.run_groups(compared, store, jobs)
entries = {name: comparison.to_entries(some) for name, some in runs.items()}
source_line = "\n".join(f"{name}: {frames.provenance(some)}" for name, some in runs.items())
n_line = f"Mean and range over {seeds} seed{'s' * (seeds > 1)}."
figure, _ = figures.draw_curves(entries, f"{source_line}\n{n_line}")
style.show_figure(figure, "ours-defaults-curves", folder)

# %% [markdown]
# The ratio below is a method's test loss over that of the best rival on this data set, with or without averaging. The
# worst ratio over the data sets stands first: it says how badly a default can fail.

# %%
ends = comparison.gather_ends(entries)
answers = {name: ConstantAnswer(sweep.setting).execute(store).rows[0]["test_loss"] for name, sweep in sweeps.items()}
ranking = comparison.rank(ends, answers)
short = min(min(sweep.epochs * sweep.n_train // sweep.batch_size for sweep in sweeps.values()), 26) < 26
notes = [
    "Columns of data sets: mean test loss over tasks and seeds at the end of training (the mean of the last five epochs, "
    f"or of a quarter of a training below twenty epochs); n = {seeds}. Ratios are to the best rival of each data set. A "
    "dash: diverged with some seed. The best answer that looks at no input has a loss of "
    + ", ".join(f"{loss:.3g} on {name}" for name, loss in answers.items())
    + f". *Learned nothing*: above {comparison.LEARNED:g} of that loss. There a ratio says little: it is small where the best "
    "rival has learned little, too.",
    source_line.replace("\n", "; ") + ".",
]
if short:
    notes.append("**Too short to judge**: some training has fewer than the 26 steps in which AdamFBLS warms up.")
title = "Default against default: the worst case first"
display(Markdown(tables.write_table(ranking, "ours-defaults-ranking", folder, title, notes)))

# %%
details = comparison.detail(ends)
notes = [
    "At the end of training, with 95 % t-intervals over n seeds. Error: of classifications alone. Pearson: mean of the "
    "correlations with the scores of STS-B, on its development set.",
    source_line.replace("\n", "; ") + ".",
]
title = "Default against default: losses and errors"
display(Markdown(tables.write_table(details, "ours-defaults-details", folder, title, notes)))

# %% [markdown]
# ### Where the seeds decide
#
# For every pair the logarithm of the ratio of test losses is averaged over the data sets, seed by seed. The verdict
# uses Student's t over seeds, corrected for the number of rivals by Holm's method.

# %%
judged = comparison.judge(ends)
notes = [
    "Ratio: ours over the rival's, geometric mean over the data sets, with its 95 % interval; p is corrected. A dash: one "
    "side diverged with some seed, and lost.",
    source_line.replace("\n", "; ") + ".",
]
display(Markdown(tables.write_table(judged, "ours-defaults-verdicts", folder, "Ours against each default", notes)))

# %%
lines = []
for name, part in judged.groupby("method", sort=False):
    by_side = part.groupby("test loss")["rival"].agg(lambda names: "; ".join(names))
    said = [f"{side} than {by_side[side]}" for side in ("lower", "higher") if side in by_side]
    undecided = int((part["test loss"] == "undecided").sum())
    said += [f"undecided against {undecided} of {len(part)}"] * bool(undecided)
    lines.append(f"- **{name}**: {', '.join(said)}.")
best = ranking.iloc[0]
lines.append(f"- Smallest worst ratio: **{best['method']}**, {best['worst ratio']:.2f}.")
learned = ranking[ranking["learned nothing on"] == comparison.NOWHERE].head(1)
lines += [
    f"- The same among the methods that learned on every data set: **{row['method']}**, {row['worst ratio']:.2f}."
    for _, row in learned.iterrows()
]
least = ranking.loc[ranking["geometric mean"].idxmin()]
lines.append(f"- Smallest geometric mean: **{least['method']}**, {least['geometric mean']:.2f}.")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ### The step sizes that AdamFBLS finds
#
# Nobody chose these step sizes. Each network has its own.

# %%
figure, found = figures.draw_steps(
    entries, f"{source_line}\nMedian over steps and seeds; band: 5th to 95th percentile."
)
style.show_figure(figure, "ours-defaults-step-sizes", folder)

# %%
last = found.groupby("dataset", sort=False).last()["step_median"]
lines = [f"- **{name}**: median step {step:.2g} in the last epoch." for name, step in last.items()]
lines.append(f"- The largest of these steps is {last.max() / last.min():.2g} times the smallest.")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ### What the bound changes
#
# The first version of AdamFBLS had no bound, and started at 1.1 times the last step. Its committed runs stand beside
# those of AdamFBLS, whatever the size of this notebook.

# %%
pairs = tried.read_tried(RunStore(DATA / "runs"), tried.ADAM)
titles = {sweep.dataset: name for name, sweep in sweeps.items()}
unbounded = tried.compare_tried(pairs).drop(columns=["search", "change", "diverged"])
unbounded["data set"] = unbounded["data set"].map(titles)
unbounded = unbounded.rename(columns={"test loss": "first version, no bound", "without": "AdamFBLS"})
notes = [
    "Test losses are means over tasks and n seeds, after the last epoch. Ratio: of the first version to AdamFBLS, seed by "
    "seed, geometric mean with its 95 % t-interval. Worse: it begins above 1; better: it ends below.",
]
title = "AdamFBLS without its bound"
display(Markdown(tables.write_table(unbounded, "ours-defaults-bound", folder, title, notes, hidden=("trials",))))

# %%
lines = []
for _, _, *both in pairs:
    first, bounded = (frames.to_frame([run])["test_loss"].iloc[-1] for run in both)
    if not 2 / 3 < first / bounded < 3 / 2:
        config = both[0].config
        lines.append(
            f"- **{titles[config['dataset']]}, seed {config['seed']}**: {first:.3g} without the bound, {bounded:.3g} with it."
        )
display(Markdown("\n".join(["Seeds that end more than 1.5 times apart:", *(lines or ["none."])])))

# %% [markdown]
# ## What a step costs
#
# A step of AdamFBLS adds the decoder trials and the MGDA direction to a step of AdamW. All are timed in turn.

# %%
timings = {
    name: comparison.time_defaults(sweep, timing_steps, timing_rounds).execute(store) for name, sweep in sweeps.items()
}
cost = pd.concat([comparison.compare_costs(run).assign(data=name) for name, run in timings.items()])
cost.insert(0, "data set", cost.pop("data"))
notes = [f"{name}: {frames.provenance([run])}." for name, run in timings.items()]
notes.append("Medians over n rounds; ratios within a round, with 95 % t-intervals of the logarithm.")
title = "What a step of AdamFBLS costs"
display(Markdown(tables.write_table(cost, "ours-defaults-cost", folder, title, notes)))

# %% [markdown]
# ## What is not shown
#
# - The Cityscapes stand-in is not among the data sets. There the decoders are most of the model, and trials are
#   expensive.
# - The rivals are not tuned. Notebook 07 has equal weights at the best of eight constant steps on two of the data sets.
# - The constants of AdamFBLS (β = 0.3, first step $10^{-6}$, weights 0.9 and 0.99) were set on smaller runs of these
#   three data sets. The bound and the growth of 1.3 were chosen on seed 0 of MultiMNIST and CIFAR-10 and on seed 1 of
#   STS-B. The comparison is no independent test of them. A fourth data set would be.

# %% [markdown]
# ## Five questions
#
# **1.** Method A has the ratios 0.8, 0.9 and 2.0 on three data sets. Method B has 1.2 on each. Which one comes first by the
# worst ratio, and which one by the geometric mean?
#
# <details><summary>Answer</summary>
#
# By the worst ratio B: 1.2 against 2.0. By the geometric mean A: $1.44^{1/3} = 1.13$ against 1.2. The worst ratio asks how
# badly a default can fail.
#
# </details>
#
# **2.** The longest step that passes does not change during training. How often does a search of AdamFBLS need a second
# trial?
#
# <details><summary>Answer</summary>
#
# After a halving the step grows by 1.3 a search. It doubles in $\ln 2/\ln 1.3 = 2.6$ searches. So two searches in five need a
# second trial. During training the longest step changes from batch to batch, and the bound often ends below it.
#
# </details>
#
# **3.** Take $g_1 = (3, -1)$ and $g_2 = (-1, 3)$ again, but let the metric divide both entries by ten. Is the test right
# now?
#
# <details><summary>Answer</summary>
#
# Yes. $P^{-1} d_z = d_z/10$ has the direction of $d_z$, and $\rho = \tfrac1{10}$. Both true slopes are 0.2, and the test sees
# 0.2. A metric does harm where it turns the direction.
#
# </details>
#
# **4.** Which methods learned something on STS-B? Use the note below the first table and the column *Pearson*.
#
# <details><summary>Answer</summary>
#
# Those with a loss clearly below the best constant answer and a correlation clearly above 0. A loss close to the constant
# answer and a correlation near 0 mean that the predictions hardly depend on the sentences.
#
# </details>
#
# **5.** Find the error: "AdamFBLS has a low geometric mean here. So it will have one on a fourth data set."
#
# <details><summary>Answer</summary>
#
# The constants of AdamFBLS were set on smaller runs of these three data sets. Those of its rivals were not, so the
# comparison favours AdamFBLS. And three data sets are few: look at n and at the verdicts, too.
#
# </details>
