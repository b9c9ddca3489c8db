"""Numbers, money, time, icons and verdicts, written the same way on every page (ux: §4 and §5 of the design language)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from governance.money import subunit

register = template.Library()

VERDICTS = {
    "pass": ("pass", "Pass"),
    "fail": ("fail", "Fail"),
    "inconclusive": ("inconclusive", "Inconclusive"),
    "no_data": ("nodata", "No data"),
    "waived": ("waived", "Waived"),
    "error": ("error", "Error"),
    "waiting": ("waiting", "Waiting"),
}
MISSING = mark_safe('<span class="gh-3" title="No data">—</span>')


@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """A Tabler icon from the sprite; decoration only, so hidden from screen readers."""
    return _drawn(name, css, static("icons.svg"))


@lru_cache(maxsize=1024, typed=True)  # a page has some forty; text that is safe and text that is not are told apart by their type
def _drawn(name: str, css: str, sprite: str) -> SafeString:
    return format_html('<svg class="gh-i {}" aria-hidden="true"><use href="{}#{}"/></svg>', css, sprite, name)


@register.simple_tag(takes_context=True)
def section_crumb(context: template.Context, *url_names: str) -> SafeString:
    """The first breadcrumb of a page below a list: the sidebar's item of the current area, see `navigation.section_page`."""
    from governance import navigation  # it reads models, which are not there yet when the library is loaded

    title, url = navigation.section_page(context.get("membership"), context.get("area") or "", url_names)
    if not url:
        return format_html("<span>{}</span><span>/</span>", title)
    return format_html('<a href="{}">{}</a><span>/</span>', url, title)


@register.simple_tag
def verdict(name: str, label: str = "") -> SafeString:
    """Shape, word and colour together."""
    glyph, word = VERDICTS[name]
    return format_html(
        '<span class="gh-v is-{}"><svg aria-hidden="true"><use href="{}#{}"/></svg>{}</span>',
        glyph,
        static("img/verdicts.svg"),
        glyph,
        label or word,
    )


@register.simple_tag
def verdict_glyph(name: str, css: str = "") -> SafeString:
    """The silhouette alone, with the word as its name."""
    glyph, word = VERDICTS[name]
    return format_html(
        '<svg class="gh-glyph is-{} {}" role="img" aria-label="{}"><use href="{}#{}"/></svg>',
        glyph,
        css,
        word,
        static("img/verdicts.svg"),
        glyph,
    )


def money_text(value: Decimal | float | str, currency: str = "USD") -> str:
    """`$18,412.36`, or `EUR 18,412.36` with another code, a yen without decimals and a dinar with three; below the smallest amount that is
    paid two significant digits; a true minus. An empty code: no currency.
    """
    amount, unit = Decimal(str(value)), subunit(currency)
    sign, amount = ("−" if amount < 0 else ""), abs(amount)
    sign += "$" if currency == "USD" else f"{currency}\N{NO-BREAK SPACE}" if currency else ""
    if amount and amount < unit:
        places = -amount.adjusted() + 1
        return f"{sign}{amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN):f}"
    return f"{sign}{amount.quantize(unit, ROUND_HALF_EVEN):,}"


@register.filter
def money(value: Decimal | None, currency: str = "USD") -> SafeString:
    """Money with the exact figure on hover; unpriced says so, it is never $0.00."""
    if value is None:
        return mark_safe('<span class="gh-3">unpriced</span>')
    return format_html(
        '<span class="gh-tab" title="{}">{}</span>', f"{Decimal(str(value)).normalize():f} {currency}".strip(), money_text(value, currency)
    )


@register.filter
def money_big(value: Decimal | None) -> SafeString:
    """Money as a headline figure: cents lighter."""
    if value is None:
        return mark_safe('<span class="gh-3">—</span>')
    text = money_text(value)
    whole, dot, cents = text.partition(".")
    return format_html(
        '<span title="{}">{}<span class="gh-cents">{}{}</span></span>', f"{Decimal(str(value)).normalize():f} USD", whole, dot, cents
    )


