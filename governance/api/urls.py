from django.urls import path

from governance.api import alerts, views

urlpatterns = [
    path("tokens/", views.Tokens.as_view(), name="api-tokens"),
    path("me/", views.Me.as_view(), name="api-me"),
    path("members/", views.Members.as_view(), name="api-members"),
    path("consents/", views.Consents.as_view(), name="api-consents"),
    path("consents/<slug:feature_class>/", views.ConsentDetail.as_view(), name="api-consent"),
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
