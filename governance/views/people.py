"""People of an organisation and their roles."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from governance import selectors
from governance.access import GRANTS, Permission, Role, or_404, requires
from governance.forms import MemberForm, RolesForm
from governance.models import Membership
from governance.pages import keyset_page, render_page, try_act, try_service
from governance.requests import MemberRequest
from governance.services import people as people_service


@requires(Permission.VIEW_OPERATE, "GET", "POST")
def people(request: MemberRequest) -> HttpResponse:
    may_manage = request.membership.can(Permission.MANAGE_PEOPLE)
    form, status = MemberForm(request.POST or None), 200
    if request.method == "POST":
        if not may_manage:
            return HttpResponse("This needs the right to: add people and change their roles.", status=403)
        if form.is_valid() and try_service(
            form, lambda: people_service.add_member(tenant=request.tenant, actor=request.user, **form.cleaned_data)
        ):
            messages.success(request, f"{form.cleaned_data['email']} is a member now.")
            return redirect(reverse("people"))
        status = 422
    members = selectors.members_of(request.tenant)
    query = request.GET.get("q", "").strip()
    if query:
        members = members.filter(user__name__icontains=query) | members.filter(user__email__icontains=query)
    return render_page(
        request,
        "governance/people.html",
        partial="people-table",
        status=status,
        context={
            "page": keyset_page(members, order=["user__name", "pk"], cursor=request.GET.get("cursor", "")),
            "form": form,
            "may_manage": may_manage,
            "query": query,
            "roles": [(role.value, role.label, sorted(permission.label for permission in GRANTS[role])) for role in Role],
        },
    )


@requires(Permission.MANAGE_PEOPLE, "POST")
def change_roles(request: MemberRequest, pk: int) -> HttpResponse:
    member, form = _member(request, pk), RolesForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Choose at least one role.")
        return redirect(reverse("people"))
    try_act(
        request,
        lambda: people_service.change_roles(membership=member, roles=form.cleaned_data["roles"], actor=request.user),
        f"{member.user} has the new roles now.",
    )
    return redirect(reverse("people"))


@requires(Permission.MANAGE_PEOPLE, "POST")
def remove(request: MemberRequest, pk: int) -> HttpResponse:
    member = _member(request, pk)
    try_act(request, lambda: people_service.remove_member(membership=member, actor=request.user), f"{member.user} is no longer a member.")
    return redirect(reverse("people"))


def _member(request: MemberRequest, pk: int) -> Membership:
    return or_404(selectors.members_of(request.tenant).filter(pk=pk).first())
