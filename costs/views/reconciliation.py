"""Bills, and why they differ from our figures."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django_htmx.http import HttpResponseClientRedirect, trigger_client_event

from costs import bill_imports, bill_selectors, export_schema, parquet, reconciliation_selectors
from costs.forms import AliasForm, BillForm, SignOffForm
from costs.models import BillFile, BillRow, DeliveryStyle, Reconciliation, Revision
from costs.periods import first_of_month
from costs.services import bill_deliveries, bills, reconciliation, signoff
from governance import csvs
from governance.access import Permission, requires
from governance.downloads import download
from governance.errors import DomainError
from governance.pages import keyset_page, render_page, try_act, try_form, try_service
from governance.requests import MemberRequest

NEWEST = 10
"""Files on the page of the months; all of them have a page of their own."""
LINE_FILTERS = ("standing", "cause", "model", "class", "day")


@requires(Permission.VIEW_COSTS)
def reconciliation_list(request: MemberRequest) -> HttpResponse:
    return _overview(request, BillForm())


@requires(Permission.MANAGE_COSTS, "POST")
def upload(request: MemberRequest) -> HttpResponse:
    """Take over a bill."""
    form = BillForm(request.POST, request.FILES)
    if form.is_valid():
        files = [bills.Upload(file, file.name) for file in form.cleaned_data["file"]]
        done = try_service(
            form,
            lambda: bills.import_bill(
                file=files[0].file,
                name=files[0].name,
                more=files[1:],
                actor=request.user,
                provider=form.cleaned_data["provider"],
                style=form.cleaned_data["style"],
                import_id=form.cleaned_data["import_id"],
                is_preview=True,
            ),
        )
        if done is not None:
            if done.is_new and done.file.state == BillFile.State.WAITING:
                messages.info(request, f"{done.file.name} would replace rows. Look at what it changes, then apply it.")
            elif done.is_new:
                messages.success(request, f"{done.file.name}: {done.file.rows_accepted:,} of {done.file.rows_in:,} rows are new.")
            else:
                messages.info(
                    request,
                    f"This very file was imported on {done.file.uploaded_at:%b %-d, %Y} ({done.file.get_state_display().lower()}). Nothing was changed.",
                )
            page = reverse("bill-detail", args=[done.file.pk])
            return HttpResponseClientRedirect(page) if request.htmx else redirect(page)
    if request.htmx:
        return render(request, "costs/partials/bill_form.html#bill-form", {"form": form}, status=422)
    return _overview(request, form, status=422)


@requires(Permission.VIEW_COSTS)
def imports(request: MemberRequest) -> HttpResponse:
    """How far the imports are that are on their way. Once there is none any more, the months and files of the page are asked for again.

    Never the page: an upload may be on its way from it, or a form half filled in.
    """
    if not request.htmx:
        return redirect("reconciliation-list")
    running, may_manage = bill_imports.running(), request.membership.can(Permission.MANAGE_COSTS)
    response = render(request, "costs/partials/bill_imports.html", {"imports": running, "may_manage": may_manage})
    return response if running else trigger_client_event(response, "imports-ended")


@requires(Permission.MANAGE_COSTS, "POST")
def stop_import(request: MemberRequest, import_id: str) -> HttpResponse:
    """Stop an import. Whoever uploads it is told by the upload's own answer, so the script that asks for them gets no message."""
    if request.htmx:
        try:
            bills.stop_import(import_id=import_id, actor=request.user)
        except DomainError as error:
            return HttpResponse(status=error.status)
        return HttpResponse(status=204)
    try_act(
        request,
        lambda: bills.stop_import(import_id=import_id, actor=request.user),
        "The import was told to stop. Nothing of it is taken over, unless it was done in that moment: then it is in the list.",
    )
    return redirect("reconciliation-list")


def _overview(request: MemberRequest, form: BillForm, status: int = 200) -> HttpResponse:
    chosen = {name: request.GET[name] for name in ("q", "month", "show") if request.GET.get(name)}
    today = timezone.now().date()
    page = keyset_page(
        bill_selectors.reconciliations(chosen), order=["-month", "provider", "account", "pk"], cursor=request.GET.get("cursor", "")
    )
    names = bill_selectors.provider_choices()
    return render_page(
        request,
        "costs/reconciliation_list.html",
        partial="bill-files" if "files" in request.GET else "reconciliations",
        status=status,
        context={
            "page": page,
            "signatures": reconciliation_selectors.signature_counts([one.latest_id for one in page.rows if one.latest_id is not None]),
            "chosen": chosen,
            "shows": {"": "all", "open": "not signed off"},
            "standing": bill_selectors.standing(first_of_month(today, -2), today),
            "rows": [(series, names.get(series.provider, series.provider)) for series in page.rows],
            "files": bill_selectors.bills()[:NEWEST],
            "has_more_files": bill_selectors.bills().count() > NEWEST,
            "form": form,
            "imports": bill_imports.running(),
            "may_manage": request.membership.can(Permission.MANAGE_COSTS),
        },
    )


