"""Series into Plotly figures. Colours are names of tokens; static/js/charts.js resolves them in the page's theme."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from costs.forecast import Coming

HEIGHT = 290
"""Pixels of a chart that stands by itself (ux: §6 of the design language)."""
COLOURS = ("c1", "c2", "c3", "c5", "c4", "c6")
"""In the order that keeps neighbours apart for colour-blind eyes too."""


@dataclass(frozen=True)
class Series:
    """One colour of a stacked chart."""

    label: str
    colour: str
    values: list[Decimal | None]
    """One per day; None where nothing happened."""
    value: str = ""
    """In a URL; empty for what is no value of its own."""


@dataclass(frozen=True)
class Drill:
    """Where a click on a bar leads: `url` with the day as `from` and `to`, and the bar's value as `parameter`."""

    url: str
    """With its filter as query string; may be without one."""
    parameter: str
    values: list[str]
    """One per series; empty for one that has no value of its own."""


def top_series(days: Sequence[date], lines: Sequence[tuple[str, str]], by_day: Mapping[Any, dict[str, Decimal]]) -> list[Series]:
    """The first six of `lines` (value, label) as a series each, what remains as Other."""
    shown, rest = lines[: len(COLOURS)], lines[len(COLOURS) :]
    if len(rest) == 1:  # "Other" of one is worse than its name; the last colour is then the neutral one
        shown, rest = lines, []
    series = [
        Series(label, (*COLOURS, "other")[index], [by_day.get(day, {}).get(value) for day in days], value)
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


def stacked_bars(
    days: Sequence[date],
    series: Sequence[Series],
    today: date,
    *,
    is_money: bool = True,
    is_by_hour: bool = False,
    earlier: Sequence[Decimal | None] = (),
    coming: Sequence[Coming] = (),
    drill: Drill | None = None,
    marks: Mapping[date, str] | None = None,
) -> dict[str, Any]:
    """Stacked bars by day or hour; the unfinished one, `today`, is pale and says "so far".

    `earlier` is the money of the compared days, drawn as a line; `coming` are days of a forecast with their band. With `drill` a click
    on a bar opens its calls. `marks` are words above the bars of days that stand out.
    """
    x = [day.strftime("%Y-%m-%dT%H:%M") if is_by_hour else day.strftime("%Y-%m-%d") for day in days]
    hover = ("$%{y:,.2f}" if _largest(series) >= 1 else "$%{y:.2~g}") if is_money else "%{y:,}"
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
            "hovertemplate": hover,
        }
        for one in series
    ]
    heights = [float(sum((one.values[index] or Decimal() for one in series), Decimal())) for index in range(len(days))]
    covered = 1 + len(x) // 30  # bars on each side that the words of a mark reach over
    annotations = [
        {
            "x": x[index],
            "y": max(heights[max(0, index - reach) : index + reach + 1]),
            "text": text,
            "showarrow": False,
            "yanchor": "bottom",
            "yshift": 1,
            "font": {"size": 11, "color": colour},
            "bgcolor": "$surface",
        }
        for said, colour, reach in (({today: "so far"}, "$text-3", 0), (marks or {}, "$fail", covered))
        for index, day in enumerate(days)
        if heights[index] and (text := said.get(day))
    ]
    if earlier:
        traces.append(_earlier(x, earlier, hover))
    traces += _coming(coming)
    x += [one.day.strftime("%Y-%m-%d") for one in coming]
    step = max(1, len(x) // 7)
    return {
        **({"drill": {"url": drill.url, "parameter": drill.parameter, "values": drill.values}} if drill else {}),
        "data": traces,
        "layout": {
            "barmode": "stack",
            "height": HEIGHT,
            "margin": {"l": 46, "r": 14, "t": 18, "b": 28},
            "yaxis": {"tickprefix": "$" if is_money else "", "rangemode": "tozero"},
            "xaxis": {"type": "date", "tickformat": "%H:%M" if is_by_hour else "%b %-d", "tickvals": x[::step]},
            "annotations": annotations,
        },
    }


def _earlier(x: Sequence[str], values: Sequence[Decimal | None], hover: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "Earlier",
        "x": list(x[: len(values)]),
        "y": [float(value or 0) for value in values[: len(x)]],
        "line": {"width": 1.5, "dash": "dot", "color": "$text-2"},
        "hovertemplate": hover,
    }


def _coming(days: Sequence[Coming]) -> list[dict[str, Any]]:
    """The band of the days to come, each by itself, and what is expected of them."""
    if not days:
        return []
    plain = {"type": "scatter", "mode": "lines", "x": [one.day.isoformat() for one in days], "hoverinfo": "skip"}
    return [
        {**plain, "y": [float(one.low) for one in days], "line": {"width": 0.8, "color": "$c-other"}},
        {
            **plain,
            "y": [float(one.high) for one in days],
            "line": {"width": 0.8, "color": "$c-other"},
            "fill": "tonexty",
            "fillcolor": "$veil",
        },
        {
            **plain,
            "name": "Expected",
            "mode": "lines+markers",
            "y": [float(one.expected) for one in days],
            "hoverinfo": "all",
            "hovertemplate": "$%{y:,.2f}",
            "line": {"width": 1.5, "dash": "dash", "color": "$c1"},
            "marker": {"size": 4, "color": "$c1"},
        },
    ]


def _largest(series: Sequence[Series]) -> Decimal:
    return max((value for one in series for value in one.values if value is not None), default=Decimal())


def spark(values: Sequence[Decimal], width: int = 88, height: int = 22) -> str:
    """Points of an SVG polyline over `width` x `height`; empty with fewer than two values."""
    if len(values) < 2:
        return ""
    most = max(values) or Decimal(1)
    step = width / (len(values) - 1)
    return " ".join(f"{index * step:.1f},{height - float(value / most) * height:.1f}" for index, value in enumerate(values))


def towards_amount(
    spent: Sequence[tuple[date, Decimal]], *, first: date, last: date, amount: Decimal, expected: tuple[Decimal, Decimal, Decimal] | None
) -> dict[str, Any]:
    """Cumulative spend of a period against its amount: even pace dotted, the rest to come dashed within its 80% interval.

    `expected` is (low, expected, high) at the end of the period.
    """
    x, y, total = [], [], Decimal()
    for day, cost in spent:
        total += cost
        x.append(day.isoformat())
        y.append(float(total))
    end = last.isoformat()
    traces: list[dict[str, Any]] = []
    if expected is not None and x and x[-1] != end:
        low, middle, high = (float(value) for value in expected)
        plain = {"type": "scatter", "mode": "lines", "hoverinfo": "skip"}
        traces += [
            {**plain, "x": [x[-1], end], "y": [y[-1], low], "line": {"width": 0.8, "color": "$c-other"}},
            {
                **plain,
                "x": [x[-1], end],
                "y": [y[-1], high],
                "line": {"width": 0.8, "color": "$c-other"},
                "fill": "tonexty",
                "fillcolor": "$veil",
            },
            {**plain, "x": [x[-1], end], "y": [y[-1], middle], "line": {"width": 2, "dash": "dash", "color": "$c1"}},
        ]
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "x": [first.isoformat(), end],
            "y": [0, float(amount)],
            "hoverinfo": "skip",
            "line": {"width": 1, "dash": "dot", "color": "$text-3"},
        }
    )
    traces.append(
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "Spent",
            "x": x,
            "y": y,
            "line": {"width": 2.5, "color": "$c1"},
            "marker": {"size": 4, "color": "$c1"},
            "hovertemplate": "$%{y:,.2f}",
        }
    )
    return {
        "data": traces,
        "layout": _against(amount, range=[first.isoformat(), end]),
    }


