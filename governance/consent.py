"""What holds for a feature class when a tenant has made no decision: pure facts."""

from __future__ import annotations

from dataclasses import dataclass

from governance.models.consent import FeatureClass


@dataclass(frozen=True)
class ClassFacts:
    default_granted: bool
    """Opt-out classes are on until switched off, opt-in classes off until switched on."""
    purpose: str


CLASSES: dict[FeatureClass, ClassFacts] = {
    FeatureClass.ASSISTANTS: ClassFacts(True, "People and programs ask a language model."),
    FeatureClass.SEARCH: ClassFacts(True, "Texts are turned into vectors to be found again."),
    FeatureClass.TOOLS: ClassFacts(True, "A program calls tools through the gateway."),
    FeatureClass.AGENTS: ClassFacts(False, "An agent acts on its own in the organisation's name."),
    FeatureClass.TRAINING: ClassFacts(False, "A provider may train models on the organisation's data."),
}
