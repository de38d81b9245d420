# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. Toy problems: every step of every algorithm, drawn
#
# Two parameters $\theta$, a linear encoder $z = A\theta$, and losses of $z$ simple enough to know all about them: where
# their Pareto set lies, what the front looks like, how far any point is from either. Nothing is trained on data here;
# the optimizers are those that train the networks in the other notebooks.
#
# **You will learn**
# - to read trajectories of SGD, BLS, MGDA-UB and FBLS with four ways to combine gradients;
# - what a step costs, and what it achieves;
# - what $\beta$, $\gamma$ and $lr_{ub}$ change;
# - how the encoder's gain and conditioning decide whether FBLS arrives at all;
# - when an exact line search pays.
#
# Exercises 6 to 8 are among the cells.
#
# **Regenerates** nothing of [Filatov and Merkulov (2021)](https://arxiv.org/abs/2110.00874), who show no toy problem;
# all figures are ours. They test what the paper claims about convergence and about step sizes.
#
# **Takes** less than a minute on one core, without data.
#
# [Open in Colab](https://colab.research.google.com/github/OWNER/fastls/blob/main/notebooks/02_toy_quadratics.ipynb) to run it without installing.

# %% tags=["parameters"]
max_steps = 120  # of a run; most arrive far earlier
drawn_steps = 40  # of a run that is drawn over the contours
n_starts = 2  # starting points of a run, of the four that are known
sample_side = 200  # points along a side of the grid that checks the front
betas = [0.01, 0.1, 0.4]
gammas = [0.1, 0.5, 0.9]
bounds = [0.5, 1.0, 10.0, 100.0]  # lr_ub of the searches, lr of the constant steps
scales = [1.0, 1.4, 1.8, 2.2, 2.6, 3.0]  # σ₁ of the encoder
ratios = [0.4, 0.6, 1.0]  # σ₂/σ₁ of the encoder
device = "auto"  # nothing here is worth a GPU; the name is the same in every notebook
jobs = 1
runs_dir = "build/quick/runs"  # nothing is kept: every run below takes milliseconds
figures_dir = "build/quick/figures"  # where figures and tables go

# %% tags=["install"]
# Opened online, in Colab for example: fetch fastls first. Does nothing where it is installed.
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("fastls") is None:
    subprocess.run(["git", "clone", "-q", "https://github.com/OWNER/fastls", "fastls-main"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "-e", "fastls-main"], check=True)
    sys.path.insert(0, "fastls-main")  # pip's own entry counts from the next start of the kernel on

# %%
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display
from torch import Tensor

import fastls
from fastls.experiments.parameters import check_notebook
from fastls.experiments.reporting import style, tables
from fastls.experiments.studies.toy import figures as toy_figures
from fastls.experiments.studies.toy import rates as toy_rates
from fastls.experiments.studies.toy import toy
from fastls.paths import in_repository
from fastls.teaching.checks import check_best_step, check_losing_encoder, check_pareto_point

check_notebook("02_toy_quadratics", globals())

torch.set_num_threads(1)  # tensors of two numbers
folder = in_repository(figures_dir)
starts = toy.STARTS[:n_starts]
frame_x, frame_y = (-4.3, 4.7), (-4.2, 5.6)  # what is shown of the plane


def tell(*sentences):
    """A list of sentences."""
    display(Markdown("\n".join(f"- {sentence}" for sentence in sentences)))


def show(table):
    """A table in three significant digits, or all before the point."""

    def write(value):
        if not isinstance(value, float):
            return value
        return "–" if np.isnan(value) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

    display(table.map(write))


# %% [markdown]
# ## The problem
#
# $$L_t(\theta) = \tfrac12 (z - z_t^*)^\top H_t (z - z_t^*), \qquad z = A\theta, \qquad
# A = Q\,\mathrm{diag}(\sigma_1, \sigma_2).$$
#
# Loss $t$ has its minimum at $z_t^*$. $Q$ is the rotation by 30 degrees, and $\sigma_1 \ge \sigma_2$ are the singular
# values of $A$. The scale $\sigma_1$ sets the *gain* of the encoder, the ratio $\sigma_2/\sigma_1$ its *conditioning*: the
# condition number of $AA^\top$, called $\kappa$ in the first notebook, is $(\sigma_1/\sigma_2)^2$. Until a later section
# changes them, $\sigma_1 = 1$ and $\sigma_2/\sigma_1 = 0.6$.

# %%
problem = toy.two_quadratics()
display(Markdown("The minima $z_t^*$ and the curvatures $H_t$, which are diagonal:"))
pd.DataFrame(
    {
        "minimum, first entry": toy.CENTRES[:2, 0],
        "minimum, second entry": toy.CENTRES[:2, 1],
        "H₁₁": toy.CURVATURES[:2, 0, 0],
        "H₂₂": toy.CURVATURES[:2, 1, 1],
    },
    index=["task 1", "task 2"],
)

