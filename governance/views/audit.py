"""The audit log of an organisation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from django.http import HttpResponse
from django.http.response import HttpResponseBase

from governance import audit_facts, csvs, selectors
from governance.access import Permission, requires
from governance.forms import AuditForm, CheckpointForm
from governance.models import AuditEntry
from governance.pages import keyset_page, render_page
from governance.requests import MemberRequest
from governance.services import audit as audit_service


@requires(Permission.VIEW_AUDIT)
def audit_log(request: MemberRequest) -> HttpResponse:
    form = AuditForm(request.GET)
    return render_page(
        request, "governance/audit.html", partial="audit-table", context=_log(request, form), status=200 if form.is_valid() else 422
    )


@requires(Permission.VIEW_AUDIT)
def audit_csv(request: MemberRequest) -> HttpResponseBase:
    """The entries of the filter, all pages of it, with all that the hashes cover.

    Texts that a spreadsheet would run are quoted (`csvs.cell`), so hashes are recomputed from `hashed`, which never is: it begins with a brace.
    """
    form = AuditForm(request.GET)
    if not form.is_valid():
        return render_page(request, "governance/audit.html", context=_log(request, form), status=422)
    header = [
        "sequence", "at", "actor_id", "actor", "via", "event", "target_type", "target_id", "target", "details", "previous_hash", "hash",
        "hashed",
    ]  # fmt: skip
    return csvs.response(request, "audit.csv", header, _csv_rows(audit_service.export(filters=form.cleaned_data, actor=request.user)))


def _csv_rows(entries: Iterable[AuditEntry]) -> Iterator[list[object]]:
    for entry in entries:
        yield [
            entry.sequence, entry.at.isoformat(), entry.actor_id, entry.actor_name, entry.via, entry.event, entry.target_type,
            entry.target_id, entry.target_name, json.dumps(entry.details, ensure_ascii=False), entry.previous_hash, entry.hash,
            audit_service.hashed_text(entry),
        ]  # fmt: skip


@requires(Permission.VIEW_AUDIT, "POST")
def verify(request: MemberRequest) -> HttpResponse:
    """Walk the chain now. A POST, because it may take a while and nobody should trigger it by a link."""
    form = CheckpointForm(request.POST)
    outcome = {"verification": audit_service.verify(checkpoint=form.cleaned_data["checkpoint"])} if form.is_valid() else {}
    context = _log(request, AuditForm(request.GET)) | {"checkpoint_form": form} | outcome
    return render_page(request, "governance/audit.html", partial="audit-verification", context=context, status=200 if outcome else 422)


def _log(request: MemberRequest, form: AuditForm) -> dict[str, object]:
    """A filter that makes no sense is told, and leaves nothing out."""
    form.is_valid()
    page = keyset_page(selectors.audit_entries(**form.cleaned_data), order=["-sequence"], cursor=request.GET.get("cursor", ""))
    return {
        "page": page,
        "entries": [(entry, audit_facts.facts(entry.details)) for entry in page.rows],
        "form": form,
        "is_filtered": any(form.cleaned_data.values()),
        "query_string": request.GET.urlencode(),
        "checkpoint_form": CheckpointForm(),
    }
