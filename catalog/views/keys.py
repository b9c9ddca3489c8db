"""Virtual keys: lists of one's own and of everybody's, making one, the page that shows it once, revoking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone

from catalog import samples, selectors
from catalog.filters import KeyFilter
from catalog.forms.keys import BulkForm, FirstCallForm, KeyDecisionForm, KeyForm, RotateForm
from catalog.forms.projects import TagsForm, tags_form
from catalog.models import KeyRequest, Model, Project, VirtualKey
from catalog.services import default_tags, key_requests
from catalog.services import keys as services
from catalog.tables import key_columns
from governance.access import Permission, requires
from governance.errors import DomainError
from governance.pages import keyset_page, render_page, sort_heads, try_act, try_form, try_service
from governance.requests import MemberRequest

STATES = {"active": "Active", "expiring": "Expiring in 14 days", "expired": "Expired", "revoked": "Revoked"}
REQUEST_TABS = {
    "waiting": ("Waiting", [KeyRequest.Status.WAITING]),
    "agreed": ("Agreed, not taken", [KeyRequest.Status.AGREED]),
    "ended": ("Ended", [KeyRequest.Status.TAKEN, KeyRequest.Status.DECLINED, KeyRequest.Status.WITHDRAWN]),
}
SOME = 10
"""Of many keys, how many the confirmation names."""


def _find(request: MemberRequest, public_id: str) -> VirtualKey:
    return get_object_or_404(selectors.keys_visible_to(request.membership), public_id=public_id)


def _list(request: MemberRequest, keys: Any, *, everybody: bool) -> HttpResponse:
    now = timezone.now()
    state = request.GET.get("state", "active")
    state = state if state in STATES else "active"
    live = Q(revoked_at=None, expires_at__gt=now)
    counts = keys.order_by().aggregate(
        active=Count("pk", filter=live),
        revoked=Count("pk", filter=Q(revoked_at__isnull=False)),
        expired=Count("pk", filter=Q(revoked_at=None, expires_at__lte=now)),
        expiring=Count("pk", filter=live & Q(expires_at__lte=now + selectors.EXPIRY_WARNING, purpose=VirtualKey.Purpose.STANDARD)),
    )
    chosen = {name: request.GET.get(name, "").strip() for name in ("q", "project")}
    sort = request.GET.get("sort", "")
    sort = sort if sort.removeprefix("-") in selectors.KEY_ORDERS else "newest"
    filtered = selectors.ranked_keys(KeyFilter({**chosen, "state": state}, queryset=keys).qs)
    page = keyset_page(filtered, order=selectors.key_order(sort), cursor=request.GET.get("cursor", ""))
    return render_page(
        request,
        "catalog/key_list.html",
        partial="key-table",
        context={
            "page": page,
            "rows": selectors.key_rows(page.rows),
            "everybody": everybody,
            "state": state,
            "chosen": chosen,
            "is_filtered": any(chosen.values()),
            "states": [(name, label, counts[name]) for name, label in STATES.items()],
            "counts": counts,
            "base_url": settings.BASE_URL,
            "projects": {"": "Any project", **dict(Project.objects.order_by("name", "pk").values_list("slug", "name"))},
            "heads": sort_heads(key_columns(everybody=everybody), sort),
            "sort": sort,
            "may_bulk": state in ("active", "expiring"),
            "list_url": reverse("operate-keys" if everybody else "build-keys"),
            "requests": [] if everybody else selectors.own_key_requests(request.user, now),
            "requests_waiting": selectors.key_requests_to_decide(request.membership).count() if everybody else 0,
        },
    )


@dataclass(frozen=True)
class Selection:
    """Keys that were ticked, or all that a list's filters match; of one's own or of everybody's."""

    keys: QuerySet[VirtualKey]
    fields: list[tuple[str, str]]
    """By which the next request says the same."""
    list_url: str
    """As it was narrowed and sorted when the act began."""