# %% [markdown]
# ### Exercise 6: the Pareto set in closed form
#
# Two strictly convex losses have a simple Pareto set: the minimisers of $w L_1 + (1 - w) L_2$ for all weights $w$ in
# $[0, 1]$. Return the minimiser for a given weight. With curvatures that differ it is *not* $w z_1^* + (1 - w) z_2^*$:
# the set is a curve.


# %% tags=["exercise"]
def pareto_point(H1: Tensor, z1: Tensor, H2: Tensor, z2: Tensor, weight: float) -> Tensor:
    """argmin over z of w L_1(z) + (1 − w) L_2(z), where L_t has its minimum at zt."""
    ### BEGIN SOLUTION
    H = weight * H1 + (1 - weight) * H2
    return torch.linalg.solve(H, weight * H1 @ z1 + (1 - weight) * H2 @ z2)
    ### END SOLUTION


# %% tags=["check"]
check_pareto_point(pareto_point)

# %% [markdown]
# The front is the image of that curve in loss space. We check it with a dense sample of the plane. No point of the sample
# may dominate a point of the closed form. The points of the sample that no other dominates must lie near the curve, and
# nearer if the sample is finer.

# %%
side = torch.linspace(-2, 2, sample_side, dtype=torch.float64)
sample_theta = problem.to_theta(torch.cartesian_prod(side, side))
sample = toy.losses_at(problem, sample_theta)
on_front = fastls.pareto_front(sample)
caption = f"σ₁ = 1, σ₂/σ₁ = {toy.RATIO:g} · {sample_side} × {sample_side} points, compared by fastls.pareto_front"
figure, front = toy_figures.draw_problem(problem, sample.numpy(), on_front.numpy(), frame_x, frame_y, caption)
style.show_figure(figure, "ours-toy-problem", folder)

# %% tags=["nbval-check-output"]
closed = torch.tensor(front.to_numpy()[::50])
dominating = sum(int(fastls.dominates(sample, point).sum()) for point in closed)
f"points of the front in closed form that the sample dominates: {dominating}"

# %%
aside = toy.distance_to_pareto_set(problem, sample_theta[on_front])
f"{int(on_front.sum())} of {len(sample):,} are not dominated; the farthest is {aside.max():.2g} from the Pareto set in θ"

# %% [markdown]
# ## Trajectories: four algorithms, four directions
#
# Rows are algorithms, columns are rules that turn the two gradients into one direction. The constant steps are
# $\eta = 0.4$, the searches start at $lr_{ub} = 1$ with $\beta = 0.1$ and $\gamma = \tfrac12$. A run has *arrived* when
# its stationarity gap, the length of the shortest convex combination of the losses' gradients in $\theta$, is below
# $10^{-6}$.

# %%
ways = [
    toy.follow_all(problem, toy.same_options([method], direction=direction), starts, drawn_steps).assign(
        direction=direction
    )
    for method in ("SGD", "BLS", "MGDA-UB", "FBLS")
    for direction in fastls.DIRECTIONS
]
caption = (
    f"one colour a starting point · at most {drawn_steps} steps, σ₂/σ₁ = {toy.RATIO:g} · constant steps {toy.LR:g}, "
    "searches from 1"
)
figure, ends = toy_figures.draw_trajectories(problem, pd.concat(ways), frame_x, frame_y, caption)
style.show_figure(figure, "ours-toy-trajectories", folder)

# %%
ends

# %% [markdown]
# What to see:
#
# - With **mean** every run that is not refused approaches the same point, the minimum of $L_1 + L_2$. MGDA, EDM and
#   PCGrad stop on the Pareto set, each at another point.
# - **mgda** follows the shorter gradient, so it often stops near the minimum of one task.
#   **edm** does not care how long the gradients are.
# - **mean in a search is refused** as soon as it would raise one of the losses. Near the Pareto set the gradient of the mean almost
#   never lowers every loss, and far away not always. Then no step size can pass a test that asks every loss to fall. PCGrad is a common descent direction for two tasks; the last section shows it with three.
# - In latent space (MGDA-UB, FBLS) the same rule combines different gradients, so the path differs; only the mean of the
#   gradients is the same in both.
#
# What a refused search does is the caller's choice, `on_failure`. At $z = 0$, between the centres, the mean descends
# the first loss and climbs the second:

