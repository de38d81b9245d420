# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. MultiMNIST: does a line search in latent space replace the learning rate?
#
# Two handwritten digits lie over each other in one image. A LeNet-5 encoder turns the image into 50 numbers $z$. Two
# small heads read these numbers: one names the left digit, one names the right digit. So there are two losses and one
# shared encoder. In which direction should a step go, and how far?
#
# **You will learn**
# - what a step of each of the paper's four algorithms costs;
# - how the step size of a line search compares with constant step sizes;
# - when the test in latent space says little about the step.
#
# **Regenerates** Figure 3, Figure 4, the top row of Figure 6 and the MultiMNIST column of Table 1 of
# [Filatov and Merkulov (2021)](https://arxiv.org/abs/2110.00874), and figure 4 of the thesis. We add the step size along
# training, which the paper describes in words, and equal-weight SGD, which the paper leaves out.
#
# **Takes** a few minutes on two cores at the default size, which is far smaller than the paper's. The size is
# printed under every figure. The runs are kept, so a second execution only draws.

# %% tags=["parameters"]
source = "auto"  # "mnist", "digits" (scikit-learn's, the stand-in), or "auto": MNIST if its files are under data/
n_train = 1200  # training images
n_test = 300  # test images
epochs = 6
seeds = 2  # repetitions of every run
step_sizes = [0.001, 0.001931, 0.003728, 0.007197, 0.01389, 0.02683, 0.05179, 0.1]  # constant steps, log-spaced
betas = [0.1, 0.2, 0.3, 0.4]  # β of BLS and FBLS in Figure 4
beta_seeds = 1  # repetitions of every run of Figure 4
beta_epochs = 3  # epochs of Figure 4; can be fewer, since BLS costs far more than the other methods
bls_seeds = 1  # repetitions of BLS at the default β, as long as the other runs
directions = ["mean", "pcgrad", "edm"]  # rules for the common direction, compared with MGDA; trained for `beta_epochs`
larger_steps = []  # constant steps of SGD above the paper's largest
equal_weight_steps = [0.001, 0.01389, 0.1]  # constant steps of EqualWeight
steps_with_fewer_seeds = [
    0.001,
    0.001931,
    0.003728,
    0.007197,
    0.01389,
]  # constant steps that are repeated only `fewer_seeds` times
fewer_seeds = 1
decay_every = 2  # epochs between two halvings of the bound in FBLS+decay; in the paper 10, of 100 epochs
timing_images = 1200  # images of an epoch in Table 1
timing_rounds = 5  # measured epochs per method in Table 1
device = "auto"  # "cpu", "cuda" or "auto"
training_device = "auto"  # for all runs except those of Figure 4; "auto": the same as `device`
jobs = 1  # training runs at once
runs_dir = "build/quick/runs"  # where runs are kept, from the root of the repository
figures_dir = "build/quick/figures"  # where figures and tables go

# %%
from dataclasses import replace

import pandas as pd
from IPython.display import Markdown, display

from fastls.datasets.multimnist import find_source
from fastls.environment import resolve_device
from fastls.experiments.measuring import timing
from fastls.experiments.parameters import check_notebook
from fastls.experiments.reporting import claims, comparisons, frames, intervals, samples, style, tables
from fastls.experiments.reporting import curves as figures
from fastls.experiments.training import parallel, sweeps
from fastls.experiments.training.store import RunStore
from fastls.paths import in_repository

check_notebook("03_multimnist", globals())

sweep = sweeps.Sweep(
    dataset="multimnist",
    source=find_source() if source == "auto" else source,
    n_train=n_train,
    n_test=n_test,
    epochs=epochs,
    seeds=seeds,
    betas=tuple(betas),
    decay_every=decay_every,
    device=resolve_device(device if training_device == "auto" else training_device),
)
measured = replace(sweep, device=resolve_device(device))  # samples, times and Figure 4
store = RunStore(in_repository(runs_dir))
folder = in_repository(figures_dir)
paper = tables.read_paper()

# %% [markdown]
# ## The data
#
# We follow the thesis. One digit is shifted four pixels to the left, the other four pixels to the right. Where they
# overlap, the brighter pixel is kept. A seed decides which two digits form a pair, so the pairs are equal on every
# machine.

