# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. Theory: from two parabolas to a line search in latent space
#
# A network with several tasks has several losses, and what lowers one may raise another. This notebook starts with two
# parabolas and ends with the paper's two algorithms, built up in a few lines each. $T$ is the number of tasks. You only
# need to know gradient descent.
#
# **You will learn** what it means to minimise several losses at once, which way lowers all of them, how far to go, how
# FBLS searches for a step size without running the encoder, and what its proof of convergence overlooks. Five exercises
# check themselves: replace the body of the function and run the cell below it.
#
# **Regenerates** Figures 1 and 2 of [Filatov and Merkulov (2021)](https://arxiv.org/abs/2110.00874) and figures 2 and 3
# of the first author's thesis (in Russian). Adds the counterexamples to Theorem 1 that the last sections run.
#
# **Takes** less than a minute on a laptop to run, about an hour and a half to work through. No data are needed.
#
# [Open in Colab](https://colab.research.google.com/github/OWNER/fastls/blob/main/notebooks/01_theory.ipynb) to run it without installing.

# %% tags=["parameters"]
sweep_points = 16  # encoder factors c of the gain sweep
sweep_steps = 30  # steps of each method in the sweep
random_encoders = 100  # random Jacobians for each width of the encoder
device = "auto"  # "cpu", "cuda" or "auto"; everything here is tiny and stays on the CPU
jobs = 1  # training runs at once; none here
runs_dir = "build/quick/runs"  # where runs are kept, from the root of the repository; none here
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
from copy import deepcopy

import pandas as pd
import torch
from IPython.display import Markdown, display
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import fastls
from fastls.algorithms.directions import compute_gramian
from fastls.algorithms.spaces import Evaluation, LatentSpace, ParameterSpace
from fastls.experiments.parameters import check_notebook
from fastls.experiments.reporting import style
from fastls.experiments.studies.theory import armijo_figures, counterexample_figures, counterexamples, schematics
from fastls.experiments.studies.theory import pareto_figures as theory_figures
from fastls.models.lenet import lenet
from fastls.models.quadratic import pareto_set, quadratics, scalar_chain
from fastls.paths import in_repository
from fastls.teaching import checks, panel

check_notebook("01_theory", globals())

torch.set_default_dtype(torch.float64)
folder = in_repository(figures_dir)

# %% [markdown]
# ## 1. Two parabolas
#
# Two losses of one number: $L_1 = \tfrac12(\theta + 1)^2$ and $L_2 = (\theta - 1)^2$. Left of both minima, and right of
# them, a move can lower both. Between them, lowering one loss raises the other.
#
# - **Definition 1.** $\theta'$ *dominates* $\theta$ if no loss is larger at $\theta'$ and at least one is smaller.
# - **Definition 2.** $\theta$ is *Pareto optimal* if nothing dominates it. All such $\theta$ form the *Pareto set*; their
#   losses form the *front*.

# %%
theta = torch.linspace(-2.5, 2.5, 51)
losses = torch.stack([(theta + 1) ** 2 / 2, (theta - 1) ** 2], dim=1)  # (n, T)
front = fastls.pareto_front(losses)  # (n,): dominated by none of the others
figure, _ = theory_figures.draw_parabolas(theta, losses, front, "51 values of θ, compared by fastls.pareto_front")
style.show_figure(figure, "ours-two-parabolas", folder)

# %% tags=["nbval-check-output"]
f"not dominated: θ from {theta[front].min():.1f} to {theta[front].max():.1f}, {front.sum()} points of {len(front)}"

# %% [markdown]
# **Exercise 1.** Write Definition 1: does the vector of losses `a` dominate `b`?


# %% tags=["exercise"]
def dominates(a, b) -> bool:
    """Whether losses a dominate losses b; both are vectors of T numbers."""
    ### BEGIN SOLUTION
    return bool((a <= b).all() and (a < b).any())
    ### END SOLUTION


# %% tags=["check"]
checks.check_dominates(dominates)

# %% [markdown]
# ## 2. Pareto stationarity: where no move lowers all losses
#
# In a network we cannot compare a point with all others. But we have the gradients
# $g_t = \partial L_t/\partial\theta$. A small move $v$ lowers loss $t$ when $\langle g_t, v\rangle < 0$: half of all
# directions. The directions that lower all losses are the intersection of these halves, a *cone*.
#
# **Definition 3.** $\theta$ is *Pareto stationary* if some weights $\alpha_t \ge 0$ with $\sum_t \alpha_t = 1$ give
# $\sum_t \alpha_t g_t = 0$. Then the cone is empty. Every Pareto optimal point is stationary; where the losses are
# strictly convex the converse holds too. The distance from stationarity is the length of the shortest
# $\sum_t \alpha_t g_t$: `fastls.stationarity_gap`. (Parameters that belong to one task alone come in section 5: there
# the gradient itself must vanish.)

# %%
centres = torch.tensor([[-1.0, 0.0], [1.0, 0.4]])  # minima of the two losses
curvatures = torch.tensor([[[1.0, 0.3], [0.3, 0.6]], [[0.7, -0.3], [-0.3, 1.2]]])


def losses_at(theta):
    """½ (θ − c_t)ᵀ H_t (θ − c_t), for any number of points θ at once."""
    offset = theta.unsqueeze(-2) - centres  # (..., T, 2)
    return torch.einsum("...ti,tij,...tj->...t", offset, curvatures, offset) / 2


first = torch.linspace(0, 1, 101)
optimal = pareto_set(centres, curvatures, torch.stack([first, 1 - first], dim=1))  # closed form, one point a weight
points = {"A": optimal[40], "B": torch.tensor([0.1, -1.2])}
figure, table = theory_figures.draw_stationarity(losses_at, optimal, points, "two convex quadratics, T = 2")
style.show_figure(figure, "thesis-figure-2-pareto-stationarity", folder)

# %% tags=["nbval-check-output"]
cone = {"low": "cone from, degrees", "high": "to"}  # NaN: it is empty
(table[["gap", "low", "high"]] + 0.0).round(3).rename(columns=cone)

