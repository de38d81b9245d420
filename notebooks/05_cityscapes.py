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
# A street scene, three questions about every pixel: which class is it, where is the centre of the car or person that it
# belongs to, how far apart do the two cameras see it? A dilated ResNet turns the image into a feature map $z$, and each
# task reads it with a PSPNet decoder that pools, convolves and enlarges: no longer two small layers, but a network of
# its own.
#
# **You will learn** from which passes the cost of a step is made, why latent methods gain least where decoders are
# large, how many trials a search can afford, and what happens to a task that a batch says nothing about.
#
# **Regenerates** Figure 7 and Table 2 of [Filatov and Merkulov (2021)](https://arxiv.org/abs/2110.00874), and figure 9
# of the thesis. Adds predictions beside the truth, the step size along training, the decoders' share of a step, peak
# memory and equal-weight SGD.
#
# **Takes** about a minute on two cores at the default size, which is far smaller than the paper's in images, network
# and epochs; the size is printed under every figure. Runs are kept, so a second execution only draws.

# %% tags=["parameters"]
source = (
    "auto"  # "cityscapes", "synthetic" (street scenes drawn by rule), or "auto": Cityscapes where it lies under data/
)
n_train = 32  # training images
n_test = 16  # test images, of Cityscapes' split "val"
height = 64  # pixels of the images that are trained on; Cityscapes' own have 1024 × 2048
width = 128
crop = 0  # height of a random window of every training image, twice as wide; 0 for the whole image
workers = 0  # processes that read images; 0 keeps them all in memory
epochs = 8
seeds = 1  # repetitions of every run
batch_size = 8
step_sizes = [0.001, 0.01, 0.1]  # constant steps of SGD and EqualWeight
decay_every = 2  # epochs between two halvings of the bound in FBLS+decay; the paper has 10 of 100
encoder = "resnet18"  # or "resnet50", the paper's
stages = 2  # of the encoder's four; ResNet-50 may keep all
channels = 64  # of the decoders' hidden layers; PSPNet has 512
weights = "none"  # of the encoder: "imagenet", "none", or "auto": ImageNet's where torchvision has them on this machine
timing_encoder = "resnet18"  # of Table 2
timing_stages = 2
timing_channels = 64
timing_batch_size = 4
timing_images = 8  # images of an epoch in Table 2
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
from fastls.experiments.reporting import claims, comparisons, frames, style, tables
from fastls.experiments.reporting import curves as figures
from fastls.experiments.studies.cityscapes import cost as dense_cost
from fastls.experiments.studies.cityscapes import figures as dense_figures
from fastls.experiments.studies.cityscapes import samples as dense_samples
from fastls.experiments.training import parallel, sweeps
from fastls.experiments.training.store import RunStore
from fastls.models.pspnet import find_weights
from fastls.paths import in_repository


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
# Cityscapes asks for a registration and may not be passed on. Where it is not at hand, a renderer of street scenes
# stands in: road, pavement, buildings, trees, poles, signs, people and cars at depths of their own, from which class,
# instance and disparity maps follow. It writes Cityscapes' official layout, and the same loader reads either. What can
# be learned from it are costs and behaviours of the methods; its losses say nothing of Cityscapes.

# %%
search = sweeps.search_runs(sweep, seed=0)[0]
shown = dense_samples.Predictions(search).execute(store)
scenes = dense_samples.read_predictions(shown)
origin = f"{shown.header['data']['description']} · {height} × {width} pixels"
figure, _ = dense_figures.draw_scenes(scenes, f"test images and their classes · {origin}")
_ = style.save_figure(figure, "thesis-figure-9-cityscapes-samples", folder)

