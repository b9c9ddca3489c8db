"""What gates ask people about: by metric, the question that its answers come from.

A criterion that is bound to one of these metrics is what makes people be asked: of the organisation whose rollout has reached the phase, or
of the organisations in cohorts on the subject, where the rollout is the platform's.
"""

from __future__ import annotations

from dataclasses import dataclass

from rollouts.models import SurveyKind, SurveySubject
from rollouts.plans import Lane


@dataclass(frozen=True)
class Ask:
    subject: SurveySubject
    stage: Lane
    """Of the phase: what people said in another one does not count."""
    kind: SurveyKind
    title: str
    by_organisation: bool = False
    """Each organisation has one voice, the mean of its people's."""


ASKS = {
    "surveys.costs_pilot_csat": Ask(SurveySubject.COSTS, Lane.PILOT, SurveyKind.CSAT, "Satisfaction with cost attribution, pilot"),
    "surveys.costs_ramp_nps": Ask(SurveySubject.COSTS, Lane.RAMP, SurveyKind.NPS, "NPS of cost attribution, ramp"),
    "surveys.gateway_internal_nps": Ask(SurveySubject.GATEWAY, Lane.INTERNAL, SurveyKind.NPS, "NPS of the gateway, internal"),
    "surveys.gateway_pilot_csat": Ask(
        SurveySubject.GATEWAY, Lane.PILOT, SurveyKind.CSAT, "Satisfaction with the gateway, pilot", by_organisation=True
    ),
    "surveys.gateway_ramp_nps": Ask(SurveySubject.GATEWAY, Lane.RAMP, SurveyKind.NPS, "NPS of the gateway, ramp"),
    "surveys.gateway_general_nps": Ask(SurveySubject.GATEWAY, Lane.GENERAL, SurveyKind.NPS, "NPS of the gateway, general availability"),
}
