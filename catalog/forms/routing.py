"""Forms of a model's routing."""

from __future__ import annotations

from typing import Any

from django import forms

from catalog.services.routing import LONGEST_BASIS


def _weight(label: str, help_text: str, initial: int, **attributes: Any) -> forms.IntegerField:
    return forms.IntegerField(
        label=label,
        min_value=0,
        max_value=100,
        initial=initial,
        help_text=help_text,
        widget=forms.NumberInput(attrs={"type": "range", "step": 5, **attributes}),
    )


class RoutingForm(forms.Form):
    cost = _weight("Cost", "What the call is expected to cost there: list prices, and how many tokens its answers mostly have.", 50)
    latency = _weight("Latency", "How fast it answers at the moment: whole answers, or a stream's first byte.", 50)
    quality = _weight("Quality", "The registered scores below.", 0)
    explore_percent = _weight(
        "Explore, % of calls",
        "So many calls go where they would not have gone. Without any, what is slow once stays so for ever.",
        5,
        step=1,
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.errors and not cleaned["cost"] + cleaned["latency"] + cleaned["quality"]:
            self.add_error(None, "Give at least one objective a weight above 0.")
        return cleaned


class QualityForm(forms.Form):
    score = forms.DecimalField(min_value=0, max_value=100, max_digits=5, decimal_places=2, required=False)
    basis = forms.CharField(max_length=LONGEST_BASIS, required=False)
