"""Search over everything that the person may see; also the body of the command palette."""

from __future__ import annotations

from django.http import HttpResponse

from governance import search as registry
from governance.access import signed_in
from governance.pages import render_page
from governance.requests import MemberRequest


@signed_in()
def search(request: MemberRequest) -> HttpResponse:
    query = request.GET.get("q", "")
    return render_page(
        request,
        "governance/search.html",
        partial="search-results",
        context={"query": query, "found": registry.find(query, request.membership)},
    )
