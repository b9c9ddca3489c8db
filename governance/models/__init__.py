from governance.models.audit import AuditEntry
from governance.models.consent import Consent, ConsentChange, FeatureClass
from governance.models.membership import Membership
from governance.models.tenant import Domain, Tenant
from governance.models.token import ApiToken
from governance.models.user import User
from governance.models.worker import Heartbeat

__all__ = ["ApiToken", "AuditEntry", "Consent", "ConsentChange", "Domain", "FeatureClass", "Heartbeat", "Membership", "Tenant", "User"]
