"""Figures show the numbers they were given, with labelled axes, and say so where there is nothing to show."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from orchestrator.report import plots
from orchestrator.report.ensemble_plots import reliability_bins
from orchestrator.store.records import MemberRecord

HISTORY = [
    {"train/loss": 1.0, "val/loss": 1.2, "val/accuracy": 0.5, "lr": 0.1},
    {"train/loss": 0.5, "val/loss": math.nan, "val/accuracy": 0.7, "lr": 0.05},
    {"train/loss": 0.2, "val/loss": 1.1, "val/accuracy": 0.6, "lr": 0.01},
]


def member(number: int, score: float, **config: object) -> MemberRecord:
    return MemberRecord(
        f"t{number}", "trial", "image", dict(config), 0, "h", "f", "finished", best_epoch=1, metrics={"val/accuracy": score}
    )


def lines(axes: Axes) -> dict[str, list[float]]:
    return {str(line.get_label()): [float(y) for y in np.asarray(line.get_ydata())] for line in axes.lines}


def labelled(figure: Figure) -> bool:
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    return all(axes.get_xlabel() and axes.get_ylabel() for axes in panels)


def test_learning_curves_show_each_epoch_once_on_their_panel() -> None:
    figure = plots.learning_curves(HISTORY, best_epoch=2, title="t1")
    loss, accuracy, rate = figure.axes
    assert lines(loss)["train/loss"] == [1.0, 0.5, 0.2]
    assert lines(accuracy)["val/accuracy"] == [0.5, 0.7, 0.6]
    assert lines(rate)["lr"] == [0.1, 0.05, 0.01]
    assert "best epoch 2" in lines(loss)
    assert labelled(figure)
    assert figure.get_suptitle() == "t1"


def test_learning_curves_take_the_history_s_own_epochs() -> None:
    figure = plots.learning_curves([{"epoch": 4, "train/rmse": 2.0}, {"epoch": 6, "train/rmse": 1.0}])
    assert list(np.asarray(figure.axes[0].lines[0].get_xdata())) == [4, 6]


@pytest.mark.parametrize("history", [[], [{"epoch_seconds": 1.0}]])
def test_learning_curves_of_nothing_say_so(history: list[dict[str, float]]) -> None:
    assert plots.learning_curves(history).axes[0].texts[0].get_text() == "no epoch was finished"


def test_confusion_matrix_colours_by_the_share_of_the_true_class() -> None:
    counts = np.array([[8, 2, 0], [0, 5, 5], [0, 0, 0]])
    figure = plots.confusion_matrix(counts, ["a", "b$x$", "an overlong name of a class"])
    axes = figure.axes[0]
    assert np.allclose(np.asarray(axes.images[0].get_array()), [[0.8, 0.2, 0], [0, 0.5, 0.5], [0, 0, 0]])
    assert [text.get_text() for text in axes.texts] == ["8", "2", "5", "5"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", r"b\$x\$", "an overlong name of a…"]
    assert labelled(figure)
    with pytest.raises(ValueError, match=r"\(3, 3\) for 2 classes"):
        plots.confusion_matrix(counts, ["a", "b"])


def test_a_confusion_matrix_of_many_classes_is_drawn_without_numbers(tmp_path: Path) -> None:
    figure = plots.confusion_matrix(np.eye(200, dtype=int), [f"class {i}" for i in range(200)])
    assert not figure.axes[0].texts
    assert len(figure.axes[0].get_yticks()) == 40
    plots.save_figure(figure, tmp_path / "many.png")


@pytest.mark.parametrize(("metric", "best"), [("accuracy", [0.2, 0.5, 0.5, 0.5, 0.7]), ("log_loss", [0.2, 0.2, 0.2, 0.1, 0.1])])
def test_best_so_far_is_a_running_best(metric: str, best: list[float]) -> None:
    figure = plots.best_so_far([0.2, 0.5, math.nan, 0.1, 0.7], metric=metric, baseline=0.3)
    assert lines(figure.axes[0])["best so far"] == best
    assert lines(figure.axes[0])["baseline"] == [0.3, 0.3]
    assert labelled(figure)


def test_best_so_far_of_failed_trials_says_so() -> None:
    assert "no trial" in plots.best_so_far([math.nan]).axes[0].texts[0].get_text()


def test_parallel_coordinates_draw_a_line_a_trial_over_what_varies() -> None:
    records = [
        member(0, 0.5, lr=1e-4, model="cnn_a", epochs=5, momentum=0.9),
        member(1, 0.9, lr=1e-2, model="cnn_b", epochs=5),
        member(2, math.nan, lr=1e-3, model="cnn_c", epochs=5),
    ]
    figure = plots.parallel_coordinates(records)
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["lr", "model", "momentum"]
    curves = [list(np.asarray(line.get_ydata())) for line in axes.lines[:2]]
    assert curves[0] == pytest.approx([0, 0, 0])
    assert curves[1] == pytest.approx([1, 1, -0.12])
    assert labelled(figure)


def test_a_logarithmic_knob_lies_at_its_logarithm() -> None:
    records = [member(i, i / 10, lr=10.0**-i) for i in range(5)]
    heights = sorted(float(np.asarray(line.get_ydata())[0]) for line in plots.parallel_coordinates(records).axes[0].lines[:5])
    assert heights == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_parallel_coordinates_of_one_trial_or_equal_scores() -> None:
    assert "fewer than two" in plots.parallel_coordinates([member(0, 0.5, lr=1)]).axes[0].texts[0].get_text()
    assert plots.parallel_coordinates([member(0, 0.5, lr=1), member(1, 0.5, lr=2)]).axes[0].lines


def test_knob_importance_puts_the_largest_on_top() -> None:
    figure = plots.knob_importance(["lr", "dropout", "model"], [0.2, 0.7, 0.1])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["model", "lr", "dropout"]
    assert [patch.get_width() for patch in figure.axes[0].patches] == [0.1, 0.2, 0.7]
    assert labelled(figure)
    assert plots.knob_importance([], [], title="too few").axes[0].texts[0].get_text() == "too few"


def test_reliability_bins_are_those_of_a_loop() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0, 1, 300)
    correct = random.uniform(0, 1, 300) < confidence
    expected = []
    for k in range(10):
        inside = (confidence > k / 10) & (confidence <= (k + 1) / 10)
        expected.append([confidence[inside].mean(), correct[inside].mean(), inside.sum()])
    assert np.allclose(reliability_bins(confidence, correct, 10), expected)


def test_reliability_diagram_names_each_model_with_its_ece() -> None:
    figure = plots.reliability_diagram({"before": ([0.9] * 10, [1] * 5 + [0] * 5), "after": ([0.5] * 10, [1] * 5 + [0] * 5)})
    assert {"before (ECE 0.400)", "after (ECE 0.000)"} <= set(lines(figure.axes[0]))
    assert labelled(figure)


def test_accuracy_diversity_marks_the_chosen() -> None:
    figure = plots.accuracy_diversity([0.8, 0.9, 0.7], [0.1, 0.2, 0.3], [True, False, True])
    rest, chosen = figure.axes[0].collections
    assert np.allclose(np.asarray(chosen.get_offsets()), [[0.1, 0.8], [0.3, 0.7]])
    assert np.allclose(np.asarray(rest.get_offsets()), [[0.2, 0.9]])
    assert labelled(figure)


def test_disagreement_map_shows_the_matrix() -> None:
    matrix = [[0, 0.25], [0.25, 0]]
    figure = plots.disagreement_map(matrix, ["a", "b"])
    assert np.allclose(np.asarray(figure.axes[0].images[0].get_array()), matrix)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.00", "0.25", "0.25", "0.00"]
    with pytest.raises(ValueError, match="1 members"):
        plots.disagreement_map(matrix, ["a"])


def test_ensemble_bars_show_each_interval_and_highlight_one() -> None:
    figure = plots.ensemble_bars(["ensemble", "best single"], [0.95, 0.93], [0.94, 0.91], [0.96, 0.95])
    intervals = [list(np.asarray(line.get_xdata())) for line in figure.axes[0].lines]
    assert intervals == [[0.94, 0.96], [0.95], [0.91, 0.95], [0.93]]
    colours = {str(line.get_color()) for line in figure.axes[0].lines}
    assert len(colours) == 2
    assert labelled(figure)
    assert "lower is better" in plots.ensemble_bars(["a"], [1], [1], [1], metric="log_loss").axes[0].get_xlabel()


def test_a_saved_figure_is_a_picture_and_needs_no_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    path = plots.save_figure(plots.best_so_far([0.1, 0.2]), tmp_path / "deep" / "er" / "best.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
    assert [file.name for file in path.parent.iterdir()] == ["best.png"]
