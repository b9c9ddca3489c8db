"""Bills that are fetched, from providers' cost APIs and from folders of exports."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone

from costs import bill_selectors
from costs.forms import BillFolderForm, BillSourceForm
from costs.models import BillSource
from costs.services import bill_folders, bill_sources
from governance.access import Permission, requires
from governance.errors import DomainError
from governance.pages import keyset_page, render_page, try_service
from governance.requests import MemberRequest


@requires(Permission.VIEW_COSTS)
def source_list(request: MemberRequest) -> HttpResponse:
    return _page(request, BillSourceForm(initial={"provider": request.GET.get("provider", "")}))


def _page(request: MemberRequest, form: BillSourceForm, status: int = 200) -> HttpResponse:
    may_manage = request.membership.can(Permission.MANAGE_COSTS)
    context = {"sources": bill_selectors.bill_sources(), "form": form, "may_manage": may_manage}
    return render_page(request, "costs/bill_sources.html", status=status, context=context)


@requires(Permission.MANAGE_COSTS, "POST")
def set_source(request: MemberRequest) -> HttpResponse:
    """Begin to fetch, or change how."""
    form = BillSourceForm(request.POST)
    if form.is_valid() and (source := try_service(form, lambda: bill_sources.set_source(actor=request.user, **form.cleaned_data))):
        messages.success(request, f"Bills of {source.provider} are fetched from {source.begins_on:%b %-d, %Y} on, within half an hour.")
        return redirect(reverse("bill-sources"))
    return _page(request, form, status=422)


@requires(Permission.MANAGE_COSTS, "GET", "POST")
def set_folder(request: MemberRequest) -> HttpResponse:
    """Begin to fetch from a folder, or change how. `kind`, `credential` and `source` in the query say what the form begins with."""
    source = _folders().filter(pk=_number(request.GET.get("source", ""))).first()
    asked = {name: value for name in ("kind", "credential", "provider") if (value := request.GET.get(name))}
    if request.method == "POST":
        same = _folders().filter(provider=request.POST.get("provider", ""), kind=request.POST.get("kind", "")).exists()
        form = BillFolderForm(request.POST, has_credential=same)
        if form.is_valid() and (made := try_service(form, lambda: bill_sources.set_source(actor=request.user, **form.cleaned_data))):
            messages.success(request, f"{made.place} is read within half an hour. Try it now: that takes nothing.")
            return redirect("bill-source", made.pk)
    else:
        names = ("provider", "kind", "credential", "bucket", "prefix", "region", "base_url", "style", "begins_on")
        begun = {name: getattr(source, name) for name in names} if source else {}
        form = BillFolderForm(initial=begun | asked, has_credential=source is not None)
    context = {"form": form, "kinds": [(kind.value, kind.label) for kind in BillSource.FOLDERS], "source": source}
    return render_page(request, "costs/bill_folder_form.html", status=422 if form.errors else 200, context=context)


@requires(Permission.VIEW_COSTS)
def source_detail(request: MemberRequest, pk: int) -> HttpResponse:
    """A folder: what was read of it, and what failed."""
    return _detail(request, _folder(pk))


@requires(Permission.MANAGE_COSTS, "GET", "POST")
def try_folder(request: MemberRequest, pk: int) -> HttpResponse:
    """Say what a reading would take, and take nothing. The answer stands at this address, so links and reloads of it lead to the folder."""
    source = _folder(pk)
    if request.method != "POST":
        query = request.GET.urlencode()
        return redirect(f"{reverse('bill-source', args=[pk])}{'?' * bool(query)}{query}")
    try:
        look = bill_folders.look(source, timezone.now())
    except DomainError as error:
        messages.error(request, error.message)
        return redirect("bill-source", pk)
    return _detail(request, source, look)


def _detail(request: MemberRequest, source: BillSource, look: bill_folders.Look | None = None) -> HttpResponse:
    only_failed = request.GET.get("failed") == "1"
    files = bill_selectors.source_files(source, only_failed=only_failed)
    return render_page(
        request,
        "costs/bill_source_detail.html",
        partial="source-files",
        context={
            "source": source,
            "look": look,
            "page": keyset_page(files, order=["-changed_at", "-pk"], cursor=request.GET.get("cursor", "")),
            "only_failed": only_failed,
            "is_being_read": bill_sources.is_being_read(source, timezone.now()),
            "may_manage": request.membership.can(Permission.MANAGE_COSTS),
        },
    )


@requires(Permission.MANAGE_COSTS, "POST")
def fetch(request: MemberRequest, pk: int) -> HttpResponse:
    """Fetch now: a cost API at once, a folder in the background; with `again` also what failed and has not changed."""
    source = _source(pk)
    if source.is_folder:
        bill_sources.ask_reading(source=source, again=request.POST.get("again") == "1")
        messages.success(request, "It is being read. What becomes of its files stands here.")
        return redirect("bill-source", pk)
    try:
        done = bill_sources.fetch(source=source)
    except DomainError as error:
        messages.error(request, error.message)
    else:
        new = f"{done.rows:,} new rows" if done.rows else "nothing new"
        messages.success(request, f"{new} up to {done.last:%b %-d, %Y}.")
    return redirect("bill-sources")


@requires(Permission.MANAGE_COSTS, "POST")
def remove(request: MemberRequest, pk: int) -> HttpResponse:
    source = _source(pk)
    bill_sources.remove_source(source=source, actor=request.user)
    messages.success(request, f"Bills of {source.provider} are fetched no more. What was fetched stays.")
    return redirect(reverse("bill-sources"))


def _source(pk: int) -> BillSource:
    return get_object_or_404(bill_selectors.bill_sources(), pk=pk)


def _folders() -> QuerySet[BillSource]:
    return bill_selectors.bill_sources().filter(kind__in=BillSource.FOLDERS)


def _folder(pk: int) -> BillSource:
    return get_object_or_404(_folders(), pk=pk)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
