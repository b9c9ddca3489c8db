from django.urls import path

from governance.api import alerts, controls, views

urlpatterns = [
    path("tokens/", views.Tokens.as_view(), name="api-tokens"),
    path("me/", views.Me.as_view(), name="api-me"),
    path("members/", views.Members.as_view(), name="api-members"),
    path("consents/", views.Consents.as_view(), name="api-consents"),
    path("consents/<slug:feature_class>/", views.ConsentDetail.as_view(), name="api-consent"),
    path("policies/", controls.Policies.as_view(), name="api-policies"),
    path("policies/lint/", controls.PolicyLint.as_view(), name="api-policy-lint"),
    path("policies/<int:pk>/", controls.PolicyDetail.as_view(), name="api-policy"),
    path("policies/<int:pk>/versions/", controls.PolicyVersions.as_view(), name="api-policy-versions"),
    path("policies/<int:pk>/replay/", controls.PolicyReplay.as_view(), name="api-policy-replay"),
    path("policies/<int:pk>/mode/", controls.PolicyMode.as_view(), name="api-policy-mode"),
    path("guardrails/", controls.Guardrails.as_view(), name="api-guardrails"),
    path("guardrails/<int:pk>/", controls.GuardrailDetail.as_view(), name="api-guardrail"),
    path("guardrails/<int:pk>/try/", controls.TryGuardrail.as_view(), name="api-guardrail-try"),
    path("alert-channels/", alerts.Channels.as_view(), name="api-alert-channels"),
    path("alert-channels/<int:pk>/", alerts.ChannelDetail.as_view(), name="api-alert-channel"),
    path("alert-channels/<int:pk>/try/", alerts.TryChannel.as_view(), name="api-alert-channel-try"),
    path("alert-channels/<int:pk>/rotate/", alerts.RotateSecret.as_view(), name="api-alert-channel-rotate"),
    path("deliveries/", alerts.Deliveries.as_view(), name="api-deliveries"),
    path("deliveries/<uuid:pk>/replay/", alerts.ReplayDelivery.as_view(), name="api-delivery-replay"),
    path("notices/", alerts.Notices.as_view(), name="api-notices"),
    path("audit/", views.AuditLog.as_view(), name="api-audit"),
    path("audit/verify/", views.AuditVerification.as_view(), name="api-audit-verify"),
    path("platform/tenants/", views.Tenants.as_view(), name="api-tenants"),
    path("platform/tenants/<slug:slug>/", views.TenantDetail.as_view(), name="api-tenant"),
    path("platform/tenants/<slug:slug>/export/", views.ExportTenant.as_view(), name="api-tenant-export"),
    path("platform/tenants/<slug:slug>/suspend/", views.SuspendTenant.as_view(), name="api-tenant-suspend"),
    path("platform/tenants/<slug:slug>/reopen/", views.ReopenTenant.as_view(), name="api-tenant-reopen"),
]
