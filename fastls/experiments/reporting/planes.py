"""Vectors in the plane: the cone of common descent, and how arrows and sectors are drawn in every figure."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fastls.experiments.reporting.style import COLOURS

TASK_STYLES = ({"color": COLOURS[0], "linestyle": "-"}, {"color": COLOURS[3], "linestyle": "--"})
COMMON = COLOURS[2]  # what all tasks share: the cone, the accepted steps
CONE = "directions $d$: $-d$ lowers both losses"  # the label of a cone of directions that a step subtracts
DIRECTION = COLOURS[4]


def descent_cone(gradients: Tensor) -> tuple[float, float] | None:
    """Angles (low, high) between which every move u has ⟨g_t, u⟩ < 0 for all t; None if there is no such move.

    The intersection of half-planes: each is half a turn wide, centred on −g_t.

    Args:
        gradients: (T, 2).

    Example:
        >>> low, high = descent_cone(torch.tensor([[-1.0, 0.0], [0.0, -1.0]]))
        >>> round(math.degrees(low)), round(math.degrees(high))
        (0, 90)
        >>> descent_cone(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) is None
        True
    """
    if not bool((gradients != 0).any(dim=1).all()):
        return None
    x, y = -gradients.double().T
    angles = torch.atan2(y, x)
    offsets = torch.remainder(angles - angles[0] + math.pi, 2 * math.pi) - math.pi  # in [−π, π)
    low, high = (offsets.max() - math.pi / 2).item(), (offsets.min() + math.pi / 2).item()
    if high - low < 1e-9:
        return None
    return angles[0].item() + low, angles[0].item() + high


def fill_sector(panel, low: float, high: float, radius: float, colour, alpha: float) -> None:
    """The sector between two angles, about the origin."""
    angles = np.linspace(low, high, 61)
    x, y = radius * np.cos(angles), radius * np.sin(angles)
    panel.fill(np.append(x, 0), np.append(y, 0), color=colour, alpha=alpha, linewidth=0)


def draw_arrow(panel, end: Sequence[float], text: str, colour, linestyle="-", turn: float = 0.0) -> None:
    """An arrow from the origin, with its name beyond the tip, `turn` degrees to the left of the arrow's direction."""
    style = {"arrowstyle": "-|>", "color": colour, "linestyle": linestyle, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0}
    panel.annotate("", end, xytext=(0, 0), arrowprops=style)
    angle = math.atan2(end[1], end[0]) + math.radians(turn)
    distance = 8 + 2.2 * len(text.strip("$"))  # points; long names need more room
    offset = (distance * math.cos(angle), 10 * math.sin(angle))
    panel.annotate(
        text, end, xytext=offset, textcoords="offset points", color=colour, fontsize=10, ha="center", va="center"
    )
