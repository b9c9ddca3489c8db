"""Models: the admin's list, the wizard, the developer's catalog, a model's page and what can be done there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse

from catalog import health_selectors, lifecycle, model_tabs, review_selectors, samples, selectors
from catalog.facets import facets
from catalog.filters import ModelFilter
from catalog.forms.fields import ReasonForm
from catalog.forms.models import (
    CAPABILITY_WORDS,
    CacheForm,
    DeploymentChangeForm,
    DeploymentForm,
    LeavingForm,
    ModelChangeForm,
    ModelLimitsForm,
    ModelSourceForm,
)
from catalog.hooks import Price, experiments_on
from catalog.models import Deployment, Model, ModelReview, Provider
from catalog.services import answers, model_lifecycle
from catalog.services import deployments as deployment_services
from catalog.services import models as services
from catalog.services import providers as provider_services
from catalog.views.providers import TEMPLATE_NAMES, new_form
from catalog.views.providers import find as find_provider
from gateway.contract.treatments import said_parameters
from governance.access import Permission, requires
from governance.errors import DomainError
from governance.pages import Column, keyset_page, render_page, sort_heads, try_act, try_service
from governance.requests import MemberRequest

FACETS = ("capability", "provider", "region", "sensitivity", "context", "price", "tag")
COLUMNS = (
    Column("Model", "name"), Column("Input $/M", "input", "gh-num"), Column("Output $/M", "output", "gh-num"),
    Column("Context", "context", "gh-num", falls=True), Column("First token", "ttft", "gh-num", "Median time to first token, last 30 days"),
    Column("p95", "p95", "gh-num", "95th percentile of the whole answer, last 30 days"), Column("Data up to"), Column("Can do"),
    Column("Calls, 30 d", "calls", "gh-num", falls=True),
)  # fmt: skip
SORTS = {
    "": "name",
    "input": "input price",
    "output": "output price",
    "context": "largest context",
    "ttft": "first token",
    "p95": "p95",
    "calls": "most calls",
}
ACT_LABELS = {
    "submit": "Submit for approval",
    "deprecate": "Deprecate",
    "reinstate": "Reinstate",
    "retire": "Retire…",
    "redraft": "Reopen as a draft",
}
"""Approving and returning stand beside what is approved."""
ACT_DONE = {
    "submit": "is submitted. Somebody else approves it.",
    "reinstate": "is no longer said to be leaving.",
    "deprecate": "is deprecated: it is served, and said to be leaving.",
    "retire": "is retired. Calls are refused within about 2 s.",
    "redraft": "is a draft again.",
}


def find_model(request: MemberRequest, slug: str) -> Model:
    return get_object_or_404(selectors.models_visible_to(request.membership), slug=slug)


def _list(request: MemberRequest, models: QuerySet[Model], names: Sequence[str]) -> dict[str, Any]:
    chosen = {name: request.GET.get(name, "").strip() for name in ("q", *names)}
    sort = request.GET.get("sort", "")
    sort = sort if sort == "-name" or sort.removeprefix("-") in selectors.MODEL_ORDERS else ""
    found, order = selectors.ordered_models(ModelFilter(chosen, queryset=models).qs, sort)
    page = keyset_page(found, order=order, cursor=request.GET.get("cursor", ""))
    return {
        "page": page,
        "rows": selectors.model_rows(page.rows),
        "chosen": chosen,
        "is_filtered": any(chosen.values()),
        "facets": [(facet, chosen[facet.name]) for facet in facets(models, chosen, names)],
        "sort": sort,
        "heads": sort_heads(COLUMNS, sort or "name"),
        "sorts": SORTS if sort in SORTS else {**SORTS, sort: f"{SORTS.get(sort[1:], 'name')}, turned round"},
    }


@requires(Permission.VIEW_OPERATE)
def operate_models(request: MemberRequest) -> HttpResponse:
    models = selectors.models_visible_to(request.membership)
    return render_page(request, "catalog/operate_models.html", partial="model-table", context=_list(request, models, (*FACETS, "status")))


@requires(Permission.USE_GATEWAY)
def build_models(request: MemberRequest) -> HttpResponse:
    context = _list(request, selectors.served_models(), FACETS)
    return render_page(
        request, "catalog/build_models.html", partial="model-table", context={**context, "served": selectors.served_models().count()}
    )


# A model's page


@requires(Permission.VIEW)
def model_detail(request: MemberRequest, slug: str) -> HttpResponse:
    return _detail(request, find_model(request, slug))


def _detail(request: MemberRequest, model: Model, *, tab: str = "", status: int = 200, **extra: Any) -> HttpResponse:
    membership = request.membership
    manages = membership.can(Permission.MANAGE_CATALOG)
    tab = tab or request.GET.get("tab", "")
    sees_health = membership.can(Permission.VIEW_OPERATE)
    allowed = {"approval": sees_health, "health": sees_health, "deployments": manages, "cache": manages, "edit": manages}
    tab = tab if allowed.get(tab) else "overview"
    row = selectors.model_rows([model])[0]
    keys = list(selectors.live_keys(selectors.own_keys(request.user)))
    own = next((key for key in keys if key.models is None or model.slug in key.models), None)
    context = {
        "model": model,
        "default_parameters": said_parameters(model.default_parameters),
        "row": row,
        "is_drifted": any(review.kind == ModelReview.Kind.DRIFT for review in row.waiting),
        "held": {review.deployment_id for review in row.waiting if review.deployment_id},
        "tab": tab,
        "tabs": model_tabs.tabs_for(membership, model),
        "manages": manages,
        "acts": _acts(model) if manages else [],
        "samples": samples.samples_for(settings.BASE_URL, model.slug, model.capabilities),
        "own_key": own,
        "has_other_keys": bool(keys) and own is None,
        "limits": selectors.limit_rows(selectors.limits_on(model, own)) if tab == "overview" else [],
        "base_url": settings.BASE_URL,
        "capability_words": [CAPABILITY_WORDS.get(name, name) for name in model.capabilities],
        "deployment_form": DeploymentForm(),
        "form": ModelChangeForm(initial=vars_of(model)),
        "leaving_form": LeavingForm(initial={"retires_on": model.retires_on, "successor": model.successor}, model=model)
        if tab == "edit"
        else None,
        "cache_form": CacheForm(
            initial={name: getattr(model, f"cache_{name}") for name in ("ttl_s", "scope", "embedding", "threshold", "sample_percent")}
        ),
        "cache": selectors.cache_figures(model) if tab == "cache" else None,
        "sees_health": sees_health,
        "health": health_selectors.model_health(model) if tab == "health" else None,
        "approval": {"waiting": review_selectors.waiting_of(model, request.user), "timeline": review_selectors.timeline(model)}
        if tab == "approval"
        else None,
        "experiments": experiments_on(model.slug) if tab == "overview" else None,
        "health_line": health_selectors.summary(model) if tab == "overview" and model.is_served else None,
        **extra,
    }
    return render_page(request, "catalog/model_detail.html", status=status, context=context)


def _acts(model: Model) -> list[tuple[str, str]]:
    """Acts with a button of their own. What is submitted is asked for again on the tab, where it says that it has to be."""
    acts = [act for act in lifecycle.acts_for(model.status) if act in ACT_LABELS]
    return [(act, ACT_LABELS[act]) for act in acts if model.status != Model.Status.SUBMITTED]


WAITS = "waits for approval: it makes a served model wider, or sets other parameters for its callers. Until then it is served as before."


def vars_of(model: Model) -> dict[str, Any]:
    facts = services.facts_of(model)
    return {**{name: getattr(facts, name) for name in facts.__dataclass_fields__}, "capabilities": list(facts.capabilities)}


@requires(Permission.MANAGE_CATALOG, "POST")
def model_edit(request: MemberRequest, slug: str) -> HttpResponse:
    model, form = find_model(request, slug), ModelChangeForm(request.POST)
    if form.is_valid():
        facts = services.ModelFacts(**{**form.cleaned_data, "capabilities": tuple(form.cleaned_data["capabilities"])})
        changed = try_service(form, lambda: services.change_model(model=model, facts=facts, actor=request.user))
        if changed is not None:
            if services.facts_of(changed) != facts:
                messages.info(request, f"The change of {slug} {WAITS}")
                return redirect(_approval(slug))
            messages.success(request, f"{slug} is changed.")
            return redirect(reverse("model-detail", args=[slug]))
    return _detail(request, model, tab="edit", form=form, status=422)


def _approval(slug: str) -> str:
    return f"{reverse('model-detail', args=[slug])}?tab=approval"


@requires(Permission.MANAGE_CATALOG, "POST")
def model_cache(request: MemberRequest, slug: str) -> HttpResponse:
    model, form = find_model(request, slug), CacheForm(request.POST)
    if form.is_valid() and try_service(form, lambda: answers.set_cache(model=model, actor=request.user, **form.cleaned_data)):
        messages.success(request, f"The cache of {slug} is set. The gateway has it within seconds.")
        return redirect(f"{reverse('model-detail', args=[slug])}?tab=cache")
    return _detail(request, model, tab="cache", cache_form=form, status=422)


@requires(Permission.MANAGE_CATALOG, "POST")
def model_leaving(request: MemberRequest, slug: str) -> HttpResponse:
    """What callers of a deprecated model are told."""
    model = find_model(request, slug)
    form = LeavingForm(request.POST, model=model)
    if form.is_valid() and try_service(
        form, lambda: model_lifecycle.announce_leaving(model=model, actor=request.user, **form.cleaned_data)
    ):
        messages.success(request, f"Callers of {slug} are told within seconds.")
        return redirect(reverse("model-detail", args=[slug]))
    return _detail(request, model, tab="edit", leaving_form=form, status=422)


@requires(Permission.MANAGE_CATALOG, "POST")
def model_act(request: MemberRequest, slug: str, act: str) -> HttpResponse:
    """Submit, deprecate, reinstate, retire or reopen."""
    if act not in ACT_LABELS:
        raise Http404
    model, form = find_model(request, slug), ReasonForm(request.POST)
    try_act(
        request,
        lambda: model_lifecycle.ACTS[act](model=model, actor=request.user, comment=form.cleaned_data["reason"] if form.is_valid() else ""),
        f"{slug} {ACT_DONE[act]}",
    )
    return redirect(_approval(slug) if act == "submit" else reverse("model-detail", args=[slug]))


@requires(Permission.MANAGE_CATALOG, "POST")
def model_check(request: MemberRequest, slug: str) -> HttpResponse:
    model = find_model(request, slug)
    try:
        checks = services.check_model(model=model, actor=request.user)
    except DomainError as error:
        messages.error(request, error.message)
    else:
        for deployment, trace in checks:
            (messages.success if trace.ok else messages.error)(request, f"{deployment}: {trace.summary}")
    return redirect(f"{reverse('model-detail', args=[slug])}?tab=deployments")


@requires(Permission.MANAGE_CATALOG, "POST")
def model_discard(request: MemberRequest, slug: str) -> HttpResponse:
    if not try_act(
        request,
        lambda: model_lifecycle.discard_draft(model=find_model(request, slug), actor=request.user),
        f"The draft {slug} is discarded.",
    ):
        return redirect(reverse("model-detail", args=[slug]))
    return redirect(reverse("operate-models"))


@requires(Permission.MANAGE_CATALOG, "POST")
def deployment_add(request: MemberRequest, slug: str) -> HttpResponse:
    model, form = find_model(request, slug), DeploymentForm(request.POST)
    added = form.is_valid() and try_service(
        form, lambda: deployment_services.add_deployment(model=model, actor=request.user, **form.cleaned_data)
    )
    if added:
        if added.is_enabled:
            messages.success(request, "The deployment is added. Check whether it answers.")
        else:
            messages.info(request, f"The deployment is added, off. Check whether it answers; it {WAITS}")
        return redirect(f"{reverse('model-detail', args=[slug])}?tab=deployments")
    return _detail(request, model, tab="deployments", deployment_form=form, status=422)


def find_deployment(request: MemberRequest, slug: str, pk: int) -> Deployment:
    return get_object_or_404(Deployment.objects.select_related("model", "provider"), model=find_model(request, slug), pk=pk)


@requires(Permission.MANAGE_CATALOG, "POST")
def deployment_change(request: MemberRequest, slug: str, pk: int) -> HttpResponse:
    deployment, form = find_deployment(request, slug, pk), DeploymentChangeForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Weight is 0 to 1000, priority 0 to 100; requests and tokens per minute are numbers from 1, or empty.")
    elif changed := try_service(
        form, lambda: deployment_services.change_deployment(deployment=deployment, actor=request.user, **form.cleaned_data)
    ):
        if form.cleaned_data["is_enabled"] and not changed.is_enabled:
            messages.info(request, f"Switching {deployment} on {WAITS}")
        else:
            messages.success(request, f"{deployment} is changed.")
    else:
        messages.error(request, "; ".join(str(error) for error in form.non_field_errors()))
    return redirect(f"{reverse('model-detail', args=[slug])}?tab=deployments")


@requires(Permission.MANAGE_CATALOG, "POST")
def deployment_remove(request: MemberRequest, slug: str, pk: int) -> HttpResponse:
    deployment = find_deployment(request, slug, pk)
    try_act(request, lambda: deployment_services.remove_deployment(deployment=deployment, actor=request.user), f"{deployment} is removed.")
    return redirect(f"{reverse('model-detail', args=[slug])}?tab=deployments")


# The wizard: one URL, the state is the draft, every step works as a plain form


@requires(Permission.MANAGE_CATALOG, "GET", "POST")
def model_new(request: MemberRequest) -> HttpResponse:
    """Four steps: provider, model, price and limits, live check. `?provider=` chooses, `?draft=` continues, `?step=` goes back."""
    draft = None
    if request.GET.get("draft"):
        draft = get_object_or_404(selectors.all_models(), slug=request.GET["draft"], status=Model.Status.DRAFT)
    provider = find_provider(request.GET["provider"]) if request.GET.get("provider") else None
    deployment = draft.deployments.first() if draft else None
    provider = provider or (deployment.provider if deployment else None)
    reached = 4 if draft else 2 if provider else 1
    asked = request.GET.get("step", "")
    step = min(int(asked), reached) if asked in ("1", "2", "3", "4") else reached
    return (_step_provider, _step_source, _step_limits, _step_check)[step - 1](request, provider, draft, deployment)


def _wizard_url(step: int, draft: Model) -> str:
    return f"{reverse('model-new')}?draft={draft.slug}&step={step}"


def _wizard(
    request: MemberRequest, step: int, provider: Provider | None, draft: Model | None, status: int = 200, **context: Any
) -> HttpResponse:
    return render_page(
        request,
        "catalog/model_new.html",
        partial="wizard-step",
        status=status,
        context={
            "step": step,
            "steps": [(1, "Provider"), (2, "Model"), (3, "Price and limits"), (4, "Live check")],
            "provider": provider,
            "draft": draft,
            **context,
        },
    )


def _step_provider(request: MemberRequest, provider: Provider | None, draft: Model | None, deployment: Deployment | None) -> HttpResponse:
    """Choose an existing provider (a link) or add one here."""
    form = new_form(request)
    if request.method == "POST" and form.is_valid():
        created = try_service(form, lambda: provider_services.create_provider(actor=request.user, **form.cleaned_data))
        if created is not None:
            return redirect(f"{reverse('model-new')}?provider={created.slug}&step=2" + (f"&draft={draft.slug}" if draft else ""))
    drafts = Model.objects.filter(status=Model.Status.DRAFT).order_by("-created_at")[:5]
    show_form = bool(form.errors) or bool(request.GET.get("template")) or not Provider.objects.exists()
    return _wizard(
        request,
        1,
        provider,
        draft,
        422 if form.errors else 200,
        form=form,
        providers=selectors.providers(),
        drafts=drafts,
        show_form=show_form,
        templates=TEMPLATE_NAMES,
    )


def _step_source(request: MemberRequest, provider: Provider | None, draft: Model | None, deployment: Deployment | None) -> HttpResponse:
    assert provider is not None
    initial = (
        {**vars_of(draft), "slug": draft.slug, "upstream_model": deployment.upstream_model if deployment else ""}
        if draft
        else {"capabilities": ["chat"]}
    )
    form = ModelSourceForm(request.POST or None, initial=initial)
    if draft:
        form.fields["slug"].disabled = True
        form.fields["slug"].help_text = "Fixed since the draft was saved."
    if request.method == "POST" and form.is_valid():
        saved = try_service(form, lambda: _save_source(request, provider, draft, form.cleaned_data))
        if saved is not None:
            return redirect(_wizard_url(3, saved))
    return _wizard(request, 2, provider, draft, 422 if form.errors else 200, form=form)


def _save_source(request: MemberRequest, provider: Provider, draft: Model | None, data: dict[str, Any]) -> Model:
    described = {
        "name": data["name"] or data["slug"],
        "description": data["description"],
        "capabilities": tuple(data["capabilities"]),
        "tags": data["tags"],
    }
    if draft is None:
        return services.register_model(
            slug=data["slug"],
            facts=services.ModelFacts(**described),
            provider=provider,
            upstream_model=data["upstream_model"],
            owner=request.user,
            actor=request.user,
        )
    facts = services.ModelFacts(
        **{**{name: getattr(services.facts_of(draft), name) for name in services.ModelFacts.__dataclass_fields__}, **described}
    )
    services.change_model(model=draft, facts=facts, actor=request.user)
    return deployment_services.replace_upstream(model=draft, provider=provider, upstream_model=data["upstream_model"], actor=request.user)


def _step_limits(request: MemberRequest, provider: Provider | None, draft: Model | None, deployment: Deployment | None) -> HttpResponse:
    assert draft is not None
    assert provider is not None
    price = selectors.price_of(draft)
    initial = {
        **vars_of(draft),
        "input_per_million": price.input_per_million if price else None,
        "output_per_million": price.output_per_million if price else None,
    }
    form = ModelLimitsForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        saved = try_service(form, lambda: _save_limits(request, provider, draft, form.cleaned_data))
        if saved is not None:
            return redirect(_wizard_url(4, draft))
    return _wizard(request, 3, provider, draft, 422 if form.errors else 200, form=form, duplicates=_duplicates(draft, deployment))


def _save_limits(request: MemberRequest, provider: Provider, draft: Model, data: dict[str, Any]) -> Model:
    price_in, price_out = data.pop("input_per_million"), data.pop("output_per_million")
    facts = services.ModelFacts(
        **{**{name: getattr(services.facts_of(draft), name) for name in services.ModelFacts.__dataclass_fields__}, **data}
    )
    model = services.change_model(model=draft, facts=facts, actor=request.user)
    if price_in is not None:
        services.set_price(model=draft, provider=provider, price=Price(price_in, price_out), actor=request.user)
    return model


def _step_check(request: MemberRequest, provider: Provider | None, draft: Model | None, deployment: Deployment | None) -> HttpResponse:
    """Call the model once, look at the trace, submit."""
    assert draft is not None
    error = ""
    if request.method == "POST":
        try:
            if request.POST.get("act") == "submit":
                model_lifecycle.submit_model(model=draft, actor=request.user)
                messages.success(request, f"{draft.slug} {ACT_DONE['submit']}")
                return redirect(_approval(draft.slug))
            services.check_model(model=draft, actor=request.user)
            return redirect(_wizard_url(4, draft))
        except DomainError as refusal:
            error = refusal.message
    return _wizard(
        request,
        4,
        provider,
        draft,
        422 if error else 200,
        deployment=deployment,
        error=error,
        duplicates=_duplicates(draft, deployment),
        price=selectors.price_of(draft),
    )


def _duplicates(draft: Model, deployment: Deployment | None) -> list[Deployment]:
    if deployment is None:
        return []
    return list(selectors.deployments_like(deployment.provider, deployment.upstream_model, except_model=draft))
