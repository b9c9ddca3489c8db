"""Pages of a tenant, under /o/<tenant>/. Areas first, then the objects that several areas share."""

from importlib.util import find_spec

from django.urls import include, path

from governance.views import alerts, areas, audit, consent, me, people, search

urlpatterns = [
    path("", areas.start, name="start"),
    path("operate/home/", areas.operate_home, name="operate-home"),
    path("build/home/", areas.build_home, name="build-home"),
    path("release/home/", areas.release_home, name="release-home"),
    path("operate/people/", people.people, name="people"),
    path("operate/people/<int:pk>/roles/", people.change_roles, name="people-roles"),
    path("operate/people/<int:pk>/remove/", people.remove, name="people-remove"),
    path("operate/consent/", consent.consent, name="consent"),
    path("operate/consent/<slug:feature_class>/set/", consent.set_consent, name="consent-set"),
    path("operate/audit/", audit.audit_log, name="audit"),
    path("operate/audit/verify/", audit.verify, name="audit-verify"),
    path("operate/alerts/", alerts.channels, name="alerts"),
    path("operate/alerts/new/", alerts.new_channel, name="alert-new"),
    path("operate/alerts/<int:pk>/edit/", alerts.change_channel, name="alert-edit"),
    path("operate/alerts/<int:pk>/try/", alerts.try_channel, name="alert-try"),
    path("operate/alerts/<int:pk>/rotate/", alerts.rotate_secret, name="alert-rotate"),
    path("operate/alerts/<int:pk>/delete/", alerts.delete_channel, name="alert-delete"),
    path("operate/alerts/deliveries/", alerts.deliveries, name="alert-deliveries"),
    path("operate/alerts/deliveries/<uuid:pk>/replay/", alerts.replay, name="alert-replay"),
    path("notifications/", alerts.notices, name="notifications"),
    path("search/", search.search, name="search"),
    path("me/", me.me, name="me"),
    path("me/theme/", me.theme, name="me-theme"),
    path("me/tokens/new/", me.create_token, name="me-token-new"),
    path("me/tokens/<slug:public_id>/revoke/", me.revoke_token, name="me-token-revoke"),
    *[path("", include(f"{app}.urls")) for app in ("catalog", "costs", "rollouts") if find_spec(f"{app}.urls")],
]
handler404 = "governance.views.errors.not_found"
handler403 = "governance.views.errors.forbidden"
handler500 = "governance.views.errors.server_error"
