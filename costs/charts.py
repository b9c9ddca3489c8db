"""Series into Plotly figures. Colours are names of tokens; static/js/charts.js resolves them in the page's theme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

COLOURS = ("c1", "c2", "c3", "c5", "c4", "c6")
"""In the order that keeps neighbours apart for colour-blind eyes too."""


@dataclass(frozen=True)
class Series:
    """One colour of a stacked chart."""

    label: str
    colour: str
    values: list[Decimal | None]
    """One per day; None where nothing happened."""


def top_series(days: Sequence[date], lines: Sequence[tuple[str, str]], by_day: dict[date, dict[str, Decimal]]) -> list[Series]:
    """The first six of `lines` (value, label) as a series each, what remains as Other."""
    shown, rest = lines[: len(COLOURS)], lines[len(COLOURS) :]
    if len(rest) == 1:  # "Other" of one is worse than its name; the last colour is then the neutral one
        shown, rest = lines, []
    series = [
        Series(label, (*COLOURS, "other")[index], [by_day.get(day, {}).get(value) for day in days])
        for index, (value, label) in enumerate(shown)
    ]
    if rest:
        others = {value for value, _ in rest}
        values = [_sum(money for value, money in by_day.get(day, {}).items() if value in others) for day in days]
        series.append(Series("Other", "other", values))
    return series


def _sum(values: Any) -> Decimal | None:
    found = list(values)
    return sum(found, Decimal()) if found else None


def stacked_days(days: Sequence[date], series: Sequence[Series], today: date) -> dict[str, Any]:
    """Stacked bars by day; the unfinished day is pale and says "so far"."""
    x = [day.isoformat() for day in days]
    traces = [
        {
            "type": "bar",
            "name": one.label.replace("<", "&lt;"),  # Plotly reads some HTML, and agents name themselves
            "x": x,
            "y": [None if value is None else float(value) for value in one.values],
            "marker": {
                "color": f"${one.colour}",
                "opacity": [0.5 if day >= today else 1 for day in days],
                "line": {"color": "$surface", "width": 0.8},
            },
            "hovertemplate": "$%{y:,.2f}" if _largest(series) >= 1 else "$%{y:.2~g}",
        }
        for one in series
    ]
    annotations = []
    if today in days:
        height = float(sum((one.values[days.index(today)] or Decimal() for one in series), Decimal()))
        if height:
            annotations.append(
                {
                    "x": today.isoformat(),
                    "y": height,
                    "text": "so far",
                    "showarrow": False,
                    "yanchor": "bottom",
                    "yshift": 1,
                    "font": {"size": 11, "color": "$text-3"},
                }
            )
    step = max(1, len(days) // 7)
    return {
        "data": traces,
        "layout": {
            "barmode": "stack",
            "margin": {"l": 46, "r": 14, "t": 18, "b": 28},
            "yaxis": {"tickprefix": "$", "rangemode": "tozero"},
            "xaxis": {"type": "date", "tickformat": "%b %-d", "tickvals": x[::step]},
            "annotations": annotations,
        },
    }


def _largest(series: Sequence[Series]) -> Decimal:
    return max((value for one in series for value in one.values if value is not None), default=Decimal())
