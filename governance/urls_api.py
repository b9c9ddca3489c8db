"""The REST API, version 1."""

from importlib.util import find_spec

from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

urlpatterns = [
    path("api/schema/", SpectacularAPIView.as_view(), name="api-schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="api-schema"), name="api-docs"),
    *[
        path("api/v1/", include(f"{app}.api.urls"))
        for app in ("governance", "catalog", "costs", "rollouts")
        if find_spec(app) and find_spec(f"{app}.api") and find_spec(f"{app}.api.urls")
    ],
]
handler404 = "governance.views.errors.api_not_found"
handler500 = "governance.views.errors.api_server_error"
