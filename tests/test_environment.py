"""Versions: the two lists of requirements agree, and what a run records of its surroundings is plain and true."""

import json
import platform
import re

import numpy as np
import pytest
import torch
import yaml

from fastls import environment
from fastls.paths import ROOT

ALIASES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}  # conda's name -> PyPI's
WITHOUT_PIN = {"python", "pip", "-e ."}


def split_pin(line: str) -> tuple[str, str | None]:
    """(PyPI name, version or None) of ``name==1.0``, ``name=1.0`` or ``channel::name=1.0``."""
    name, _, version = re.sub(r"\s+", "", line).rpartition("::")[2].partition("=")
    name = re.sub(r"[-_.]+", "-", name).lower()
    return ALIASES.get(name, name), version.lstrip("=") or None


def requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize(
    "line, expected",
    [
        ("numpy==2.4.6", ("numpy", "2.4.6")),
        ("numpy=2.4.6", ("numpy", "2.4.6")),
        ("conda-forge::pytorch = 2.12.1", ("torch", "2.12.1")),
        ("Scikit_Learn", ("scikit-learn", None)),
    ],
)
def test_split_pin(line, expected):
    assert split_pin(line) == expected


def test_requirements_and_environment_agree():
    pinned = [line.partition("#")[0].strip() for line in requirements()]
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = [entry for entry in dependencies if isinstance(entry, str)]
    pip = [entry for section in dependencies if isinstance(section, dict) for entry in section["pip"]]
    from_requirements = dict(split_pin(line) for line in pinned if line not in WITHOUT_PIN)
    entries = [split_pin(entry) for entry in conda + pip if entry not in WITHOUT_PIN]
    from_environment = {name: version for name, version in entries if name not in WITHOUT_PIN}
    assert from_environment == from_requirements
    assert None not in from_requirements.values()


def test_each_requirement_has_a_reason():
    assert [line for line in requirements() if not re.fullmatch(r"\S+( \.)?\s+# \w.*", line)] == []


def test_check_requirements_sees_every_pin():
    pins = [(package, pinned) for package, pinned, _ in environment.check_requirements()]
    assert pins == [split_pin(line.partition("#")[0]) for line in requirements() if "==" in line]


def test_check_requirements_reports_what_is_missing(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text(f"# comment==1\nnumpy=={np.__version__}  # arrays\nno-such-package==1.0\n-e .\n")
    assert environment.check_requirements(path) == [
        ("numpy", np.__version__, np.__version__),
        ("no-such-package", "1.0", None),
    ]


def test_describe_environment():
    found = environment.describe_environment("cpu")
    assert json.loads(json.dumps(found)) == found
    assert found["python"] == platform.python_version()
    assert found["versions"]["numpy"] == np.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["cores"] >= 1 and found["device"] and found["platform"]


@pytest.mark.parametrize(
    "device, available, expected",
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_resolve_device(monkeypatch, device, available, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert environment.resolve_device(device) == expected


@pytest.mark.parametrize("device, found", [("cuda", "no CUDA device"), ("tpu", "'tpu'")])
def test_resolve_device_refuses(monkeypatch, device, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"`device`.*{found}"):
        environment.resolve_device(device)
