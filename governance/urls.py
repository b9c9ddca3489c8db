"""Pages of a tenant, under /o/<tenant>/. Areas first, then the objects that several areas share."""

from importlib.util import find_spec

from django.urls import include, path

from governance.views import alerts, areas, audit, consent, drills, guardrails, me, payloads, people, policies, search, switches

urlpatterns = [
    path("", areas.start, name="start"),
    path("operate/home/", areas.operate_home, name="operate-home"),
    path("build/home/", areas.build_home, name="build-home"),
    path("release/home/", areas.release_home, name="release-home"),
    path("operate/people/", people.people, name="people"),
    path("operate/people/<int:pk>/roles/", people.change_roles, name="people-roles"),
    path("operate/people/<int:pk>/remove/", people.remove, name="people-remove"),
    path("operate/drills/", drills.drill_list, name="drills"),
    path("operate/drills/start/", drills.drill_start, name="drill-start"),
    path("operate/consent/", consent.consent, name="consent"),
    path("operate/consent/history.csv", consent.consent_history_csv, name="consent-history-csv"),
    path("operate/consent/<slug:feature_class>/set/", consent.set_consent, name="consent-set"),
    path("operate/policies/", policies.policy_list, name="policies"),
    path("operate/policies/new/", policies.new_policy, name="policy-new"),
    path("operate/policies/lint/", policies.lint, name="policy-lint"),
    path("operate/policies/<slug:namespace>/<slug:name>/", policies.policy_detail, name="policy-detail"),
    path("operate/policies/<slug:namespace>/<slug:name>/edit/", policies.edit_policy, name="policy-edit"),
    path("operate/policies/<slug:namespace>/<slug:name>/describe/", policies.describe_policy, name="policy-describe"),
    path("operate/policies/<slug:namespace>/<slug:name>/replay/", policies.replay_policy, name="policy-replay"),
    path("operate/policies/<slug:namespace>/<slug:name>/mode/", policies.set_mode, name="policy-mode"),
    path("operate/policies/<slug:namespace>/<slug:name>/delete/", policies.delete_policy, name="policy-delete"),
    path("operate/guardrails/", guardrails.guardrail_list, name="guardrails"),
    path("operate/guardrails/new/", guardrails.guardrail_kinds, name="guardrail-kinds"),
    path("operate/guardrails/new/<slug:kind>/", guardrails.new_guardrail, name="guardrail-new"),
    path("operate/guardrails/<int:pk>/", guardrails.guardrail_detail, name="guardrail-detail"),
    path("operate/guardrails/<int:pk>/edit/", guardrails.edit_guardrail, name="guardrail-edit"),
    path("operate/guardrails/<int:pk>/try/", guardrails.try_guardrail, name="guardrail-try"),
    path("operate/guardrails/<int:pk>/delete/", guardrails.delete_guardrail, name="guardrail-delete"),
    path("operate/payloads/", payloads.rules, name="payloads"),
    path("operate/payloads/rules/", payloads.ask_for_rule, name="payload-rule-ask"),
    path("operate/payloads/rules/<int:pk>/decide/", payloads.decide, name="payload-rule-decide"),
    path("operate/payloads/erase/", payloads.erase, name="payload-erase"),
    path("operate/payloads/kept/", payloads.kept, name="payload-list"),
    path("operate/payloads/kept/<uuid:event_id>/", payloads.payload_detail, name="payload-detail"),
    path("operate/payloads/kept/<uuid:event_id>/open/", payloads.open_payload, name="payload-open"),
    path("operate/switches/", switches.switch_list, name="switches"),
    path("operate/switches/drill/", switches.run_drill, name="switch-drill"),
    path("operate/switches/<slug:pillar>/set/", switches.set_switch, name="switch-set"),
    path("operate/audit/", audit.audit_log, name="audit"),
    path("operate/audit/csv/", audit.audit_csv, name="audit-csv"),
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
