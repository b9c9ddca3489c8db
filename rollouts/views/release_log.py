"""The release log of the organisation, as a page and as Markdown."""

from __future__ import annotations

from itertools import islice

from django.http import HttpResponse
from django.utils import timezone

from governance.access import Permission, requires
from governance.pages import render_page
from governance.requests import MemberRequest
from rollouts import markdown, release_lines, selectors
from rollouts.models import Rollout


@requires(Permission.VIEW)
def release_log(request: MemberRequest) -> HttpResponse:
    chosen = release_lines.chosen_from(request.GET)
    cursor = request.GET.get("cursor", "")
    lines, older = release_lines.release_lines(chosen, cursor=cursor)
    return render_page(
        request,
        "rollouts/release_log.html",
        partial="release-lines",
        context={
            "lines": lines,
            "older": older,
            "is_later": bool(cursor),
            "chosen": chosen,
            "is_filtered": chosen != release_lines.Chosen(),
            "tabs": release_lines.TABS.items(),
            "rollouts": {"": "any", **dict(Rollout.objects.order_by("name").values_list("slug", "name"))},
        },
    )


@requires(Permission.VIEW)
def release_log_markdown(request: MemberRequest) -> HttpResponse:
    """What is chosen, oldest first; of very many lines the newest, which the file says."""
    chosen = release_lines.chosen_from(request.GET)
    rollout = selectors.find_rollout(chosen.rollout) if chosen.rollout else None
    most = release_lines.EXPORTED_AT_MOST
    lines = list(islice(release_lines.all_lines(chosen), most + 1))
    text = markdown.organisation_log(
        request.tenant.name,
        chosen,
        rollout.name if rollout else chosen.rollout,
        lines[:most],
        is_whole=len(lines) <= most,
        at=timezone.now(),
    )
    response = HttpResponse(text, content_type="text/markdown; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{request.tenant.slug}-release-log.md"'
    return response
