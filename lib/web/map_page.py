"""The pages of the maps: which there are, and one of them."""

from __future__ import annotations

import functools
import json
from typing import Any

from flask import Blueprint, render_template

from lib.embeddings.plots import PALETTE, REST, SEQUENCE
from lib.embeddings.record import TITLES
from lib.web import archive, maps

pages = Blueprint("map_page", __name__)
MAPS = ("map-a", "map-b")
"""The page's two maps, by the names of their elements."""


@pages.get("/maps")
def every() -> str:
    """All runs of features, the newest first."""
    return render_template("maps.html", found=archive.runs_of_stage("features"), page="maps")


@pages.get("/maps/<study>/<stage>/<unit>")
def one(study: str, stage: str, unit: str) -> str:
    """One run's maps."""
    found = archive.run(study, stage, unit)
    shown = maps.load(found)
    account = shown.account
    spaces = [
        {**each, "title": TITLES.get(each["name"], each["name"])} for each in account["spaces"]
    ]
    about = {
        "id": found.id,
        "points": len(shown),
        "size": _size(len(shown)),
        "columns": shown.columns,
        "target": account["target"],
        "spaces": spaces,
        "methods": account["methods"],
        "palette": PALETTE,
        "rest": REST,
        "sequence": SEQUENCE,
        "items": [figure(name) for name in MAPS],
    }
    return render_template(
        "map.html", found=found, account=account, shown=shown, about=about, page="maps"
    )


def _size(num: int) -> int:
    # Pixels across a point: few may be large, a hundred thousand must not hide each other.
    return next(
        size
        for most, size in ((2_000, 8), (10_000, 6), (40_000, 4), (float("inf"), 3))
        if num <= most
    )


@functools.cache
def figure(name: str) -> dict[str, Any]:
    """Returns the frame of a map as Bokeh's JSON: ranges, and the tools of the mouse.

    The points are not Bokeh's, which would keep five copies of each and redraw them all for
    every movement; the page's script draws them below. `name` is that of its element and of its
    models.
    """
    from bokeh.core.validation import silence
    from bokeh.core.validation.warnings import MISSING_RENDERERS
    from bokeh.embed import json_item
    from bokeh.models import LassoSelectTool, PanTool, Range1d, WheelZoomTool
    from bokeh.plotting import figure as make

    wheel, pan = WheelZoomTool(zoom_on_axis=False), PanTool(name=f"{name}-pan")
    lasso = LassoSelectTool(name=f"{name}-lasso", continuous=False, renderers=[])
    plot = make(
        x_range=Range1d(-0.05, 1.05),
        y_range=Range1d(-0.05, 1.05),
        sizing_mode="stretch_both",
        toolbar_location=None,
        tools=[pan, wheel, lasso],
        name=f"{name}-plot",
        min_border=0,
        outline_line_color=None,
        background_fill_color=None,
        border_fill_color=None,
    )
    plot.axis.visible = False
    plot.grid.visible = False
    plot.toolbar.active_scroll, plot.toolbar.active_drag = wheel, pan
    silence(MISSING_RENDERERS)
    return json.loads(json.dumps(json_item(plot, name)))
