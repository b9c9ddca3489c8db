"""Which parameters of a cost page are worth keeping, and what may be seen of kept ones."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from django.db.models import Case, Q, QuerySet, When

from costs import dimensions, periods, selectors
from costs.models import SavedView
from governance.models import User

LONGEST_VALUE = 200
_CHOICES = {"compare": {**periods.COMPARISONS, "none": ""}, "period": periods.SHORTCUTS, "view": {"table": ""}}


def cleaned(parameters: Mapping[str, str]) -> dict[str, str]:
    """What a page understands of `parameters`. Days are kept only for a period of its own: a named one moves with the day."""
    group = parameters.get("group", "")
    kept = {"group": group} if group in selectors.GROUPS or dimensions.is_tag(group) else {}
    kept |= {name: parameters[name] for name, values in _CHOICES.items() if parameters.get(name) in values and parameters[name]}
    kept |= {name: value[:LONGEST_VALUE] for name, value in dimensions.chosen(parameters).items()}
    if kept.get("period", "custom") == "custom":
        days = {name: parameters[name] for name in ("from", "to") if periods.parse_day(parameters.get(name, ""))}
        kept |= days
        if not days:
            kept.pop("period", None)
    return kept


def query(view: SavedView) -> str:
    """The query string of its page; never empty, so that it does not mean the default."""
    return urlencode(view.parameters) or "period=this-month"


def visible_to(user: User, page: str) -> QuerySet[SavedView]:
    """One's own and what colleagues share."""
    views = SavedView.objects.filter(Q(owner=user) | Q(is_shared=True), page=page).select_related("owner")
    return views.order_by("name", "pk")


def own_first(user: User, page: str) -> QuerySet[SavedView]:
    """The same, one's own before those of colleagues: whatever a page leaves out, it is none of these."""
    return visible_to(user, page).order_by(Case(When(owner=user, then=0), default=1), "name", "pk")


def own(user: User, page: str, pk: int) -> SavedView | None:
    return SavedView.objects.filter(pk=pk, owner=user, page=page).first()


def default_of(user: User, page: str) -> SavedView | None:
    return SavedView.objects.filter(owner=user, page=page, is_default=True).first()
