"""Providers: list, add, change, check."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse

from catalog import health_selectors, selectors, upstream
from catalog.forms.providers import ProviderChangeForm, ProviderForm, SecretForm
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
    "azure_openai": {"name": "Azure OpenAI", "slug": "azure", "kind": Provider.Kind.AZURE_OPENAI},
    "vertex_ai": {"name": "Vertex AI", "slug": "vertex", "kind": Provider.Kind.VERTEX_AI},
    "bedrock": {"name": "Amazon Bedrock", "slug": "bedrock", "kind": Provider.Kind.BEDROCK},
    "openai_compatible": {"kind": Provider.Kind.OPENAI_COMPATIBLE},
}
"""First values of the form for a new provider."""
TEMPLATE_NAMES = {**{name: given["name"] for name, given in TEMPLATES.items() if "name" in given}, "openai_compatible": "Compatible"}


def new_form(request: MemberRequest) -> ProviderForm:
    """The form for a new provider, of the template that the address names."""
    initial = {**TEMPLATES.get(request.GET.get("template", ""), {}), "credential": request.GET.get("credential", "")}
    return ProviderForm(request.POST or None, initial=initial)


def find(slug: str) -> Provider:
    return get_object_or_404(selectors.providers(), slug=slug)


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
    form = new_form(request)
    if request.method == "POST" and form.is_valid():
        provider = try_service(form, lambda: services.create_provider(actor=request.user, **form.cleaned_data))
        if provider is not None:
            messages.success(request, f"{provider.name} is added. Check now whether it answers.")
            return redirect(reverse("provider-detail", args=[provider.slug]))
    return render_page(
        request,
        "catalog/provider_form.html",
        partial="provider-form",
        context={"form": form, "templates": TEMPLATE_NAMES},
        status=422 if form.errors else 200,
    )


@requires(Permission.VIEW_OPERATE, "GET")
def provider_detail(request: MemberRequest, slug: str) -> HttpResponse:
    return _detail(request, find(slug))


@requires(Permission.MANAGE_CATALOG, "POST")
def provider_edit(request: MemberRequest, slug: str) -> HttpResponse:
    provider = find(slug)
    form = ProviderChangeForm(request.POST, provider=provider)
    if form.is_valid():
        given = {**form.cleaned_data, "secret": form.cleaned_data.get("secret") or None}
        changed = try_service(form, lambda: services.change_provider(provider=provider, actor=request.user, **given))
        if changed is not None:
            is_gone = bool(provider.sealed_secret) and not changed.sealed_secret
            what = changed.get_credential_display() if changed.credential != Provider.Credential.KEY else "API key"
            messages.success(
                request,
                f"{changed.name} is changed." + (f" Its {what} belonged to the old URL and is gone: give a new one." if is_gone else ""),
            )
            return redirect(reverse("provider-detail", args=[slug]))
    return _detail(request, provider, form=form, status=422)


@requires(Permission.MANAGE_CATALOG, "POST")
def provider_secret(request: MemberRequest, slug: str) -> HttpResponse:
    provider = find(slug)
    form = SecretForm(request.POST, provider=provider)
    if form.is_valid() and try_service(form, lambda: services.set_secret(provider=provider, actor=request.user, **form.cleaned_data)):
        messages.success(request, f"{provider.name} has a new credential. The gateway uses it within about 2 s.")
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
    initial = {name: getattr(provider, name) for name in ("name", "base_url", "dialect", "region", "api_version")}
    return render_page(
        request,
        "catalog/provider_detail.html",
        partial="provider-check",
        status=status,
        context={
            "provider": provider,
            "form": form or ProviderChangeForm(initial=initial, provider=provider),
            "secret_form": secret_form or SecretForm(initial={"credential": request.GET.get("credential", "")}, provider=provider),
            "trace": trace,
            "names": names,
            "deployments": health_selectors.health_of(provider.deployments.select_related("model", "provider").order_by("model__slug")),
        },
    )