# %% tags=["nbval-check-output"]
for choice in ("floor", "skip", "raise"):
    model = problem.model((0.0, 0.0))
    optimizer = fastls.BLS(model, direction="mean", on_failure=choice)
    try:
        record = optimizer.step(None, dict.fromkeys(model.tasks))
        slopes = [round(slope, 2) for slope in record.slopes.tolist()]
        print(
            f"{choice}: slopes {slopes}, {record.trials} trials, step size {record.step_size:g}, accepted={record.accepted}"
        )
    except RuntimeError as error:
        print(f"{choice}: RuntimeError, {str(error).split(':')[1].strip()}")

# %% [markdown]
# "floor" is what the paper describes: it goes on with the smallest step, $10^{-10}$, which is to say nowhere.
# The runs above end there, since on a problem without noise every further step would be refused too.
#
# ## What a step buys, and what it costs
#
# Gap and distance to the Pareto set against three prices: steps, passes through the encoder, passes through decoders.
# The counts are those in the records of the steps; a backward pass is weighed as two forward passes. EqualWeight, one
# backward of the mean loss, is the least that a step can cost. In a network a pass through the encoder is
# expensive and one through a decoder is cheap. All methods but EqualWeight use MGDA.

# %%
compared = toy.follow_all(problem, toy.same_options(toy.OPTIMIZERS), starts, max_steps)
first = compared[compared["start"] == 0]
first = first.assign(distance=toy.distance_to_pareto_set(problem, toy.get_theta(first)).numpy())
caption = f"one start · constant steps {toy.LR:g}, searches from 1 · passes: forward 1, backward {toy.BACKWARD}"
figure, _ = toy_figures.draw_convergence(first, caption)
style.show_figure(figure, "ours-toy-convergence", folder)

# %%
spent = toy.summarize(compared)
show(spent)

# %%
per_step = first.groupby("label")[toy.PASSES].max().div(first.groupby("label")["step"].max(), axis=0)
tell(
    *(
        f"Fewest {price} to a gap of {toy.TOLERANCE:g}, by the median over {n_starts} starts: **{spent[price].idxmin()}** "
        f"with {spent[price].min():.4g}."
        for price in ("steps", "encoder passes", "decoder passes")
    ),
    f"A step of BLS costs {per_step['encoder_forward']['BLS']:.2g} encoder forwards and "
    f"{per_step['encoder_backward']['BLS']:.2g} backwards, one of FBLS {per_step['encoder_forward']['FBLS']:.2g} and "
    f"{per_step['encoder_backward']['FBLS']:.2g}.",
    f"{spent['loss rose']['BLS']:.0%} of the steps of BLS raised a loss: its test forbids it. Of the steps of FBLS, all of "
    f"which had passed its own test, **{spent['loss rose']['FBLS']:.0%}** did. The section on the encoder says why.",
)

# %% [markdown]
# ## Step sizes, and the effect of β, γ and the bound
#
# Left: the step sizes that a run takes, and the trials that they cost. Then steps and encoder passes to a gap of
# $10^{-6}$, from up to three starts, one parameter turned at a time. A cross above a panel: not every start arrived
# with that value. In the last column the constant steps are turned as well, for a fair comparison with a search whose
# bound is wrong.

# %%
searches, constant = ("BLS", "FBLS"), ("SGD", "MGDA-UB")
along = toy.follow_all(problem, toy.same_options([*searches, *constant]), starts[:1], drawn_steps)


def follow_with(**options):
    """Both searches with these options, from up to three starts."""
    return toy.follow_all(problem, toy.same_options(searches, **options), starts[:3], max_steps)


def follow_bound(lr):
    """Constant steps of this size, searches up to it."""
    steps = toy.follow_all(problem, toy.same_options(constant, lr=lr), starts[:3], max_steps)
    return pd.concat([follow_with(lr_ub=lr), steps])


swept = {
    "β": toy.sweep(betas, lambda beta: follow_with(line_search=fastls.Backtracking(beta=beta))),
    "γ": toy.sweep(gammas, lambda gamma: follow_with(line_search=fastls.Backtracking(gamma=gamma))),
    "lr_ub, or lr": toy.sweep(bounds, follow_bound),
}
caption = (
    f"left: one start; else the median over {len(starts[:3])} starts, at most {max_steps} steps · × some did not arrive"
)
figure, turned = toy_figures.draw_search_parameters(along, swept, caption)
style.show_figure(figure, "ours-toy-search-parameters", folder)

# %%
notes = [
    f"Medians over {len(starts[:3])} starts of what it took to reach a stationarity gap of {toy.TOLERANCE:g} within "
    f"{max_steps} steps; missing where half of the starts or more did not. β = 0.1, γ = 1/2, bound 1 where not turned.",
    f"Passes: forward 1, backward {toy.BACKWARD}.",
]
hidden = ("starts", "largest gap", "at bound", "loss rose")
_ = tables.write_table(
    turned, "ours-toy-search-parameters", folder, "Toy problem: β, γ and the bound", notes, hidden=hidden
)
show(turned.pivot_table(index=["parameter", "value"], columns="label", values=["steps", "encoder passes"], sort=False))

