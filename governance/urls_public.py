"""Pages outside any tenant: signing in, choosing an organisation, running the platform."""

from django.urls import include, path

from governance.views import platform, sign_in, switches

urlpatterns = [
    path("", sign_in.choose, name="choose"),
    path("login/", sign_in.login, name="login"),
    path("logout/", sign_in.logout, name="logout"),
    path("platform/tenants/", platform.tenants, name="platform-tenants"),
    path("platform/tenants/new/", platform.new_tenant, name="platform-tenant-new"),
    path("platform/tenants/<slug:slug>/suspend/", platform.suspend, name="platform-tenant-suspend"),
    path("platform/tenants/<slug:slug>/reopen/", platform.reopen, name="platform-tenant-reopen"),
    path("platform/tenants/<slug:slug>/export/", platform.export, name="platform-tenant-export"),
    path("platform/tenants/<slug:slug>/delete/", platform.delete, name="platform-tenant-delete"),
    path("platform/switches/", switches.platform_switches, name="platform-switches"),
    path("platform/switches/drill/", switches.run_platform_drill, name="platform-switch-drill"),
    path("platform/planes/", switches.platform_planes, name="platform-planes"),
    path("platform/switches/<slug:pillar>/set/", switches.set_platform_switch, name="platform-switch-set"),
    path("platform/audit/", platform.audit_log, name="platform-audit"),
    path("platform/", include("rollouts.urls_platform")),
]
handler404 = "governance.views.errors.not_found"
handler403 = "governance.views.errors.forbidden"
handler500 = "governance.views.errors.server_error"
