# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Cityscapes: when the decoders are heavy
#
# A street scene, and three questions about every pixel. Which class is it? Where is the centre of the car or person
# that it belongs to? How far apart do the two cameras see it? A dilated ResNet turns the image into a feature map $z$.
# Each task reads $z$ with a decoder of PSPNet (pyramid scene parsing network), which pools, convolves and enlarges. Such
# a decoder is a network of its own, and much larger than the one or two layers of the other notebooks.
#
# **You will learn**
# - which passes make up the cost of a step;
# - why latent methods save least when the decoders are large;
# - how many trials a line search can afford;
# - what happens to a task that has no target in a batch.
#
# **Regenerates** Figure 7 and Table 2 of [Filatov and Merkulov (2021)](https://arxiv.org/abs/2110.00874), and figure 9
# of the thesis. We add predictions beside the truth, the step size along training, the decoders' share of a step, peak
# memory and equal-weight SGD.
#
# **Takes** one or two minutes on two cores at the default size. This size is far smaller than the paper's in images, network
# and epochs. It is printed under every figure. The runs are kept, so a second execution only draws.

# %% tags=["parameters"]
source = "auto"  # "cityscapes", "synthetic" (drawn street scenes), or "auto": Cityscapes if its files are under data/
n_train = 16  # training images
n_test = 8  # test images, of Cityscapes' split "val"
height = 48  # pixels of the training images; the originals of Cityscapes have 1024 × 2048
width = 96
crop = 0  # height of a random window of each training image; it is twice as wide; 0: the whole image
workers = 0  # processes that read images; 0 keeps them all in memory
epochs = 4
seeds = 1  # repetitions of every run
batch_size = 8
step_sizes = [0.001, 0.01, 0.1]  # constant steps of SGD and EqualWeight
decay_every = 2  # epochs between two halvings of the bound in FBLS+decay; in the paper 10, of 100 epochs
encoder = "resnet18"  # or "resnet50", as in the paper
stages = 2  # how many of the encoder's four stages are used
channels = 64  # of the decoders' hidden layers; PSPNet has 512
weights = "none"  # of the encoder: "imagenet", "none", or "auto": ImageNet's if torchvision has them on this machine
timing_encoder = "resnet18"  # encoder in Table 2
timing_stages = 2
timing_channels = 64
timing_batch_size = 4
timing_images = 4  # images of an epoch in Table 2
timing_rounds = 3  # measured epochs per method in Table 2
device = "auto"  # "cpu", "cuda" or "auto"
jobs = 1  # training runs at once
runs_dir = "build/quick/runs"  # where runs are kept, from the root of the repository
figures_dir = "build/quick/figures"  # where figures and tables go

# %%
from dataclasses import replace

from IPython.display import Markdown, display

from fastls.datasets.cityscapes import find_source
from fastls.environment import resolve_device
from fastls.experiments.measuring import memory, passes, timing
from fastls.experiments.parameters import check_notebook
from fastls.experiments.reporting import claims, comparisons, frames, style, tables
from fastls.experiments.reporting import curves as figures
from fastls.experiments.studies.cityscapes import cost as dense_cost
from fastls.experiments.studies.cityscapes import figures as dense_figures
from fastls.experiments.studies.cityscapes import samples as dense_samples
from fastls.experiments.training import parallel, sweeps
from fastls.experiments.training.store import RunStore
from fastls.models.pspnet import find_weights
from fastls.paths import in_repository

check_notebook("05_cityscapes", globals())


def model_options(encoder, stages, channels):
    found = find_weights(encoder) if weights == "auto" else weights
    return (("encoder", encoder), ("stages", stages), ("channels", channels), ("weights", found))


sweep = sweeps.Sweep(
    dataset="cityscapes",
    source=find_source() if source == "auto" else source,
    n_train=n_train,
    n_test=n_test,
    epochs=epochs,
    seeds=seeds,
    step_sizes=tuple(step_sizes),
    decay_every=decay_every,
    device=resolve_device(device),
    batch_size=batch_size,
    data_options=(("size", (height, width)),)
    + ((("crop", (crop, 2 * crop)),) if crop else ())
    + ((("workers", workers),) if workers else ()),
    model_options=model_options(encoder, stages, channels),
)
store = RunStore(in_repository(runs_dir))
folder = in_repository(figures_dir)
paper = tables.read_paper()


