from django.urls import path

from rollouts.api import views

_GATE = "rollouts/<slug:slug>/gates/<int:number>/"

urlpatterns = [
    path("plans/", views.Plans.as_view(), name="api-plans"),
    path("plans/<slug:key>/", views.PlanDetail.as_view(), name="api-plan"),
    path("rollouts/", views.Rollouts.as_view(), name="api-rollouts"),
    path("rollouts/<slug:slug>/", views.RolloutDetail.as_view(), name="api-rollout"),
    path("rollouts/<slug:slug>/pause/", views.RolloutPause.as_view(), name="api-rollout-pause"),
    path("rollouts/<slug:slug>/resume/", views.RolloutResume.as_view(), name="api-rollout-resume"),
    path("rollouts/<slug:slug>/rollback/", views.RolloutRollBack.as_view(), name="api-rollout-rollback"),
    path("rollouts/<slug:slug>/log/", views.RolloutLog.as_view(), name="api-rollout-log"),
    path(_GATE, views.GateDetail.as_view(), name="api-gate"),
    path(f"{_GATE}evaluate/", views.GateEvaluate.as_view(), name="api-gate-evaluate"),
    path(f"{_GATE}sign/", views.GateSign.as_view(), name="api-gate-sign"),
    path(f"{_GATE}reopen/", views.GateReopen.as_view(), name="api-gate-reopen"),
    path(f"{_GATE}attest/", views.GateAttest.as_view(), name="api-gate-attest"),
    path(f"{_GATE}waive/", views.GateWaive.as_view(), name="api-gate-waive"),
    path(f"{_GATE}evidence/<slug:digest>/", views.GateEvidence.as_view(), name="api-gate-evidence"),
    path("metrics/", views.Metrics.as_view(), name="api-metrics"),
]
