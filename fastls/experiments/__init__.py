"""The experiments of the paper: the only part of the package that knows it. Where to look:

=================  ==========================================================================================
folder             what is decided there
=================  ==========================================================================================
`training`         what decides a run (`config`), which optimizer a method is (`optimizers`), what is
                   trained (`workloads`), the loop (`training`), the files of rows and their keys (`store`), which runs
                   an artefact reads (`sweeps`), several runs at once (`parallel`)
`measuring`        seconds, memory and passes of a step
`reporting`        rows to frames, intervals, tables and curves, in one style (`style`); which rows a claim gets and
                   which vote (`comparisons`), and verdicts from them (`claims`)
`studies`          what one notebook needs of its own: `theory` (01), `toy` (02), `cifar10` (04), `cityscapes` (05),
                   `bert` (06), `beyond` (07), `defaults` (08), `growth` (bench); 03 needs nothing of its own
=================  ==========================================================================================

Beside them: `reproduce` runs the notebooks, one by one through `notebook_runner`; `bench` is `python -m fastls bench`;
`front_page` judges the paper's claims from all tables.
"""