# %% [markdown]
# At A the gradients point in opposite ways, and what lowers one loss raises the other. B has a cone, so it is not
# optimal. Any direction in the cone will do; which one to take is the next question.
#
# ## 3. Four rules for a common direction
#
# All rules here weigh the gradients, $d = \sum_t \alpha_t g_t$, and the step *subtracts* it:
# $\theta \leftarrow \theta - \eta d$. Loss $t$ falls when $\langle g_t, d\rangle > 0$. The rules need nothing but the
# Gramian, $G_{ij} = \langle g_i, g_j\rangle$.
#
# - **mean**: $\alpha_t = 1/T$, gradient descent on the mean loss. No promise for each loss.
# - **MGDA** (multiple-gradient descent algorithm, Désidéri 2012): the shortest vector in the convex hull of the gradients,
#   that is, among all $\sum_t \alpha_t g_t$ with the $\alpha$ of Definition 3.
# - **EDM** (equiangular direction method, Katrutsa et al. 2020): $d$ makes the same angle with every gradient of
#   non-zero weight. Rescaling a loss does not change where $d$ points.
# - **PCGrad** (Yu et al. 2020): if two gradients conflict, $\langle g_i, g_j\rangle < 0$, remove from each the part that opposes the other. Then add
#   them.

# %%
pair = torch.tensor([[3.0, 0.5], [-1.0, 0.8]])  # g_1 and g_2: of different length, and in conflict
figure, table = theory_figures.draw_directions(pair, "one pair of gradients, fastls.DIRECTIONS")
style.show_figure(figure, "ours-directions", folder)

# %% tags=["nbval-check-output"]
table[["alpha_1", "alpha_2", "slope_1", "slope_2", "angle_1", "angle_2", "length"]].round(2)

# %% [markdown]
# `slope_t` is $\langle g_t, d\rangle = (G\alpha)_t$, the decrease of loss $t$ per unit of step: negative means that it
# grows. The slopes of MGDA are equal wherever both weights are positive: $d$ is perpendicular to the hull. In general
#
# $$\langle g_t, d\rangle \ge \|d\|^2 \quad\text{for every } t, \qquad (★)$$
#
# since otherwise a small move along the hull towards $g_t$ would make $d$ shorter. So the move $v = -d$ of MGDA lies in
# the cone unless the cone is empty: $d$ vanishes exactly at the stationary points.
#
# **Exercise 2.** For two gradients, which weight of `g1` gives the shortest vector $w g_1 + (1 - w) g_2$? The square of
# its length is a parabola in $w$. Mind that $0 \le w \le 1$, and that $g_1 = g_2$ is allowed.


# %% tags=["exercise"]
def min_norm_weight(g1, g2) -> float:
    """The weight w of g1 in the shortest vector of the segment between g1 and g2."""
    ### BEGIN SOLUTION
    distance = (g1 - g2).square().sum().item()
    if distance == 0:
        return 0.5
    return min(max(((g2 - g1) @ g2).item() / distance, 0.0), 1.0)
    ### END SOLUTION


# %% tags=["check"]
checks.check_min_norm_weight(min_norm_weight)

# %% [markdown]
# ## 4. How far: the Armijo rule
#
# Along a direction a loss is a function of one number, $\varphi(\eta) = L(\theta - \eta d)$. It begins with slope $-s$,
# $s = \langle g, d\rangle$. The **Armijo rule** accepts $\eta$ when the loss has fallen by at least a share
# $0 < \beta < 1$ of what the slope promised:
#
# $$\varphi(\eta) \le L - \eta\beta s.$$
#
# The function must lie under a line. With **several** losses every one must lie under its own, so the accepted steps
# are the intersection. **Backtracking** has a largest step, $lr_{ub}$ (upper bound of the learning rate), and a factor
# $0 < \gamma < 1$. It tries $\eta = lr_{ub}, \gamma\,lr_{ub}, \gamma^2 lr_{ub}, \dots$ and takes the first that is
# accepted. If every $s_t > 0$ there is one: near zero a smooth function lies under every line that is less steep than
# its tangent. If no step above a *floor*, $10^{-10}$ by default, is accepted, the search has failed.

# %%
model = quadratics(torch.eye(2), centres, curvatures, points["B"])
batch = Evaluation(model, None, dict.fromkeys(model.tasks), replayable=True)
g = ParameterSpace().gradients(batch).clone()  # (T, 2)
d = fastls.mgda(g @ g.T) @ g


def wave(eta):
    """One loss that is not convex, falling with slope 1 at first."""
    eta = torch.as_tensor(eta)
    return torch.stack([1 - 0.3 * eta + 0.05 * eta**2 - 0.7 / 3 * torch.sin(3 * eta)])


cuts = [
    armijo_figures.Cut("one function", wave, torch.tensor([1.0]), 5.0),
    armijo_figures.Cut(
        "two functions: from B, along MGDA", lambda eta: ParameterSpace().losses_at(batch, d, eta), g @ d, 4.0
    ),
]
figure, table = armijo_figures.draw_armijo(
    cuts, beta=0.25, gamma=0.6, source="left: a made-up loss · right: two quadratics"
)
style.show_figure(figure, "thesis-figure-3-armijo", folder)

# %% tags=["nbval-check-output"]
table.round(2)

# %% [markdown]
# **Exercise 3.** Predict the search before you write it. Along a direction each loss is a parabola,
# $\varphi_t(\eta) = L_t - s_t\eta + \tfrac12 h_t\eta^2$. Which is the longest step that passes the rule for every task?


# %% tags=["exercise"]
def largest_passing_step(slopes, curvatures, beta) -> float:
    """The largest η with L_t − s_t η + h_t η²/2 ≤ L_t − ηβ s_t for every task t; vectors have one entry a task."""
    ### BEGIN SOLUTION
    return (2 * (1 - beta) * slopes / curvatures).min().item()
    ### END SOLUTION


# %% tags=["check"]
checks.check_largest_passing_step(largest_passing_step)

# %% [markdown]
# **Exercise 4.** Write the search, with the rule for several losses as its test. `phi(eta)` returns the new losses. Do
# not try a step below `floor`: then the search has failed, and you return `floor`.


