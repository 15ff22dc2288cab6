"""The chart of a cost curve: axes from 0, valid Plotly, and labels that hide neither each other nor a point."""

from __future__ import annotations

import json
import re
from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.evaluation.cost_curve import CostCurve, CostPoint, CurveConstraint, read_cost_curve
from pricesmith.reporting.cost_chart import (
    HEIGHT,
    WIDTH,
    Box,
    Offset,
    build_axes,
    cost_curve_chart,
    label_box,
    label_texts,
    marker_box,
)

from .conftest import hybrid_pricers


def make_curve(**options: Any) -> CostCurve:
    """Return the curve of the made cascade."""
    curve = read_cost_curve(hybrid_pricers(**options)["frugal"][1])
    assert curve is not None
    return curve


def chart(curve: CostCurve) -> dict[str, Any]:
    """Return the chart with names for colors."""
    return cost_curve_chart(curve, "USD", "c0", "c7")


@pytest.mark.parametrize("options", [{}, {"fee": None}, {"cost_unit": "seconds"}, {"share": 0.0}, {"share": 1.0}])
def test_every_curve_is_valid_plotly(options: dict[str, Any]) -> None:
    """In dollars, seconds and shares; the chosen point may be an end."""
    text = json.dumps(chart(make_curve(**options)), allow_nan=False)
    figure = json.loads(re.sub(r'"@[a-z0-9]+(:[\d.]+)?"', '"#123456"', text))
    assert go.Figure(data=figure["data"], layout=figure["layout"]).data


def test_the_axis_of_costs_starts_at_0_and_holds_every_point() -> None:
    """Ticks are amounts in US dollars."""
    layout = chart(make_curve())["layout"]
    assert layout["xaxis"]["range"][0] == 0
    assert 2.0 < layout["xaxis"]["range"][1] < 2.2
    assert layout["xaxis"]["ticktext"] == ["US$0", "US$0.50", "US$1.00", "US$1.50", "US$2.00"]
    assert layout["xaxis"]["title"]["text"] == "estimated fees for 1,000 listings"


def test_without_costs_the_axis_is_the_share_asked() -> None:
    """From none to all; so it is where nothing costs anything."""
    for options in ({"fee": None}, {"fee": 0.0}):
        figure = chart(make_curve(**options))
        assert figure["layout"]["xaxis"]["ticktext"] == ["0 %", "25 %", "50 %", "75 %", "100 %"]
        assert max(figure["data"][2]["x"]) == 1
    layout = chart(make_curve(cost_unit="seconds"))["layout"]
    assert layout["xaxis"]["title"]["text"] == "seconds for 1,000 listings"
    assert layout["xaxis"]["ticktext"] == ["0 s", "0.5 s", "1 s", "1.5 s", "2 s"]


def test_the_axis_of_errors_holds_the_band() -> None:
    """Every interval is inside, with space for labels below."""
    curve = make_curve()
    low, high = chart(curve)["layout"]["yaxis"]["range"]
    for point in curve.points:
        assert point.low is not None
        assert point.high is not None
        assert 0 <= low < point.low <= point.mae <= point.high < high


def test_a_curve_without_intervals_has_no_band() -> None:
    """Below 5 near-duplicate groups there are none."""
    curve = make_curve()
    bare = [point.model_copy(update={"low": None, "high": None}) for point in curve.points]
    assert len(chart(curve)["data"]) == 5
    assert len(chart(curve.model_copy(update={"points": tuple(bare)}))["data"]) == 3


def test_the_ends_and_the_chosen_point_are_labelled_once() -> None:
    """A chosen end has one label, not two."""
    names = [name for _, (name, _) in label_texts(make_curve(), "USD")]
    assert names == ["chosen: 20 % asked", "best alone", "always asked", "llm_answers alone"]
    assert [lines[0] for _, lines in label_texts(make_curve(share=0.0), "USD")] == [
        "chosen: 0 % asked",
        "always asked",
        "llm_answers alone",
    ]
    assert len(label_texts(make_curve(share=1.0), "USD")) == 3


def boxes(curve: CostCurve) -> list[Box]:
    """Return the space of each label on a phone."""
    axes = build_axes(curve)
    found = []
    for (point, lines), label in zip(label_texts(curve, "USD"), chart(curve)["layout"]["annotations"], strict=True):
        assert label["text"] == "<br>".join(lines)
        x, y = axes.pixels(point)
        up, right = (label["yshift"], 0.0) if "yshift" in label else (-label["ay"], label["ax"])
        found.append(label_box(x, y, lines, Offset(up, right, label["xanchor"])))
    return found


curves = st.builds(
    lambda ends, bend, chosen, second: (ends, bend, chosen, second),
    st.tuples(st.floats(20, 60), st.floats(20, 60)),
    st.floats(0.5, 6),
    st.floats(0, 1),
    st.floats(18, 70),
)


@given(curves)
def test_labels_hide_neither_each_other_nor_a_marked_point(made: tuple[Any, float, float, float]) -> None:
    """On a phone, for curves that fall or rise at once or slowly, wherever the chosen point is."""
    (start, end), bend, chosen, second = made

    def point(share: float, mae: float | None = None) -> CostPoint:
        value = start + (end - start) * (1 - (1 - share) ** bend) if mae is None else mae
        return CostPoint(share=share, cost_per_1000=2 * share, mae=value, low=0.9 * value, high=1.1 * value)

    curve = CostCurve(
        first="best", second="llm_answers", n=600, chosen=point(chosen), second_alone=point(1.0, second),
        points=tuple(point(share) for share in (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.85, 1.0)),
        constraint=CurveConstraint(name="share", value=chosen),
    )  # fmt: skip
    axes = build_axes(curve)
    labels = boxes(curve)
    marks = [marker_box(*axes.pixels(point)) for point in (curve.chosen, curve.second_alone)]
    for index, label in enumerate(labels):
        assert -10 <= label.left < label.right <= WIDTH + 20
        assert 0 <= label.low < label.high <= HEIGHT
        assert sum(label.overlap(other) for other in labels[index + 1 :]) < 30
        assert sum(label.overlap(mark) for mark in marks) < 30


def test_names_are_text_in_labels() -> None:
    """Plotly reads tags, so none is left; long names are cut."""
    curve = make_curve().model_copy(update={"second": "<b>" + "x" * 100})
    texts = [label["text"] for label in chart(curve)["layout"]["annotations"]]
    assert any(text.startswith("&lt;b&gt;xxx") and len(text) < 60 for text in texts)