def _selection(request: MemberRequest) -> Selection:
    given = request.POST if request.method == "POST" else request.GET
    everybody = given.get("of") == "all"
    keys = selectors.keys_visible_to(request.membership) if everybody else selectors.own_keys(request.user)
    listed = {name: value for name in ("q", "project", "state", "sort") if (value := given.get(name, "").strip())}
    fields = [("of", "all" if everybody else "own"), *listed.items()]
    if given.get("every"):
        keys = KeyFilter({name: listed.get(name, "") for name in ("q", "project", "state")}, queryset=keys).qs
        fields.append(("every", "1"))
    else:
        ids = given.getlist("id")
        keys = keys.filter(public_id__in=ids)
        fields += [("id", one) for one in ids]
    list_url = reverse("operate-keys" if everybody else "build-keys")
    return Selection(keys, fields, f"{list_url}?{urlencode(listed)}" if listed else list_url)


@requires(Permission.VIEW, "GET", "POST")
def keys_bulk(request: MemberRequest) -> HttpResponse:
    """What rotating or revoking many keys would do, with their number; and doing it."""
    given = request.POST if request.method == "POST" else request.GET
    act = "rotate" if given.get("act") == "rotate" else "revoke"
    selection = _selection(request)
    form = BulkForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        expected, overlap = form.cleaned_data["expected"], form.cleaned_data["overlap"]
        overlap = services.DEFAULT_OVERLAP if overlap is None else overlap  # none at all is an answer, too
        if act == "rotate":
            made = try_service(
                form,
                lambda: services.rotate_keys(
                    chosen=selection.keys, actor=request.user, expected=expected, overlap=overlap, seen=form.cleaned_data["seen"]
                ),
            )
            if made is not None:
                return _show_all_once(request, made, selection.list_url)
        else:
            ended = try_service(form, lambda: services.revoke_keys(chosen=selection.keys, actor=request.user, expected=expected))
            if ended is not None:
                messages.success(
                    request, f"{ended:,} {'key is' if ended == 1 else 'keys are'} revoked. The gateway refuses them within about 2 s."
                )
                return redirect(selection.list_url)
    live = selectors.keys_to_rotate(selection.keys) if act == "rotate" else selectors.live_keys(selection.keys)
    count = live.count()
    return render_page(
        request,
        "catalog/keys_bulk.html",
        status=422 if form.errors else 200,
        context={
            "act": act,
            "form": form,
            "count": count,
            "left_out": selection.keys.count() - count,
            "some": live[:SOME],
            "beyond": max(0, count - SOME),
            "owners": live.order_by().values("owner").distinct().count(),
            "most": services.MOST_ROTATED,
            "mark": services.rotation_mark(live.values_list("rotated_at", flat=True))
            if act == "rotate" and count <= services.MOST_ROTATED
            else "",
            "too_many": act == "rotate" and count > services.MOST_ROTATED,
            "fields": selection.fields,
            "list_url": selection.list_url,
        },
    )


def _show_all_once(request: MemberRequest, made: list[tuple[VirtualKey, str]], list_url: str) -> HttpResponse:
    response = render_page(request, "catalog/keys_rotated.html", context={"made": made, "list_url": list_url})
    response.headers["Cache-Control"] = "no-store"
    return response


@requires(Permission.USE_GATEWAY)
def build_keys(request: MemberRequest) -> HttpResponse:
    return _list(request, selectors.own_keys(request.user), everybody=False)


@requires(Permission.MANAGE_KEYS)
def operate_keys(request: MemberRequest) -> HttpResponse:
    return _list(request, selectors.keys_visible_to(request.membership), everybody=True)


