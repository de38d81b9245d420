"""Networks under one contract: an encoder, a decoder per task, a loss per task. Where to look:

`multitask` has the contract and `latent` z as a tree of tensors. `trial_state` keeps batch normalisation, dropout and
random generators as they were while a step is tried. The others are networks: `lenet`, `resnet`, `pspnet`, `bert`, and
`quadratic` for the toy problems.
"""
