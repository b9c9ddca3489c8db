"""Pages of the costs floor."""

from django.urls import path

from costs import converters  # noqa: F401  # registers <month:…>
from costs.views import prices, reconciliation, requests, spend

_ONE = "operate/costs/reconciliation/<slug:provider>/<path:account>/<month:month>/"

urlpatterns = [
    path("operate/costs/", spend.spend, name="costs-spend"),
    path("operate/costs/csv/", spend.spend_csv, name="costs-spend-csv"),
    path("operate/costs/requests/", requests.all_requests, name="costs-requests"),
    path("operate/costs/price-book/", prices.price_book, name="price-book"),
    path("operate/costs/reconciliation/", reconciliation.reconciliation_list, name="reconciliation-list"),
    path("operate/costs/reconciliation/upload/", reconciliation.upload, name="bill-upload"),
    path("operate/costs/reconciliation/bills/<int:pk>/", reconciliation.bill_detail, name="bill-detail"),
    path("operate/costs/reconciliation/bills/<int:pk>/errors/", reconciliation.bill_errors, name="bill-errors"),
    path(_ONE, reconciliation.reconciliation_detail, name="reconciliation-detail"),
    path(f"{_ONE}csv/", reconciliation.reconciliation_csv, name="reconciliation-csv"),
    path(f"{_ONE}run/", reconciliation.run, name="reconciliation-run"),
    path(f"{_ONE}assign/", reconciliation.assign_model, name="reconciliation-assign"),
    path("build/usage/", spend.usage, name="usage"),
    path("build/usage/csv/", spend.usage_csv, name="usage-csv"),
    path("build/requests/", requests.own_requests, name="requests"),
    path("requests/<uuid:event_id>/", requests.request_detail, name="request-detail"),
]