@requires(Permission.USE_GATEWAY, "GET", "POST")
def key_new(request: MemberRequest) -> HttpResponse:
    """The form; after it, the page that shows the key once, or the request for it."""
    wanted = request.GET.get("model", "")
    given = request.POST if request.method == "POST" else request.GET
    named = given.get("project", "")
    project = selectors.enabled_projects().filter(Q(pk=int(named)) if named.isdecimal() and len(named) < 10 else Q(slug=named)).first()
    project = project or selectors.enabled_projects().order_by("name").first()
    is_by_request = project is not None and project.keys_by_request and not request.membership.can(Permission.MANAGE_KEYS)
    initial: dict[str, Any] = {name: given.get(name) for name in KeyForm.base_fields if name in given}
    initial |= {name: given.getlist(name) for name in ("models", "tools")} | ({"project": project.pk} if project else {})
    form = KeyForm(request.POST or None, initial=initial, is_by_request=is_by_request)
    if request.method == "POST" and form.is_valid():
        if is_by_request:
            if try_service(form, lambda: key_requests.ask(actor=request.user, **form.cleaned_data)):
                messages.success(request, "Asked. When somebody has agreed, you take the key here.")
                return redirect("build-keys")
        else:
            made = try_service(form, lambda: services.create_key(owner=request.user, actor=request.user, **form.cleaned_data))
            if made is not None:
                return _show_once(request, *made, model=wanted)
    return render_page(
        request,
        "catalog/key_new.html",
        partial="key-form",
        status=422 if form.errors else 200,
        context={
            "form": form,
            "model": wanted,
            "is_by_request": is_by_request,
            "has_projects": project is not None,
        },
    )


@requires(Permission.MANAGE_KEYS)
def key_requests_list(request: MemberRequest) -> HttpResponse:
    """What people ask for: those that wait first to be seen, then what became of the others."""
    tab = request.GET.get("tab", "waiting")
    tab = tab if tab in REQUEST_TABS else "waiting"
    found = selectors.key_requests_visible_to(request.membership)
    counts = {name: found.filter(status__in=statuses).count() for name, (_, statuses) in REQUEST_TABS.items()}
    page = keyset_page(found.filter(status__in=REQUEST_TABS[tab][1]), order=["-pk"], cursor=request.GET.get("cursor", ""))
    tabs = [(name, label, counts[name]) for name, (label, _) in REQUEST_TABS.items()]
    return render_page(request, "catalog/key_requests.html", context={"page": page, "tab": tab, "tabs": tabs})


@requires(Permission.MANAGE_KEYS, "POST")
def key_request_decide(request: MemberRequest, pk: int) -> HttpResponse:
    agree = request.POST.get("agree") == "1"
    asked = _find_request(request, pk)
    try_form(
        request,
        KeyDecisionForm(request.POST),
        lambda given: key_requests.decide(request=asked, agree=agree, actor=request.user, **given),
        f"{asked.requester} may take the key {asked.name}." if agree else f"The request for {asked.name} is declined.",
    )
    return redirect("key-requests")


@requires(Permission.USE_GATEWAY, "POST")
def key_request_withdraw(request: MemberRequest, pk: int) -> HttpResponse:
    asked = _find_request(request, pk)
    try_act(request, lambda: key_requests.withdraw(request=asked, actor=request.user), f"The request for {asked.name} is withdrawn.")
    return redirect("build-keys")


@requires(Permission.USE_GATEWAY, "POST")
def key_request_take(request: MemberRequest, pk: int) -> HttpResponse:
    """The page that shows the key once."""
    asked = _find_request(request, pk)
    try:
        made = key_requests.take(request=asked, actor=request.user)
    except DomainError as error:
        messages.error(request, error.message)
        return redirect("build-keys")
    return _show_once(request, *made)


def _find_request(request: MemberRequest, pk: int) -> KeyRequest:
    return get_object_or_404(selectors.key_requests_visible_to(request.membership), pk=pk)


def _show_once(request: MemberRequest, key: VirtualKey, text: str, *, model: str = "") -> HttpResponse:
    served = selectors.served_models()
    allowed = served.filter(slug__in=key.models) if key.models is not None else served
    chosen = allowed.filter(slug=model).first() or allowed.filter(capabilities__contains=["chat"]).first() or allowed.first()
    response = render_page(
        request,
        "catalog/key_created.html",
        context={
            "key": key,
            "text": text,
            "model": chosen,
            "samples": samples.samples_for(settings.BASE_URL, chosen.slug, chosen.capabilities, text) if chosen else [],
        },
    )
    response.headers["Cache-Control"] = "no-store"
    return response


