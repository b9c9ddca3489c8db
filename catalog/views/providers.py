"""Providers: list, add, change, check."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from catalog import health_selectors, selectors, upstream
from catalog.forms import ProviderChangeForm, ProviderForm, SecretForm
from catalog.models import Provider
from catalog.services import providers as services
from governance.access import Permission, requires
from governance.pages import keyset_page, render_page, try_service
from governance.requests import MemberRequest

TEMPLATES: dict[str, dict[str, Any]] = {
    "openai": {"name": "OpenAI", "slug": "openai", "kind": Provider.Kind.OPENAI, "base_url": "https://api.openai.com/v1"},
    "anthropic": {
        "name": "Anthropic",
        "slug": "anthropic",
        "kind": Provider.Kind.ANTHROPIC,
        "dialect": Provider.Dialect.ANTHROPIC,
        "base_url": "https://api.anthropic.com/v1",
    },
    "openai_compatible": {"kind": Provider.Kind.OPENAI_COMPATIBLE},
}
"""First values of the form for a new provider."""


def find(slug: str) -> Provider:
    provider = selectors.providers().filter(slug=slug).first()
    if provider is None:
        raise Http404
    return provider


@requires(Permission.VIEW_OPERATE)
def provider_list(request: MemberRequest) -> HttpResponse:
    query = request.GET.get("q", "").strip()
    providers = selectors.providers()
    if query:
        providers = providers.filter(name__icontains=query) | providers.filter(slug__icontains=query)
    return render_page(
        request,
        "catalog/provider_list.html",
        partial="provider-table",
        context={
            "page": keyset_page(providers, order=["name", "pk"], cursor=request.GET.get("cursor", "")),
            "query": query,
            "failing": selectors.providers_failing().count(),
        },
    )


@requires(Permission.MANAGE_CATALOG, "GET", "POST")
def provider_new(request: MemberRequest) -> HttpResponse:
    form = ProviderForm(request.POST or None, initial=TEMPLATES.get(request.GET.get("template", ""), {}))
    if request.method == "POST" and form.is_valid():
        provider = try_service(form, lambda: services.create_provider(actor=request.user, **form.cleaned_data))
        if provider is not None:
            messages.success(request, f"{provider.name} is added. Check now whether it answers.")
            return redirect(reverse("provider-detail", args=[provider.slug]))
    return render_page(
        request, "catalog/provider_form.html", partial="provider-form", context={"form": form}, status=422 if form.errors else 200
    )


@requires(Permission.VIEW_OPERATE, "GET")
def provider_detail(request: MemberRequest, slug: str) -> HttpResponse:
    return _detail(request, find(slug))


@requires(Permission.MANAGE_CATALOG, "POST")
def provider_edit(request: MemberRequest, slug: str) -> HttpResponse:
    provider, form = find(slug), ProviderChangeForm(request.POST)
    if form.is_valid():
        moved = (
            provider.base_url != form.cleaned_data["base_url"].rstrip("/")
            and bool(provider.sealed_secret)
            and not form.cleaned_data["secret"]
        )
        changed = try_service(
            form,
            lambda: services.change_provider(
                provider=provider, actor=request.user, **{**form.cleaned_data, "secret": form.cleaned_data["secret"] or None}
            ),
        )
        if changed is not None:
            messages.success(
                request,
                f"{changed.name} is changed." + (" Its API key belonged to the old URL and is gone: give a new one." if moved else ""),
            )
            return redirect(reverse("provider-detail", args=[slug]))
    return _detail(request, provider, form=form, status=422)


@requires(Permission.MANAGE_CATALOG, "POST")
def provider_secret(request: MemberRequest, slug: str) -> HttpResponse:
    provider, form = find(slug), SecretForm(request.POST)
    if form.is_valid():
        services.set_secret(provider=provider, secret=form.cleaned_data["secret"], actor=request.user)
        messages.success(request, f"{provider.name} has a new API key. The gateway uses it within about 2 s.")
        return redirect(reverse("provider-detail", args=[slug]))
    return _detail(request, provider, secret_form=form, status=422)


@requires(Permission.MANAGE_CATALOG, "POST")
def provider_check(request: MemberRequest, slug: str) -> HttpResponse:
    """Ask the provider now; the answer is the card with the trace."""
    provider, trace, names = services.check_provider(provider=find(slug), actor=request.user)
    return _detail(request, provider, trace=trace, names=names)


@requires(Permission.MANAGE_CATALOG, "POST")
def provider_names(request: MemberRequest, slug: str) -> HttpResponse:
    """The provider's model names for the wizard. A POST, because it calls out and is recorded."""
    provider, trace, names = services.check_provider(provider=find(slug), actor=request.user)
    return render_page(request, "catalog/partials/upstream_names.html", context={"provider": provider, "trace": trace, "names": names})


def _detail(
    request: MemberRequest,
    provider: Provider,
    *,
    form: ProviderChangeForm | None = None,
    secret_form: SecretForm | None = None,
    trace: upstream.Trace | None = None,
    names: list[str] | None = None,
    status: int = 200,
) -> HttpResponse:
    initial = {"name": provider.name, "base_url": provider.base_url, "dialect": provider.dialect, "region": provider.region}
    return render_page(
        request,
        "catalog/provider_detail.html",
        partial="provider-check",
        status=status,
        context={
            "provider": provider,
            "form": form or ProviderChangeForm(initial=initial),
            "secret_form": secret_form or SecretForm(),
            "trace": trace,
            "names": names,
            "deployments": health_selectors.health_of(provider.deployments.select_related("model", "provider").order_by("model__slug")),
        },
    )
