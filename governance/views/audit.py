"""The audit log of an organisation."""

from __future__ import annotations

from django.http import HttpResponse

from governance import selectors
from governance.access import Permission, requires
from governance.pages import keyset_page, render_page
from governance.requests import MemberRequest
from governance.services import audit as audit_service


@requires(Permission.VIEW_AUDIT)
def audit_log(request: MemberRequest) -> HttpResponse:
    return render_page(request, "governance/audit.html", partial="audit-table", context=_log(request))


@requires(Permission.VIEW_AUDIT, "POST")
def verify(request: MemberRequest) -> HttpResponse:
    """Walk the chain now. A POST, because it may take a while and nobody should trigger it by a link."""
    return render_page(
        request, "governance/audit.html", partial="audit-verification", context=_log(request) | {"verification": audit_service.verify()}
    )


def _log(request: MemberRequest) -> dict[str, object]:
    filters = {name: request.GET.get(name, "").strip() for name in ("event", "actor", "query")}
    page = keyset_page(selectors.audit_entries(**filters), order=["-sequence"], cursor=request.GET.get("cursor", ""))
    return {"page": page, "filters": filters, "is_filtered": any(filters.values())}
