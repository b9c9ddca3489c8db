"""Pages of the Release area that are about rollouts."""

from django.urls import path

from rollouts.views import cohorts, evaluations, experiments, flags, gates, incidents, plans, programme, rollback_rules, rollouts, shifts

_ROLLOUT = "release/rollouts/<slug:slug>/"
_GATE = f"{_ROLLOUT}gates/<int:number>/"
_FLAG = "release/flags/<str:key>/"
_CHANGE = f"{_FLAG}changes/<int:number>/"
_RULE = f"{_FLAG}rules/<int:pk>/"
_INCIDENT = "operate/incidents/<int:number>/"
_EXPERIMENT = "release/experiments/<slug:slug>/"
_SHIFT = "release/shifts/<slug:slug>/"
_CRITERION = f"{_GATE}criteria/<slug:key>/"

urlpatterns = [
    path("release/rollouts/", rollouts.rollout_list, name="rollout-list"),
    path("release/rollouts/new/", rollouts.rollout_new, name="rollout-new"),
    path(_ROLLOUT, rollouts.rollout_detail, name="rollout-detail"),
    path(f"{_ROLLOUT}begin/", rollouts.rollout_begin, name="rollout-begin"),
    path(f"{_ROLLOUT}pause/", rollouts.rollout_pause, name="rollout-pause"),
    path(f"{_ROLLOUT}resume/", rollouts.rollout_resume, name="rollout-resume"),
    path(f"{_ROLLOUT}roll-back/", rollouts.rollout_roll_back, name="rollout-roll-back"),
    path(f"{_ROLLOUT}rollbacks/<int:pk>/finish/", rollouts.rollback_finish, name="rollback-finish"),
    path(f"{_ROLLOUT}log/", rollouts.rollout_log, name="rollout-log"),
    path(f"{_ROLLOUT}log.md", rollouts.rollout_log_markdown, name="rollout-log-markdown"),
    path(_GATE, gates.gate_detail, name="gate-detail"),
    path(f"{_GATE}evaluate/", gates.gate_evaluate, name="gate-evaluate"),
    path(f"{_GATE}sign/", gates.gate_sign, name="gate-sign"),
    path(f"{_GATE}reopen/", gates.gate_reopen, name="gate-reopen"),
    path(f"{_GATE}evidence/", gates.evaluation_list, name="evaluation-list"),
    path(f"{_GATE}evidence/<slug:digest>/", gates.evidence, name="gate-evidence"),
    path(_CRITERION, gates.criterion_detail, name="criterion-detail"),
    path(f"{_CRITERION}attest/", gates.criterion_attest, name="criterion-attest"),
    path(f"{_CRITERION}waive/", gates.criterion_waive, name="criterion-waive"),
    path(f"{_CRITERION}waivers/<int:pk>/decide/", gates.waiver_decide, name="waiver-decide"),
    path(f"{_CRITERION}waivers/<int:pk>/end/", gates.waiver_end, name="waiver-end"),
    path(f"{_CRITERION}attestations/<int:pk>/file/", gates.attestation_file, name="attestation-file"),
    path("release/gates/", gates.gate_list, name="gate-list"),
    path("release/flags/", flags.flag_list, name="flag-list"),
    path("release/flags/new/", flags.flag_new, name="flag-new"),
    path(_FLAG, flags.flag_detail, name="flag-detail"),
    path(f"{_FLAG}change/", flags.flag_change, name="flag-change"),
    path(f"{_FLAG}lower/", flags.flag_lower, name="flag-lower"),
    path(f"{_FLAG}archive/", flags.flag_archive, name="flag-archive"),
    path(f"{_CHANGE}approve/", flags.flag_change_approve, name="flag-change-approve"),
    path(f"{_CHANGE}reject/", flags.flag_change_reject, name="flag-change-reject"),
    path(f"{_CHANGE}review/", flags.flag_change_review, name="flag-change-review"),
    path("release/experiments/", experiments.experiment_list, name="experiment-list"),
    path("release/experiments/new/", experiments.experiment_new, name="experiment-new"),
    path(_EXPERIMENT, experiments.experiment_detail, name="experiment-detail"),
    path(f"{_EXPERIMENT}start/", experiments.experiment_start, name="experiment-start"),
    path(f"{_EXPERIMENT}discard/", experiments.experiment_discard, name="experiment-discard"),
    path(f"{_EXPERIMENT}read/", experiments.experiment_read, name="experiment-read"),
    path(f"{_EXPERIMENT}stop/", experiments.experiment_stop, name="experiment-stop"),
    path(f"{_EXPERIMENT}decide/", experiments.experiment_decide, name="experiment-decide"),
    path(f"{_FLAG}rules/", rollback_rules.rule_list, name="flag-rules"),
    path(f"{_FLAG}rules/new/", rollback_rules.rule_new, name="flag-rule-new"),
    path(f"{_FLAG}rules/lint/", rollback_rules.rule_lint, name="flag-rule-lint"),
    path(f"{_FLAG}rules/replay/", rollback_rules.rule_replay, name="flag-rule-replay"),
    path(f"{_RULE}arm/", rollback_rules.rule_arm, name="flag-rule-arm"),
    path(f"{_RULE}pause/", rollback_rules.rule_pause, name="flag-rule-pause"),
    path(f"{_RULE}remove/", rollback_rules.rule_remove, name="flag-rule-remove"),
    path("operate/incidents/", incidents.incident_list, name="incidents"),
    path(_INCIDENT, incidents.incident_detail, name="incident-detail"),
    path(f"{_INCIDENT}acknowledge/", incidents.incident_acknowledge, name="incident-acknowledge"),
    path(f"{_INCIDENT}resolve/", incidents.incident_resolve, name="incident-resolve"),
    path("release/shifts/", shifts.shift_list, name="shift-list"),
    path("release/shifts/new/", shifts.shift_new, name="shift-new"),
    path(_SHIFT, shifts.shift_detail, name="shift-detail"),
    path(f"{_SHIFT}look/", shifts.shift_look, name="shift-look"),
    path(f"{_SHIFT}resume/", shifts.shift_resume, name="shift-resume"),
    path(f"{_SHIFT}end/", shifts.shift_end, name="shift-end"),
    path("release/cohorts/", cohorts.own_list, name="own-cohorts"),
    path("release/cohorts/<slug:slug>/answer/", cohorts.own_answer, name="own-cohort-answer"),
    path("release/evaluations/", evaluations.evaluation_run_list, name="evaluation-run-list"),
    path("release/evaluations/<int:pk>/", evaluations.evaluation_run_detail, name="evaluation-run-detail"),
    path("release/evaluations/thresholds/", evaluations.threshold_set, name="evaluation-threshold-set"),
    path("release/evaluations/thresholds/<int:pk>/remove/", evaluations.threshold_remove, name="evaluation-threshold-remove"),
    path("release/evaluations/thresholds/<int:pk>/waive/", evaluations.threshold_waive, name="evaluation-threshold-waive"),
    path("release/evaluations/waivers/<int:pk>/decide/", evaluations.evaluation_waiver_decide, name="evaluation-waiver-decide"),
    path("surveys/answer/", programme.survey_answer, name="survey-answer"),
    path("release/cohorts/surveys/", programme.survey_settings, name="survey-settings"),
    path("release/plans/", plans.plan_list, name="plan-list"),
    path("release/plans/<slug:key>/", plans.plan_detail, name="plan-detail"),
    path("release/metrics/", plans.metric_list, name="metric-list"),
]