# %%
by_bound = swept["lr_ub, or lr"]
arrived = by_bound[by_bound["arrived"] == by_bound["starts"]]
reach = arrived.groupby("label")["value"].agg(["min", "max"])
best = arrived.loc[arrived.groupby("label")["encoder passes"].idxmin()].set_index("label")


def span(name, label):
    """Fewest and most steps over a sweep."""
    steps = swept[name].loc[swept[name]["label"] == label, "steps"]
    return f"{steps.min():.0f} to {steps.max():.0f}"


tell(
    *(
        f"{label}: every start arrived for {'a bound' if label in searches else 'a step size'} from "
        f"{reach['min'][label]:g} to {reach['max'][label]:g}, of {bounds[0]:g} to {bounds[-1]:g} tried; cheapest at "
        f"{best['value'][label]:g}, with {best['encoder passes'][label]:.4g} encoder passes."
        for label in [*searches, *constant]
        if label in reach.index
    ),
    f"Over all β tried, BLS took {span('β', 'BLS')} steps and FBLS {span('β', 'FBLS')}; over all γ {span('γ', 'BLS')} and "
    f"{span('γ', 'FBLS')}.",
    f"Does the step settle at its bound, as the paper observed? Share of the steps of FBLS, from {len(starts[:3])} starts, that were as long as the bound: "
    + ", ".join(
        f"{row['at bound']:.0%} at {row['value']:g}" for _, row in by_bound[by_bound["label"] == "FBLS"].iterrows()
    )
    + ". A step that always equals its bound has not been searched for: where the bound is low, a search is a constant "
    "step that costs more.",
)

# %% [markdown]
# On a quadratic a constant step that was chosen by trying is hard to beat. The advantage of a search: nobody has to choose.
#
# ## The encoder's gain and conditioning
#
# FBLS tests the decoders at $z - \eta d_z$. Then it moves $\theta$ by $-\eta A^\top d_z$, so that $z$ moves by
# $-\eta A A^\top d_z$: another step, in another direction. How far it goes along $d_z$, compared with what was tested,
# is the gain.
#
# $$\rho = \|A^\top d_z\|^2 / \|d_z\|^2.$$
#
# ### Exercise 7: an encoder that loses descent
#
# Two gradients in $z$ are given, and $d_z$ is MGDA's direction, which lowers both losses in $z$. Construct an
# invertible encoder $A$ for which the step raises one of them, however small $\eta$ is: $\langle g_t, AA^\top d_z\rangle < 0$.


# %% tags=["exercise"]
def losing_encoder(g1: Tensor, g2: Tensor) -> Tensor:
    """An invertible 2 × 2 matrix A with ⟨g_t, A Aᵀ d_z⟩ < 0 for one of the tasks."""
    ### BEGIN SOLUTION
    g = torch.stack([g1, g2])
    d_z = fastls.mgda(g @ g.T) @ g
    widest = max(g1, g2, key=lambda g: g.norm() / (g @ d_z))  # makes the wider angle with d_z
    along = (widest @ d_z) / (d_z @ d_z) * d_z
    aside = widest - along
    w = along / along.norm() ** 2 - 2 * aside / aside.norm() ** 2  # ⟨w, d_z⟩ > 0 and ⟨w, widest⟩ = 1 − 2 < 0
    return torch.stack([w, 0.01 * torch.stack([-w[1], w[0]])], dim=1)  # A Aᵀ is nearly w wᵀ
    ### END SOLUTION


# %% tags=["check"]
check_losing_encoder(losing_encoder)

