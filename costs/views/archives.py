"""How long single calls are kept, and the months that left the database."""

from __future__ import annotations

from datetime import date

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone

from costs import archive_selectors
from costs.errors import ArchiveError
from costs.forms import RetentionForm
from costs.services import archives
from governance.access import Permission, requires
from governance.downloads import download
from governance.pages import keyset_page, render_page, try_service
from governance.requests import MemberRequest


@requires(Permission.VIEW_COSTS)
def archive(request: MemberRequest) -> HttpResponse:
    return _page(request)


def _page(request: MemberRequest, form: RetentionForm | None = None, status: int = 200) -> HttpResponse:
    chosen = archive_selectors.retention()
    return render_page(
        request,
        "costs/archive.html",
        partial="archived-months",
        status=status,
        context={
            "page": keyset_page(archive_selectors.months(), order=["-month"], cursor=request.GET.get("cursor", "")),
            "chosen": chosen,
            "due": archive_selectors.due(timezone.now()),
            "kept": list(archive_selectors.partitions()),
            "form": form or RetentionForm(initial={"keep_months": chosen.keep_months, "archives": chosen.archives}),
            "may_manage": request.membership.can(Permission.MANAGE_COSTS),
        },
    )


@requires(Permission.MANAGE_COSTS, "POST")
def set_retention(request: MemberRequest) -> HttpResponse:
    form = RetentionForm(request.POST)
    if form.is_valid() and try_service(form, lambda: archives.set_retention(actor=request.user, **form.cleaned_data)):
        messages.success(request, "Saved. Months that are older leave within an hour.")
        return redirect("event-archive")
    return _page(request, form, status=422)


@requires(Permission.VIEW_COSTS)
def archive_file(request: MemberRequest, month: date) -> HttpResponseBase:
    found = archive_selectors.months().filter(month=month).exclude(path="").first()
    if found is None:
        raise Http404
    try:
        chunks = archives.download(archived=found, actor=request.user)
    except ArchiveError as error:
        messages.error(request, error.message)
        return redirect("event-archive")
    return download(request, name=found.file_name, content_type="application/vnd.apache.parquet", chunks=chunks)