# %%
sample_run = samples.store_samples(measured.setting, store)
images, labels = samples.read_samples(sample_run)
captions = [f"{label['left']} and {label['right']}" for label in labels]
origin = f"left and right digit of the first test images · {sample_run.header['data']['description']}"
figure, _ = figures.draw_samples(images[:, 0], captions, origin)
style.show_figure(figure, "thesis-figure-4-multimnist-samples", folder)
# %% [markdown]
# ## Five ways to take a step
#
# The paper compares four methods. They differ in where the common direction is formed, and in how the step size is
# chosen.
#
# | direction formed in | constant step | line search |
# |---|---|---|
# | parameters of the encoder, $g_t = \partial L_t/\partial\theta_{sh}$ | **SGD** | **BLS** (Algorithm 1) |
# | latent space, $g_t = \partial L_t/\partial z$ | **MGDA-UB** | **FBLS** (Algorithm 2) |
#
# - SGD = stochastic gradient descent, here along the common direction of all tasks.
# - BLS = backtracking line search: try the largest step, and shorten it until every loss falls enough.
# - FBLS = fast backtracking line search: the same search in latent space, without running the encoder again.
# - MGDA = multiple-gradient descent algorithm: the direction is the shortest vector in the convex hull of the $g_t$.
# - MGDA-UB = MGDA with the gradients in latent space: it minimises an upper bound of the length that MGDA minimises.
#
# All four methods use the direction of MGDA. The fifth method, **EqualWeight**, is what most people run: one backward
# pass of the mean loss. A step needs at least one backward pass, so we compare every cost with EqualWeight, too. The
# decoders of EqualWeight move along the gradient of the mean loss: for two tasks, half of
# $\partial L_t/\partial\theta_t$.
#
# The next cell trains the runs that the store lacks:
# - SGD at each constant step size of the paper and at two larger ones, EqualWeight at a few of them;
# - FBLS with the bound $lr_{ub} = 1$, and FBLS+decay, where the bound is halved on a schedule;
# - BLS and FBLS for each $\beta$, the share of the predicted decrease that the test demands.
#
# Where nothing else is said, $\beta = 0.1$. A rejected step is multiplied by $\gamma$. The paper does not give
# $\gamma$; we use ½.

# %%
steps = {"SGD": [*step_sizes, *larger_steps], "EqualWeight": equal_weight_steps}
default_beta = sweeps.SEARCH["beta"]
shorter, at_default = replace(measured, epochs=beta_epochs), replace(measured, betas=(default_beta,))
configs = {
    "constant": sweeps.step_size_runs(sweep, steps, dict.fromkeys(steps_with_fewer_seeds, fewer_seeds)),
    "searches": [run for seed in range(beta_seeds) for run in sweeps.beta_runs(sweep, seed, "FBLS")],
    "compared": [run for seed in range(beta_seeds) for run in sweeps.beta_runs(shorter, seed, "FBLS", "BLS")],
    "bls": [run for seed in range(bls_seeds) for run in sweeps.beta_runs(at_default, seed, "BLS")],
    "directions": [
        shorter.run("FBLS", sweeps.LR_UB, seed, **sweeps.SEARCH, direction=direction)
        for seed in range(beta_seeds)
        for direction in ("mgda", *directions)
    ],
}
runs = parallel.run_groups(configs, store, jobs)
constant, searches, compared, bls, directed = (frames.to_frame(runs[name]) for name in configs)
source_line, compared_line = frames.provenance(runs["constant"]), frames.provenance(runs["compared"])
f"{len({run for some in configs.values() for run in some})} runs · {source_line}"

# %% [markdown]
# ## Figure 3: constant steps against a search
#
# The figure shows losses and errors at the end of training. They are means over the last five epochs, because a single
# epoch of FBLS is noisy. If a training has fewer than twenty epochs, the mean is over its last quarter. A line search
# has no constant step size, so it is a horizontal line.

# %%
figure, _ = figures.draw_constant_steps(constant, source_line)
style.show_figure(figure, "figure-3-multimnist-step-sizes", folder)

# %%
final = frames.end_of_training(constant)
claim_3 = [
    comparisons.compare_with_best_step(
        constant, "MultiMNIST", variant, rival, metric, step_sizes if rival == "SGD" else None
    )
    for variant in ("FBLS", "FBLS+decay")
    for rival in ("SGD", "EqualWeight")
    for metric in (frames.METRICS if rival == "SGD" else ("test_loss", "test_error"))
]
display(Markdown(claims.to_list(claim_3)))

# %% [markdown]
# A caution: the paper's grid of constant steps ends at 0.1. Where the largest step of the grid is the best one, a larger
# step might be better still. The figure of the committed runs shows two larger ones.
#
# ## Figure 4: BLS against FBLS
#
# BLS tests a step with the whole network. FBLS tests it with the heads only. Every line is a mean over all $\beta$, as
# in the paper. BLS costs several times as much as the other methods, so this figure may show fewer epochs; its caption
# says how many. Claim 4a speaks of the mean over $\beta$. In the committed runs BLS is trained as long as the other
# methods at $\beta = 0.1$ alone. These long runs are shown and do not vote.

