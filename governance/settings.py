"""Settings: one module, read from the environment, the same for every process.

`make run` makes random secrets in DATA_DIR on first use; anywhere else they are set by whoever deploys, and a missing one
stops the start. docs/settings.md lists every name; a test compares it with this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from governance import env, local
from governance.embedded import EmbeddedPostgres

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = local.data_dir()
"""Everything that must survive a restart of a single machine: database, spool, snapshots, uploads."""

local.load(DATA_DIR)

SECRET_KEY = env.secret("SECRET_KEY")
"""Signs sessions and CSRF tokens. Other secrets do other things, so that one can be rotated without the rest."""
KEY_PEPPER = env.secret("KEY_PEPPER").encode()
"""Keyed digest of virtual keys and API tokens."""
SEALING_KEYS = env.words("SEALING_KEYS")
"""Fernet keys for upstream secrets at rest, newest first."""
if not SEALING_KEYS:
    raise env.SettingError("SEALING_KEYS is not set.")

DEBUG = env.boolean("DEBUG")
BASE_URL = env.text("BASE_URL", "http://127.0.0.1:8000").rstrip("/")
"""How people and programs reach this installation; used in links, code samples and cookies."""
GATEWAY_URL = env.text("GATEWAY_URL", BASE_URL).rstrip("/")
"""How the portal itself reaches the plane, for the tool page; differs from BASE_URL behind a load balancer."""
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "127.0.0.1,localhost")
CSRF_TRUSTED_ORIGINS = [BASE_URL]
OUTBOUND_ALLOW = env.words("OUTBOUND_ALLOW")
"""Private hosts, addresses or networks that people may register as upstreams. See gateway/contract/outbound.py."""

_https = BASE_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_NAME = "__Host-session" if _https else "gatehouse_session"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_HSTS_SECONDS = 31536000 if _https else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# Applications. A model's `placement` (governance/placement.py) says in which schemas of its app it lives.
SHARED_APPS = [
    "django_tenants",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.forms",
    "django_htmx",
    "template_partials.apps.SimpleAppConfig",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_filters",
    "governance",
    "costs",
    "rollouts",
    "operations",
    "gateway.publish",
]
TENANT_APPS = ["governance", "catalog", "costs", "rollouts"]
INSTALLED_APPS = [*SHARED_APPS, *[app for app in TENANT_APPS if app not in SHARED_APPS]]
TENANT_MODEL = "governance.Tenant"
TENANT_DOMAIN_MODEL = "governance.Domain"
TENANT_LIMIT_SET_CALLS = True
"""The search path is set when a schema is entered and after a rollback, not before every statement."""
DATABASE_ROUTERS = ["governance.placement.PlacementRouter", "django_tenants.routers.TenantSyncRouter"]
AUTH_USER_MODEL = "governance.User"
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = ["governance.hashers.PasswordHasher", "django.contrib.auth.hashers.PBKDF2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"

DATABASE_URL = env.text("DATABASE_URL", "") or EmbeddedPostgres(DATA_DIR / "postgres").url
_pool = env.integer("DATABASE_POOL", 8)
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django_tenants.postgresql_backend",
        **env.database(DATABASE_URL),
        "OPTIONS": {
            # Our statements are short; compiling the attribution of one call took PostgreSQL 15 half a minute.
            "options": "-c jit=off",
            **({"pool": {"min_size": 1, "max_size": _pool, "timeout": 10}} if _pool else {}),
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024
"""A bill may be large: it is spooled to disk beyond this."""

CELERY_BROKER_URL = env.text("CELERY_BROKER_URL", "") or DATABASE_URL.replace("postgresql://", "pgmq://", 1).replace(
    "postgres://", "pgmq://", 1
)

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "governance.middleware.ContentSecurityPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "governance.middleware.TenantMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "governance.middleware.MembershipMiddleware",
]
ROOT_URLCONF = "governance.urls"
PUBLIC_SCHEMA_URLCONF = "governance.urls_public"
API_URLCONF = "governance.urls_api"
ASGI_APPLICATION = "governance.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "loaders": [
                (
                    "template_partials.loader.Loader",
                    [
                        (
                            "django.template.loaders.cached.Loader",
                            ["django.template.loaders.filesystem.Loader", "django.template.loaders.app_directories.Loader"],
                        )
                    ],
                )
            ],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "governance.navigation.shell",
            ],
            "builtins": ["template_partials.templatetags.partials", "governance.templatetags.gatehouse"],
        },
    }
]
FORM_RENDERER = "governance.pages.FormRenderer"

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.FileSystemFinder",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "governance.assets.PackageFinder",
]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": DATA_DIR / "files"}},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
WHITENOISE_KEEP_ONLY_HASHED_FILES = True

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["governance.api.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["governance.api.permissions.DeclaredAccess"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": "governance.api.pagination.KeysetPagination",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "governance.api.errors.handle",
    "UNAUTHENTICATED_USER": None,
    "COERCE_DECIMAL_TO_STRING": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Gatehouse",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_URLCONF": "governance.urls_api",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    # Fields of one name with different choices: each set of choices gets a name of its own.
    "ENUM_NAME_OVERRIDES": {
        "ModelStatus": "catalog.models.Model.Status",
        "ModelReviewKind": "catalog.models.ModelReview.Kind",
        "KeyRequestStatus": "catalog.models.KeyRequest.Status",
        "ModelReviewStatus": "catalog.models.ModelReview.Status",
        "ModelReviewBasis": "catalog.models.ModelReview.Basis",
        "ToolStatus": "catalog.models.Tool.Status",
        "PromptKind": "catalog.models.Prompt.Kind",
        "PromptVersionStatus": "catalog.models.PromptVersion.Status",
        "ProviderKind": "catalog.models.Provider.Kind",
        "ProviderDialect": "catalog.models.Provider.Dialect",
        "ProviderCredential": "catalog.models.Provider.Credential",
        "QualitySource": "catalog.models.Deployment.QualitySource",
        "TenantKind": "governance.models.Tenant.Kind",
        "AlertChannelKind": "governance.models.AlertChannel.Kind",
        "PolicyMode": "governance.models.Policy.Mode",
        "GuardrailMode": "governance.models.Guardrail.Mode",
        "GuardrailEngine": "governance.models.Guardrail.Engine",
        "GuardrailWhenUnavailable": "governance.models.Guardrail.WhenUnavailable",
        "GuardrailKind": "governance.models.Guardrail.Kind",
        "GuardrailAction": "governance.models.Guardrail.Action",
        "PayloadMode": "governance.models.PayloadMode",
        "PayloadRequestStatus": "governance.models.PayloadRequest.Status",
        "GuardrailScope": "governance.models.Guardrail.Scope",
        "ReviewItemKind": "costs.models.ReviewItem.Kind",
        "ReviewDecision": "costs.models.ReviewItem.Decision",
        "RequiredTagMode": "costs.models.RequiredTag.Mode",
        "RequiredTagFact": "costs.models.RequiredTagVersion.Fact",
        "CommitmentKind": "costs.models.Commitment.Kind",
        "CommitmentStatus": "costs.models.Commitment.Status",
        "RateSheetKind": "costs.models.RateSheet.Kind",
        "BillSourceKind": "costs.models.BillSource.Kind",
        "BillSourceCredential": "costs.models.BillSource.Credential",
        "BillImportPhase": "costs.bill_imports.PHASE_CHOICES",
        "BillFileState": "costs.models.BillFile.State",
        "DeliveryStyle": "costs.models.DeliveryStyle",
        "PriceProposalStatus": "costs.models.PriceProposal.Status",
        "BillLineStanding": "costs.reconciliation_selectors.STANDING_CHOICES",
        "AnomalyStatus": "costs.models.Anomaly.Status",
        "AnomalyKind": "costs.models.Anomaly.Kind",
        "AnomalySensitivity": "costs.models.AnomalySettings.Sensitivity",
        "CacheScope": "catalog.models.Model.CacheScope",
        "LimitScope": "catalog.models.UsageLimit.Scope",
        "BudgetScope": "costs.models.Budget.Scope",
        "LimitResource": "catalog.models.UsageLimit.Resource",
        "LimitWindow": "catalog.models.UsageLimit.Window",
        "Pillar": "governance.models.Pillar",
        "Severity": "governance.models.Severity",
        "DeliveryStatus": "governance.models.Delivery.Status",
        "KeyPurpose": "catalog.models.VirtualKey.Purpose",
        "RolloutStatus": "rollouts.models.Rollout.Status",
        "PhaseStatus": "rollouts.models.Phase.Status",
        "GateStatus": "rollouts.models.Gate.Status",
        "SignOffDecision": "rollouts.models.SignOff.Decision",
        "FlagKind": "rollouts.models.Flag.Kind",
        "FlagPolicy": "rollouts.models.Flag.Policy",
        "FlagChangeStatus": "rollouts.models.FlagChange.Status",
        "RollbackRuleState": "rollouts.models.RollbackRule.State",
        "IncidentStatus": "rollouts.models.Incident.Status",
        "FailureClass": "rollouts.models.Incident.FailureClass",
        "ExperimentStatus": "rollouts.models.Experiment.Status",
        "ExperimentMetric": "rollouts.models.Experiment.Metric",
        "ExperimentMethod": "rollouts.models.Experiment.Method",
        "ExperimentBetter": "rollouts.models.Experiment.Better",
        "ExperimentDecision": "rollouts.models.Experiment.Decision",
        "ExperimentStanding": "rollouts.advice.Standing",
        "ShadowStatus": "rollouts.models.Shadow.Status",
        "ShadowPairVerdict": "rollouts.models.ShadowPair.Verdict",
        "ShiftStatus": "rollouts.models.Shift.Status",
        "CohortMemberState": "rollouts.models.CohortMember.State",
        "CohortMemberVerdict": "rollouts.models.CohortMember.Verdict",
        "EscalationKind": "rollouts.models.Escalation.Kind",
        "ConsentDecision": "governance.models.Consent.State",
        "DrillKind": "governance.models.Drill.Kind",
        "EffectVerdict": "governance.models.Effect.VERDICTS",
        "SurveyKind": "rollouts.models.SurveyKind",
        "SurveySubject": "rollouts.models.SurveySubject",
        "ShiftVerdict": "rollouts.models.ShiftWindow.Verdict",
    },
}

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

globals().update(env.mail_server(env.text("EMAIL_URL", "")))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text("EMAIL_FROM", "gatehouse@localhost")

EXCHANGE_RATES_URL = env.text("EXCHANGE_RATES_URL", "")
# The daily reference rates of the ECB, or a mirror of them; without it rates are entered by people.

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "gateway.contract.logs.FieldFormatter", "format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.text("LOG_LEVEL", "INFO")},
    "loggers": {"httpx2": {"level": "WARNING"}, "httpcore2": {"level": "WARNING"}, "mcp": {"level": "WARNING"}},
}