# %% [markdown]
# ## The data
#
# Cityscapes requires a registration and may not be passed on. If its files are not on this machine, a renderer draws
# street scenes: road, pavement, buildings, trees, poles, signs, people and cars. Each object has its own depth, and the
# maps of class, instance and disparity follow from the scene. The renderer writes files in the layout of Cityscapes, and
# the same loader reads both. The drawn scenes show what the methods cost and how they behave. Their losses say nothing
# about Cityscapes.

# %%
search = sweeps.search_runs(sweep, seed=0)[0]
shown = dense_samples.Predictions(search).execute(store)
scenes = dense_samples.read_predictions(shown)
origin = f"{shown.header['data']['description']} · {height} × {width} pixels"
figure, _ = dense_figures.draw_scenes(scenes, f"test images and their classes · {origin}")
style.show_figure(figure, "thesis-figure-9-cityscapes-samples", folder)

# %% [markdown]
# ## Three tasks
#
# | task | target of a pixel | loss | where |
# |---|---|---|---|
# | semantic | one of 19 classes | cross-entropy | on pixels of these classes |
# | instance | the offset to the centre of gravity of its instance, in pixels | $\ell_1$ | on cars, people and other things |
# | disparity | the shift between the images of the two cameras, in pixels | $\ell_1$ | where it is known |
#
# Each loss is a mean over the pixels that have a target. A batch without cars, people and other things has no target for
# the instance task. Then its loss and its gradients are zero. MGDA (multiple-gradient descent algorithm) chooses the shortest vector
# in the convex hull of the gradients. If one gradient is zero, this vector is zero, and the encoder would not move.
# Therefore a task without a target is left out for this batch, both from the direction and from the test.
#
# ## Figure 7: constant steps against a search
#
# The paper compares SGD at three step sizes with FBLS (fast backtracking line search). We add equal-weight SGD, at the
# step with the lowest final test loss.

# %%
configs = sweeps.comparison_runs(sweep, ("SGD", "EqualWeight"))
runs = parallel.run_all(configs, store, jobs)
frame = frames.to_frame(runs)
source_line = frames.provenance(runs)
f"{len(configs)} runs · {source_line}"

# %%
figure, _ = dense_figures.draw_dense_curves(frame, source_line)
style.show_figure(figure, "figure-7-cityscapes-learning-curves", folder)

# %%
final = frame[frame["final"]]
claim_3 = [
    comparisons.compare_with_best_step(frame, "Cityscapes", variant, rival, f"test_loss_{task}")
    for variant in comparisons.SEARCHES
    for rival in ("SGD", "EqualWeight")
    for task in dense_figures.LOSSES
]
display(Markdown(claims.to_list(claim_3)))

# %%
columns = ["test_error_semantic", "test_miou", "test_loss_instance", "test_loss_disparity"]
scores = final.groupby(["variant", "lr"])[columns].mean().reset_index()
names = ["method", "step size or bound", "pixel error", "mean IoU", "instance l1, pixels", "disparity l1, pixels"]
about = "Test metrics after the last epoch. IoU = intersection over union, averaged over the classes: higher is better."
display(Markdown(f"{about}\n\n{tables.to_markdown(scores.set_axis(names, axis=1))}"))

# %% [markdown]
# ## What the network sees
#
# The figure shows predictions of the network that FBLS trained (seed 0), for the first test images.

# %%
ended = final.loc[(final["variant"] == "FBLS") & (final["seed"] == 0), "diverged"].item()
caption = f"FBLS {'at its last step before it diverged' if ended else f'after {epochs} epochs'} · {origin}"
figure, errors = dense_figures.draw_predictions(scenes, caption)
style.show_figure(figure, "ours-cityscapes-predictions", folder)

# %% [markdown]
# ## The step size along training
#
# The paper reports that the step settles at its bound. The second panel shows how often a step is at its bound with
# these larger decoders. The third panel shows the cost: every trial runs all three decoders.