# %%
figure, _ = figures.draw_learning_curves(
    compared.assign(label=compared["variant"]),
    f"β in {', '.join(map(str, betas))} · {compared_line}",
    {"BLS": "BLS", "FBLS": "FBLS"},
)
style.show_figure(figure, "figure-4-multimnist-bls-fbls", folder)

# %%
ended = frames.end_of_training(compared)
equally_long = pd.concat([constant[constant["variant"] == "FBLS"], bls])  # both at the default β, not a mean over all
claim_4 = [
    comparisons.compare_with_bls(some, "MultiMNIST", metric)
    for some in ([compared] if beta_epochs == epochs else [equally_long, compared])
    for metric in frames.METRICS
]
by_beta = ended.pivot_table(index="beta", columns="variant", values="test_loss")
singly = ", ".join(f"{beta:g}: {row['FBLS']:.3f} and {row['BLS']:.3f}" for beta, row in by_beta.iterrows())
display(
    Markdown(
        f"{claims.to_list(claim_4)}\n- The mean over β hides a difference. Test loss of FBLS and of BLS for each β, "
        f"after {beta_epochs} epochs: {singly}."
    )
)

# %% [markdown]
# ## Figure 6, top row: learning curves
#
# Of SGD the figure shows two constant steps: the one with the lowest final test loss, among those with the most seeds, and
# the smallest. Of EqualWeight it shows the best.

# %%
labelled, lines = frames.label_lines(constant, bls, {"BLS": default_beta})
halved = f"FBLS+decay: bound halved every {decay_every} epochs · {source_line}"
figure, _ = figures.draw_learning_curves(labelled, halved, lines)
style.show_figure(figure, "figure-6-top-multimnist-learning-curves", folder)

# %%
along = constant[constant["variant"] == "FBLS"].groupby("epoch")[["train_loss", "accepted"]].mean()
display(
    Markdown(
        f"The train loss of FBLS is lowest in epoch {along['train_loss'].idxmin()}, at {along['train_loss'].min():.3g}, and "
        f"ends at {along['train_loss'].iloc[-1]:.3g}. Meanwhile {along['accepted'].mean():.1%} of its steps passed their "
        f"test (β = {default_beta:g}): it sees the decoders and $z - \\eta d_z$, not the encoder."
    )
)

# %% [markdown]
# ## The step size along training
#
# The paper remarks that "from some iteration step size converged to upper bound", and therefore adds a decay. The
# figure shows the share of steps that are taken at the bound.
#
# Why does a *trial* at the bound often pass? The loss is a mean over a batch of 256 images, so
# $\partial L_t/\partial z$ of a single image is tiny. At $\eta = 1$ the trial point $z - \eta d_z$ lies close to $z$.
# The latent part of the test then passes nearly always, and the parameters of the heads decide. A larger $\beta$
# demands a larger decrease, so more trials are rejected.
#
# The *step* differs from the trial. The step moves $\theta_{sh}$ by $-\eta J^\top d_z$ with
# $J = \partial z/\partial\theta_{sh}$. This moves $z$ by about $-\eta J J^\top d_z$. The component of this vector along
# $d_z$ is $\eta\rho\,d_z$, where
#
# $$\rho = \frac{\|J^\top d_z\|^2}{\|d_z\|^2}$$
#
# is the gain. The last panel shows $\rho$. A large $\rho$ alone does not mean that a step is too long: what matters is
# $\eta\rho\ell < 2$, where $\ell$ is the curvature of the loss in $z$ (notebook 01, section 10, case C). The loss is a mean
# over 256 images, so $\ell$ is about 1/256 of that of one image.

# %%
labelled, lines = frames.label_searches(constant, searches, {"FBLS": betas[-1]})
figure, _ = figures.draw_step_sizes(labelled, halved, lines)
style.show_figure(figure, "ours-multimnist-step-size-along-training", folder)

# %%
claim_5 = [comparisons.judge_bound(constant, "MultiMNIST")]
claim_5 += [comparisons.judge_bound(searches[searches["beta"] == beta], "MultiMNIST") for beta in betas[1:]]
display(Markdown(claims.to_list(claim_5)))
gain = final[final["variant"] == "FBLS"]["gain_median"].median()
display(
    Markdown(
        f"- To first order, a step of FBLS moves $z$ along $d_z$ **{tables.show(float(gain))}** times as far as the trial that was "
        "tested. The curvature, with which $\\eta\\rho$ would have to be multiplied, is not measured here."
    )
)

