"""The ways the catalog says no.

DomainError
└── CatalogError
    ├── NameTakenError            slug, namespace or name is in use
    ├── InvalidValueError         a value that no form or schema can judge alone
    ├── OutboundRefusedError      the URL may not be called (SSRF guard)
    ├── UnreachableError          an upstream did not answer, or not as it must
    ├── WrongStatusError          the act does not fit the model's status
    ├── NotCheckedError           a model is published only after a live check passed
    ├── LastDeploymentError       a served model keeps at least one deployment
    ├── DuplicateDeploymentError  the model has this upstream already
    ├── KeyEndedError             the key is revoked or expired
    ├── ProjectOffError           the project is switched off
    ├── KeyByRequestError         keys of the project are made by request
    ├── SelfApprovalError         nobody approves what they wrote
    ├── ReferenceGoneError        what a prompt or flow names is not served any more
    ├── TooMuchServedError        prompts are part of every snapshot, which has its limits
    ├── BindingChangedError       the model is no longer what approval was asked for
    └── NothingPendingError       no changed definition waits for approval
"""

from __future__ import annotations

from governance.errors import DomainError


class CatalogError(DomainError):
    """Root of this app's errors."""


class NameTakenError(CatalogError):
    code = "name_taken"


class InvalidValueError(CatalogError):
    code = "invalid"
    status = 422


class OutboundRefusedError(CatalogError):
    code = "outbound_refused"
    status = 422


class UnreachableError(CatalogError):
    code = "unreachable"
    status = 502


class WrongStatusError(CatalogError):
    code = "wrong_status"


class NotCheckedError(CatalogError):
    code = "not_checked"


class LastDeploymentError(CatalogError):
    code = "last_deployment"


class KeyEndedError(CatalogError):
    code = "key_ended"


class DuplicateDeploymentError(CatalogError):
    code = "duplicate_deployment"


class ProjectOffError(CatalogError):
    code = "project_off"


class KeyByRequestError(CatalogError):
    code = "key_by_request"
    status = 403


class NothingPendingError(CatalogError):
    code = "nothing_pending"


class SelfApprovalError(CatalogError):
    code = "self_approval"


class TooMuchServedError(CatalogError):
    code = "too_much_served"


class ReferenceGoneError(CatalogError):
    code = "reference_gone"


class BindingChangedError(CatalogError):
    code = "binding_changed"
