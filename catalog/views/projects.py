"""Projects: list, add, change, switch."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse

from catalog import selectors
from catalog.forms.fields import ReasonForm
from catalog.forms.projects import ProjectChangeForm, ProjectForm, TagsForm, tags_form
from catalog.models import Project, VirtualKey
from catalog.services import default_tags
from catalog.services import projects as services
from catalog.tables import key_columns
from governance.access import Permission, requires
from governance.pages import keyset_page, render_page, sort_heads, try_service
from governance.requests import MemberRequest


def _find(slug: str) -> Project:
    return get_object_or_404(selectors.projects(), slug=slug)


@requires(Permission.VIEW_OPERATE)
def project_list(request: MemberRequest) -> HttpResponse:
    query = request.GET.get("q", "").strip()
    projects = selectors.projects()
    if query:
        projects = (
            projects.filter(name__icontains=query) | projects.filter(slug__icontains=query) | projects.filter(cost_centre__icontains=query)
        )
    page = keyset_page(projects, order=["name", "pk"], cursor=request.GET.get("cursor", ""))
    return render_page(request, "catalog/project_list.html", partial="project-table", context={"page": page, "query": query})


@requires(Permission.MANAGE_CATALOG, "GET", "POST")
def project_new(request: MemberRequest) -> HttpResponse:
    form = ProjectForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        project = try_service(form, lambda: services.create_project(owner=request.user, actor=request.user, **form.cleaned_data))
        if project is not None:
            messages.success(request, f"{project.name} is ready. Developers can make keys for it now.")
            return redirect(reverse("project-detail", args=[project.slug]))
    return render_page(
        request, "catalog/project_form.html", partial="project-form", context={"form": form}, status=422 if form.errors else 200
    )


@requires(Permission.VIEW)
def project_detail(request: MemberRequest, slug: str) -> HttpResponse:
    return _detail(request, _find(slug))


def _detail(request: MemberRequest, project: Project, *, form: TagsForm | None = None) -> HttpResponse:
    manages = request.membership.can(Permission.MANAGE_CATALOG)
    keys = selectors.live_keys(selectors.keys_visible_to(request.membership).filter(project=project, purpose=VirtualKey.Purpose.STANDARD))
    sees_all_keys = request.membership.can(Permission.MANAGE_KEYS)
    return render_page(
        request,
        "catalog/project_detail.html",
        context={
            "project": project,
            "rows": selectors.key_rows(keys[:50]),
            "manages": manages,
            "sees_all_keys": sees_all_keys,
            "heads": sort_heads(key_columns(everybody=sees_all_keys, is_sorted=False), "unsorted"),
            "tags": project.tags,
            "tags_form": form or (tags_form(None, project.tags) if manages else None),
            "tags_url": reverse("project-tags", args=[project.slug]),
        },
        status=422 if form else 200,
    )


@requires(Permission.MANAGE_CATALOG, "POST")
def project_tags(request: MemberRequest, slug: str) -> HttpResponse:
    project = _find(slug)
    form = tags_form(request.POST, project.tags)
    if form.is_valid() and try_service(
        form, lambda: default_tags.set_project_tags(project=project, tags=form.cleaned_data["tags"], actor=request.user)
    ):
        messages.success(request, f"The tags of {project.name}'s calls are set. The gateway follows within about 2 s.")
        return redirect(reverse("project-detail", args=[slug]))
    return _detail(request, project, form=form)


@requires(Permission.MANAGE_CATALOG, "GET", "POST")
def project_edit(request: MemberRequest, slug: str) -> HttpResponse:
    project = _find(slug)
    form = ProjectChangeForm(request.POST or None, initial={name: getattr(project, name) for name in ProjectChangeForm.base_fields})
    if (
        request.method == "POST"
        and form.is_valid()
        and try_service(form, lambda: services.change_project(project=project, actor=request.user, **form.cleaned_data))
    ):
        messages.success(request, f"{project.slug} is changed. Limits hold within about 2 s.")
        return redirect(reverse("project-detail", args=[slug]))
    return render_page(
        request,
        "catalog/project_form.html",
        partial="project-form",
        context={"form": form, "project": project},
        status=422 if form.errors else 200,
    )


@requires(Permission.MANAGE_CATALOG, "POST")
def project_switch(request: MemberRequest, slug: str) -> HttpResponse:
    project, form = _find(slug), ReasonForm(request.POST)
    enabled = request.POST.get("enabled") == "1"
    services.switch_project(
        project=project, enabled=enabled, actor=request.user, reason=form.cleaned_data["reason"] if form.is_valid() else ""
    )
    messages.success(request, f"{project.name} is switched {'on' if enabled else 'off'}. The gateway follows within about 2 s.")
    return redirect(reverse("project-detail", args=[slug]))