# %% tags=["exercise"]
def backtracking(phi, losses, slopes, lr_ub, beta, gamma, floor) -> float:
    """The first step of lr_ub, gamma · lr_ub, ... that the Armijo rule accepts, or floor."""
    ### BEGIN SOLUTION
    eta = lr_ub
    while eta >= floor:
        if (phi(eta) <= losses - eta * beta * slopes).all():
            return eta
        eta *= gamma
    return floor
    ### END SOLUTION


# %% tags=["check"]
checks.check_backtracking(backtracking)

# %% [markdown]
# ## 5. A network with a shared encoder
#
# In *hard parameter sharing* one encoder with parameters $\theta_{sh}$ turns the input into a latent representation
# $z$, and a small decoder with parameters $\theta_t$ of its own reads $z$ for each task. Every decoder simply follows
# its own gradient $u_t = \partial L_t/\partial\theta_t$, which concerns no other task. Only the encoder needs
# a common direction.

# %%
figure, _ = schematics.draw_sharing()
style.show_figure(figure, "figure-2-hard-parameter-sharing", folder)

# %% [markdown]
# In which space do we compute the common direction? In the **parameters**, $g_t = \partial L_t/\partial\theta_{sh}$
# takes a backward pass through the encoder for every task, and each trial of a search runs the whole network. In
# **latent space**, $g_t = \partial L_t/\partial z$ comes with the decoders' own backward, and a trial moves $z$ itself:
# the encoder does not run. That is the paper's idea. A single backward of $d_z$ then serves the encoder: it moves along
# $J^\top d_z$ with $J = \partial z/\partial\theta_{sh}$.
#
# ### FBLS in one box
#
# $0 < \beta, \gamma < 1$. Both searches accept the first step
# $\eta = lr_{ub}, \gamma\,lr_{ub}, \gamma^2 lr_{ub}, \dots$ that passes for **every** task $t$, with
# $u_t = \partial L_t/\partial\theta_t$. (The numbers of the tests are the paper's.)
#
# Test (4), BLS (backtracking line search): $g_t = \partial L_t/\partial\theta_{sh}$, $d = \sum_t \alpha_t g_t$ and
#
# $$L_t(\theta_{sh} - \eta d,\ \theta_t - \eta u_t) \le L_t - \eta\beta\,(\|u_t\|^2 + \langle g_t, d\rangle).$$
#
# Test (6), FBLS (fast backtracking line search): $g_t = \partial L_t/\partial z$, $d_z = \sum_t \alpha_t g_t$ and
#
# $$L_t(z - \eta d_z,\ \theta_t - \eta u_t) \le L_t - \eta\beta\,(\|u_t\|^2 + \langle g_t, d_z\rangle).$$
#
# ```text
# z = encoder(x)                                       # 1 encoder forward
# for each task t:  L_t, g_t = ∂L_t/∂z, u_t = ∂L_t/∂θ_t    # decoders only
# α = MGDA(g), d_z = Σ α_t g_t                         # the shortest convex combination
# η = lr_ub
# while η > floor and not test (6) for every t:  η = max(γ η, floor)   # decoders only
# θ_sh = θ_sh − η Jᵀ d_z                               # 1 encoder backward
# for each task t:  θ_t = θ_t − η u_t
# ```

# %%
figure, _ = schematics.draw_backtracking()
style.show_figure(figure, "figure-1-backtracking", folder)

# %% [markdown]
# ## 6. The two algorithms, in a few lines each
#
# Plain torch, one step each; both return the moved model and the step size. The decrease that the test asks for has two
# parts, one from the decoder and one from what is shared. From here on $s_t = \|u_t\|^2 + \langle g_t, d\rangle$.


# %%
def evaluate(decoders, z, losses, targets):
    """(T,) losses of the decoders that read z."""
    return torch.stack([losses[t](decoders[t](z), targets[t]) for t in decoders])


def gradient(loss, module):
    """∂loss/∂(parameters of the module), one flat vector."""
    pieces = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    return torch.cat([piece.flatten() for piece in pieces])


@torch.no_grad()
def moved(module, direction, eta):
    """A copy of the module at θ − η · direction."""
    copy = deepcopy(module)
    vector_to_parameters(parameters_to_vector(copy.parameters()) - eta * direction, copy.parameters())
    return copy


# %% [markdown]
# **Algorithm 1, backtracking in the parameters (BLS).** Test (4) of the paper: the whole network runs in every trial.
# The floor is left out here for brevity.


# %%
def algorithm_1(model, inputs, targets, lr_ub, beta=0.1, gamma=0.5):
    decoders = dict(model.decoders)
    losses = evaluate(decoders, model.encoder(inputs), model.losses, targets)
    u = {t: gradient(loss, decoders[t]) for t, loss in zip(decoders, losses, strict=True)}
    g = torch.stack([gradient(loss, model.encoder) for loss in losses])  # T backwards through the encoder
    d_sh = fastls.mgda(g @ g.T) @ g
    slopes = torch.stack([u[t] @ u[t] for t in decoders]) + g @ d_sh
    eta = lr_ub
    while True:
        encoder = moved(model.encoder, d_sh, eta)
        heads = {t: moved(decoders[t], u[t], eta) for t in decoders}
        trial = evaluate(heads, encoder(inputs), model.losses, targets)  # one forward of everything
        if (trial <= losses - eta * beta * slopes).all():
            return fastls.MultiTaskModel(encoder, heads, model.losses), eta
        eta *= gamma


# %% [markdown]
# **Algorithm 2, backtracking in latent space (FBLS).** Test (6): the decoders alone read $z - \eta d_z$. The printed
# pseudo-code differs from the text in three places; `literal=True` follows it to the letter, for section 9.


# %%
def algorithm_2(model, inputs, targets, lr_ub, beta=0.1, gamma=0.5, floor=1e-10, literal=False):
    decoders = dict(model.decoders)
    z = model.encoder(inputs)  # the only forward of the encoder
    losses = evaluate(decoders, z, model.losses, targets)
    u = {t: gradient(loss, decoders[t]) for t, loss in zip(decoders, losses, strict=True)}
    g = torch.stack([torch.autograd.grad(loss, z, retain_graph=True)[0].flatten() for loss in losses])
    d_z = (fastls.mgda(g @ g.T) @ g).view_as(z)
    slopes = torch.stack([u[t] @ u[t] for t in decoders]) + g @ d_z.flatten()
    eta, position = lr_ub, z
    while True:
        position = (position if literal else z) - eta * d_z  # literal: z drifts from trial to trial
        heads = {t: moved(decoders[t], u[t], eta) for t in decoders}
        trial = evaluate(heads, position, model.losses, targets)
        tested = gamma * eta if literal else eta  # literal: shrunk before the test, and used shrunk
        if (trial <= losses - tested * beta * slopes).all() or eta < floor:
            d_sh = torch.autograd.grad(z, list(model.encoder.parameters()), d_z)  # the only backward: Jᵀ d_z
            encoder = moved(model.encoder, torch.cat([piece.flatten() for piece in d_sh]), tested)
            return fastls.MultiTaskModel(encoder, heads, model.losses), tested
        eta *= gamma


