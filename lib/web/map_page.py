"""The pages of the maps: which there are, and one of them."""

from __future__ import annotations

import functools
import json
from typing import Any

from flask import Blueprint, Response, make_response, render_template

from lib.features.palette import PALETTE, REST, SEQUENCE
from lib.web import archive, guard, maps

pages = Blueprint("map_page", __name__)


@pages.get("/maps")
def every() -> str:
    """All runs of features, the newest first."""
    return render_template("maps.html", found=archive.every("features"), page="maps")


@pages.get("/maps/<study>/<stage>/<unit>")
def one(study: str, stage: str, unit: str) -> Response:
    """One run's maps."""
    found = archive.unit(study, stage, unit)
    shown = maps.shown(found)
    account = shown.account
    about = {
        "id": found.id, "points": len(shown), "spaces": account["spaces"], "methods": account["methods"],
        "columns": shown.columns, "target": account["target"], "palette": PALETTE, "rest": REST, "sequence": SEQUENCE,
        "items": [figure(name, _size(len(shown))) for name in ("map-a", "map-b")],
    }  # fmt: skip
    response = make_response(render_template("map.html", found=found, account=account, shown=shown, about=about, page="maps"))
    response.headers["Content-Security-Policy"] = guard.POLICY_OF_MAPS
    return response


def _size(num: int) -> int:
    """Pixels across a point: few points may be large, a hundred thousand must not hide each other."""
    return next(size for most, size in ((2_000, 8), (10_000, 6), (40_000, 4), (float("inf"), 3)) if num <= most)


@functools.cache
def figure(name: str, size: int) -> dict[str, Any]:
    """Returns an empty map as Bokeh's JSON; the page's script fills it. `name` is that of its element and of its models."""
    from bokeh.embed import json_item
    from bokeh.models import ColumnDataSource, LassoSelectTool, LinearColorMapper, PanTool, Range1d, WheelZoomTool
    from bokeh.plotting import figure as make

    wheel, pan = WheelZoomTool(zoom_on_axis=False), PanTool(name=f"{name}-pan")
    plot = make(
        x_range=Range1d(-0.05, 1.05), y_range=Range1d(-0.05, 1.05), output_backend="webgl", sizing_mode="stretch_both",
        toolbar_location=None, tools=[pan, wheel, LassoSelectTool(name=f"{name}-lasso", continuous=False)],
        name=f"{name}-plot", min_border=0, outline_line_color=None, background_fill_color=None, border_fill_color=None,
    )  # fmt: skip
    plot.axis.visible = False
    plot.grid.visible = False
    plot.toolbar.active_scroll, plot.toolbar.active_drag = wheel, pan
    source = ColumnDataSource({"x": [], "y": [], "code": []}, name=f"{name}-points")
    mapper = LinearColorMapper(palette=[REST], low=-0.5, high=0.5, nan_color=REST, name=f"{name}-colours")
    colour = {"field": "code", "transform": mapper}
    dots = plot.scatter(
        "x", "y", source=source, size=size, fill_color=colour, line_color=None, fill_alpha=0.8, nonselection_fill_alpha=0.08,
        nonselection_fill_color=colour, selection_fill_color=colour, name=f"{name}-dots",
    )  # fmt: skip
    dots.glyph.name = f"{name}-glyph"
    mark = ColumnDataSource({"x": [], "y": []}, name=f"{name}-mark")
    plot.scatter("x", "y", source=mark, size=17, fill_color=None, line_color="#111820", line_width=2.5)
    plot.scatter("x", "y", source=mark, size=21, fill_color=None, line_color="#ffffff", line_width=1.5)
    return json.loads(json.dumps(json_item(plot, name)))