@register.filter
def money_delta(value: Decimal | None, currency: str = "USD") -> SafeString:
    """A difference always carries its sign."""
    if value is None:
        return MISSING
    amount = Decimal(str(value))
    return format_html(
        '<span class="gh-tab" title="{}">{}{}</span>',
        f"{amount.normalize():f} {currency}",
        "+" if amount > 0 else "",
        money_text(amount, currency),
    )


@register.filter
def num(value: int | float | Decimal | None) -> SafeString | str:
    """A count in full with separators; missing is an em dash."""
    if value is None:
        return MISSING
    return f"{value:,}".replace("-", "−")


@register.filter
def percent(value: float | Decimal | None, places: int = 1) -> SafeString | str:
    return MISSING if value is None else f"{value:,.{int(places)}f}%".replace("-", "−")


@register.filter
def duration(milliseconds: float | None) -> SafeString | str:
    """`312 ms`, `1.94 s`, `6 min 40 s`."""
    if milliseconds is None:
        return MISSING
    if milliseconds < 10:
        return f"{milliseconds:.2f} ms"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


@register.filter
def compact(value: int | None) -> SafeString | str:
    """`128K`, `1.05M`, `3.2B`: for context windows and sums of tokens."""
    if value is None:
        return MISSING
    for limit, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K")):
        if value >= limit:
            return f"{value / limit:.2f}".rstrip("0").rstrip(".") + unit
    return str(value)


@register.filter
def relative(at: datetime, now: datetime | None = None) -> str:
    """`4 s ago`, `in 3 days`; a date beyond seven days."""
    delta = (now or timezone.now()) - at
    past, span = delta >= timedelta(0), abs(delta)
    if span >= timedelta(days=7):
        return at.astimezone(UTC).strftime("%b %-d, %Y")
    for unit, seconds in (("day", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count = int(span.total_seconds() // seconds)
        if count:
            text = f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
            return f"{text} ago" if past else f"in {text}"
    return "now"


@register.filter
def when(at: datetime | None) -> SafeString:
    """Relative time with the exact one on hover."""
    if at is None:
        return MISSING
    utc = at.astimezone(UTC)
    return format_html('<time datetime="{}" title="{}">{}</time>', utc.isoformat(), utc.strftime("%Y-%m-%d %H:%M:%S UTC"), relative(at))


@register.filter
def exact(at: datetime | None) -> SafeString:
    """Absolute UTC time, for evidence and audit."""
    if at is None:
        return MISSING
    utc = at.astimezone(UTC)
    return format_html('<time datetime="{}">{}</time>', utc.isoformat(), utc.strftime("%Y-%m-%d %H:%M:%S UTC"))


@register.simple_tag
def chart(element_id: str, figure: dict[str, Any], label: str) -> SafeString:
    """A Plotly figure as data; static/js/charts.js draws it. `label` says its message for who cannot see it."""
    payload = json.dumps(figure).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return format_html(
        '<div class="gh-chart" data-chart="{}" role="img" aria-label="{}"></div><script type="application/json" id="{}">{}</script>',
        element_id,
        label,
        element_id,
        mark_safe(payload),  # noqa: S308 - JSON with <, > and & escaped
    )


@register.simple_tag
def options(values: dict[str, str], chosen: str = "") -> SafeString:
    """<option>s of a select in a filter."""
    return format_html_join(
        "",
        '<option value="{}"{}>{}</option>',
        ((key, mark_safe(" selected") if key == chosen else "", text) for key, text in values.items()),
    )


@register.filter
def initials(text: str) -> str:
    """Two letters for a tile."""
    words = [word for word in str(text).replace("-", " ").replace("_", " ").split() if word]
    return ("".join(word[0] for word in words[:2]) if len(words) > 1 else str(text)[:2]).upper()


@register.simple_tag(takes_context=True)
def with_query(context: template.Context, **changes: Any) -> str:
    """The present query string with some parameters changed; None or empty removes one."""
    query = context["request"].GET.copy()
    for name, value in changes.items():
        query.pop(name, None)
        if value not in (None, ""):
            query[name] = str(value)
    return f"?{query.urlencode()}" if query else "?"