# %% [markdown]
# We compare both with the library: ten steps on a small network with seeded weights, from a bound so large that the step
# must be reduced.


# %%
def small_network():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
    return fastls.MultiTaskModel(
        encoder,
        decoders={"first": nn.Linear(8, 3), "second": nn.Linear(8, 3)},
        losses={"first": cross_entropy, "second": cross_entropy},
    )


generator = torch.Generator().manual_seed(1)
inputs = torch.randn(32, 6, generator=generator)
targets = {
    "first": (inputs[:, 0] + inputs[:, 1] > 0).long() + (inputs[:, 2] > 0.5),
    "second": (inputs[:, 1] - inputs[:, 2] > 0).long() + (inputs[:, 3] > 0.5),
}


def compare(name, algorithm, optimizer_class, lr_ub=32.0, steps=10):
    """Ten steps of each from the same start."""
    ours, theirs = small_network(), small_network()
    optimizer = optimizer_class(theirs, lr_ub)
    taken, expected = [], []
    for _ in range(steps):
        ours, eta = algorithm(ours, inputs, targets, lr_ub)
        taken.append(eta)
        expected.append(optimizer.step(inputs, targets).step_size)
    difference = parameters_to_vector(ours.parameters()) - parameters_to_vector(theirs.parameters())
    print(f"{name}: step sizes {', '.join(f'{eta:g}' for eta in taken)}")
    print(f"    the same steps: {taken == expected}, the same parameters: {difference.abs().max().item() < 1e-10}")


# %% tags=["nbval-check-output"]
compare("algorithm_1 and fastls.BLS", algorithm_1, fastls.BLS)
compare("algorithm_2 and fastls.FBLS", algorithm_2, fastls.FBLS)

# %% [markdown]
# ## 7. What has which shape
#
# The question that users of this family of methods ask most. $z$ is the output for the **whole batch**, and so is every
# $\partial L_t/\partial z$: they are flattened together, so that the Gramian, the weights and the direction belong to the
# batch, not to an image. LeNet-5 on a batch of four:

# %%
network = lenet().float()
images = torch.rand(4, 1, 28, 28, dtype=torch.float32)
labels = {"left": torch.arange(4), "right": torch.arange(4)}
batch = Evaluation(network, images, labels, replayable=False)  # 1 encoder forward, T decoder forwards and backwards
g = LatentSpace().gradients(batch)
gramian = compute_gramian(g)
alpha = fastls.mgda(gramian)
(z,) = batch.z.tensors  # one tensor, where an encoder may return several
(d_z,) = batch.z.split(alpha.to(g) @ g)
d_sh = batch.pull_back([d_z], last=True)  # 1 encoder backward
own = batch.own_gradients[0]
shapes = [
    ("x", images.shape, "four grey images"),
    ("z", z.shape, "encoder(x): one row an image"),
    ("∂L_t/∂z", batch.latent_gradients[0][0].shape, "one such tensor a task"),
    ("g", g.shape, "one row a task: ∂L_t/∂z flattened over the batch"),
    ("G = g gᵀ", gramian.shape, "all that a direction rule sees"),
    ("α", alpha.shape, "one weight a task"),
    ("d_z = Σ α_t g_t", d_z.shape, "moves every image's z"),
    ("Jᵀ d_z", (sum(p.numel() for p in d_sh),), "all parameters of the encoder"),
    ("u_t = ∂L_t/∂θ_t", (sum(p.numel() for p in own),), "all parameters of one decoder"),
]

# %% tags=["nbval-check-output"]
pd.DataFrame(
    [(name, tuple(shape), note) for name, shape, note in shapes], columns=["symbol", "shape", "what"]
).set_index("symbol")

# %% [markdown]
# A loss that is a mean over the batch leaves a factor of one over the batch size in every row of
# $\partial L_t/\partial z$. The larger the batch, the less a step $\eta d_z$ moves any single image.
#
# ## 8. What a step costs
#
# Passes are counted as they run. `SGD` is BLS with a constant step in place of the search: MGDA on the $T$ gradients in
# $\theta_{sh}$. `MGDAUB` is FBLS with a constant step; UB, because the length of $d_z$ gives an upper bound of the
# length that MGDA minimises: $\|J^\top d_z\| \le \|J\|\,\|d_z\|$. Ordinary SGD on the mean loss is called `EqualWeight`: one backward, the least that a step
# can cost. Three tasks, and for the searches a bound so large that several trials are needed. With $T$ tasks and $n$
# trials a step costs, in forwards + backwards of the encoder: SGD $1 + T$, MGDA-UB $1 + 1$, BLS $(1 + n) + T$, FBLS
# $1 + 1$. Both searches run decoders $T(1 + n) + T$ times.

# %%
tasks = ("first", "second", "third")
labels = dict.fromkeys(tasks, torch.arange(4))
methods = {"EqualWeight": 0.1, "SGD": 0.1, "MGDAUB": 0.1, "BLS": 256.0, "FBLS": 256.0}  # constant step, or bound


def count_passes(name, lr):
    torch.manual_seed(0)
    record = getattr(fastls, name)(lenet(tasks).float(), lr).step(images, labels)
    return {"method": name, "trials": record.trials} | vars(record.passes)


passes = pd.DataFrame([count_passes(name, lr) for name, lr in methods.items()]).set_index("method")
passes

