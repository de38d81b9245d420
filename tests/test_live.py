"""The arithmetic of the book's live figures is that of fastls: the same steps to 1e-6, run by node."""

import json
import shutil
import subprocess
from functools import partial

import numpy as np
import pytest
import torch

from fastls import BLS, FBLS, MGDAUB, SGD, Backtracking, EqualWeight
from fastls.experiments.studies.toy import toy
from fastls.models.lenet import lenet
from fastls.models.quadratic import scalar_chain
from fastls.paths import ROOT

ARITHMETIC = ROOT / "docs" / "static" / "live_arithmetic.js"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")


def ask(expression: str):
    """What the expression gives, with the arithmetic as `live`."""
    script = f"const live = require({json.dumps(str(ARITHMETIC))}); console.log(JSON.stringify({expression}));"
    return json.loads(subprocess.run([NODE, "-e", script], check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("rule", ["mean", "mgda", "edm", "pcgrad"])
@pytest.mark.parametrize("space, algorithm", [("parameters", BLS), ("latent", FBLS)])
@pytest.mark.parametrize("scale, ratio, start", [(1.0, 0.6, (-2.0, 2.5)), (2.3, 0.2, (2.4, -1.2))])
def test_steps_in_the_plane(space, algorithm, rule, scale, ratio, start):
    steps, search = 12, {"lrUb": 2.0, "beta": 0.2, "gamma": 0.7}
    options = json.dumps({"rule": rule, "space": space, **search})
    walked = ask(
        f"(() => {{ const A = live.makeEncoder({scale}, {ratio});"
        f" return live.walk(live.solve(A, {list(start)}), A, live.PLANE, {options}, {steps}); }})()"
    )
    model = toy.two_quadratics(scale, ratio).model(start)
    optimizer = algorithm(model, 2.0, rule, Backtracking(0.2, 0.7))
    for seen in walked[:steps]:
        np.testing.assert_allclose(seen["theta"], model.encoder.theta.detach(), rtol=1e-6, atol=1e-9)
        record = optimizer.step(None, dict.fromkeys(model.tasks))
        if record.stationary or not record.accepted:
            break
        np.testing.assert_allclose(seen["losses"], record.losses, rtol=1e-6, atol=1e-9)
        assert (seen["eta"], seen["trials"]) == (pytest.approx(record.step_size, rel=1e-9), record.trials)


@pytest.mark.parametrize("c", [0.3, 1.0, 2**0.5, 2.0])
@pytest.mark.parametrize("space, algorithm", [("parameters", BLS), ("latent", FBLS)])
def test_the_encoder_of_one_number(c, space, algorithm):
    theta = 1.0
    model = scalar_chain(c)
    optimizer = algorithm(model, 1.0, line_search=Backtracking(0.1, 0.5))
    for _ in range(6):
        theta = ask(f"live.chain({theta!r}, {c!r}, {space!r}, {{beta: 0.1, gamma: 0.5, lrUb: 1}})")["theta"]
        optimizer.step(None, dict.fromkeys(model.tasks))
        assert theta == pytest.approx(model.encoder.theta.item(), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("tasks", [2, 5])
def test_passes_of_a_step(tasks):
    names = tuple(f"task{t}" for t in range(tasks))
    images, targets = torch.rand(4, 1, 28, 28), dict.fromkeys(names, torch.arange(4))
    methods = {
        "EqualWeight": partial(EqualWeight, lr=0.1),
        "SGD": partial(SGD, lr=0.1),
        "MGDA-UB": partial(MGDAUB, lr=0.1),
    }
    for method, make in (methods | {"BLS": BLS, "FBLS": FBLS}).items():
        record = make(lenet(names)).step(images, targets)
        count = ask(f"live.passes({method!r}, {tasks}, {record.trials})")
        assert list(count.values()) == [
            record.passes.encoder_forward,
            record.passes.encoder_backward,
            record.passes.decoder_forward,
            record.passes.decoder_backward,
        ]


def test_equal_weights_cost_one():
    assert sum(ask("live.cost('EqualWeight', 3, 0, 0.7)").values()) == pytest.approx(1)