# %% [markdown]
# ### What follows, on one page
#
# On the Pareto set of two losses, between its ends, $g_1 = \partial L_1/\partial z$ and $g_2$ are opposite:
# $\alpha_1 g_1 + \alpha_2 g_2 = 0$. Let $v$ be the unit vector orthogonal to them and
# $H = \alpha_1 H_1 + \alpha_2 H_2$. At a small offset $\delta$ from the set, the shortest convex combination of $g_1$
# and $g_2$ is orthogonal to $g_1 - g_2$, so to first order $d_z = v\,v^\top H\delta$. One step
# takes $\delta$ to $\delta - \eta A A^\top d_z$, and multiplies what makes up the gap:
#
# $$v^\top H\delta \;\leftarrow\; (1 - \eta\,v^\top H A A^\top v)\; v^\top H\delta .$$
#
# FBLS closes in on the set where $0 < \eta\,v^\top H A A^\top v < 2$, and is driven away elsewhere. With round curvature
# $H = hI$ this reads $\eta \cdot h \cdot \rho < 2$: **step size times curvature times gain**. Its test, in contrast, asks
# for $\eta\,v^\top H_t v \le 2(1 - \beta)$ for both $t$, in which $A$ does not occur. Two things can go wrong:
#
# - **too much gain**: $\eta h\rho > 2$. A smaller bound helps;
# - **bad conditioning**: $v^\top H A A^\top v < 0$, however small the gain. *No* step size helps: $-d_z$, pulled back
#   through the encoder, leads away from the set. A positive definite matrix of condition number $\kappa$ turns a vector by
#   at most $\arcsin\frac{\kappa-1}{\kappa+1}$, and here $H$ and $A A^\top$ must turn $v$ apart by more than a right angle: it takes
#   both, stretched along different axes.
#
# Is that what happens? One step of FBLS from $10^{-4}$ beside five points of the set: the growth of the gap, computed
# and measured.

# %% tags=["nbval-check-output"]
weights = [0.1, 0.3, 0.5, 0.7, 0.9]
rows = {}
for scale, ratio in ((1.0, 0.6), (2.0, 0.6), (1.0, 0.05)):
    rates = toy_rates.local_rates(weights, scale, ratio)
    rows[f"σ₁ = {scale:g}, σ₂/σ₁ = {ratio:g}, computed"] = rates["factor"].abs().to_numpy()
    rows[f"σ₁ = {scale:g}, σ₂/σ₁ = {ratio:g}, measured"] = toy_rates.measure_rates(rates, scale, ratio)
pd.DataFrame(rows, index=pd.Index(weights, name="α₁")).T.map("{:.2f}".format)

# %% [markdown]
# Above 1 the point repels. Now whole runs, from the same starts in $z$ whatever the encoder. The grey band lies between
# the scale at which the first point of the Pareto set turns repelling and the one at which the last has. On the right
# the computed growth of the gap all along the set, which jumps where the test halves $\eta$.

# %%
along_set = np.linspace(0, 1, 201)[1:-1]
limits = toy_rates.limit_scales(toy_rates.local_rates(along_set))


def follow_encoder(**dials):
    """Both searches with this encoder."""
    return toy.follow_all(toy.two_quadratics(**dials), toy.same_options(searches), starts, max_steps)


by_scale = toy.sweep(scales, lambda scale: follow_encoder(scale=scale))
by_ratio = toy.sweep(ratios, lambda ratio: follow_encoder(ratio=ratio))
rates = pd.concat(
    [toy_rates.local_rates(along_set, ratio=ratio).assign(ratio=ratio) for ratio in (0.05, 0.2, 0.6, 1.0)]
)
caption = (
    f"medians over {n_starts} starts, at most {max_steps} steps · × some did not arrive; without a point, half or more did not · "
    "first two panels: "
    f"σ₂/σ₁ = {toy.RATIO:g}, last two: σ₁ = 1"
)
figure, by_encoder = toy_figures.draw_gain(by_scale, (limits.min(), limits.max()), by_ratio, rates, caption)
style.show_figure(figure, "ours-toy-gain", folder)

# %% tags=["nbval-check-output"]
f"computed: the first point turns repelling at σ₁ = {limits.min():.2f}, the last at σ₁ = {limits.max():.2f}"

# %%
of_fbls = by_scale[by_scale["label"] == "FBLS"]
of_bls = by_scale[by_scale["label"] == "BLS"]
failed = of_fbls.loc[of_fbls["arrived"] < of_fbls["starts"], "value"]
some = of_fbls.loc[of_fbls["arrived"] > 0, "value"]
worst = rates[(rates["ratio"] == 0.05) & (rates["factor"] > 1)]
straight = by_ratio.loc[(by_ratio["value"] == 1) & (by_ratio["label"] == "FBLS"), "loss rose"].item()
tell(
    f"Measured: the smallest scale at which a start did not arrive with FBLS is **{failed.min():.2g}**, the largest at which "
    f"any did is **{some.max():.2g}**; computed from the Pareto set alone: {limits.min():.3g} and {limits.max():.3g}. Far "
    "from the set the curvature along the step is another, so that runs may be lost before they come near it.",
    f"BLS arrived in {of_bls['arrived'].sum()} of {of_bls['starts'].sum()} runs over the scales tried, {scales[0]:g} to "
    f"{scales[-1]:g}: its test sees the encoder.",
    f"With σ₂/σ₁ = 0.05 and σ₁ = 1 the gain is at most 1, and still {len(worst) / len(along_set):.0%} of the weights belong to "
    f"points that repel FBLS at any step size.",
    f"Where A is a rotation nothing goes astray: with σ₁ = σ₂ = 1, {straight:.0%} "
    "of the steps of FBLS raised a loss. With σ₂ < σ₁ the pulled-back direction leans sideways, and close to the Pareto "
    "set, where one loss can only fall if the other rises, that shows.",
)