@requires(Permission.VIEW_COSTS)
def bill_list(request: MemberRequest) -> HttpResponse:
    """All files."""
    chosen = {name: request.GET[name] for name in ("q", "state") if request.GET.get(name)}
    context = {
        "page": keyset_page(bill_selectors.bills(chosen), order=["-uploaded_at", "-pk"], cursor=request.GET.get("cursor", "")),
        "chosen": chosen,
        "states": {"": "any", **dict(BillFile.State.choices)},
    }
    return render_page(request, "costs/bill_list.html", partial="bill-table", context=context)


@requires(Permission.VIEW_COSTS)
def bill_detail(request: MemberRequest, pk: int) -> HttpResponse:
    bill = _bill(pk)
    months = bill_selectors.compared_months(bill, timezone.now())
    may_manage = request.membership.can(Permission.MANAGE_COSTS)
    compared = {"bill": bill, "compared": months.series, "is_being_compared": months.is_being_compared, "may_manage": may_manage}
    if request.htmx and "compared" in request.GET:  # asked every two seconds: of a large file, the rest of the page takes much longer
        return render(request, "costs/bill_detail.html#bill-compared", compared)
    errors = bill.errors.all()
    if "column" in request.GET:
        errors = errors.filter(column=request.GET["column"])
    return render_page(
        request,
        "costs/bill_detail.html",
        partial="bill-errors",
        context={
            **compared,
            "page": keyset_page(errors, order=["-is_quarantined", "part", "line", "pk"], cursor=request.GET.get("cursor", "")),
            "reasons": bill_selectors.error_reasons(bill),
            "column": request.GET.get("column"),
            "providers": {"": "as each row says", **bill_selectors.provider_choices()},
            "kinds": bill_selectors.kinds_of(bill),
            "replacing": bill_selectors.replacing_files(bill),
            "styles": {DeliveryStyle.APPEND: "It adds", DeliveryStyle.REPLACEMENT: "It replaces"},
            "style": next((one.style for one in bill.deliveries.all()), ""),
            "reason_needed": any(doubt["code"] == bill_deliveries.SIGNED for doubt in bill.doubts),
            "currency": bill_selectors.currency_of(bill),
        },
    )


@requires(Permission.VIEW_COSTS)
def bill_errors(request: MemberRequest, pk: int) -> HttpResponseBase:
    """The rows that were rejected or are in quarantine, with their reasons, as CSV."""
    bill = _bill(pk)
    found = bill.errors.values_list("part", "line", "is_quarantined", "column", "message", "text").iterator(chunk_size=2000)
    rows = ((part, line, "quarantined" if held else "rejected", *rest) for part, line, held, *rest in found)
    return csvs.response(request, f"rejected-{bill.sha256[:8]}.csv", ("part", "line", "state", "column", "message", "row"), rows)


@requires(Permission.MANAGE_COSTS, "POST")
def bill_release(request: MemberRequest, pk: int) -> HttpResponse:
    """Try to place rows again that are in quarantine."""
    bill = _bill(pk)
    provider = request.POST.get("provider", "")
    try:
        released = bills.release_quarantine(bill=bill, actor=request.user, provider=provider)
    except DomainError as error:
        messages.error(request, error.message)
    else:
        if released.state == BillFile.State.APPLIED:
            messages.success(request, "What could be placed is taken over; the rest stays in quarantine with its reason.")
        else:
            messages.warning(request, f"{released.name} waits: look at what it would change, then apply it.")
    return redirect("bill-detail", pk)


def _bill(pk: int) -> BillFile:
    return get_object_or_404(bill_selectors.bills(), pk=pk)


@requires(Permission.VIEW_COSTS)
def reconciliation_detail(request: MemberRequest, provider: str, account: str, month: date) -> HttpResponse:
    series, revision = asked(request, provider, account, month)
    rows, ticks = bill_selectors.bridge_rows(revision)
    signed = reconciliation_selectors.sign_off(revision)
    is_latest = revision.pk == series.latest_id
    has_accounts = is_latest and account == Reconciliation.ALL_ACCOUNTS
    by = request.GET.get("by", "")
    if by not in ("day", "account") or (by == "account" and not has_accounts):
        by = "model"
    context: dict[str, Any] = {
        "series": series,
        "revision": revision,
        "rows": rows,
        "ticks": ticks,
        "by": by,
        "compared": bill_selectors.compared_by(revision, by) if by != "account" else [],
        "has_accounts": has_accounts,
        "accounts": bill_selectors.billed_accounts(revision) if by == "account" else [],
        "files": bill_selectors.files_of(revision),
        "waiting": bill_selectors.waiting_files(provider, month)[:3],
        "revisions": series.revisions.order_by("-number")[:20],
        "is_latest": is_latest,
        "unknown_models": bill_selectors.unknown_models(provider, month),
        "may_manage": request.membership.can(Permission.MANAGE_COSTS),
        "may_sign": request.membership.can(Permission.SIGN_BILLS),
        "has_signed": signed.is_by(request.user),
        "sign_off": signed,
        "is_over": timezone.now().date() > revision.last_day,
        "previous": reconciliation_selectors.revision_before(revision),
        "alias_form": AliasForm(initial={"provider": provider}),
        "provider_name": bill_selectors.provider_choices().get(provider, provider),
        "explained": sum(1 for row in rows if row.cause != "unexplained"),
        "cells": bill_selectors.cents_of(revision),
        "rates": bill_selectors.used_rates(revision),
        "excluded": [{**row, "label": BillRow.Kind(row["kind"]).label} for row in revision.excluded],
    }
    return render_page(request, "costs/reconciliation_detail.html", partial="compared", context=context)