@requires(Permission.VIEW)
def key_detail(request: MemberRequest, public_id: str) -> HttpResponse:
    return _detail(request, _find(request, public_id))


def _detail(request: MemberRequest, key: VirtualKey, *, form: TagsForm | None = None) -> HttpResponse:
    context = {
        "key": key,
        "row": selectors.key_rows([key])[0],
        "mark": services.rotation_mark([key.rotated_at]),
        "tags": key.tags,
        "tags_form": form or (tags_form(None, key.tags) if key.state == "active" else None),
        "tags_url": reverse("key-tags", args=[key.public_id]),
    }
    return render_page(request, "catalog/key_detail.html", context=context, status=422 if form else 200)


@requires(Permission.VIEW, "POST")
def key_tags(request: MemberRequest, public_id: str) -> HttpResponse:
    """One's own key, or anybody's with the right to manage keys."""
    key = _find(request, public_id)
    form = tags_form(request.POST, key.tags)
    if form.is_valid() and try_service(
        form, lambda: default_tags.set_key_tags(key=key, tags=form.cleaned_data["tags"], actor=request.user)
    ):
        messages.success(request, f"The tags of {key.name}'s calls are set. The gateway follows within about 2 s.")
        return redirect(reverse("key-detail", args=[public_id]))
    return _detail(request, key, form=form)


@requires(Permission.VIEW)
def key_tick(request: MemberRequest, public_id: str) -> HttpResponse:
    """Whether the key was used, as a fragment that asks again until it was."""
    return render_page(
        request,
        "catalog/partials/key_tick.html",
        context={"key": _find(request, public_id), "row": selectors.key_rows([_find(request, public_id)])[0]},
    )


@requires(Permission.VIEW, "POST")
def key_rotate(request: MemberRequest, public_id: str) -> HttpResponse:
    form = RotateForm(request.POST)
    key = _find(request, public_id)
    made = try_service(form, lambda: services.rotate_key(key=key, actor=request.user, **form.cleaned_data)) if form.is_valid() else None
    if made is not None:
        return _show_once(request, *made)
    messages.error(request, " ".join(str(error) for errors in form.errors.values() for error in errors))
    return redirect(reverse("key-detail", args=[public_id]))


@requires(Permission.VIEW, "POST")
def key_revoke(request: MemberRequest, public_id: str) -> HttpResponse:
    key = services.revoke_key(key=_find(request, public_id), actor=request.user)
    messages.success(request, f"{key.name} is revoked. The gateway refuses it within about 2 s.")
    return redirect(reverse("key-detail", args=[public_id]))


@requires(Permission.USE_GATEWAY, "GET", "POST")
def first_call(request: MemberRequest) -> HttpResponse:
    """One screen from nothing to the first governed call: choose, get a key, paste, watch it arrive."""
    form = FirstCallForm(request.POST or None)
    context: dict[str, Any] = {
        "form": form,
        "has_projects": selectors.enabled_projects().exists(),
        "has_models": Model.objects.filter(status__in=Model.SERVED, capabilities__contains=["chat"]).exists(),
    }
    if request.method == "POST" and form.is_valid():
        model = form.cleaned_data["model"]
        made = try_service(
            form,
            lambda: services.create_key(
                name=f"First call, {request.user}"[:60], project=form.cleaned_data["project"], owner=request.user, actor=request.user
            ),
        )
        if made is not None:
            key, text = made
            context |= {"key": key, "text": text, "model": model, "samples": samples.chat_samples(settings.BASE_URL, model.slug, text)}
    response = render_page(request, "catalog/first_call.html", context=context, status=422 if form.errors else 200)
    response.headers["Cache-Control"] = "no-store"
    return response
