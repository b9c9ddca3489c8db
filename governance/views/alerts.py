"""Where alerts go, how they got there, and what there was to tell."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from governance import selectors
from governance.access import Permission, or_404, requires
from governance.forms import ChannelChangeForm, ChannelForm
from governance.models import AlertChannel, Delivery
from governance.pages import keyset_page, render_page, try_service
from governance.requests import MemberRequest
from governance.services import alerts


@requires(Permission.VIEW_OPERATE)
def channels(request: MemberRequest) -> HttpResponse:
    context = {
        "channels": selectors.alert_channels(),
        "recent": selectors.deliveries()[:10],
        "may_change": request.membership.can(Permission.MANAGE_ALERTS),
    }
    return render_page(request, "governance/alerts.html", context=context)


@requires(Permission.MANAGE_ALERTS, "GET", "POST")
def new_channel(request: MemberRequest) -> HttpResponse:
    """`topics` in the query fills the field: pages lead here for the topic that is theirs."""
    form, status = ChannelForm(request.POST or None, initial={"topics": request.GET.get("topics", "")}), 200
    if request.method == "POST":
        status = 422
        made = try_service(form, lambda: alerts.create_channel(actor=request.user, **form.cleaned_data)) if form.is_valid() else None
        if made is not None:
            channel, secret = made
            if not secret:
                messages.success(request, f"{channel} is ready. Send it a test.")
                return redirect(reverse("alerts"))
            return render_page(request, "governance/alert_secret.html", context={"channel": channel, "secret": secret})
    return render_page(request, "governance/alert_form.html", partial="alert-form", context={"form": form, "channel": None}, status=status)


@requires(Permission.MANAGE_ALERTS, "GET", "POST")
def change_channel(request: MemberRequest, pk: int) -> HttpResponse:
    channel = _channel(pk)
    initial: dict[str, Any] = {
        "name": channel.name,
        "topics": ", ".join(channel.topics),
        "least_severity": channel.least_severity,
        "is_enabled": channel.is_enabled,
    }
    form, status = ChannelChangeForm(request.POST or None, initial=initial), 200
    if request.method == "POST":
        status = 422
        if form.is_valid() and try_service(form, lambda: alerts.change_channel(channel=channel, actor=request.user, **form.cleaned_data)):
            messages.success(request, f"{form.cleaned_data['name']} is changed.")
            return redirect(reverse("alerts"))
    return render_page(
        request, "governance/alert_form.html", partial="alert-form", context={"form": form, "channel": channel}, status=status
    )


@requires(Permission.MANAGE_ALERTS, "POST")
def try_channel(request: MemberRequest, pk: int) -> HttpResponse:
    channel = alerts.try_channel(channel=_channel(pk), actor=request.user)
    (messages.success if channel.tried_ok else messages.error)(request, f"{channel}: {channel.tried_detail}")
    return redirect(reverse("alerts"))


@requires(Permission.MANAGE_ALERTS, "POST")
def rotate_secret(request: MemberRequest, pk: int) -> HttpResponse:
    channel = _channel(pk)
    if channel.kind != AlertChannel.Kind.WEBHOOK:
        raise Http404
    secret = alerts.rotate_secret(channel=channel, actor=request.user)
    return render_page(request, "governance/alert_secret.html", context={"channel": channel, "secret": secret, "rotated": True})


@requires(Permission.MANAGE_ALERTS, "POST")
def delete_channel(request: MemberRequest, pk: int) -> HttpResponse:
    channel = _channel(pk)
    alerts.delete_channel(channel=channel, actor=request.user)
    messages.success(request, f"{channel.name} is removed.")
    return redirect(reverse("alerts"))


@requires(Permission.VIEW_OPERATE)
def deliveries(request: MemberRequest) -> HttpResponse:
    status = request.GET.get("status", "")
    status = status if status in Delivery.Status.values else ""
    page = keyset_page(selectors.deliveries(status=status), order=["-created_at", "-pk"], cursor=request.GET.get("cursor", ""))
    context = {
        "page": page,
        "status": status,
        "statuses": Delivery.Status.choices,
        "may_change": request.membership.can(Permission.MANAGE_ALERTS),
    }
    return render_page(request, "governance/deliveries.html", partial="delivery-table", context=context)


@requires(Permission.MANAGE_ALERTS, "POST")
def replay(request: MemberRequest, pk: UUID) -> HttpResponse:
    delivery = or_404(selectors.deliveries().filter(pk=pk).first())
    alerts.replay(delivery=delivery, actor=request.user)
    messages.success(request, f"Sent to {delivery.channel} again within seconds.")
    return redirect(reverse("alert-deliveries"))


@requires(Permission.VIEW)
def notices(request: MemberRequest) -> HttpResponse:
    page = keyset_page(selectors.notices_for(request.membership), order=["-at", "-pk"], cursor=request.GET.get("cursor", ""))
    return render_page(request, "governance/notifications.html", partial="notice-list", context={"page": page})


def _channel(pk: int) -> AlertChannel:
    return or_404(selectors.alert_channels().filter(pk=pk).first())