# %% [markdown]
# ## Three tasks
#
# | task | target of a pixel | loss | where |
# |---|---|---|---|
# | semantic | one of 19 classes | cross-entropy | on pixels of these classes |
# | instance | the way to the centre of gravity of its instance, in pixels | $\ell_1$ | on cars, people and other things |
# | disparity | the shift between the two cameras' images, in pixels | $\ell_1$ | where it is known |
#
# Each loss is a mean over the pixels that have a target. A batch may have none for some task: no car in sight, say.
# Then the loss is zero and so are its gradients; and zero is the shortest vector of any hull, so MGDA would hold the
# encoder still for a task that has nothing to say. Such a task is left out of the direction and of the test for that
# batch.
#
# ## Figure 7: constant steps against a search
#
# The paper compares SGD at three step sizes with FBLS. Equal-weight SGD stands beside them, at the best of the same
# step sizes by its final test loss.

# %%
configs = sweeps.comparison_runs(sweep, ("SGD", "EqualWeight"))
runs = parallel.run_all(configs, store, jobs)
frame = frames.to_frame(runs)
source_line = frames.provenance(runs)
f"{len(configs)} runs · {source_line}"

# %%
figure, _ = dense_figures.draw_dense_curves(frame, source_line)
_ = style.save_figure(figure, "figure-7-cityscapes-learning-curves", folder)

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
display(Markdown(f"Test metrics after the last epoch.\n\n{tables.to_markdown(scores.set_axis(names, axis=1))}"))

# %% [markdown]
# ## What the network sees
#
# The network of FBLS at the end of its training (seed 0), on the first test images.

# %%
ended = final.loc[(final["variant"] == "FBLS") & (final["seed"] == 0), "diverged"].item()
caption = f"FBLS {'at its last step before it diverged' if ended else f'after {epochs} epochs'} · {origin}"
figure, errors = dense_figures.draw_predictions(scenes, caption)
_ = style.save_figure(figure, "ours-cityscapes-predictions", folder)

# %% [markdown]
# ## The step size along training
#
# The paper saw the step settle at its bound. The second panel shows whether that holds where decoders are networks with a
# curvature of their own; the third shows the price, since every trial runs all three decoders.

# %%
searches, lines = frames.label_searches(frame)
halved = f"FBLS+decay: bound halved every {decay_every} epochs · {source_line}"
figure, _ = figures.draw_step_sizes(searches, halved, lines)
_ = style.save_figure(figure, "ours-cityscapes-step-size-along-training", folder)

# %%
claim_5 = [comparisons.judge_bound(frame, "Cityscapes")]
display(Markdown(claims.to_list(claim_5)))
last, decayed = (final[final["variant"] == name] for name in ("FBLS", "FBLS+decay"))
display(
    Markdown(
        f"- In its last epoch FBLS made **{last['trials'].mean():.1f}** trials a step and took a median step of "
        f"{last['step_median'].mean():.2g}; along $d_z$ such a step moves $z$ about "
        f"{last['gain_median'].median():.2g} times as far as the trial that it passed.\n"
        f"- FBLS+decay took {decayed['share_at_bound'].mean():.0%} of the steps of its last epoch at its bound, which the "
        f"schedule had brought to {decayed['bound'].mean():.2g}, and made {decayed['trials'].mean():.1f} trials a step. "
        "Where no step is taken at the bound, halving it changes no step, since $\\gamma$ is ½ as well, and saves the "
        "trials above it."
    )
)

# %% [markdown]
# ## Table 2: what a step costs
#
# The five methods take the same steps in turn, each on a network of its own, and with them two ways to make the trials
# of FBLS cheaper, explained below the table: *in turn* and *warm start*. Beside them, one pass of each kind is measured:
# forward and backward, of the encoder and of a decoder. A method's step is the sum of the passes that it counts, so the
# ratio of two methods can be predicted without timing either.

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
    "Ratios are medians over n rounds; low and high are their 95 % bootstrap intervals. A ratio agrees when its "
    f"interval is within {tables.AGREEMENT:.0%} of the paper's; same direction means that it lies on the paper's side "
    "of 1. Predicted: counted passes times the median time of one pass. Passes are means per step, T = 3; a decoder "
    "pass is that of one task. Peak memory: weights, buffers, activations, gradients. Trials and passes are those of the "
    f"first {len(timing_run.rows) // len(timed.methods) * steps} steps of a network, on the same images again and again.",
]
_ = tables.write_table(table_2, "table-2-cityscapes", folder, title, notes)
display(Markdown(tables.format_table(table_2, notes, f"**{title}**")))

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
# SGD pays for three encoder backwards, FBLS for one. What FBLS saves is two encoder backwards; what it adds is a
# forward of all decoders for every trial. The larger the decoders, the fewer trials that saving buys.
#
# Two ways to cut that. One task that refuses is enough to refuse a trial, and the task that refused the last trial is
# the likeliest to refuse the next: `Backtracking(order="in turn")` runs its decoder first, and the others only where it
# agrees. The steps are the very same. `Backtracking(growth=1.1)`, a warm start, begins a search at 1.1 times the
# step that the last one accepted, in place of the bound, which the paper returns to at every step; it may take other
# steps.

