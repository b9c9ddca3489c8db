"""Pages of the costs floor."""

from django.urls import path

from costs import converters  # noqa: F401  # registers <month:…>
from costs.views import anomalies, budgets, exports, model_usage, prices, reconciliation, reconciliation_lines, requests, showback, spend

_ONE = "operate/costs/reconciliation/<slug:provider>/<path:account>/<month:month>/"

urlpatterns = [
    path("operate/costs/", spend.spend, name="costs-spend"),
    path("operate/costs/csv/", spend.spend_csv, name="costs-spend-csv"),
    path("operate/costs/export/", exports.export, name="costs-export"),
    path("operate/costs/export/<slug:dataset>.<slug:file>", exports.export_file, name="costs-export-file"),
    path("operate/costs/showback/", showback.showback, name="costs-showback"),
    path("operate/costs/showback/csv/", showback.showback_csv, name="costs-showback-csv"),
    path("projects/<slug:slug>/costs/", showback.project_costs, name="project-costs"),
    path("projects/<slug:slug>/costs/csv/", showback.project_costs_csv, name="project-costs-csv"),
    path("operate/costs/requests/", requests.all_requests, name="costs-requests"),
    path("operate/costs/budgets/", budgets.budget_list, name="budget-list"),
    path("operate/costs/budgets/new/", budgets.budget_new, name="budget-new"),
    path("operate/costs/budgets/preview/", budgets.budget_preview, name="budget-preview"),
    path("operate/costs/budgets/<int:pk>/", budgets.budget_detail, name="budget-detail"),
    path("operate/costs/budgets/<int:pk>/edit/", budgets.budget_edit, name="budget-edit"),
    path("operate/costs/budgets/<int:pk>/simulate/", budgets.simulate, name="budget-simulate"),
    path("operate/costs/budgets/<int:pk>/enforce/", budgets.enforce, name="budget-enforce"),
    path("operate/costs/budgets/<int:pk>/switch-off/", budgets.switch_off, name="budget-switch-off"),
    path("operate/costs/budgets/<int:pk>/raise/", budgets.raise_amount, name="budget-raise"),
    path("operate/costs/budgets/<int:pk>/report-false-throttle/", budgets.report, name="budget-report"),
    path("operate/costs/budgets/incidents/<int:pk>/resolve/", budgets.resolve, name="budget-incident-resolve"),
    path("operate/costs/anomalies/", anomalies.anomaly_list, name="anomaly-list"),
    path("operate/costs/anomalies/settings/", anomalies.settings, name="anomaly-settings"),
    path("operate/costs/anomalies/missed/", anomalies.missed, name="anomaly-missed"),
    path("operate/costs/anomalies/<int:pk>/", anomalies.anomaly_detail, name="anomaly-detail"),
    path("operate/costs/anomalies/<int:pk>/feedback/", anomalies.feedback, name="anomaly-feedback"),
    path("operate/costs/anomalies/<int:pk>/acknowledge/", anomalies.acknowledge, name="anomaly-acknowledge"),
    path("operate/costs/anomalies/<int:pk>/close/", anomalies.close, name="anomaly-close"),
    path("operate/costs/price-book/", prices.price_book, name="price-book"),
    path("operate/costs/reconciliation/", reconciliation.reconciliation_list, name="reconciliation-list"),
    path("operate/costs/reconciliation/upload/", reconciliation.upload, name="bill-upload"),
    path("operate/costs/reconciliation/bills/<int:pk>/", reconciliation.bill_detail, name="bill-detail"),
    path("operate/costs/reconciliation/bills/<int:pk>/errors/", reconciliation.bill_errors, name="bill-errors"),
    path(_ONE, reconciliation.reconciliation_detail, name="reconciliation-detail"),
    path(f"{_ONE}csv/", reconciliation.reconciliation_csv, name="reconciliation-csv"),
    path(f"{_ONE}run/", reconciliation.run, name="reconciliation-run"),
    path(f"{_ONE}assign/", reconciliation.assign_model, name="reconciliation-assign"),
    path(f"{_ONE}sign/", reconciliation.sign, name="reconciliation-sign"),
    path(f"{_ONE}withdraw/", reconciliation.withdraw, name="reconciliation-withdraw"),
    path(f"{_ONE}lines/", reconciliation_lines.lines, name="reconciliation-lines"),
    path(f"{_ONE}lines/<int:pk>/", reconciliation_lines.line, name="reconciliation-line"),
    path(f"{_ONE}changes/", reconciliation_lines.changes, name="reconciliation-changes"),
    path(f"{_ONE}changes/csv/", reconciliation_lines.changes_csv, name="reconciliation-changes-csv"),
    path("build/usage/", spend.usage, name="usage"),
    path("build/usage/csv/", spend.usage_csv, name="usage-csv"),
    path("build/requests/", requests.own_requests, name="requests"),
    path("requests/<uuid:event_id>/", requests.request_detail, name="request-detail"),
    path("models/<str:slug>/usage/", model_usage.model_usage, name="model-usage"),
    path("models/<str:slug>/usage/csv/", model_usage.model_usage_csv, name="model-usage-csv"),
]