@requires(Permission.VIEW_COSTS)
def reconciliation_csv(request: MemberRequest, provider: str, account: str, month: date) -> HttpResponseBase:
    """Every compared line with its causes, exact; narrowed like the page of lines."""
    revision, name = _exported(request, provider, account, month)
    columns = export_schema.line_columns(revision.currency)
    rows = ([row[column.name] for column in columns] for row in reconciliation_selectors.exported_lines(revision, _line_filters(request)))
    return csvs.response(request, f"{name}.csv", [column.name for column in columns], rows)


@requires(Permission.VIEW_COSTS)
def reconciliation_parquet(request: MemberRequest, provider: str, account: str, month: date) -> HttpResponseBase:
    """The same lines, typed."""
    revision, name = _exported(request, provider, account, month)
    rows = reconciliation_selectors.exported_lines(revision, _line_filters(request))
    chunks = parquet.write(export_schema.line_columns(revision.currency), rows)
    return download(request, name=f"{name}.parquet", content_type=export_schema.FILES["parquet"], chunks=chunks)


def _exported(request: MemberRequest, provider: str, account: str, month: date) -> tuple[Revision, str]:
    """With the name of its file."""
    _, revision = asked(request, provider, account, month)
    return revision, f"reconciliation-{provider}-{month:%Y-%m}-rev{revision.number}"


def _line_filters(request: MemberRequest) -> dict[str, str]:
    return {name: request.GET[name] for name in LINE_FILTERS if request.GET.get(name)}


@requires(Permission.MANAGE_COSTS, "POST")
def run(request: MemberRequest, provider: str, account: str, month: date) -> HttpResponse:
    """Compare again, now."""
    series = bill_selectors.reconciliation(provider, account, month)
    if series is None:
        raise Http404
    try:
        revision, is_new = reconciliation.reconcile(provider=provider, month=month, actor=request.user)
    except DomainError as error:
        messages.error(request, error.message)
        if series.latest_id is None:  # it waits for exchange rates, and has no page yet
            return redirect(reverse("reconciliation-list"))
        return redirect(reverse("reconciliation-detail", args=[provider, account, month]))
    messages.success(request, f"Revision {revision.number} is new." if is_new else f"Nothing changed since revision {revision.number}.")
    return redirect(reverse("reconciliation-detail", args=[provider, revision.reconciliation.account, month]))


@requires(Permission.SIGN_BILLS, "POST")
def sign(request: MemberRequest, provider: str, account: str, month: date) -> HttpResponse:
    """Sign the revision that the page showed."""
    _, revision = asked(request, provider, account, month)
    digest = request.POST.get("digest", "")
    try_form(
        request,
        SignOffForm(request.POST),
        lambda given: signoff.sign(revision=revision, digest=digest, actor=request.user, **given),
        f"You have signed revision {revision.number}.",
    )
    return _month_of(revision)


@requires(Permission.SIGN_BILLS, "POST")
def withdraw(request: MemberRequest, provider: str, account: str, month: date) -> HttpResponse:
    """Take one's own signature back."""
    _, revision = asked(request, provider, account, month)
    try_act(request, lambda: signoff.withdraw(revision=revision, actor=request.user), "Your signature is withdrawn.")
    return _month_of(revision)


def _month_of(revision: Revision) -> HttpResponse:
    series = revision.reconciliation
    return redirect(reverse("reconciliation-detail", args=[series.provider, series.account, series.month]))


@requires(Permission.MANAGE_COSTS, "POST")
def assign_model(request: MemberRequest, provider: str, account: str, month: date) -> HttpResponse:
    """Say which of our models the bill means."""
    form = AliasForm({**request.POST.dict(), "provider": provider})
    if form.is_valid():
        count = bills.assign_model(actor=request.user, **form.cleaned_data)
        messages.success(
            request,
            f"{form.cleaned_data['theirs']} is {form.cleaned_data['ours']} now, in {count:,} rows. The comparison follows in a moment.",
        )
    else:
        messages.error(request, "Choose one of our models.")
    return redirect(reverse("reconciliation-detail", args=[provider, account, month]))


def asked(request: MemberRequest, provider: str, account: str, month: date) -> tuple[Reconciliation, Revision]:
    """The month of the URL, and the revision of its `?revision=` (default the latest)."""
    series = bill_selectors.reconciliation(provider, account, month)
    revision = reconciliation_selectors.revision(series, request.GET.get("revision")) if series else None
    if series is None or revision is None:
        raise Http404
    revision.reconciliation = series
    return series, revision