# %%
cost = table_2.set_index("method")
share, low, high = dense_cost.decoder_share(passes_run, tasks=3)
free, affordable = (dense_cost.find_trials(timing_run, passes_run, limit) for limit in (1.0, ratio))
shares = {name: times["FBLS"] / times["SGD"] for name, times in paper["times"].items()}
listed = ", ".join(f"{name} {value:.2f}" for name, value in sorted(shares.items(), key=lambda item: item[1]))
display(
    Markdown(
        f"- FBLS / SGD as the paper prints it: {listed}.\n"
        f"- The decoders take **{share:.0%}** ({low:.0%} to {high:.0%}) of one forward and backward of this model, and "
        f"**{cost['share of decoders']['FBLS']:.0%}** of a step of FBLS.\n"
        f"- FBLS made {cost['trials']['FBLS']:.1f} trials a step here. The passes predict that it costs as much as SGD at "
        f"**{free:.1f}** trials and {ratio:.2f} times as much, the paper's ratio, at **{affordable:.1f}**.\n"
        f"- With trials in turn it made {cost['trials'][timing.IN_TURN]:.1f}, but ran "
        f"{cost['decoder forward'][timing.IN_TURN]:.1f} decoder forwards a step in place of "
        f"{cost['decoder forward']['FBLS']:.1f}, and cost **{cost['ours / SGD'][timing.IN_TURN]:.2f}** times as much as SGD, "
        f"{cost['ours / equal weight'][timing.IN_TURN]:.2f} times as much as EqualWeight.\n"
        f"- With a warm start it made **{cost['trials'][timing.WARM_START]:.1f}** and cost **{cost['ours / SGD'][timing.WARM_START]:.2f}** times as "
        f"much as SGD, {cost['ours / equal weight'][timing.WARM_START]:.2f} times as much as EqualWeight.\n"
        f"- FBLS / SGD: predicted **{cost['predicted / SGD']['FBLS']:.2f}**, measured **{cost['ours / SGD']['FBLS']:.2f}**; "
        f"MGDA-UB, which makes no trial, {cost['predicted / SGD']['MGDA-UB']:.2f} and {cost['ours / SGD']['MGDA-UB']:.2f}.\n"
        f"- Against EqualWeight a step costs FBLS {cost['ours / equal weight']['FBLS']:.2f}, MGDA-UB "
        f"{cost['ours / equal weight']['MGDA-UB']:.2f}, SGD {cost['ours / equal weight']['SGD']:.2f} and BLS "
        f"{cost['ours / equal weight']['BLS']:.2f} times as much."
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
        f"- Decoders take {share:.0%} of a forward and backward of the model. FBLS costs **{cost['ours / SGD']['FBLS']:.2f}** times "
        f"SGD as the paper has it, **{cost['ours / SGD'][timing.IN_TURN]:.2f}** with trials in turn, and "
        f"**{cost['ours / SGD'][timing.WARM_START]:.2f}** with a warm start.\n"
        f"- At the end of its training FBLS took {claim_5[0].ours:.1%} of its steps at its bound.\n"
        + "\n".join(
            f"- Least test loss, {dense_figures.LOSSES[task]}: {name} at {step:g}."
            for task, (name, step) in ahead.items()
        )
    )
)
