from governance.models.alert import AlertChannel, Delivery, Notice, Severity
from governance.models.audit import AuditEntry
from governance.models.consent import Consent, ConsentChange, FeatureClass
from governance.models.drill import Drill
from governance.models.effect import Effect
from governance.models.guardrail import Guardrail
from governance.models.membership import Membership
from governance.models.payload import CallPayload, PayloadMode, PayloadRequest, PayloadSetting
from governance.models.policy import Policy, PolicyVersion
from governance.models.schema_recipe import SchemaRecipe
from governance.models.switch import Pillar, Switch
from governance.models.tenant import Domain, Tenant
from governance.models.token import ApiToken
from governance.models.uptime import PortalMinute
from governance.models.user import User
from governance.models.worker import Heartbeat

__all__ = [
    "AlertChannel",
    "ApiToken",
    "AuditEntry",
    "CallPayload",
    "Consent",
    "ConsentChange",
    "Delivery",
    "Domain",
    "Drill",
    "Effect",
    "FeatureClass",
    "Guardrail",
    "Heartbeat",
    "Membership",
    "Notice",
    "PayloadMode",
    "PayloadRequest",
    "PayloadSetting",
    "Pillar",
    "Policy",
    "PolicyVersion",
    "PortalMinute",
    "SchemaRecipe",
    "Severity",
    "Switch",
    "Tenant",
    "User",
]