# %% tags=["nbval-check-output"]
# A trial of BLS costs an encoder forward, a trial of FBLS costs none, and both cost T decoder forwards.
{
    "BLS": (passes.encoder_forward - passes.trials)["BLS"].item(),
    "FBLS": passes.encoder_forward["FBLS"].item(),
    "T decoder forwards a trial": (passes.decoder_forward == len(tasks) * (1 + passes.trials)).all().item(),
}

# %% [markdown]
# ## 9. What the proof misses
#
# Theorem 1 of the paper states that every accumulation point of Algorithm 2 is Pareto stationary. (An *accumulation point*
# is one that the iterates come arbitrarily close to again and again.) It is not so, and one
# number is enough to see it. This section runs the counterexamples; the next one states what does hold.
#
# ### Equation (5) drops a factor
#
# The paper writes $d_{sh}$ for $J^\top d_z$ and takes $z(\theta_{sh} - \eta d_{sh}) \approx z - \eta d_z$. By the chain
# rule,
#
# $$z(\theta_{sh} - \eta J^\top d_z) = z - \eta\, J J^\top d_z + o(\eta).$$
#
# $JJ^\top$ stretches the step and may turn it. `record.gain` measures the stretch along $d_z$,
# $\rho = \|J^\top d_z\|^2 / \|d_z\|^2 = \langle JJ^\top d_z, d_z\rangle / \|d_z\|^2$. On the small network of section
# 6 (a linear layer and a tanh, read by two linear classifiers), how far is each prediction from the true move of $z$? The
# code goes through a step of FBLS with the library's own parts.

# %%
model = small_network()
batch = Evaluation(model, inputs, targets, replayable=False)
g = LatentSpace().gradients(batch)
d_z = fastls.mgda(g @ g.T) @ g
d_sh = dict(zip(batch.encoder_parameters, batch.pull_back(batch.z.split(d_z), last=False), strict=True))
rho = sum(piece.square().sum() for piece in d_sh.values()) / (d_z @ d_z)


def latent(parameters):
    return torch.func.functional_call(model.encoder, parameters, (inputs,)).flatten()


now = {name: parameter.detach() for name, parameter in batch.encoder_parameters.items()}
_, turned = torch.func.jvp(latent, (now,), (d_sh,))  # J Jᵀ d_z, one pass in forward mode
eta = 0.01
true = latent({name: now[name] - eta * d_sh[name] for name in now}) - latent(now)
predictions = {"−η d_z, equation (5)": -eta * d_z, "−η ρ d_z": -eta * rho * d_z, "−η J Jᵀ d_z": -eta * turned}
errors = {name: ((guess - true).norm() / true.norm()).item() for name, guess in predictions.items()}

# %% tags=["nbval-check-output"]
print(f"gain ρ = {rho:.2f}")
pd.Series(errors, name="error, relative to the true move of z").round(3).to_frame()

# %% [markdown]
# The gain mends the length of the move along $d_z$. To first order what is left is the part
# across it: $JJ^\top$ turns $d_z$.
#
# ### An encoder of one number
#
# Let $z = c\theta$, $L = z^2/2$, one task, no decoder parameters. Then $d_z = z$, and the trial at $\eta = 1$ reads
# $z - z = 0$, the minimum: the test accepts it for every $\beta \le \tfrac12$ and **every** $c$. The step is
# $\theta \leftarrow \theta - c^2\theta = (1 - c^2)\theta$, and the gain is $c^2$. At $c = \sqrt2$ the step jumps from
# $\theta$ to $-\theta$ and back for ever; beyond, it diverges. The points $\pm\theta$ are accumulation points, and
# neither is stationary. BLS, which tests the step that it takes, is drawn beside it. (Up to
# $c = \sqrt{2(1 - \beta)}$ both accept $\eta = 1$. Beyond, BLS halves its step; FBLS keeps $\eta = 1$ and is slow just
# below $\sqrt2$, where $1 - c^2$ is close to $-1$.)

# %%
factors = torch.linspace(0.1, 1.6, sweep_points).tolist()
sweep = counterexamples.sweep_scalar_chain(factors, sweep_steps, ["BLS", "FBLS"])
figure, _ = counterexample_figures.draw_gain_sweep(
    sweep, sweep_steps, "z = cθ, L = z²/2, θ = 1 at first, lr_ub = 1, β = 0.1"
)
style.show_figure(figure, "ours-gain-sweep", folder)

# %% tags=["nbval-check-output"]
exact = counterexamples.sweep_scalar_chain([1.3, 2**0.5, 1.5], 50, ["FBLS"]).set_index("c")
exact.assign(loss=[f"{loss:.1e}" for loss in exact["loss"]]).round(2)

# %% [markdown]
# **Exercise 5.** FBLS with a constant $\eta$ in place of the search: which is the largest $|c|$ for which
# $\theta \leftarrow \theta - \eta c^2\theta$ does not diverge?


# %% tags=["exercise"]
def largest_gain_factor(eta) -> float:
    """The largest |c| for which θ ← θ − η c² θ stays bounded."""
    ### BEGIN SOLUTION
    return (2 / eta) ** 0.5
    ### END SOLUTION


# %% tags=["check"]
checks.check_largest_gain(largest_gain_factor)

# %% [markdown]
# ### The pseudo-code, to the letter
#
# Algorithm 2 as printed has three slips:
#
# 1. It overwrites $z$ in every trial. So trial $k$ stands at $z - (\eta_1 + \dots + \eta_k) d_z$, and a step that was too
#    long becomes longer.
# 2. It shrinks $\eta$ between the trial and its test. So the line of the test does not belong to the trial.
# 3. It moves the encoder by the shrunk $\eta$ and the decoders by the longer one.
#
# The same example with $c = 1$ and a bound of 4:

# %%
eta, position, rows = 4.0, 1.0, []
for _ in range(6):
    position -= eta  # d_z = z = 1
    rows.append({"η": eta, "z as printed": position, "loss as printed": position**2 / 2})
    rows[-1] |= {"z mended": 1 - eta, "loss mended": (1 - eta) ** 2 / 2}
    eta /= 2
trials = pd.DataFrame(rows, index=range(1, 7)).rename_axis("trial")

# %% tags=["nbval-check-output"]
trials  # the loss at the start is 0.5

# %% [markdown]
# As printed no trial ever passes, and the search runs down to the floor; mended, the third trial is the minimum. On the
# small network both variants find steps:

