"""Parameters of notebooks: what papermill would hand on in silence is named, with the rule and what was found."""

import shutil

import pytest

from fastls.experiments.parameters import check_notebook, check_values
from fastls.paths import ROOT

DEFAULTS = {"epochs": 20, "workers": 0, "lr": 0.1, "betas": [0.1, 0.4], "layers": [1, 2], "more": [], "names": ["edm"]}
DEFAULTS |= {"augment": False, "source": "auto"}


@pytest.mark.parametrize(
    "name, value, rule",
    [
        ("epochs", 2.5, "a whole number of at least 1"),
        ("epochs", 0, "a whole number of at least 1"),
        ("epochs", "20", "a whole number of at least 1"),
        ("epochs", True, "a whole number of at least 1"),
        ("workers", -1, "a whole number of at least 0"),
        ("lr", -0.1, "a positive number"),
        ("lr", float("nan"), "a positive number"),
        ("lr", float("inf"), "a positive number"),
        ("betas", "[0.1]", "a list of positive numbers"),
        ("betas", ["1e-1"], "a list of positive numbers"),
        ("betas", [], "a list of positive numbers"),
        ("betas", 0.1, "a list of positive numbers"),
        ("more", [0.0], "a list of positive numbers"),
        ("names", [1], "a list of texts"),
        ("augment", 1, "True or False"),
        ("source", None, "a text"),
    ],
)
def test_another_kind_or_range_is_named_with_the_rule(name, value, rule):
    with pytest.raises(ValueError) as error:
        check_values({name: value}, DEFAULTS, "03_multimnist")
    assert str(error.value).startswith(f"`{name}` of notebook 03_multimnist must be {rule}, found {value!r}.")


def test_what_is_right_passes():
    check_values(DEFAULTS, DEFAULTS, "any")
    check_values({"lr": 1, "workers": 2, "more": [0.2], "layers": [3], "betas": [1]}, DEFAULTS, "any")


def test_a_notebook_checks_the_values_of_its_own_cell():
    values = {"sweep_points": 31, "sweep_steps": 50, "random_encoders": 2.5, "device": "cpu", "jobs": 1}
    values |= {"runs_dir": "runs", "figures_dir": "figures"}
    with pytest.raises(ValueError, match="`random_encoders` of notebook 01_theory must be a whole number"):
        check_notebook("01_theory", values)
    check_notebook("01_theory", values | {"random_encoders": 3})


def test_a_notebook_of_another_clone_is_stopped(tmp_path, monkeypatch):
    """Two clones and one editable install would write into each other."""
    clone = tmp_path / "other"
    for name in ("fastls/__init__.py", "figures/artifacts.yaml"):
        (clone / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, clone / name)
    (clone / "notebooks").mkdir()
    monkeypatch.chdir(clone / "notebooks")
    with pytest.raises(
        RuntimeError, match=f"the fastls of its own clone, found that of another: {ROOT.name} beside other"
    ):
        check_notebook("01_theory", {})
