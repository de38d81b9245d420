"""The experiments of the paper: the only part of the package that knows it. Where to look:

=================  ==========================================================================================
folder             content
=================  ==========================================================================================
`training`         the configuration of a run (`config`), the optimizer of a method (`optimizers`), data and network
                   (`workloads`), the loop (`training`), the files of rows and their keys (`store`), the runs behind an
                   artefact (`sweeps`), several runs at once (`parallel`, `cluster`)
`measuring`        seconds, memory and passes of a step
`reporting`        rows to frames, intervals, tables and curves, in one style (`style`); the rows of a claim and
                   which of them vote (`comparisons`), and verdicts from them (`claims`)
`studies`          code of one notebook: `theory` (01), `toy` (02), `cifar10` (04), `cityscapes` (05), `bert` (06),
                   `beyond` (07), `defaults` (08), `growth` (bench); 03 needs no code of its own
=================  ==========================================================================================

Beside them: `reproduce` runs the notebooks, one by one through `notebook_runner`; `bench` is `python -m fastls bench`;
`front_page` judges the paper's claims from all tables.
"""
