"""The mathematics; knows nothing of data sets or experiments. `optimizers`: the paper's four. `directions`, `pareto`:
weights. `line_search`, `merit_search`: the Armijo test and other searches. `multitask_optimizer`: their step and its
gain, formed and tried in one of two `spaces`. `adam_search`: AdamFBLS. `functional`: loops of your own. `evaluation`:
what is checked before a model is trusted, and sums over processes."""
