"""The ways the ground floor says no.

DomainError
├── NotAllowedError          the actor lacks a right
├── TenantSlugTakenError     another tenant has the address
├── TenantOpenError          only a suspended tenant is deleted
├── BadTargetError           an alert channel leads nowhere, or where it may not
├── ChannelNameTakenError    another alert channel has the name
├── PolicyError              a policy cannot be written or moved like this
│   └── PolicyStateError     not replayed yet, or its author would approve it
├── GuardrailError           a guardrail cannot be like this
├── PayloadRuleError         what is kept of calls cannot be decided like this
├── PayloadUnreadableError   what was kept was sealed with a key that is gone
├── NotConfirmedError        what can't be undone wants its name typed
├── LastOwnerError           a tenant keeps at least one owner
├── EscalationError          nobody gives away more than they have
├── AccountNeededError       an unknown address needs a first password
├── SignInError              wrong address or password
│   └── TooManyAttemptsError
└── TenantMissingError       a task was started outside a tenant
"""

from __future__ import annotations


class DomainError(Exception):
    """A rule said no. `message` is for people, `code` for programs and stable, `status` for HTTP."""

    code = "refused"
    status = 409

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        """The form field that the message belongs to, when there is one."""


class NotAllowedError(DomainError):
    code = "not_allowed"
    status = 403


class TenantSlugTakenError(DomainError):
    code = "slug_taken"


class TenantOpenError(DomainError):
    code = "tenant_open"


class NotConfirmedError(DomainError):
    code = "not_confirmed"
    status = 400


class PolicyError(DomainError):
    code = "policy_invalid"
    status = 400


class PolicyStateError(PolicyError):
    code = "policy_state"
    status = 409


class GuardrailError(DomainError):
    code = "guardrail_invalid"
    status = 400


class PayloadRuleError(DomainError):
    code = "payload_rule"


class PayloadUnreadableError(DomainError):
    code = "payload_unreadable"


class BadTargetError(DomainError):
    code = "bad_target"
    status = 400


class UnknownTopicError(DomainError):
    code = "unknown_topic"
    status = 400


class DrillSubjectError(DomainError):
    code = "drill_subject_not_found"
    status = 404


class DrillUnderWayError(DomainError):
    code = "drill_under_way"


class ChannelNameTakenError(DomainError):
    code = "name_taken"


class LastOwnerError(DomainError):
    code = "last_owner"


class EscalationError(DomainError):
    code = "escalation"
    status = 403


class AccountNeededError(DomainError):
    code = "password_needed"
    status = 400


class SignInError(DomainError):
    code = "sign_in_failed"
    status = 401


class TooManyAttemptsError(SignInError):
    code = "too_many_attempts"
    status = 429


class TenantMissingError(DomainError):
    code = "tenant_missing"
    status = 500
