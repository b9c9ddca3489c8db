"""The playground: the page, and the short-lived token with which its script calls the gateway."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse, JsonResponse
from django.urls import reverse

from catalog import prompt_selectors, prompt_texts, selectors, starting_values
from catalog.hooks import CallRecord, cost_figures
from catalog.models import Project, PromptVersion, VirtualKey
from catalog.services import keys as services
from governance.access import Permission, requires
from governance.errors import DomainError
from governance.pages import render_page
from governance.payload_selectors import effective_rule
from governance.requests import MemberRequest
from governance.selectors import consent_states

MAX_COLUMNS = 4
OFFERED_PROMPTS = 200
"""In the select; every other version has a link on its prompt's page."""


def chosen_project(request: MemberRequest) -> Project | None:
    """The project named in the URL, or the one this person used last, or the first one."""
    projects = selectors.enabled_projects()
    named = projects.filter(slug=request.GET.get("project", "")).first()
    if named is not None:
        return named
    last = selectors.live_keys(selectors.own_keys(request.user)).filter(project__is_enabled=True).first()
    return last.project if last else projects.first()


@requires(Permission.USE_GATEWAY)
def playground(request: MemberRequest) -> HttpResponse:
    """One to four models side by side: `?model=a&model=b`, `&project=`, `&prompt=greeting@3` of the prompts, drafts too."""
    rows = selectors.model_rows(selectors.served_models().filter(capabilities__contains=["chat"]))
    by_slug = {row.model.slug: row for row in rows}
    wanted = list(dict.fromkeys(slug for slug in request.GET.getlist("model") if slug in by_slug))[:MAX_COLUMNS]
    asked = request.GET.get("prompt", "").strip()
    prompt = prompt_selectors.version_to_try(asked) if asked else None
    columns = [by_slug[slug] for slug in wanted] or [row for row in rows if prompt and row.model.slug == prompt.model] or rows[:1]
    project = chosen_project(request)
    named = request.GET.get("project", "")
    consents = {state.feature_class.value: state for state in consent_states()}
    withdrawn = [
        consents[row.model.feature_class]
        for row in columns
        if row.model.feature_class in consents and not consents[row.model.feature_class].granted
    ]
    parameters = starting_values.parameters({row.model.slug: _tried(row) for row in columns}, prompt.parameters if prompt else None)
    return render_page(
        request,
        "catalog/playground.html",
        context={
            "columns": columns,
            "rows": rows,
            "project": project,
            "projects": selectors.enabled_projects(),
            "withdrawn": withdrawn[:1],
            "shown": [row.model.slug for row in columns],
            "missing_project": named if project is None or project.slug != named else "",
            "unknown": [slug for slug in request.GET.getlist("model") if slug and slug not in by_slug],
            "code_languages": [("curl", "curl"), ("python", "Python"), ("javascript", "JavaScript")],
            "others": [row for row in rows if row not in columns],
            "prompt": prompt,
            "prompt_text": prompt_texts.format_messages(prompt.content["messages"]) if prompt else "",
            "parameters": parameters,
            "parameter_line": starting_values.said(parameters),
            "kept": effective_rule(project.slug) if project else None,
            "variables": prompt_texts.variables_of(prompt.content) if prompt else [],
            "missing_prompt": asked if prompt is None else "",
            "prompts": prompt_selectors.newest_versions(OFFERED_PROMPTS),
            "can_add": len(columns) < MAX_COLUMNS,
            "data": {
                "base_url": settings.BASE_URL,
                "project": project.slug if project else None,
                "run_url": reverse("playground-run", args=["REQUEST"]),
                "models": {row.model.slug: _figures(row) for row in columns},
                "prompt": _prompt_data(prompt) if prompt else None,
            },
        },
    )


def _tried(row: selectors.ModelRow) -> starting_values.Tried:
    dialects = {deployment.provider.dialect for deployment in row.deployments if deployment.is_enabled}
    return starting_values.Tried(row.model.default_parameters, dialects, row.model.max_output_tokens)


def _prompt_data(version: PromptVersion) -> dict[str, Any]:
    """What the script asks for: by name where the gateway serves the version, as messages while it is not approved."""
    return {
        "id": version.prompt.slug,
        "version": str(version.number),
        "messages": version.content["messages"],
        "parameters": version.parameters,
        "served": version.status == PromptVersion.Status.APPROVED and prompt_selectors.is_served(version),
    }


def _figures(row: selectors.ModelRow) -> dict[str, Any]:
    """What the script needs to tell the cost of an answer. Prices are text: the page formats, it does not settle."""
    price = row.price
    return {
        "input_per_million": str(price.input_per_million) if price else None,
        "output_per_million": str(price.output_per_million) if price else None,
        "max_output_tokens": row.model.max_output_tokens,
    }


@requires(Permission.USE_GATEWAY, "POST")
def playground_session(request: MemberRequest) -> HttpResponse:
    """A token for an hour. JSON for the page's script; never in the page itself, so that no cache or history holds it."""
    project = selectors.projects().filter(slug=request.POST.get("project", "")).first()
    if project is None:
        return JsonResponse({"detail": "There is no such project.", "code": "not_found"}, status=404)
    try:
        session = services.open_playground_session(project=project, person=request.user)
    except DomainError as error:
        return JsonResponse({"detail": error.message, "code": error.code}, status=error.status)
    response = JsonResponse({"token": session.token, "expires_at": session.expires_at.isoformat(), "key": session.key.public_id})
    response.headers["Cache-Control"] = "no-store"
    return response


@requires(Permission.USE_GATEWAY)
def playground_run(request: MemberRequest, request_id: str) -> HttpResponse:
    """What the gateway recorded of a run with one's own key, as JSON; 202 until it is there, which takes a second or two.

    No 404: the page asks several times, and a browser calls each of them an error.
    """
    keys = VirtualKey.objects.filter(owner=request.user, purpose=VirtualKey.Purpose.PLAYGROUND).values_list("public_id", flat=True)
    record = cost_figures().call_record(request_id, keys)
    if record is None:
        response = JsonResponse({"detail": "This run is not recorded yet.", "code": "not_recorded"}, status=202)
    else:
        response = JsonResponse(_record_body(record))
    response.headers["Cache-Control"] = "no-store"
    return response


def _record_body(record: CallRecord) -> dict[str, Any]:
    return {
        "url": record.url,
        "provider": record.provider,
        "cost_usd": None if record.cost_usd is None else f"{record.cost_usd.normalize():f}",
        "is_cached": record.is_cached,
        "failovers": record.failovers,
        "guardrails": len({findings.guardrail for findings in record.findings}),
        "findings": [
            {
                "guardrail": findings.guardrail,
                "verdict": findings.verdict,
                "direction": findings.direction,
                "found": ", ".join(f"{count} {entity.replace('_', ' ')}" for entity, count in findings.counts.items()),
            }
            for findings in record.findings
            if findings.verdict != "pass"
        ],
    }
