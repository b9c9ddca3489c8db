"""URL converters of this floor, registered when pages or endpoints import them."""

from __future__ import annotations

from datetime import date

from django.urls import register_converter


class MonthConverter:
    """`2026-10` in a URL is the first day of that month."""

    regex = r"20\d{2}-(?:0[1-9]|1[0-2])"

    def to_python(self, value: str) -> date:
        return date.fromisoformat(f"{value}-01")

    def to_url(self, value: date | str) -> str:
        return value if isinstance(value, str) else f"{value:%Y-%m}"


register_converter(MonthConverter, "month")