# %%
literal, mended = small_network(), small_network()
rows = []
for _ in range(10):
    literal, eta_literal = algorithm_2(literal, inputs, targets, 32.0, literal=True)
    mended, eta_mended = algorithm_2(mended, inputs, targets, 32.0)
    ends = [evaluate(dict(m.decoders), m.encoder(inputs), m.losses, targets).mean().item() for m in (literal, mended)]
    rows.append((eta_literal, ends[0], eta_mended, ends[1]))
both = pd.DataFrame(rows, columns=["η as printed", "mean loss as printed", "η mended", "mean loss mended"])

# %% tags=["nbval-check-output"]
both.rename(index=lambda i: i + 1).rename_axis("step").round(4)

# %% [markdown]
# `fastls` mends all three: the step that is tested is the step that is used, and every trial starts from the same $z$.
#
# Other slips, so that you can read the texts beside this notebook:
#
# - The Notation asks for $\nabla L_t^\top d < 0$, while the algorithms subtract $d$.
# - Algorithm 1 as printed shrinks $\eta$ first. It tests $\gamma\eta$ and takes $\eta$, so $\beta$ acts as $\beta\gamma$.
# - The thesis and a draft move the encoder by $(\partial\theta_{sh}/\partial z)\,d_z$, where the paper has $J^\top d_z$. Read
#   as the pseudo-inverse $J^{+}$, it makes equation (5) right, since $JJ^{+} d_z = d_z$ where $J$ has full row rank. Each step
#   then costs the solution of a linear system.
# - The thesis wants $\beta \in (0, 0.5)$, the paper $(0, 1)$. The thesis sets $\gamma = 0.5$ for the decay of the bound; the
#   paper gives no $\gamma$. Both name golden section and a parabola as other searches: `fastls.GoldenSection`,
#   `fastls.Parabolic`.
#
# ### A decrease at every step is not enough
#
# Theorem 4.1 of the thesis asks for less than the Armijo test: that every loss falls at every step. It concludes that limit
# points are stationary. They need not be. Take $L = \theta^2/2$, $\theta_0 = 1$ and gradient steps with
# $\eta_k = 2 - 2^{-(k+1)}$. Each step multiplies $\theta$ by $-(1 - 2^{-(k+1)})$, so the loss falls for ever:

# %%
path = counterexamples.follow_shrinking_decrease(steps=50)

# %% tags=["nbval-check-output"]
print(f"the loss fell in every step: {(path['loss'].diff()[1:] < 0).all()}")
path.iloc[[0, 1, 2, 3, 10, 49, 50]].round(4)

# %% [markdown]
# $\theta$ alternates between two limit points, and neither is 0. The decrease itself tends to zero while the gradient does
# not. The Armijo test forbids this: it asks for a decrease of at least $\eta\beta s$ in every step.
#
# ### Four forms of the test
#
# Theorem 1 allows other tests: (7) asks for the decoder's part $\|u_t\|^2$ alone, (8) for the shared part
# $\langle g_t, d\rangle$ alone, (9) for both. In print (8) and (9) pair $\partial L_t/\partial\theta_t$ with $d_z$, vectors
# of different sizes (section 7). $\partial L_t/\partial z$ must be meant, and then (9) is (6) again.
#
# A test of one part ignores the other part, and that breaks the theorem even where the gain is exactly 1. Take
# $L = \tfrac12 z^2 + \tfrac12 w^2$ with $z = \theta$ and one decoder parameter $w$, start at $(z, w) = (1, 0)$ or at
# $(0, 1)$, with $lr_{ub} = 2$:


