from django.urls import path

from catalog.api import limits, views

urlpatterns = [
    path("providers/", views.Providers.as_view(), name="api-providers"),
    path("providers/<slug:slug>/", views.ProviderDetail.as_view(), name="api-provider"),
    path("providers/<slug:slug>/secret/", views.ProviderSecret.as_view(), name="api-provider-secret"),
    path("providers/<slug:slug>/check/", views.ProviderCheck.as_view(), name="api-provider-check"),
    path("models/", views.Models.as_view(), name="api-models"),
    path("models/<str:slug>/", views.ModelDetail.as_view(), name="api-model"),
    path("models/<str:slug>/check/", views.ModelCheck.as_view(), name="api-model-check"),
    path("models/<str:slug>/approve/", views.ModelAct.as_view(act="approve"), name="api-model-approve"),
    path("models/<str:slug>/deprecate/", views.ModelAct.as_view(act="deprecate"), name="api-model-deprecate"),
    path("models/<str:slug>/retire/", views.ModelAct.as_view(act="retire"), name="api-model-retire"),
    path("models/<str:slug>/redraft/", views.ModelAct.as_view(act="redraft"), name="api-model-redraft"),
    path("models/<str:slug>/prices/<slug:provider>/", views.ModelPrice.as_view(), name="api-model-price"),
    path("models/<str:slug>/cache/", views.ModelCache.as_view(), name="api-model-cache"),
    path("models/<str:slug>/health/", views.ModelHealth.as_view(), name="api-model-health"),
    path("models/<str:slug>/deployments/", views.Deployments.as_view(), name="api-deployments"),
    path("models/<str:slug>/deployments/<int:pk>/", views.DeploymentDetail.as_view(), name="api-deployment"),
    path("projects/", views.Projects.as_view(), name="api-projects"),
    path("projects/<slug:slug>/", views.ProjectDetail.as_view(), name="api-project"),
    path("projects/<slug:slug>/switch/", views.ProjectSwitch.as_view(), name="api-project-switch"),
    path("limits/", limits.Limits.as_view(), name="api-limits"),
    path("limits/<int:pk>/", limits.LimitDetail.as_view(), name="api-limit"),
    path("keys/", views.Keys.as_view(), name="api-keys"),
    path("keys/<slug:public_id>/", views.KeyDetail.as_view(), name="api-key"),
    path("keys/<slug:public_id>/rotate/", views.KeyRotate.as_view(), name="api-key-rotate"),
    path("keys/<slug:public_id>/revoke/", views.KeyRevoke.as_view(), name="api-key-revoke"),
    path("tool-servers/", views.ToolServers.as_view(), name="api-tool-servers"),
    path("tool-servers/<slug:namespace>/", views.ToolServerDetail.as_view(), name="api-tool-server"),
    path("tool-servers/<slug:namespace>/discover/", views.ToolServerDiscover.as_view(), name="api-tool-server-discover"),
    path("tool-servers/<slug:namespace>/switch/", views.ToolServerSwitch.as_view(), name="api-tool-server-switch"),
    path("tools/", views.Tools.as_view(), name="api-tools"),
    path("tools/<slug:namespace>/<path:name>/approve/", views.ToolApprove.as_view(), name="api-tool-approve"),
    path("tools/<slug:namespace>/<path:name>/run/", views.ToolRun.as_view(), name="api-tool-run"),
    path("tools/<slug:namespace>/<path:name>/", views.ToolDetail.as_view(), name="api-tool"),  # last: a tool's name may hold slashes
]
