"""Pages of the operator that are about rollouts over organisations, below /platform/."""

from django.urls import path

from rollouts.views import cohorts, escalations, programme

_COHORT = "cohorts/<slug:slug>/"
_CHANGE = f"{_COHORT}changes/<int:number>/"

urlpatterns = [
    path("escalations/", escalations.escalation_list, name="escalation-list"),
    path("escalations/<int:pk>/", escalations.escalation_detail, name="escalation-detail"),
    path("escalations/<int:pk>/note/", escalations.escalation_note, name="escalation-note"),
    path("escalations/<int:pk>/close/", escalations.escalation_close, name="escalation-close"),
    path("cohorts/", cohorts.cohort_list, name="cohort-list"),
    path("cohorts/new/", cohorts.cohort_new, name="cohort-new"),
    path(_COHORT, cohorts.cohort_detail, name="cohort-detail"),
    path(f"{_COHORT}programme/", programme.programme, name="cohort-programme"),
    path(f"{_COHORT}drill/", programme.drill, name="cohort-drill"),
    path(f"{_COHORT}screen/", cohorts.cohort_screen, name="cohort-screen"),
    path(f"{_COHORT}invite/", cohorts.cohort_invite, name="cohort-invite"),
    path(f"{_COHORT}invite-one/", cohorts.cohort_invite_one, name="cohort-invite-one"),
    path(f"{_COHORT}activate/", cohorts.cohort_activate, name="cohort-activate"),
    path(f"{_COHORT}stage/", cohorts.cohort_stage, name="cohort-stage"),
    path(f"{_COHORT}overrides/", cohorts.cohort_override, name="cohort-override"),
    path(f"{_COHORT}overrides/<int:pk>/end/", cohorts.cohort_override_end, name="cohort-override-end"),
    path(f"{_COHORT}switch-off/", cohorts.cohort_switch_off, name="cohort-switch-off"),
    path(f"{_COHORT}wind-down/", cohorts.cohort_wind_down, name="cohort-wind-down"),
    path(f"{_CHANGE}decide/", cohorts.cohort_change_decide, name="cohort-change-decide"),
    path(f"{_CHANGE}review/", cohorts.cohort_change_review, name="cohort-change-review"),
]
