"""Figures that other systems report."""

from __future__ import annotations

from django.http import HttpResponse

from governance.access import Permission, requires
from governance.pages import keyset_page, render_page
from governance.requests import MemberRequest
from rollouts import figure_selectors, wording
from rollouts.reported_figures import FIGURES


@requires(Permission.VIEW)
def figure_list(request: MemberRequest) -> HttpResponse:
    key = request.GET.get("key", "")
    key = key if key in FIGURES else ""
    page = keyset_page(figure_selectors.figures(key=key), order=["-at", "-pk"], cursor=request.GET.get("cursor", ""))
    rows = [(each, wording.figure(each.value, each.unit)) for each in page.rows]
    return render_page(
        request,
        "rollouts/figure_list.html",
        partial="figure-table",
        context={"page": page, "rows": rows, "key": key, "known": FIGURES.values()},
    )
