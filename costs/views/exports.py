"""Cost data for other people's dashboards."""

from __future__ import annotations

from datetime import UTC

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from costs import archive_selectors, dimensions, export_schema, export_selectors, periods, selectors
from costs.errors import ArchiveError
from costs.services import exports
from governance.access import Permission, requires
from governance.downloads import download
from governance.pages import render_page
from governance.requests import MemberRequest


@requires(Permission.VIEW_COSTS)
def export(request: MemberRequest) -> HttpResponse:
    """What can be had, of which period, and what its columns mean."""
    period, chosen = _asked(request)
    return render_page(
        request,
        "costs/export.html",
        partial="export",
        context={
            "period": period,
            "chosen": chosen,
            "archived": archive_selectors.months_in(period),
            "preview": export_selectors.preview(period, chosen),
            "datasets": list(export_schema.DATASETS.values()),
            "files": list(export_schema.FILE_LABELS.items()),
            "choices": [
                (name, selectors.GROUPS[name], dimensions.choices(name)) for name in ("project", "model", "provider", "cost_centre")
            ],
            "query": request.GET.urlencode(),
        },
    )


@requires(Permission.VIEW_COSTS)
def export_file(request: MemberRequest, dataset: str, file: str) -> HttpResponseBase:
    if dataset not in export_schema.DATASETS or file not in export_schema.FILES:
        raise Http404
    period, chosen = _asked(request)
    try:
        chunks = exports.export(dataset=dataset, file=file, period=period, chosen=chosen, actor=request.user)
    except ArchiveError as error:
        messages.error(request, error.message)
        return redirect(f"{reverse('costs-export')}?{request.GET.urlencode()}")
    return download(request, name=exports.file_name(dataset, file, period), content_type=export_schema.FILES[file], chunks=chunks)


def _asked(request: MemberRequest) -> tuple[periods.Period, dict[str, str]]:
    chosen = {name: value for name in selectors.FILTERS if (value := request.GET.get(name, ""))}
    return periods.from_query(request.GET, timezone.now().astimezone(UTC).date()), chosen
