from django.urls import path

from rollouts.api import experiment_views, flag_views, rollback_views, shift_views, views

_FLAG = "flags/<str:key>/"
_CHANGE = f"{_FLAG}changes/<int:number>/"
_EXPERIMENT = "experiments/<slug:slug>/"
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
    path("flags/", flag_views.Flags.as_view(), name="api-flags"),
    path(_FLAG, flag_views.FlagDetail.as_view(), name="api-flag"),
    path(f"{_FLAG}evaluate/", flag_views.FlagEvaluate.as_view(), name="api-flag-evaluate"),
    path(f"{_FLAG}lower/", flag_views.FlagLower.as_view(), name="api-flag-lower"),
    path(f"{_FLAG}archive/", flag_views.FlagArchive.as_view(), name="api-flag-archive"),
    path(f"{_FLAG}changes/", flag_views.FlagChanges.as_view(), name="api-flag-changes"),
    path(f"{_CHANGE}approve/", flag_views.FlagChangeApprove.as_view(), name="api-flag-change-approve"),
    path(f"{_CHANGE}reject/", flag_views.FlagChangeReject.as_view(), name="api-flag-change-reject"),
    path(f"{_CHANGE}review/", flag_views.FlagChangeReview.as_view(), name="api-flag-change-review"),
    path("experiments/", experiment_views.Experiments.as_view(), name="api-experiments"),
    path("experiments/plan/", experiment_views.ExperimentPlan.as_view(), name="api-experiment-plan"),
    path(_EXPERIMENT, experiment_views.ExperimentDetail.as_view(), name="api-experiment"),
    path(f"{_EXPERIMENT}start/", experiment_views.ExperimentStart.as_view(), name="api-experiment-start"),
    path(f"{_EXPERIMENT}readings/", experiment_views.ExperimentReadings.as_view(), name="api-experiment-readings"),
    path(f"{_EXPERIMENT}stop/", experiment_views.ExperimentStop.as_view(), name="api-experiment-stop"),
    path(f"{_EXPERIMENT}decide/", experiment_views.ExperimentDecide.as_view(), name="api-experiment-decide"),
    path("rollback-rules/", rollback_views.RollbackRules.as_view(), name="api-rollback-rules"),
    path("rollback-rules/lint/", rollback_views.RollbackRuleLint.as_view(), name="api-rollback-rule-lint"),
    path("rollback-rules/replay/", rollback_views.RollbackRuleReplay.as_view(), name="api-rollback-rule-replay"),
    path("rollback-rules/<int:pk>/", rollback_views.RollbackRuleDetail.as_view(), name="api-rollback-rule"),
    path("rollback-rules/<int:pk>/arm/", rollback_views.RollbackRuleArm.as_view(), name="api-rollback-rule-arm"),
    path("rollback-rules/<int:pk>/pause/", rollback_views.RollbackRulePause.as_view(), name="api-rollback-rule-pause"),
    path("incidents/", rollback_views.Incidents.as_view(), name="api-incidents"),
    path("incidents/<int:number>/", rollback_views.IncidentDetail.as_view(), name="api-incident"),
    path("incidents/<int:number>/acknowledge/", rollback_views.IncidentAcknowledge.as_view(), name="api-incident-acknowledge"),
    path("incidents/<int:number>/resolve/", rollback_views.IncidentResolve.as_view(), name="api-incident-resolve"),
    path("shifts/", shift_views.Shifts.as_view(), name="api-shifts"),
    path("shifts/<slug:slug>/", shift_views.ShiftDetail.as_view(), name="api-shift"),
    path("shifts/<slug:slug>/look/", shift_views.ShiftLook.as_view(), name="api-shift-look"),
    path("shifts/<slug:slug>/resume/", shift_views.ShiftResume.as_view(), name="api-shift-resume"),
    path("shifts/<slug:slug>/end/", shift_views.ShiftEnd.as_view(), name="api-shift-end"),
    path("metrics/", views.Metrics.as_view(), name="api-metrics"),
]