# %% [markdown]
# ## Which direction?
#
# The paper does not say which rule gives the common direction in its experiments. All runs above use MGDA; this is our
# assumption. The table compares FBLS with MGDA and FBLS with other rules. Nothing else is changed.
#
# - mean: the mean of the gradients.
# - pcgrad (projecting conflicting gradients): if two gradients conflict, remove from each the part that opposes the
#   other; then add them.
# - edm (equiangular direction method): the direction makes the same angle with every gradient of non-zero weight.

# %%
by_direction = frames.end_of_training(directed).groupby("direction", sort=False)
shown = ["train_loss", "test_loss", "train_error", "test_error", "step_median", "share_at_bound"]
direction_table = by_direction[shown].mean().assign(n=by_direction.size())
ends = by_direction["test_loss"].apply(lambda values: pd.Series(intervals.mean_interval(values)[1:], ["low", "high"]))
direction_table = direction_table.join(ends.unstack().add_suffix(", test loss")).reset_index()
direction_table.columns = [name.replace("_", " ") for name in direction_table]
notes = [
    f"FBLS, β = {default_beta:g}, bound 1. {frames.provenance(runs['directions'])}.",
    "Means over n seeds and the two tasks at the end of training; the test loss with its 95 % t-interval. Median step and share of steps at the bound are means over the same epochs.",
]
title = "FBLS along four directions"
display(Markdown(tables.write_table(direction_table, "ours-multimnist-directions", folder, title, notes)))

# %% [markdown]
# ## Table 1: what an epoch costs
#
# The five methods train in turn on one machine, one epoch each; this is a round. A ratio compares two times of the same
# round. Only ratios can be compared with the paper, which used another machine. Passes per step are counted while they
# run, and do not depend on the machine.

# %%
timing_run = timing.Timing(replace(measured.setting, n_train=timing_images), timing_rounds).execute(store)
printed = paper["times"]["multimnist"]
table_1 = tables.compare_times(timing_run, printed, paper["thesis_shares"]["multimnist"])
notes = [
    f"Data, size, machine: {frames.provenance([timing_run])}.",
    tables.ABOUT_RATIOS,
    "Passes are means per step, T = 2 tasks.",
]
title = "Table 1, MultiMNIST: seconds per epoch"
hidden = ("thesis / SGD", *tables.HIDDEN_TIMES)
display(Markdown(tables.write_table(table_1, "table-1-multimnist", folder, title, notes, hidden=hidden)))

# %%
claim_1 = [
    comparisons.compare_with_printed(timing_run, "1", "MultiMNIST", "FBLS", rival, printed["FBLS"] / printed[rival])
    for rival in ("MGDA-UB", "SGD")
]
limits = {"MGDA-UB": comparisons.ABOUT_AS_MUCH, "SGD": 1.0, "BLS": comparisons.FAR_LESS}
claim_1 += [comparisons.compare_cost(timing_run, "MultiMNIST", "FBLS", rival, most) for rival, most in limits.items()]
speed_up = paper["speed_up_over_bls"]
claim_4.append(comparisons.compare_with_printed(timing_run, "4b", "MultiMNIST", "BLS", "FBLS", speed_up))
display(Markdown(claims.to_list(claim_1 + claim_4[-1:])))

# %% tags=["nbval-check-output"]
# Encoder passes of a step, forward and backward: facts that hold at any size, on any machine.
table_1.set_index("method").loc[["EqualWeight", "SGD", "MGDA-UB", "FBLS"], ["encoder forward", "encoder backward"]]

# %% [markdown]
# ## The claims, judged
#
# The rule is given below the table.

# %%
judged = [*claim_1, *claim_3, *claim_4, *claim_5]
bls_line = frames.provenance(runs["bls"])
notes = [
    f"Data and size: {source_line}.",
    f"Claim 4a: BLS {bls_line}; or both {compared_line}.",
    f"Times: {frames.provenance([timing_run])}.",
]
title = "Claims of the paper on MultiMNIST"
display(Markdown(claims.write_claims(judged, "claims-multimnist", folder, title, notes)))

# %% [markdown]
# ## What to take home

