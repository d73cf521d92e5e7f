"""Grafana's form of dashboards: rows of panels, each with what it shows, in which unit, on which basis."""

from __future__ import annotations

import json
from typing import Any, Final, Literal, NamedTuple

SCHEMA_VERSION: Final = 39  # Grafana 11; later ones bring it up to date themselves
SOURCE: Final = "DS_PROMETHEUS"
_DATA: Final = {"type": "prometheus", "uid": f"${{{SOURCE}}}"}
_COLUMNS: Final = 24  # of Grafana's grid
_HEIGHTS: Final = {"stat": 4, "timeseries": 8}


class Panel(NamedTuple):
    """One picture: ``shows`` are expressions, each with the legend of its lines."""

    title: str
    unit: str  # by Grafana's names: "watt", "percentunit", "s"
    description: str
    shows: tuple[tuple[str, str], ...]
    kind: Literal["timeseries", "stat"] = "timeseries"
    stacked: bool = False

    @property
    def columns(self) -> int:
        """How wide it is."""
        return 4 if self.kind == "stat" else 12


class Variable(NamedTuple):
    """A choice above the panels: the values that a label of a metric has."""

    name: str
    label: str
    query: str
    several: bool = True


class Dashboard(NamedTuple):
    """A whole dashboard; ``rows`` are headings and what is below them."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def text(dashboard: Dashboard) -> str:
    """Return the file that Grafana imports."""
    return json.dumps(_model(dashboard), indent=1) + "\n"


def _model(dashboard: Dashboard) -> dict[str, Any]:
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["rocscope"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,  # one cross-hair for all panels
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": [
            {"type": "dashboards", "tags": ["rocscope"], "title": "rocscope", "asDropdown": False,
             "includeVars": True, "keepTime": True, "targetBlank": False}
        ],
        "annotations": {"list": []},
        "templating": {"list": [_source(), *(_variable(each) for each in dashboard.variables)]},
        "panels": _panels(dashboard.rows),
    }  # fmt: skip


def _source() -> dict[str, Any]:
    return {"name": SOURCE, "label": "Prometheus", "type": "datasource", "query": "prometheus",
            "refresh": 1, "hide": 0, "includeAll": False, "multi": False,
            "options": [], "regex": ""}  # fmt: skip


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": _DATA,
        "query": {"query": variable.query, "refId": f"{variable.name}-values"},
        "definition": variable.query,
        "refresh": 2,  # with the time range: nodes come and go
        "sort": 3,  # by number
        "hide": 0,
        "multi": variable.several,
        "includeAll": variable.several,
        **({"allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}} if variable.several else {}),
        "options": [],
        "regex": "",
    }


def _panels(rows: tuple[tuple[str, tuple[Panel, ...]], ...]) -> list[dict[str, Any]]:
    """Lay panels out from left to right, and give each a number."""
    found: list[dict[str, Any]] = []
    y = 0
    for heading, panels in rows:
        place = {"h": 1, "w": _COLUMNS, "x": 0, "y": y}
        found.append({"id": len(found) + 1, "type": "row", "title": heading, "collapsed": False,
                      "panels": [], "gridPos": place})  # fmt: skip
        y, x, height = y + 1, 0, 0
        for panel in panels:
            if x + panel.columns > _COLUMNS:
                y, x, height = y + height, 0, 0
            place = {"h": _HEIGHTS[panel.kind], "w": panel.columns, "x": x, "y": y}
            found.append(_panel(panel, len(found) + 1, place))
            x, height = x + panel.columns, max(height, _HEIGHTS[panel.kind])
        y += height
    return found


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATA,
        "gridPos": place,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": _DATA, "expr": expression, "legendFormat": legend,
             "editorMode": "code", "range": panel.kind != "stat", "instant": panel.kind == "stat"}
            for at, (expression, legend) in enumerate(panel.shows)
        ],
    }  # fmt: skip


def _defaults(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"unit": panel.unit, "noValue": "unknown"}
    custom: dict[str, Any] = {"fillOpacity": 60 if panel.stacked else 0, "spanNulls": False, "lineWidth": 1}
    if panel.stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    return {"unit": panel.unit, "min": 0, "custom": custom}


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                "colorMode": "none", "graphMode": "none", "textMode": "auto"}  # fmt: skip
    return {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
