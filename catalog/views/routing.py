"""A model's routing: its objectives with a preview, the quality of its deployments, and its regret by day."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from catalog import model_tabs, routing_selectors
from catalog.forms.routing import QualityForm, RoutingForm
from catalog.models import Model
from catalog.services import routing as services
from catalog.views.models import find_deployment, find_model
from gateway.contract.routing import Objectives
from governance.access import Permission, requires
from governance.pages import render_page, try_service
from governance.requests import MemberRequest


@requires(Permission.VIEW_OPERATE)
def model_routing(request: MemberRequest, slug: str) -> HttpResponse:
    """With weights in the query the preview is of these, and nothing is changed."""
    model = find_model(request, slug)
    asked = RoutingForm(request.GET) if set(request.GET) & set(RoutingForm.base_fields) else None
    return _page(request, model, asked, status=422 if asked is not None and not asked.is_valid() else 200)


def _page(request: MemberRequest, model: Model, form: RoutingForm | None, *, status: int = 200) -> HttpResponse:
    present = routing_selectors.objectives_of(model)
    initial = services.weights_of(model.objectives) if present else None
    form = form or RoutingForm(initial=initial)
    previewed = _objectives(form)
    context = {
        "model": model,
        "tab": "routing",
        "tabs": model_tabs.tabs_for(request.membership, model),
        "manages": request.membership.can(Permission.MANAGE_CATALOG),
        "form": form,
        "present": present,
        "deployments": list(model.deployments.all()),
        "preview": routing_selectors.preview(model, previewed) if previewed else None,
        "previewed": previewed,
        "weights": _percents(previewed) if previewed else [],
        "routing": routing_selectors.routing(model),
        "choices": len(routing_selectors.first_choice(model)),
        "days": routing_selectors.SHOWN_DAYS,
    }
    return render_page(request, "catalog/model_routing.html", partial="routing-preview", status=status, context=context)


def _objectives(form: RoutingForm) -> Objectives | None:
    """Of what was given, or of what the form begins with; None when that is invalid."""
    if form.is_bound and not form.is_valid():
        return None
    values = form.cleaned_data if form.is_bound else {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    return Objectives(
        cost=values["cost"], latency=values["latency"], quality=values["quality"], explore=values["explore_percent"] / 100
    )  # fmt: skip


def _percents(objectives: Objectives) -> list[tuple[str, float]]:
    whole = objectives.cost + objectives.latency + objectives.quality
    return [(name, 100 * getattr(objectives, name) / whole) for name in services.WEIGHTS]


@requires(Permission.MANAGE_CATALOG, "POST")
def model_routing_set(request: MemberRequest, slug: str) -> HttpResponse:
    model, form = find_model(request, slug), RoutingForm(request.POST)
    if form.is_valid() and try_service(form, lambda: services.set_objectives(model=model, actor=request.user, **form.cleaned_data)):
        messages.success(request, f"Calls to {slug} are led by these weights. The gateway has them within seconds.")
        return redirect(reverse("model-routing", args=[slug]))
    return _page(request, model, form, status=422)


@requires(Permission.MANAGE_CATALOG, "POST")
def model_routing_clear(request: MemberRequest, slug: str) -> HttpResponse:
    services.clear_objectives(model=find_model(request, slug), actor=request.user)
    messages.success(request, f"Calls to {slug} are shared by weight at random again.")
    return redirect(reverse("model-routing", args=[slug]))


@requires(Permission.MANAGE_CATALOG, "POST")
def deployment_quality(request: MemberRequest, slug: str, pk: int) -> HttpResponse:
    deployment, form = find_deployment(request, slug, pk), QualityForm(request.POST)
    given = form.cleaned_data if form.is_valid() else None
    if given is not None and try_service(form, lambda: services.set_quality(deployment=deployment, actor=request.user, **given)):
        messages.success(request, f"The quality of {deployment} is registered.")
    else:
        messages.error(request, "; ".join(str(error) for errors in form.errors.values() for error in errors))
    return redirect(reverse("model-routing", args=[slug]))
