"""Networks under one contract: an encoder, a decoder per task, a loss per task. Where to look:

`multitask` defines the contract; `latent` handles z as a tree of tensors. `trial_state` keeps batch normalisation,
dropout and random generators unchanged while a step is tried. The others are networks: `lenet`, `resnet`, `pspnet`,
`bert`, and `quadratic` for the toy problems.
"""
