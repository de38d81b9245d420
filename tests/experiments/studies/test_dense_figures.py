"""Figures of Cityscapes: what is drawn is what the rows and maps say, and all of it fits."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from fastls.datasets.scene_files import CLASSES
from fastls.experiments.studies.cityscapes.figures import (
    COLOURS,
    LOSSES,
    MARKERS,
    NOTHING,
    colour_classes,
    colour_offsets,
    draw_dense_curves,
    draw_predictions,
    draw_scenes,
    label_lines,
)

NAN = float("nan")
SOURCE = "synthetic street scenes · " + " · ".join(f"option {i}: value" for i in range(20))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def make_frame(epochs=3, seeds=2, diverged=()):
    """Epochs of SGD at three steps, EqualWeight at two, FBLS and FBLS+decay; the loss is known for each."""
    lines = [("SGD", 0.001), ("SGD", 0.01), ("SGD", 0.1), ("EqualWeight", 0.01), ("EqualWeight", 0.1)]
    lines += [("FBLS", 1.0), ("FBLS+decay", 1.0)]
    rows = []
    for i, (variant, lr) in enumerate(lines):
        for seed in range(seeds):
            for epoch in range(1, epochs + 1):
                lost = (variant, lr, seed) in diverged and epoch == epochs
                losses = {
                    f"{split}_loss_{task}": NAN if lost else 10 * (i + 1) / epoch + seed + t
                    for split in ("train", "test")
                    for t, task in enumerate(LOSSES)
                }
                row = {"variant": variant, "lr": lr, "seed": seed, "epoch": epoch, "diverged": lost}
                rows.append(row | losses | {"final": epoch == epochs, "test_loss": losses["test_loss_semantic"]})
    return pd.DataFrame(rows)


def make_maps(size=(16, 32), seed=0):
    random = np.random.RandomState(seed)
    maps = {"image": random.uniform(0, 255, (3, *size))}
    for prefix in ("", "predicted_"):
        maps[f"{prefix}semantic"] = random.randint(0, 11, size).astype(float)
        maps[f"{prefix}instance"] = random.normal(0, 4, (2, *size))
        maps[f"{prefix}disparity"] = random.uniform(0, 8, (1, *size))
    maps["semantic"][:4] = maps["instance"][:, :8] = maps["disparity"][:, 2] = NAN
    return maps


def assert_fits(figure):
    figure.canvas.draw()
    texts = [figure._supxlabel, *figure.legends]
    for text in texts:
        box = text.get_window_extent()
        assert 0 <= box.x0 and box.x1 <= figure.bbox.width


def test_curves_are_those_of_the_rows():
    figure, table = draw_dense_curves(make_frame(), SOURCE)
    assert len(figure.axes) == 6
    for panel, (split, task) in zip(figure.axes, [(s, t) for s in ("train", "test") for t in LOSSES], strict=True):
        assert panel.get_title().startswith(f"{split}: {task}")
        drawn = {line.get_label(): line.get_ydata() for line in panel.get_lines()}
        assert list(drawn) == ["SGD 0.001", "SGD 0.01", "SGD 0.1", "EqualWeight 0.01 (best of 2)", "FBLS", "FBLS+decay"]
        offset = 0.5 + list(LOSSES).index(task)  # the mean of seeds 0 and 1, and the task
        np.testing.assert_allclose(drawn["SGD 0.01"], [20 + offset, 10 + offset, 20 / 3 + offset])
    assert table.loc[("FBLS", 3), ("test_loss_semantic", "count")] == 2
    assert_fits(figure)


def test_train_and_test_share_their_range():
    figure, _ = draw_dense_curves(make_frame(), SOURCE)
    for above, below in zip(figure.axes[:3], figure.axes[3:], strict=True):
        assert above.get_ylim() == below.get_ylim()


def test_lines_of_one_method_can_be_told_apart():
    _, styles = label_lines(make_frame())
    looks = [(tuple(style["color"]), style["marker"]) for label, style in styles.items() if label.startswith("SGD")]
    assert len(set(looks)) == 3 and len({marker for _, marker in looks}) == 3


def test_no_step_is_left_out():
    frame = make_frame()
    steps = [frame[frame["variant"] == "SGD"].assign(lr=10.0**-i) for i in range(len(MARKERS) + 2)]
    _, styles = label_lines(pd.concat([frame[frame["variant"] != "SGD"], *steps]))
    assert sum(label.startswith("SGD") for label in styles) == len(MARKERS) + 2


def test_divergence_is_told():
    figure, table = draw_dense_curves(make_frame(diverged={("SGD", 0.1, 0), ("SGD", 0.1, 1)}), SOURCE)
    assert "SGD 0.1: 2 diverged" in figure._supxlabel.get_text()
    assert table.loc["SGD 0.1"].index.tolist() == [1, 2]


def test_scenes_count_their_classes():
    scenes = [make_maps(seed=seed) for seed in range(3)]
    figure, table = draw_scenes(scenes, SOURCE)
    shares = table.set_index("class")["share of pixels"]
    labels = np.concatenate([maps["semantic"][4:].ravel() for maps in scenes])
    assert shares["car"] == 0 and shares["road"] == (labels == 0).mean() and shares.sum() == pytest.approx(1)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(CLASSES.values())[:11]
    assert_fits(figure)


def test_predictions_stand_beside_the_truth():
    scenes = [make_maps(seed=seed) for seed in range(2)]
    scenes[1]["instance"][:] = scenes[1]["disparity"][:] = NAN  # an image without things
    figure, errors = draw_predictions(scenes, SOURCE)
    assert len(figure.axes) == 14
    wrong = (scenes[0]["semantic"] != scenes[0]["predicted_semantic"])[4:]
    assert errors["semantic"][0] == wrong.mean() and errors["instance"].isna().tolist() == [False, True]
    offsets = figure.axes[4].images[0].get_array()
    assert (offsets[:8] == NOTHING).all() and not (offsets[8:] == NOTHING).all(-1).any()  # only where there is truth
    assert figure.axes[5].images[0].get_clim() == figure.axes[6].images[0].get_clim()
    assert_fits(figure)


def test_colours_of_classes_are_the_official_ones():
    labels = np.array([[0.0, 13.0, NAN]])
    colours = colour_classes(labels)
    assert (255 * colours[0, 0]).tolist() == [128, 64, 128]  # road
    assert np.array_equal(colours[0, 1], COLOURS[13]) and (colours[0, 2] == NOTHING).all()


def test_colours_of_offsets_tell_direction_and_distance():
    offsets = np.array([[4.0, -4.0, 0.0, NAN], [0.0, 0.0, 0.0, NAN]])[:, None]
    right, left, centre, nothing = colour_offsets(offsets, farthest=4.0)[0]
    assert right.tolist() == [1, 0, 0] and left.tolist() == [0, 1, 1]  # opposite hues
    assert (centre == 1).all() and (nothing == NOTHING).all()


def test_where_every_equal_weight_step_diverged_the_figure_says_so():
    """There is no best step then; looking for it once raised."""
    diverged = {("EqualWeight", lr, seed) for lr in (0.01, 0.1) for seed in (0, 1)}
    figure, _ = draw_dense_curves(make_frame(diverged=diverged), SOURCE)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "EqualWeight 0.01 (smallest of 2, all diverged)" in labels
