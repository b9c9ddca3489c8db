"""Endpoints of the costs floor, under /api/v1/."""

from django.urls import path

from costs import converters  # noqa: F401  # registers <month:…>
from costs.api import views

urlpatterns = [
    path("spend/", views.Spend.as_view(), name="api-spend"),
    path("usage/", views.Usage.as_view(), name="api-usage"),
    path("requests/", views.Requests.as_view(), name="api-requests"),
    path("requests/<uuid:event_id>/", views.RequestDetail.as_view(), name="api-request"),
    path("prices/", views.Prices.as_view(), name="api-prices"),
    path("prices/unpriced/", views.Unpriced.as_view(), name="api-unpriced"),
    path("bills/", views.Bills.as_view(), name="api-bills"),
    path("bills/<int:pk>/", views.BillDetail.as_view(), name="api-bill"),
    path("bills/<int:pk>/errors/", views.BillErrors.as_view(), name="api-bill-errors"),
    path("reconciliations/", views.Reconciliations.as_view(), name="api-reconciliations"),
    path("reconciliations/<slug:provider>/<path:account>/<month:month>/", views.ReconciliationDetail.as_view(), name="api-reconciliation"),
]