# %%
searches, lines = frames.label_searches(frame)
halved = f"FBLS+decay: bound halved every {decay_every} epochs · {source_line}"
figure, _ = figures.draw_step_sizes(searches, halved, lines)
style.show_figure(figure, "ours-cityscapes-step-size-along-training", folder)

# %%
claim_5 = [comparisons.judge_bound(frame, "Cityscapes")]
display(Markdown(claims.to_list(claim_5)))
last, decayed = (final[final["variant"] == name] for name in ("FBLS", "FBLS+decay"))
display(
    Markdown(
        f"- In its last epoch FBLS made **{last['trials'].mean():.1f}** trials a step, and the median step was "
        f"{last['step_median'].mean():.2g}. Along $d_z$ such a step moves $z$ about "
        f"{last['gain_median'].median():.2g} times as far as the trial that was tested.\n"
        f"- FBLS+decay made {decayed['trials'].mean():.1f} trials a step in its last epoch. The schedule had lowered the "
        f"bound to {decayed['bound'].mean():.2g}, and {decayed['share_at_bound'].mean():.0%} of the steps were at the "
        "bound. If no step is at the bound, halving the bound changes no step, because $\\gamma$ is ½ as well. It only "
        "saves the trials above the new bound."
    )
)

# %% [markdown]
# ## Table 2: what a step costs
#
# We compare SGD, BLS (backtracking line search), MGDA-UB (upper bound of MGDA, in latent space), FBLS and EqualWeight,
# as in [notebook 03](03_multimnist.ipynb). Two cheaper versions of FBLS, *in turn* and *warm start*, are explained below
# the table. The methods train in turn, each with its own network.
#
# We also measure single passes: forward and backward, of the encoder and of one decoder. The predicted time of a step is
# the sum of the passes that the method makes. So the ratio of two methods can be predicted without timing them.

# %%
timed = timing.Timing(
    replace(
        sweep.setting,
        n_train=timing_images,
        batch_size=timing_batch_size,
        data_options=(("size", (height, width)),),
        model_options=model_options(timing_encoder, timing_stages, timing_channels),
    ),
    timing_rounds,
    methods=(*timing.METHODS, timing.IN_TURN, timing.WARM_START),
)
timing_run = timed.execute(store)
passes_run = passes.PassTiming(timed.setting, timing_rounds).execute(store)
memory_run = memory.Memory(timed.setting).execute(store)
printed = paper["times"]["cityscapes"]
table_2 = dense_cost.compare_dense_costs(
    timing_run, passes_run, memory_run, printed, paper["thesis_shares"]["cityscapes"]
)
steps = int(timing_run.rows[0]["steps"])
table_2.insert(3, "ours, ms a step", 1000 * table_2["ours, s"] / steps)
title = f"Table 2, Cityscapes: seconds for {steps} step{'s' * (steps > 1)}; the paper's are for an epoch of its images"
notes = [
    f"Times: {frames.provenance([timing_run])}. Memory: {frames.provenance([memory_run])}.",
    tables.ABOUT_RATIOS,
    "Predicted: counted passes times the median time of one pass. Passes are means per step, T = 3 "
    "tasks; a decoder pass is that of one task. Peak memory: weights, buffers, activations, gradients. Trials and passes "
    f"are means over the first {len(timing_run.rows) // len(timed.methods) * steps} measured steps of a network, always "
    "on the same images.",
]
aside = ("ours, ms a step", "thesis / SGD", "share of decoders", "encoder passes", "peak memory, MB", "memory / SGD")
hidden = (*aside, *tables.HIDDEN_TIMES)
display(Markdown(tables.write_table(table_2, "table-2-cityscapes", folder, title, notes, hidden=hidden)))

# %% tags=["nbval-check-output"]
# Encoder passes of a step, forward and backward: facts that hold at any size, on any machine.
table_2.set_index("method").loc[["EqualWeight", "SGD", "MGDA-UB", "FBLS"], ["encoder forward", "encoder backward"]]

