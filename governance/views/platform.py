"""What the operator of the platform sees and does."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from governance import selectors
from governance.access import operator_only, or_404
from governance.downloads import download
from governance.forms import DeleteForm, SuspendForm, TenantForm
from governance.models import Tenant
from governance.pages import errors_of, keyset_page, render_page, try_service
from governance.requests import AppRequest
from governance.services import tenant_data
from governance.services import tenants as tenants_service


@operator_only()
def tenants(request: AppRequest) -> HttpResponse:
    query = request.GET.get("q", "").strip()
    rows = selectors.tenants_for_operator()
    if query:
        rows = rows.filter(name__icontains=query) | rows.filter(slug__icontains=query)
    page = keyset_page(rows, order=["name", "pk"], cursor=request.GET.get("cursor", ""))
    return render_page(request, "governance/tenants.html", partial="tenant-table", context={"page": page, "query": query})


@operator_only("GET", "POST")
def new_tenant(request: AppRequest) -> HttpResponse:
    form, status = TenantForm(request.POST or None), 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            started = timezone.now()
            tenant = try_service(form, lambda: tenants_service.create_tenant(actor=request.user, **form.cleaned_data))
            if tenant is not None:
                seconds = (timezone.now() - started).total_seconds()
                messages.success(
                    request, f"{tenant.name} is ready, made in {seconds:.1f} s. Its owner {form.cleaned_data['owner_email']} can sign in."
                )
                return redirect("/platform/tenants/")
    return render_page(request, "governance/tenant_form.html", partial="tenant-form", context={"form": form}, status=status)


@operator_only("POST")
def suspend(request: AppRequest, slug: str) -> HttpResponse:
    form = SuspendForm(request.POST)
    tenant = _tenant(slug)
    if form.is_valid():
        tenants_service.suspend_tenant(tenant=tenant, actor=request.user, reason=form.cleaned_data["reason"])
        messages.success(request, f"{tenant.name} is suspended. The gateway refuses its calls within about 2 s.")
    else:
        messages.error(request, "Say why: the reason stands in the audit log.")
    return redirect("/platform/tenants/")


@operator_only("POST")
def reopen(request: AppRequest, slug: str) -> HttpResponse:
    tenant = tenants_service.reopen_tenant(tenant=_tenant(slug), actor=request.user)
    messages.success(request, f"{tenant.name} is open again.")
    return redirect("/platform/tenants/")


@operator_only("POST")
def export(request: AppRequest, slug: str) -> StreamingHttpResponse:
    tenant = _tenant(slug)
    chunks = tenant_data.export_tenant(tenant=tenant, actor=request.user)
    return download(request, name=f"{slug}-{timezone.now():%Y-%m-%d}.zip", content_type="application/zip", chunks=chunks)


@operator_only("POST")
def delete(request: AppRequest, slug: str) -> HttpResponse:
    form = DeleteForm(request.POST)
    tenant = _tenant(slug)
    name = tenant.name
    if form.is_valid() and try_service(form, lambda: tenant_data.delete_tenant(tenant=tenant, actor=request.user, **form.cleaned_data)):
        messages.success(request, f"{name} is deleted, with all of its data.")
    else:
        messages.error(request, errors_of(form))
    return redirect("/platform/tenants/")


@operator_only()
def audit_log(request: AppRequest) -> HttpResponse:
    page = keyset_page(selectors.audit_entries(), order=["-sequence"], cursor=request.GET.get("cursor", ""))
    return render_page(request, "governance/platform_audit.html", context={"page": page})


def _tenant(slug: str) -> Tenant:
    return or_404(Tenant.objects.filter(slug=slug).first())