# %% [markdown]
# ## Backtracking or an exact search?
#
# Backtracking takes the first step that is good enough. An exact search looks for the best one, and for several losses
# it needs a notion of best. Here it is the *merit* $m(\eta) = \max_t\,[L_t(\eta) - L_t(0)]$, the change of the loss that
# gains least: 0 at $\eta = 0$, and negative where every loss has fallen.
#
# ### Exercise 8: the best step
#
# For two parabolas the best step has a closed form. $L_t(\eta) - L_t(0) = -s_t\eta + \tfrac12 h_t\eta^2$; which $\eta$ in
# $(0, lr_{ub}]$ has the smallest merit? It need not be the vertex of either parabola.


# %% tags=["exercise"]
def best_step(slopes: Tensor, curvatures: Tensor, lr_ub: float) -> float:
    """argmin over 0 < η ≤ lr_ub of max_t (−s_t η + h_t η²/2), two tasks."""
    ### BEGIN SOLUTION
    crossing = 2 * (slopes[0] - slopes[1]) / (curvatures[0] - curvatures[1])
    steps = torch.tensor([*(slopes / curvatures), crossing, lr_ub])
    steps = steps[(steps > 0) & (steps <= lr_ub)]
    merits = (-slopes * steps[:, None] + curvatures * steps[:, None] ** 2 / 2).amax(dim=1)
    return steps[merits.argmin()].item()
    ### END SOLUTION


# %% tags=["check"]
check_best_step(best_step)

# %% [markdown]
# `GoldenSection` and `Parabolic` minimise $m$ over $(0, lr_{ub}]$, the first by shrinking a bracket, the second by
# parabolas through the best points so far. They serve BLS and FBLS alike. Beside them Backtracking with $\gamma = \tfrac12$
# and with a careless $\gamma = 0.1$. First, one step from one point:

# %%
line_searches = {
    "Backtracking": fastls.Backtracking(),
    "Backtracking, γ = 0.1": fastls.Backtracking(gamma=0.1),
    "GoldenSection": fastls.GoldenSection(),
    "Parabolic": fastls.Parabolic(),
}
one_step = toy.follow_all(
    problem,
    {name: ("BLS", {"line_search": search, "lr_ub": 10.0}) for name, search in line_searches.items()},
    starts[:1],
    1,
)
before, after = (one_step[one_step["step"] == step].set_index("label") for step in (0, 1))
losses = ["loss_1", "loss_2"]
show(after[["step_size", "trials"]].assign(merit=(after[losses] - before[losses]).max(axis=1)))

# %% [markdown]
# The merit of convex losses is convex in $\eta$, so that no search can find a lower one than the exact searches, up to
# their tolerance. Is the best step the best way to arrive?

# %%
runs = {
    f"{method}, {name}": (method, {"line_search": search})
    for method in searches
    for name, search in line_searches.items()
}
searched = toy.follow_all(problem, runs, starts, max_steps)
searched["search"] = searched["label"].str.split(", ", n=1).str[1]
to_gap = toy.summarize(searched)
to_gap.index = pd.MultiIndex.from_tuples([label.split(", ", 1) for label in to_gap.index], names=["method", "search"])
caption = f"gap: one start; cost: median over {n_starts} starts · bound 1 · passes: forward 1, backward {toy.BACKWARD}"
figure, costs = toy_figures.draw_searches(searched[searched["start"] == 0], to_gap, caption)
style.show_figure(figure, "ours-toy-searches", folder)

# %%
show(to_gap)

# %%
sentences = []
for method in searches:
    cheapest = costs.loc[method].idxmin()
    ratio = to_gap.loc[method]["trials"]["Parabolic"] / to_gap.loc[method]["trials"]["Backtracking"]
    wins = costs.loc[(method, "Parabolic")] < costs.loc[(method, "Backtracking, γ = 0.1")]
    where = (
        f"where all decoders cost at most {wins[wins].index.max():.2g} times the encoder"
        if wins.any()
        else "at no price"
    )
    where = "at every price tried" if wins.all() else where
    sentences += [
        f"{method}: Parabolic took {to_gap.loc[method]['steps']['Parabolic']:.4g} steps, GoldenSection "
        f"{to_gap.loc[method]['steps']['GoldenSection']:.4g}, Backtracking {to_gap.loc[method]['steps']['Backtracking']:.4g} "
        f"with γ = ½ and {to_gap.loc[method]['steps']['Backtracking, γ = 0.1']:.4g} with γ = 0.1.",
        f"{method}: Parabolic took {ratio:.2g} times the trials of Backtracking, and is cheaper than Backtracking with "
        f"γ = 0.1 {where}. Cheapest over all prices tried: {' or '.join(cheapest.unique())}.",
    ]