# %%
ratio = printed["FBLS"] / printed["SGD"]
claim_1 = [
    comparisons.compare_with_printed(timing_run, "1", "Cityscapes", "FBLS", "SGD", ratio),
    comparisons.compare_cost(timing_run, "Cityscapes", "FBLS", "SGD", ratio),
    comparisons.compare_cost(timing_run, "Cityscapes", "FBLS", "MGDA-UB", comparisons.ABOUT_AS_MUCH),
    comparisons.compare_cost(timing_run, "Cityscapes", "FBLS", "BLS", comparisons.FAR_LESS),
    comparisons.compare_cost(timing_run, "Cityscapes", timing.IN_TURN, "SGD", ratio),
    comparisons.compare_cost(timing_run, "Cityscapes", timing.WARM_START, "SGD", ratio),
]
display(Markdown(claims.to_list(claim_1)))

# %% [markdown]
# ## What a latent method saves, and what a trial costs
#
# SGD makes three backward passes through the encoder, FBLS one. So FBLS saves two encoder backward passes. It adds a
# forward pass of all decoders for every trial. With larger decoders the saving pays for fewer trials.
#
# There are two ways to make the trials cheaper.
# - *In turn*, `Backtracking(order="in turn")`. One task is enough to reject a trial. The task that rejected the last
#   trial often rejects the next one, too, so its decoder runs first. If it rejects, the other decoders are skipped. The
#   accepted steps do not change.
# - *Warm start*, `Backtracking(growth=1.1)`. A search starts at 1.1 times the last accepted step. In the paper every
#   search starts at the bound. With a warm start the accepted steps may change.

# %%
cost = table_2.set_index("method")
share, low, high = dense_cost.decoder_share(passes_run, tasks=3)
free, affordable = (dense_cost.find_trials(timing_run, passes_run, limit) for limit in (1.0, ratio))
shares = {name: times["FBLS"] / times["SGD"] for name, times in paper["times"].items()}
listed = ", ".join(f"{name} {value:.2f}" for name, value in sorted(shares.items(), key=lambda item: item[1]))
display(
    Markdown(
        f"- The paper prints these ratios FBLS / SGD: {listed}.\n"
        f"- The decoders take **{share:.0%}** ({low:.0%} to {high:.0%}) of one forward and backward pass of this model. "
        f"They take **{cost['share of decoders']['FBLS']:.0%}** of a step of FBLS.\n"
        f"- FBLS made {cost['trials']['FBLS']:.1f} trials a step here. From the passes we predict: at **{free:.1f}** "
        f"trials FBLS costs as much as SGD. At **{affordable:.1f}** trials it costs {ratio:.2f} times as much, the ratio "
        "of the paper.\n"
        f"- In turn: FBLS made {cost['trials'][timing.IN_TURN]:.1f} trials and "
        f"{cost['decoder forward'][timing.IN_TURN]:.1f} decoder forward passes a step, compared with "
        f"{cost['decoder forward']['FBLS']:.1f} without this option. It cost **{cost['ours / SGD'][timing.IN_TURN]:.2f}** "
        f"times as much as SGD, and {cost['ours / equal weight'][timing.IN_TURN]:.2f} times as much as EqualWeight.\n"
        f"- Warm start: FBLS made **{cost['trials'][timing.WARM_START]:.1f}** trials a step. It cost "
        f"**{cost['ours / SGD'][timing.WARM_START]:.2f}** times as much as SGD, and "
        f"{cost['ours / equal weight'][timing.WARM_START]:.2f} times as much as EqualWeight.\n"
        f"- FBLS / SGD: predicted **{cost['predicted / SGD']['FBLS']:.2f}**, measured **{cost['ours / SGD']['FBLS']:.2f}**. "
        f"MGDA-UB / SGD, without trials: predicted {cost['predicted / SGD']['MGDA-UB']:.2f}, measured "
        f"{cost['ours / SGD']['MGDA-UB']:.2f}.\n"
        f"- Compared with EqualWeight, a step costs FBLS {cost['ours / equal weight']['FBLS']:.2f} times as much, MGDA-UB "
        f"{cost['ours / equal weight']['MGDA-UB']:.2f} times, SGD {cost['ours / equal weight']['SGD']:.2f} times and BLS "
        f"{cost['ours / equal weight']['BLS']:.2f} times."
    )
)

