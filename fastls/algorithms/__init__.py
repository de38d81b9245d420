"""The mathematics, independent of data sets and experiments. `optimizers`: the paper's four. `multitask_optimizer`: the
step that they share. `spaces`: where a direction is formed and tried. `directions`: weights of the task gradients.
`pareto`: dominance and the front. `line_search`, `merit_search`: the Armijo test and other searches. `adam_search`:
AdamFBLS. `functional`: for your own training loop. `evaluation`: checks of a model, and sums over processes."""