tell(*sentences)

# %% [markdown]
# An exact search is not free, and the best step is not the best start for the next one: where one loss alone limits the
# step, its new gradient is orthogonal to the last direction, and the path may zigzag. Its advantage: $\gamma$ no longer
# matters. It pays where a careless $\gamma$ makes backtracking fall far below the step that would do. In BLS every
# trial is a pass through the encoder; in FBLS it costs decoders alone, so trials are cheap exactly where the encoder is
# large. There it also inherits the blind spot of FBLS: exact for $z - \eta d_z$, it is not exact for the step that is
# taken.
#
# In the last column of the figure the price of a pass through all decoders is given in passes through the encoder.
#
# ## Two losses that are not convex
#
# Fonseca and Fleming's pair, $1 - \exp(-\|z \mp (1, 1)/\sqrt 2\|^2)$. The Pareto set is the segment between the minima,
# the front bulges away from the origin, except near its ends. Weighted sums cannot see the bulge: on the segment the
# mean of the two losses has a *maximum* in the middle.

# %%
pair = toy.nonconvex_pair()
pair_starts = ((-1.5, 0.2), (-0.5, 1.6), (0.4, -1.2), (1.7, 0.3), (0.2, 0.5))[: n_starts + 1]
nonconvex = toy.follow_all(pair, toy.same_options(["EqualWeight", "BLS", "FBLS"]), pair_starts, max_steps)
caption = f"{len(pair_starts)} starts · EqualWeight {toy.LR:g}, searches with MGDA from 1"
figure, pair_ends = toy_figures.draw_nonconvex(pair, nonconvex, (-2.6, 2.6), (-2.8, 3.2), caption)
style.show_figure(figure, "ours-toy-nonconvex", folder)

# %%
show(pair_ends[["step", "loss_1", "loss_2", "gap", "outcome"]])

# %%
middle = pair_ends[["loss_1", "loss_2"]].max(axis=1).groupby("label").min()
off = toy.distance_to_pareto_set(pair, toy.get_theta(pair_ends[pair_ends["outcome"] == "arrived"])).max()
rises = nonconvex[nonconvex["label"] == "BLS"].groupby("start")["gap"].agg(["first", "max"])
tell(
    f"EqualWeight ends beside the minimum of one loss: the larger of its two losses is never below "
    f"{middle['EqualWeight']:.2g}. BLS and FBLS end along the front, in its concave part too: the smallest larger loss is "
    f"{middle['BLS']:.2g} and {middle['FBLS']:.2g}.",
    f"All that arrived lie within {off:.1g} of the Pareto set, in θ.",
    f"The gap is no distance: from the first start of BLS it *grows* from {rises['first'][0]:.2g} to {rises['max'][0]:.2g} "
    "before it falls, since far away all gradients are small. A small gap tells of a Pareto stationary point nearby only "
    "where the losses are not flat.",
)

# %% [markdown]
# ## Three tasks
#
# A third quadratic makes the Pareto set an area with curved sides, and a search has to please three losses at once.

# %%
three = toy.three_quadratics()
ways = [
    toy.follow_all(three, toy.same_options([method], direction=direction), starts, drawn_steps).assign(
        direction=direction
    )
    for method in searches
    for direction in fastls.DIRECTIONS
]
thrice = pd.concat(ways)
caption = f"at most {drawn_steps} steps, searches from 1"
figure, three_ends = toy_figures.draw_trajectories(three, thrice, frame_x, frame_y, caption)
style.show_figure(figure, "ours-toy-three-tasks", folder)

# %%
three_ends

# %%
last = thrice.groupby(["method", "direction", "start"], sort=False).last().reset_index()
last["distance"] = toy.distance_to_pareto_set(three, toy.get_theta(last)).numpy()
tell(
    *(
        f"{direction}: {(ends['outcome'] == 'arrived').sum()} of {len(ends)} runs arrived, "
        f"{(ends['outcome'] == 'refused').sum()} were refused; at the end at most {ends['distance'].max():.2g} from the "
        f"Pareto set, with a last step of {ends['step_size'].median():.2g} (median)."
        for direction, ends in last.groupby("direction", sort=False)
    )
)