# %% [markdown]
# ## The claims, judged
#
# The rule is given below the table.

# %%
judged = [*claim_1, *claim_3, *claim_5]
notes = [f"Data and size: {source_line}.", f"Times: {frames.provenance([timing_run])}."]
title = "Claims of the paper on Cityscapes"
display(Markdown(claims.write_claims(judged, "claims-cityscapes", folder, title, notes)))

# %% [markdown]
# ## What to take home

# %%
ahead = {
    task: final.groupby(["variant", "lr"])[f"test_loss_{task}"].agg(lambda losses: losses.mean(skipna=False)).idxmin()
    for task in dense_figures.LOSSES
}
display(
    Markdown(
        f"- Claim 1, the cost of FBLS compared with MGDA-UB, SGD and BLS: {claims.count_tests(claim_1)}.\n"
        f"- FBLS costs **{cost['ours / SGD']['FBLS']:.2f}** times as much as SGD, "
        f"**{cost['ours / SGD'][timing.IN_TURN]:.2f}** times with trials in turn, and "
        f"**{cost['ours / SGD'][timing.WARM_START]:.2f}** times with a warm start. The decoders make the trials expensive: they "
        f"take {share:.0%} of a forward and backward pass of the model, and every trial runs them again.\n"
        f"- Claim 3, FBLS is not worse than the best constant step: {claims.count_tests(claim_3)}.\n"
        f"- Claim 5, the step settles at the bound: {claims.count_tests(claim_5)}. At the end of its training FBLS took "
        f"{claim_5[0].ours:.1%} of its steps at its bound.\n"
        + "\n".join(
            f"- Lowest test loss after the last epoch, {dense_figures.LOSSES[task]}: {name} at {step:g}."
            for task, (name, step) in ahead.items()
        )
    )
)

# %% [markdown]
# ## Five questions
#
# **1.** Units of time: encoder forward 2, backward 4; one decoder forward 2, backward 4; three tasks. At how many trials
# does FBLS cost as much as SGD? And if every decoder pass costs half?
#
# <details><summary>Answer</summary>
#
# SGD: $2 + 3 \cdot 4 + 3 \cdot 6 = 32$. FBLS with $k$ trials: $2 + 4 + 18 + 6k$. They are equal at $k = \tfrac43$. With
# half the decoder cost: $14 + 9 = 23$ and $6 + 9 + 3k$, so $k = \tfrac83$. Smaller decoders pay for more trials.
#
# </details>
#
# **2.** Three tasks, and a search of four trials: the same task rejects three times, then all accept. How many decoder
# forwards do these trials make, together and in turn?
#
# <details><summary>Answer</summary>
#
# Together: $4 \cdot 3 = 12$. In turn: $3 + 1 + 1 + 3 = 8$. The first trial must ask all tasks, and an accepted trial needs
# all of them.
#
# </details>
#
# **3.** The bound is 1, and the last search accepted $\tfrac1{32}$. The losses have not changed, and 1.1 times this step
# passes, too. Which step does a search from the bound accept, and which one does a warm start accept?
#
# <details><summary>Answer</summary>
#
# From the bound: $\tfrac1{32}$, at the sixth trial. Warm start: $1.1/32$, at the first trial. A warm start saves trials, and
# its steps differ.
#
# </details>
#
# **4.** In the figure of the step size, FBLS and FBLS+decay may have the same steps but different trials. How can that be?
#
# <details><summary>Answer</summary>
#
# The bound is above every accepted step. As $\gamma$ is ½, halving the bound removes the first trial of a search, which
# would be rejected anyway.
#
# </details>
#
# **5.** A batch has no car. Suppose that the instance task still takes part. What would the rules *mgda* and *mean* do, and
# what would the test say about this task?
#
# <details><summary>Answer</summary>
#
# *mgda*: $d = 0$, so the encoder stops. *mean*: $d = (g_1 + g_2)/3$, only shorter than with two tasks. The test passes for
# this task at every step: $0 \le 0 - \eta\beta \cdot 0$.
#
# </details>