def days_against(days: Sequence[tuple[date, Decimal]], amount: Decimal) -> dict[str, Any]:
    """Bars by day and the amount of each; the unfinished last day is pale."""
    return {
        "data": [
            {
                "type": "bar",
                "name": "Spent",
                "x": [day.isoformat() for day, _ in days],
                "y": [float(cost) for _, cost in days],
                "marker": {"color": "$c1", "opacity": [1] * (len(days) - 1) + [0.5]},
                "hovertemplate": "$%{y:,.2f}",
            }
        ],
        "layout": _against(amount),
    }


def unit_costs(weeks: Sequence[tuple[date, Decimal | None]], before: Decimal | None) -> dict[str, Any]:
    """What 1,000 calls cost by week, and at the baseline as a line."""
    shapes = []
    if before is not None:
        shapes.append(_level(before, {"color": "$text-2", "width": 1.5, "dash": "dot"}))
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": "Per 1,000 calls",
                "x": [day.isoformat() for day, _ in weeks],
                "y": [None if cost is None else float(cost) for _, cost in weeks],
                "line": {"width": 2.5, "color": "$c1"},
                "marker": {"size": 4, "color": "$c1"},
                "hovertemplate": "$%{y:,.4~g}",
            }
        ],
        "layout": {
            "height": 220,
            **_money_by_day(),
            "margin": {"l": 60, "r": 14, "t": 22, "b": 28},
            "shapes": shapes,
        },
    }


def band(rows: Sequence[Sequence[Any]], told: Collection[str]) -> dict[str, Any]:
    """Spend by day over the band of what was expected. `rows` are (ISO day, low, expected, high, actual), `told` the days that were told."""
    days = [row[0] for row in rows]
    plain = {"type": "scatter", "mode": "lines", "x": days, "hoverinfo": "skip"}
    return {
        "data": [
            {**plain, "y": [row[1] for row in rows], "line": {"width": 0}},
            {**plain, "y": [row[3] for row in rows], "line": {"width": 0}, "fill": "tonexty", "fillcolor": "$veil"},
            {
                **plain,
                "y": [row[2] for row in rows],
                "name": "Expected",
                "hoverinfo": "all",
                "hovertemplate": "$%{y:,.2f}",
                "line": {"width": 1.5, "dash": "dash", "color": "$text-3"},
            },
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": "Spent",
                "x": days,
                "y": [row[4] for row in rows],
                "line": {"width": 2.5, "color": "$c1"},
                "marker": {
                    "size": [10 if day in told else 4 for day in days],
                    "color": ["$fail" if day in told else "$c1" for day in days],
                    "symbol": ["diamond" if day in told else "circle" for day in days],
                },
                "hovertemplate": "$%{y:,.2f}",
            },
        ],
        "layout": _money_by_day(),
    }


def _money_by_day(**x_axis: Any) -> dict[str, Any]:
    """The layout of dollars over days."""
    return {
        "margin": {"l": 52, "r": 14, "t": 22, "b": 28},
        "yaxis": {"tickprefix": "$", "rangemode": "tozero"},
        "xaxis": {"type": "date", "tickformat": "%b %-d", **x_axis},
    }


def _against(amount: Decimal, **x_axis: Any) -> dict[str, Any]:
    """The same with a budget's amount as a line."""
    return {**_money_by_day(**x_axis), "shapes": [_level(amount, {"color": "$fail", "width": 1.5})]}


def _level(amount: Decimal, line: dict[str, Any]) -> dict[str, Any]:
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": float(amount), "y1": float(amount), "line": line}