# %% [markdown]
# MGDA and EDM vanish just on the Pareto set, so they stop where they enter it. PCGrad removes conflicts one by one, in
# an order drawn at random. With three tasks what is left need not be a common descent direction, and it does not vanish
# on the Pareto set: as a run comes near, the search has to make its steps ever shorter, and may be refused.
#
# ## What to take home

# %%
exact, ours = (to_gap.loc[("BLS", name), "steps"] for name in ("GoldenSection", "Backtracking"))
tell(
    f"With MGDA, BLS arrived from {spent['arrived']['BLS']} of {spent['starts']['BLS']} starts and FBLS from "
    f"{spent['arrived']['FBLS']}; the first in {spent['steps']['BLS']:.4g} steps and {spent['encoder passes']['BLS']:.4g} "
    f"encoder passes, the second in {spent['steps']['FBLS']:.4g} and {spent['encoder passes']['FBLS']:.4g}.",
    f"A loss rose in {spent['loss rose']['BLS']:.0%} of the steps of BLS, and in {spent['loss rose']['FBLS']:.0%} of those of "
    "FBLS, all of which had passed its test.",
    f"For round curvature FBLS approaches the Pareto set if step size × curvature × gain is below 2. Its test does not check "
    f"this. Beyond σ₁ = {limits.max():.2g} no point of the Pareto set attracts FBLS. With a badly conditioned encoder some "
    "points repel it at any step size. So the paper's claim that FBLS converges to Pareto stationary points needs a "
    "condition on the encoder.",
    f"Of the values tried, {bounds[0]:g} to {bounds[-1]:g}, bounds from {reach['min']['BLS']:g} to "
    f"{reach['max']['BLS']:g} served BLS, constant steps from {reach['min']['SGD']:g} to {reach['max']['SGD']:g} SGD. Each at its best needed {best['encoder passes']['BLS']:.4g} "
    f"(BLS), {best['encoder passes']['FBLS']:.4g} (FBLS), {best['encoder passes']['SGD']:.4g} (SGD) and "
    f"{best['encoder passes']['MGDA-UB']:.4g} (MGDA-UB) encoder passes, without the trials that found the best.",
    "An exact line search takes better steps, "
    + ("and fewer" if exact < ours else "but not fewer")
    + f" of them: {exact:.4g} steps of BLS with GoldenSection against {ours:.4g} with Backtracking.",
)

# %% [markdown]
# ## Five questions
#
# **1.** $A$ is a rotation times 2, the curvature is $h = 1$, the bound is 1 and $\beta = 0.1$. Does FBLS reach the Pareto
# set?
#
# <details><summary>Answer</summary>
#
# No. $AA^\top = 4I$, so $\rho = 4$. The test asks for $\eta h \le 2(1 - \beta) = 1.8$, so $\eta = 1$ passes. But
# $\eta h\rho = 4$ is above 2: the gap grows by a factor of $|1 - 4| = 3$. A bound below ½ helps.
#
# </details>
#
# **2.** In the figure of trajectories BLS with *mean* is refused. Would a smaller $\gamma$ or a lower floor help?
#
# <details><summary>Answer</summary>
#
# No. The slope of one loss is negative: this loss rises at every small step. The direction is wrong, not the step.
#
# </details>
#
# **3.** Two tasks, one trial a step, and a backward pass counts as two forward passes. FBLS needs more steps than BLS. How
# many more can it need and still use fewer encoder passes?
#
# <details><summary>Answer</summary>
#
# A step of BLS costs $2 + 2 \cdot 2 = 6$: two forwards, two backwards. A step of FBLS costs $1 + 2 = 3$. So FBLS may need
# almost twice as many steps.
#
# </details>
#
# **4.** In the table of local rates, $\sigma_2/\sigma_1 = 0.05$ has a factor above 1. Would a bound of 0.1 help?
#
# <details><summary>Answer</summary>
#
# No. There $v^\top HAA^\top v < 0$, so $1 - \eta\,v^\top HAA^\top v$ is above 1 for every $\eta > 0$. A smaller step only
# moves away more slowly.
#
# </details>
#
# **5.** The changes of two losses are $-2\eta + \eta^2$ and $-\eta + \tfrac14\eta^2$, and the bound is 2. Which step does
# backtracking accept ($\beta = 0.1$, $\gamma = \tfrac12$)? Which step has the lowest merit?
#
# <details><summary>Answer</summary>
#
# At $\eta = 2$ the first loss has not changed, so the test rejects. At $\eta = 1$ the changes are $-1$ and $-0.75$, and the
# test accepts: merit $-0.75$. The merit is lowest where both changes are equal, at $\eta = \tfrac43$: $-\tfrac89$. This is
# the vertex of neither parabola.
#
# </details>