# %%
cost = table_1.set_index("method")
room = (printed["BLS"] / printed["SGD"] - 1) * (1 + 2 * 2)  # of SGD's 1 forward and 2 backwards
display(
    Markdown(
        f"- Claim 3, FBLS is not worse than the best constant step: {claims.count_tests(claim_3)}.\n"
        f"- Claim 4a, FBLS ends better than BLS: {claims.count_tests(claim_4[:-1])}.\n"
        f"- Claim 5, the step settles at the bound: {claims.count_tests(claim_5)}. At β = {default_beta:g} FBLS took "
        f"{claim_5[0].ours:.1%} of its last steps at its bound. If most steps are at the bound, the bound is in effect "
        "the learning rate, and FBLS+decay is a learning-rate schedule.\n"
        f"- Claim 1, FBLS costs about as much as MGDA-UB and less than SGD and BLS: {claims.count_tests(claim_1)}. "
        f"Compared with EqualWeight, an epoch costs FBLS **{cost['ours / equal weight']['FBLS']:.2f}** times as much, "
        f"MGDA-UB **{cost['ours / equal weight']['MGDA-UB']:.2f}** times, SGD "
        f"**{cost['ours / equal weight']['SGD']:.2f}** times and BLS **{cost['ours / equal weight']['BLS']:.2f}** times.\n"
        f"- BLS runs the encoder forward **{cost['encoder forward']['BLS']:.1f}** times a step, FBLS "
        f"**{cost['encoder forward']['FBLS']:.0f}** time: a trial of BLS runs the encoder, a trial of FBLS does not.\n"
        f"- BLS takes **{cost['ours / SGD']['BLS']:.2f}** times as long as SGD; the paper prints "
        f"{printed['BLS'] / printed['SGD']:.2f}. One reason is the number of trials. If an encoder backward costs two "
        f"forwards, the paper's ratio leaves room for {room:.1f} trials a step. Here BLS made "
        f"{cost['trials']['BLS']:.1f}. The number depends on $\\gamma$, which the paper does not give.\n"
        f"- FBLS tests the point $z - \\eta d_z$. To first order the step moves $z$ {tables.show(float(gain))} times as far along "
        "$d_z$: this is the gain. By itself it says nothing of the length of a step: that takes $\\eta\\rho$ times the curvature."
    )
)

# %% [markdown]
# ## Five questions
#
# **1.** Predict: $\beta$ rises from 0.1 to 0.4. Are more or fewer steps at the bound? Check it in the second panel of the
# step sizes along training.
#
# <details><summary>Answer</summary>
#
# Fewer. A larger $\beta$ demands a larger decrease, so more trials at the bound are rejected. The search then makes more
# trials a step: see the third panel.
#
# </details>
#
# **2.** Find the error: "The median step of FBLS equals its bound 1. So the search has found that 1 is the best step."
#
# <details><summary>Answer</summary>
#
# The search starts at 1 and takes the first step that passes. It never tries a longer step, and it does not compare steps.
# The bound was chosen by a person.
#
# </details>
#
# **3.** Two tasks and six trials in a step. How many encoder passes does BLS make, and how many does FBLS make?
#
# <details><summary>Answer</summary>
#
# BLS: $1 + 6 = 7$ forward and 2 backward. FBLS: 1 and 1, whatever the number of trials. If a backward costs two forwards,
# that is 11 against 3.
#
# </details>
#
# **4.** Replace the mean of the losses over a batch of 256 by the sum. What happens to $d_z$, to the gain and to the share
# of steps at the bound?
#
# <details><summary>Answer</summary>
#
# $d_z$ is 256 times as long. The gain does not change: numerator and denominator both grow by $256^2$. The trial at
# $\eta = 1$ moves $z$ and the heads 256 times as far. So we expect that fewer trials pass at the bound.
#
# </details>
#
# **5.** In Figure 3, is the best constant step of SGD the same for the train loss and for the test loss?

# %% tags=["quiz"]
by_step = final[(final["variant"] == "SGD") & final["lr"].isin(step_sizes)].groupby("lr")
most_seeds = by_step["seed"].nunique() == by_step["seed"].nunique().max()
means = by_step[["train_loss", "test_loss"]].agg(lambda losses: losses.mean(skipna=False))
lowest = means[most_seeds].idxmin()
relation = "The same step" if lowest.nunique() == 1 else "Two different steps"
display(
    Markdown(
        "<details><summary>Answer</summary>\n\n"
        f"{relation}: the mean train loss is lowest at {lowest['train_loss']:g}, the mean test loss at "
        f"{lowest['test_loss']:g}, among the steps with the most seeds. A step that fits the training set best need not be "
        "best on new images. So a claim about *the best step* must name the metric.\n\n</details>"
    )
)
