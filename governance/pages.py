"""What every page and fragment shares: rendering, forms, paging by key."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from django.forms import BaseForm
from django.forms.renderers import TemplatesSetting
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers

from governance.errors import DomainError

PAGE_SIZE = 50
Row = TypeVar("Row", bound=Model)


class FormRenderer(TemplatesSetting):
    """Fields look the same everywhere: label, control, help, error."""

    field_template_name = "partials/field.html"


def render_page(
    request: HttpRequest, template: str, *, partial: str | None = None, context: dict[str, Any] | None = None, status: int = 200
) -> HttpResponse:
    """The page, or only its named fragment when htmx asks for it (not on boosted links or a history restore)."""
    htmx = getattr(request, "htmx", None)
    wants_fragment = partial is not None and htmx and not htmx.boosted and not htmx.history_restore_request
    response = render(request, f"{template}#{partial}" if wants_fragment else template, context or {}, status=status)
    patch_vary_headers(response, ["HX-Request", "HX-Boosted", "HX-History-Restore-Request"])
    return response


def tab_and_query(request: HttpRequest, tabs: Mapping[str, str]) -> tuple[str, str]:
    """Of a list: the tab that is asked for, the first unless it is one of `tabs` (titles by key), and the text that is looked for."""
    tab = request.GET.get("tab", "")
    return tab if tab in tabs else next(iter(tabs)), request.GET.get("q", "").strip()


def try_service(form: BaseForm, act: Callable[[], Any]) -> Any | None:
    """Call a service; a refusal becomes an error of the form (at its field when it names one) and None is returned."""
    try:
        return act()
    except DomainError as error:
        form.add_error(error.field if error.field in form.fields else None, error.message)
        return None


def try_act(request: HttpRequest, act: Callable[[], Any], done: str) -> bool:
    """Call a service from a button and say in a message what came of it; whether it was done."""
    try:
        act()
    except DomainError as error:
        messages.error(request, error.message)
        return False
    messages.success(request, done)
    return True


def errors_of(form: BaseForm) -> str:
    """One line for a message."""
    return " ".join(str(error) for errors in form.errors.values() for error in errors)


def try_form(request: HttpRequest, form: BaseForm, act: Callable[[dict[str, Any]], Any], done: str) -> bool:
    """`try_act` with what a small form beside a button says; a form that can't be used is told in a message, and nothing is done."""
    if not form.is_valid():
        messages.error(request, errors_of(form))
        return False
    return try_act(request, lambda: act(form.cleaned_data), done)


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows of one page of a list, with the cursors of its neighbours."""

    rows: Sequence[Row]
    next_cursor: str | None
    previous_cursor: str | None


def encode_cursor(values: Sequence[Any], backwards: bool) -> str:
    return base64.urlsafe_b64encode(json.dumps([backwards, *[str(value) for value in values]]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, fields: int) -> tuple[bool, list[str]] | None:
    try:
        backwards, *values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError):
        return None
    texts = [str(value) for value in values]
    # PostgreSQL knows no NUL in a text, so no cursor of ours has one.
    return (bool(backwards), texts) if len(texts) == fields and not any("\0" in text for text in texts) else None


def keyset_page(queryset: QuerySet[Row], *, order: Sequence[str], cursor: str = "", size: int = PAGE_SIZE) -> Page[Row]:
    """One page by key: no OFFSET and no count, so page 1,000 costs what page 1 costs.

    `order` names non-null fields, `-` for descending, the last one unique. A cursor that is not ours means the first page.
    """
    fields = [name.lstrip("-") for name in order]
    decoded = decode_cursor(cursor, len(fields)) if cursor else None
    backwards = decoded is not None and decoded[0]
    effective = [(name[1:] if name.startswith("-") else f"-{name}") if backwards else name for name in order]
    rows = queryset.order_by(*effective)
    if decoded is not None:
        first = effective[0]
        # What follows says so, too, but PostgreSQL begins at a place in an index by a condition that holds for all rows only, never by an OR.
        bound = Q(**{f"{fields[0]}__{'lte' if first.startswith('-') else 'gte'}": decoded[1][0]})
        condition = Q()
        equal: dict[str, Any] = {}
        for name, field, value in zip(effective, fields, decoded[1], strict=True):
            condition |= Q(**equal, **{f"{field}__{'lt' if name.startswith('-') else 'gt'}": value})
            equal[field] = value
        try:
            rows = rows.filter(bound, condition)
        except (ValueError, ValidationError):  # the form of a cursor, but with values that its fields can't have
            return keyset_page(queryset, order=order, size=size)
    found = list(rows[: size + 1])
    more = len(found) > size
    found = found[:size]
    if backwards:
        found.reverse()
    has_previous, has_next = (more, True) if backwards else (decoded is not None, more)

    def key(row: Row) -> list[Any]:
        return [_value(row, field) for field in fields]

    return Page(
        found,
        encode_cursor(key(found[-1]), False) if found and has_next else None,
        encode_cursor(key(found[0]), True) if found and has_previous else None,
    )


@dataclass(frozen=True)
class Column:
    """A column of a list. Without an order it can't be sorted by."""

    label: str
    order: str = ""
    css: str = ""
    title: str = ""
    falls: bool = False
    """Whether the first click gives the largest first."""


def sort_heads(columns: Sequence[Column], sort: str) -> list[dict[str, Any]]:
    """Each column with the order that a click on it gives, and the direction by which the list is sorted by it now."""
    heads = []
    for column in columns:
        first, other = ("descending", "ascending") if column.falls else ("ascending", "descending")
        now = {column.order: first, f"-{column.order}": other}.get(sort, "") if column.order else ""
        heads.append({"column": column, "now": now, "next": f"-{column.order}" if sort == column.order else column.order})
    return heads


def _value(row: Model, path: str) -> Any:
    value: Any = row
    for part in path.split("__"):
        value = getattr(value, part)
    return value.isoformat() if hasattr(value, "isoformat") else value
