"""Endpoints of the costs floor, under /api/v1/."""

from django.urls import path

from costs import converters  # noqa: F401  # registers <month:…>
from costs.api import anomaly_views, budget_views, export_views, model_usage, price_proposal_views, saved_view_views, showback_views, views

_ONE = "reconciliations/<slug:provider>/<path:account>/<month:month>/"

urlpatterns = [
    path("spend/", views.Spend.as_view(), name="api-spend"),
    path("spend/views/", saved_view_views.SpendViews.as_view(), name="api-spend-views"),
    path("spend/views/<int:pk>/", saved_view_views.SpendViewDetail.as_view(), name="api-spend-view"),
    path("usage/views/", saved_view_views.UsageViews.as_view(), name="api-usage-views"),
    path("usage/views/<int:pk>/", saved_view_views.UsageViewDetail.as_view(), name="api-usage-view"),
    path("usage/", views.Usage.as_view(), name="api-usage"),
    path("models/<str:slug>/usage/", model_usage.ModelUsage.as_view(), name="api-model-usage"),
    path("requests/", views.Requests.as_view(), name="api-requests"),
    path("requests/<uuid:event_id>/", views.RequestDetail.as_view(), name="api-request"),
    path("prices/", views.Prices.as_view(), name="api-prices"),
    path("prices/proposals/", price_proposal_views.PriceProposals.as_view(), name="api-price-proposals"),
    path("prices/proposals/<int:pk>/approve/", price_proposal_views.PriceProposalApprove.as_view(), name="api-price-proposal-approve"),
    path("prices/proposals/<int:pk>/reject/", price_proposal_views.PriceProposalReject.as_view(), name="api-price-proposal-reject"),
    path("prices/feed/", price_proposal_views.PriceFeed.as_view(), name="api-price-feed"),
    path("prices/unpriced/", views.Unpriced.as_view(), name="api-unpriced"),
    path("showback/", showback_views.Showback.as_view(), name="api-showback"),
    path("showback/<slug:slug>/", showback_views.ProjectShowback.as_view(), name="api-project-showback"),
    path("exports/prometheus/", export_views.Prometheus.as_view(), name="api-export-prometheus"),
    path("exports/<slug:dataset>/", export_views.Export.as_view(), name="api-export"),
    path("budgets/", budget_views.Budgets.as_view(), name="api-budgets"),
    path("budgets/<int:pk>/", budget_views.BudgetDetail.as_view(), name="api-budget"),
    path("budgets/<int:pk>/simulate/", budget_views.BudgetSimulate.as_view(), name="api-budget-simulate"),
    path("budgets/<int:pk>/enforce/", budget_views.BudgetEnforce.as_view(), name="api-budget-enforce"),
    path("budgets/<int:pk>/switch-off/", budget_views.BudgetSwitchOff.as_view(), name="api-budget-switch-off"),
    path("budgets/<int:pk>/raises/", budget_views.BudgetRaises.as_view(), name="api-budget-raises"),
    path("budgets/<int:pk>/report-false-throttle/", budget_views.BudgetReport.as_view(), name="api-budget-report"),
    path("budgets/incidents/<int:pk>/resolve/", budget_views.IncidentResolve.as_view(), name="api-budget-incident-resolve"),
    path("anomalies/", anomaly_views.Anomalies.as_view(), name="api-anomalies"),
    path("anomalies/settings/", anomaly_views.AnomalySettings.as_view(), name="api-anomaly-settings"),
    path("anomalies/<int:pk>/", anomaly_views.AnomalyDetail.as_view(), name="api-anomaly"),
    path("anomalies/<int:pk>/feedback/", anomaly_views.AnomalyFeedback.as_view(), name="api-anomaly-feedback"),
    path("anomalies/<int:pk>/acknowledge/", anomaly_views.AnomalyAcknowledge.as_view(), name="api-anomaly-acknowledge"),
    path("anomalies/<int:pk>/close/", anomaly_views.AnomalyClose.as_view(), name="api-anomaly-close"),
    path("bills/", views.Bills.as_view(), name="api-bills"),
    path("bills/<int:pk>/", views.BillDetail.as_view(), name="api-bill"),
    path("bills/<int:pk>/errors/", views.BillErrors.as_view(), name="api-bill-errors"),
    path("reconciliations/", views.Reconciliations.as_view(), name="api-reconciliations"),
    path(_ONE, views.ReconciliationDetail.as_view(), name="api-reconciliation"),
    path(f"{_ONE}lines/", views.ReconciliationLines.as_view(), name="api-reconciliation-lines"),
    path(f"{_ONE}changes/", views.ReconciliationChanges.as_view(), name="api-reconciliation-changes"),
    path(f"{_ONE}sign/", views.ReconciliationSign.as_view(), name="api-reconciliation-sign"),
    path(f"{_ONE}withdraw/", views.ReconciliationWithdraw.as_view(), name="api-reconciliation-withdraw"),
]