# %%
class Beside(nn.Module):
    """Puts its one parameter beside z."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([w]))

    def forward(self, z):
        return torch.cat([z, self.w])


def run_form(form, z, w, steps=50):
    """The first step that form (6), (7), (8) or (9) accepts, and the loss after some more."""
    encoder = scalar_chain(1.0, z).encoder
    model = fastls.MultiTaskModel(encoder, {"1": Beside(w)}, {"1": lambda output, _: output.square().sum() / 2})
    optimizer = fastls.FBLS(model, lr_ub=2.0, line_search=fastls.Backtracking(beta=0.1, form=form))
    records = [optimizer.step(None, {"1": None}) for _ in range(steps)]
    return {"form": form, "start": f"z = {z:g}, w = {w:g}", "step": records[0].step_size} | {
        "loss after 50 steps": records[-1].losses.item()
    }


forms = pd.DataFrame([run_form(form, z, w) for form in (6, 7, 8, 9) for z, w in ((1.0, 0.0), (0.0, 1.0))])

# %% tags=["nbval-check-output"]
forms.pivot(index="form", columns="start")

# %% [markdown]
# A step of 2 jumps to the mirror image, where the loss is the same. Where the half that a form looks at is zero, it asks
# for no decrease at all and accepts the jump, every time. In the proof, the sentence that fails for (7) is the one that
# concludes from $\|u_t\|\to 0$ that $\partial L_t/\partial z = u_t\,\partial\theta_t/\partial z \to 0$: $\theta_t$ is no
# function of $z$.
#
# ### Descent that is lost on the way
#
# With several tasks $JJ^\top$ can do worse than stretch. Here $d_z$ lowers both losses in latent space, and $J^\top d_z$
# raises one of them in the parameters, *however small the step*. No test of the step itself could pass; the test of FBLS,
# which looks at $z$, does.

# %%
conflict = torch.tensor([[1.0, 1.0], [1.0, -3.0]])  # g_1 and g_2; MGDA finds d_z = (1, 0)
skewed = torch.linalg.cholesky(torch.tensor([[1.0, 0.9], [0.9, 1.0]]))  # J, so that J Jᵀ = [[1, 0.9], [0.9, 1]]
figure, _ = counterexample_figures.draw_lost_descent(
    conflict, skewed, "two quadratics of z = Jθ, JJᵀ = [[1, 0.9], [0.9, 1]]"
)
style.show_figure(figure, "ours-descent-lost-example", folder)

# %% tags=["nbval-check-output"]
slopes = {
    "in z": counterexamples.true_slopes(conflict, torch.eye(2)),
    "in θ": counterexamples.true_slopes(conflict, skewed),
}
pd.DataFrame(slopes, index=["L_1", "L_2"]).round(2)

# %% [markdown]
# How often? Below, $z$ has four numbers, two tasks have random gradients, and the encoder a random Jacobian. The curve in
# the left panel is proved in the next section: above it no encoder of that condition number can lose descent.

# %%
draws = counterexamples.sample_lost_descent(4, (4, 6, 8, 16, 32, 64), 2, random_encoders)
note = (
    f"T = 2, z of size 4, Gaussian gradients and Jacobians, n = {random_encoders} for each width, 95 % Wilson intervals"
)
figure, lost = counterexample_figures.draw_lost_share(draws, note)
style.show_figure(figure, "ours-descent-lost-share", folder)

# %% [markdown]
# ## 10. What does hold
#
# Let $d$ be MGDA's direction, solved exactly, so that (★) gives $s_t \ge \|u_t\|^2 + \|d\|^2$. The batch is fixed.
#
# **A. The theorem holds for Algorithm 1.** Let every $L_t$ be bounded below with a locally Lipschitz gradient, and let the
# search have no floor. Then every accumulation point of BLS is Pareto stationary.
#
# *Proof.* Near an accumulation point the gradients are bounded and Lipschitz with some constant $\Lambda$, so for $\eta$
# below some $\eta_0$
#
# $$L_t(\theta_{sh} - \eta d, \theta_t - \eta u_t) \le L_t - \eta s_t + \tfrac12\Lambda\eta^2(\|d\|^2 + \|u_t\|^2)
# \le L_t - \eta s_t (1 - \tfrac12\Lambda\eta).$$
#
# The test holds for every $\eta \le \min(\eta_0, 2(1-\beta)/\Lambda)$. So a search that starts there returns at least
# $\eta_{min} = \min(lr_{ub}, \gamma\eta_0, 2\gamma(1-\beta)/\Lambda)$, and every loss falls by at least
# $\beta\eta_{min}s_t$. The losses never grow and are bounded below, so $s_t \to 0$ along the subsequence: $d \to 0$ and
# every $u_t \to 0$. A limit point of the weights $\alpha$ is what Definition 3 asks for. ∎
#
# The paper's Remark 1, that an accumulation point exists, needs bounded iterates. Nothing in the text gives them:
# $L = e^{-\theta}$ falls for ever and has no accumulation point.
#
# Without decoders this is the steepest descent of [Fliege and Svaiter (2000)](https://doi.org/10.1007/s001860000043), who
# need continuous differentiability only.
#
# **B. It holds for FBLS if $J$ is constant and $JJ^\top = I$.** Then $z - \eta JJ^\top d_z = z - \eta d_z$: the trial *is*
# the step, and A applies in the variables $(z, \theta_t)$. Stationary there means stationary in $\theta$: multiply by
# $J^\top$. ∎
#
# **C. If $J$ is constant and $JJ^\top = \rho I$, the direction is right; $z$ moves by $\eta\rho\|d_z\|$.** Where the
# gradients in $(z, \theta_t)$ are $\ell$-Lipschitz, the same computation bounds the new loss by
#
# $$L_t - \eta\rho\langle g_t, d_z\rangle(1 - \tfrac12\ell\eta\rho) - \eta\|u_t\|^2(1 - \tfrac12\ell\eta).$$
#
# Every loss falls if $\eta < 2/\ell$ and $\eta\rho < 2/\ell$. The encoder of one number has $\ell = \eta = 1$ and
# $\rho = c^2$: the condition is sharp. It is $lr_{ub}$ that keeps it, not the test. Where $\rho \le 1$, the decoders
# have no parameters and the losses are convex in $z$, an accepted trial does carry over to the step:
# $L_t(z - \rho\eta d_z) \le (1-\rho)L_t(z) + \rho L_t(z - \eta d_z) \le L_t - \rho\eta\beta s_t$. ∎
#
# **D. Descent survives every $JJ^\top$ of condition number $\kappa$ if and only if
# $\cos\angle(g_t, d_z) > (\kappa-1)/(\kappa+1)$ for all $t$.** For unit vectors $g$, $d$ of cosine $q$ and $M = JJ^\top$
# with eigenvalues from $m$ to $\kappa m$,
#
# $$4g^\top Md = (g+d)^\top M(g+d) - (g-d)^\top M(g-d) \ge 2m(1+q) - 2\kappa m(1-q),$$
#
# which is positive exactly where $q > (\kappa-1)/(\kappa+1)$, and equality is reached when $g \pm d$ are eigenvectors. ∎
# With one task $g = d_z$, and nothing can be lost but the length of the step.
#
# **A better trial?** `FBLS(match_gain=True)` is one. The gain needs only the encoder backward that FBLS makes anyway.
# Made before the search, it allows trials at $z - \eta\rho d_z$, exact in case C. Where $JJ^\top$ also turns, little is
# won (the first table of section 9); $z - \eta JJ^\top d_z$ is right to first order, for one pass in forward mode.
# Neither is what the paper tests, so both are off by default.
#
# The quadratics of section 2 behind four linear encoders $z = J\theta$: how many steps until the stationarity gap in
# $\theta$ is below $10^{-6}$?

# %%
turn = torch.linalg.qr(torch.tensor([[1.0, 2.0], [-1.0, 1.0]]))[0]
encoders = {
    "J Jᵀ = I": turn,
    "J Jᵀ = I/4": turn / 2,
    "J Jᵀ = 4 I": 2 * turn,
    "J Jᵀ of condition 361": torch.tensor([[1.0, 0.9], [0.9, 1.0]]),
}


def count_steps(method, encoder, lr_ub=1.0, limit=300):
    """Steps until the stationarity gap in θ is below 1e-6."""
    model = quadratics(encoder, centres, curvatures, torch.tensor([1.5, -1.0]))
    optimizer, targets = method(model, lr_ub), dict.fromkeys(model.tasks)
    for step in range(limit):
        gradients = ParameterSpace().gradients(Evaluation(model, None, targets, replayable=False))
        if fastls.stationarity_gap(gradients) < 1e-6:
            return step
        optimizer.step(None, targets)
    return f"not in {limit}"


columns = {"BLS": (fastls.BLS, 1.0), "FBLS": (fastls.FBLS, 1.0), "FBLS, lr_ub = 1/4": (fastls.FBLS, 0.25)}
steps = {name: [count_steps(method, J, bound) for J in encoders.values()] for name, (method, bound) in columns.items()}

# %% tags=["nbval-check-output"]
print(f"2/ℓ = {2 / torch.linalg.eigvalsh(curvatures).max():.2f}")
pd.DataFrame(steps, index=encoders)

# %% [markdown]
# The first two rows are B and the convex case of C. The third, $\rho = 4$, breaks the condition of C with $lr_{ub} = 1$ and
# keeps it with a quarter of that; the latent test never looks at $J$ and cannot tell these encoders apart. In the last row
# no result covers FBLS, whatever the table shows; A covers BLS, but does not say how fast.
#
# ## 11. Try it
#
# One step of FBLS on two losses of one number $z = c\theta$. Above, what the search tries: the losses at
# $z - \eta d_z$, their lines and the trials. Below, what the step then does to the losses. The gain changes nothing above.

# %%
settings = [
    panel.Setting(lr_ub=2.0),
    panel.Setting(lr_ub=2.0, beta=0.6, gamma=0.7),
    panel.Setting(lr_ub=2.0, gain=3.0),
]
figure, table = panel.panel_row(settings)
style.show_figure(figure, "ours-armijo-panel", folder)

# %% tags=["nbval-check-output"]
table[table["kind"] == "step"].set_index("gain")[["beta", "gamma", "lr_ub", "eta", "L_1", "L_2"]].round(3)

# %% [markdown]
# To turn β, γ, the bound and the encoder yourself, open the page *Live figures* of the book
# ([its source](../docs/live.md)); `make book` builds it.
#
# The parts that you wrote, together: your direction and your search train the network of section 6. This cell checks
# them beside `fastls.FBLS`.

# %% tags=["check"]
checks.check_assembly(min_norm_weight, backtracking, small_network, inputs, targets)

# %% [markdown]
# ## 12. What to take home

# %%
threshold = 2**0.5
beyond = sweep[(sweep["method"] == "FBLS") & (sweep["c"] > threshold)]
share = lost["share"]
display(
    Markdown(
        f"- A step of FBLS runs the encoder **{passes.encoder_forward['FBLS']}** × forward and "
        f"**{passes.encoder_backward['FBLS']}** × backward, however many trials and tasks there are; BLS needed "
        f"**{passes.encoder_forward['BLS']}** and **{passes.encoder_backward['BLS']}** above, for "
        f"{passes.trials['BLS']} trials and {len(tasks)} tasks.\n"
        f"- What it tests is not what it does: on a small network $z - \\eta d_z$ missed the true move of $z$ by "
        f"**{errors['−η d_z, equation (5)']:.0%}**, at a gain of **{rho:.1f}**.\n"
        f"- Theorem 1 fails as stated. On $z = c\\theta$ the loss after {sweep_steps} steps lay between "
        f"**{beyond['loss'].min():.1e}** and **{beyond['loss'].max():.1e}** for $c$ from {beyond['c'].min():.2f} to "
        f"{beyond['c'].max():.2f}, from 0.5 $c^2$ at the start.\n"
        f"- With several tasks even the direction may be lost: for random encoders in **{share.max():.0%}** of the draws "
        f"at {share.idxmax()} parameters, and in **{share.min():.0%}** at {share.idxmin()}.\n"
        "- It is proved where the encoder is linear and $JJ^\\top = I$; where $JJ^\\top = \\rho I$, a bound $lr_{ub}$ "
        "below both $2/\\ell$ and $2/(\\ell\\rho)$ keeps descent (section 10, C). `record.gain` comes free with every step; alone "
        "it says nothing: it is the product with step size and curvature that must stay below 2."
    )
)

# %% [markdown]
# ## Five questions
#
# **1.** Two gradients, $g_1 = (2, 0)$ and $g_2 = (0, 1)$. Which one does MGDA give more weight? How long is $d$?
#
# <details><summary>Answer</summary>
#
# The shorter one: $\alpha = (\tfrac15, \tfrac45)$, so $d = (0.4, 0.8)$ and $\|d\|^2 = 0.8$. Both slopes are 0.8. The
# shortest vector of the segment lies nearer to the shorter gradient.
#
# </details>
#
# **2.** $T = 3$ tasks, and the search of this step made 5 trials. How often did BLS run the encoder forward and backward,
# how often FBLS, and how often did each run a decoder forward?
#
# <details><summary>Answer</summary>
#
# BLS: $1 + 5 = 6$ times forward and 3 times backward. FBLS: once forward and once backward. Both run
# $3 \cdot (1 + 5) = 18$ decoder forwards.
#
# </details>
#
# **3.** $L = \theta^2/2$ at $\theta = 1$, so $d = 1$. The bound is 4, $\gamma = \tfrac12$. Which step does backtracking
# accept for $\beta = 0.1$, and which for $\beta = 0.6$?
#
# <details><summary>Answer</summary>
#
# $(1 - \eta)^2/2 \le \tfrac12 - \eta\beta$ holds for $\eta \le 2(1 - \beta)$. For $\beta = 0.1$ this is 1.8: steps 4 and 2
# fail, and 1 passes. For $\beta = 0.6$ it is 0.8: step 1 fails too, and ½ passes.
#
# </details>
#
# **4.** Find the error: "Every step of FBLS passed its test. So every loss on the batch has fallen."
#
# <details><summary>Answer</summary>
#
# FBLS tests $z - \eta d_z$. The step moves $z$ by about $-\eta JJ^\top d_z$. For $z = 2\theta$, $L = z^2/2$ and $\eta = 1$
# the trial reaches loss 0. The step takes $\theta$ to $-3\theta$: the loss is nine times as large.
#
# </details>
#
# **5.** `record.gain` is 9, and every step is accepted at the bound 1. The losses rise. What do you change?
#
# <details><summary>Answer</summary>
#
# Lower the bound. As with the encoder of one number, a step multiplies the distance from the minimum by
# $1 - \eta\rho\,\cdot$ curvature. With curvature 1 the bound must be below $\tfrac29$. (Section 10, case C, has the
# general form.) Or let the trial go as far along $d_z$ as the step: `match_gain=True`.
#
# </details>
