"""Fixtures that every test may use. The environment is prepared before Django's settings are read."""

from __future__ import annotations

import gc

from tests import bootstrap

gc.disable()  # until all is loaded and collected, see `pytest_collection_finish`: until then nothing is thrown away
bootstrap.prepare()

import django  # noqa: E402

django.setup()

import functools  # noqa: E402
import importlib  # noqa: E402
import sys  # noqa: E402
import uuid  # noqa: E402
from collections.abc import Callable, Iterator, Sequence  # noqa: E402
from types import ModuleType  # noqa: E402
from typing import Any  # noqa: E402

import httpcore2  # noqa: E402
import hypothesis  # noqa: E402
import pytest  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.files import File  # noqa: E402
from django.db import connection, connections, transaction  # noqa: E402
from django.test import Client, override_settings  # noqa: E402
from django_tenants.utils import schema_context  # noqa: E402
from xdist.scheduler.loadscope import LoadScopeScheduling  # noqa: E402

from governance.models import Tenant, User  # noqa: E402
from governance.schema import enter_public, enter_tenant  # noqa: E402
from governance.services import audit, tokens  # noqa: E402
from tests import cast  # noqa: E402

BACKEND = settings.AUTHENTICATION_BACKENDS[0]
hypothesis.settings.register_profile("suite", deadline=None)  # several share the cores: how long an example takes says nothing
hypothesis.settings.load_profile("suite")
LayOut = Callable[[Callable[[], Any]], Any]
SHARING = ("tests/gateway/", "tests/road/")
"""Folders whose tests share running processes."""
# Each HTTP client reads the web's authorities, which takes 40 ms of the processor; the hundreds of clients here share what was read.
httpcore2.default_ssl_context = functools.cache(httpcore2.default_ssl_context)


class OnFirstUse(ModuleType):
    """Stands for a library that takes seconds to import: every worker collects every file, but few run the tests that call it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") and name != "__path__":
            raise AttributeError(name)  # asked of every module by pytest and `inspect`: nobody uses it yet
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


for library in ("anthropic", "openai"):
    sys.modules[library] = OnFirstUse(library)


class OneProduct(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist ships no types
    """Spread test files over the workers, but keep on one of them what shares a running product or plane, and the libraries to call it."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in SHARING if file.startswith(folder)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneProduct:
    config.option.loadscopereorder = False  # in the order of `pytest_collection_modifyitems`, not the files with the most tests first
    return OneProduct(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first, so that no worker is left alone with it at the end: what stays together, then whatever starts processes."""
    items.sort(key=lambda item: (not item.nodeid.startswith(SHARING), item.get_closest_marker("process") is None))


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector of garbage need not walk it again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: Any) -> Iterator[None]:
    """One clone of the template database for this worker."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    url = bootstrap.clone(name)
    connections["default"].settings_dict["NAME"] = settings.DATABASES["default"]["NAME"] = name
    settings.DATABASE_URL = url
    yield
    with django_db_blocker.unblock():
        connections["default"].close()
    bootstrap.drop(name)


@pytest.fixture
def fresh_database() -> Iterator[str]:
    """URL of a database of its own, for whole processes whose work is really committed."""
    name = f"fresh_{uuid.uuid4().hex[:12]}"
    yield bootstrap.clone(name)
    bootstrap.drop(name)


@pytest.fixture
def committed(fresh_database: str, django_db_blocker: Any) -> Iterator[Tenant]:
    """acme in a database of its own, for threads with their own connections and whatever else follows a real commit."""
    options = connections["default"].settings_dict
    with django_db_blocker.unblock():
        connections["default"].close()
        before, options["NAME"] = options["NAME"], fresh_database.rsplit("/", 1)[1]
        try:
            tenant = Tenant.objects.get(slug="acme")
            with schema_context(tenant.schema_name):
                yield tenant
        finally:
            connection.close()
            options["NAME"] = before


@pytest.fixture(autouse=True, scope="session")
def _plain_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Static files straight from their sources, files into a folder of each process: all have an organisation `acme`."""
    files = tmp_path_factory.mktemp("files")
    with override_settings(
        STORAGES={
            "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": files}},
            "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
        },
        WHITENOISE_AUTOREFRESH=True,
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    ):
        yield


@pytest.fixture(scope="module")
def lay_out(django_db_setup: None, django_db_blocker: Any) -> Iterator[LayOut]:
    """lay_out(build) makes inside acme what all tests of a file begin with: once, in a transaction around all of them.

    Each test works in a savepoint of it and finds it unchanged; it reads the rows anew, as objects in memory would carry changes along. Who
    asks for this is `autouse`, so that the tests of the file begin alike in whatever order they run.
    """

    def make(build: Callable[[], Any]) -> Any:
        with django_db_blocker.unblock():
            enter_tenant(Tenant.objects.get(slug="acme"))
            try:
                return build()
            finally:
                enter_public()

    around = transaction.atomic()
    with django_db_blocker.unblock():
        around.__enter__()
    token = audit.via.set("test")
    yield make
    audit.via.reset(token)
    with django_db_blocker.unblock():
        transaction.set_rollback(True)
        around.__exit__(None, None, None)


@pytest.fixture
def acme(db: None) -> Iterator[Tenant]:
    """The tenant of most tests; the test runs inside its schema."""
    tenant = Tenant.objects.get(slug="acme")
    enter_tenant(tenant)
    token = audit.via.set("test")
    yield tenant
    audit.via.reset(token)
    enter_public()


@pytest.fixture
def globex(db: None) -> Tenant:
    """Somebody else's organisation."""
    tenant: Tenant = Tenant.objects.get(slug="globex")
    return tenant


def _person(name: str) -> Any:
    @pytest.fixture(name=name)
    def person(db: None) -> User:
        return User.objects.get(email=cast.email(name))

    return person


alice, adam, bob, rita, fay, sam, audra, charlie, olga = (
    _person(name) for name in ("alice", "adam", "bob", "rita", "fay", "sam", "audra", "charlie", "olga")
)


class TenantClient(Client):
    """Django's test client; the test's own schema is restored after each request, as the middleware leaves `public`."""

    def request(self, **request: Any) -> Any:
        tenant = connection.tenant  # type: ignore[attr-defined]  # added by django-tenants
        try:
            return super().request(**request)
        finally:
            enter_tenant(tenant)


class ApiClient(TenantClient):
    """What it sends is JSON, unless a type is named or there is a file in it."""

    def post(self, *args: Any, **fields: Any) -> Any:
        return super().post(*args, **_as_json(args, fields))

    def put(self, *args: Any, **fields: Any) -> Any:
        return super().put(*args, **_as_json(args, fields))

    def patch(self, *args: Any, **fields: Any) -> Any:
        return super().patch(*args, **_as_json(args, fields))

    def delete(self, *args: Any, **fields: Any) -> Any:
        return super().delete(*args, **_as_json(args, fields))


def _as_json(args: tuple[Any, ...], fields: dict[str, Any]) -> dict[str, Any]:
    """Of path, data and content type."""
    data = args[1] if len(args) > 1 else None
    values = [each for value in data.values() for each in (value if isinstance(value, list) else [value])] if isinstance(data, dict) else []
    has_file = any(isinstance(value, File) for value in values)
    return fields if len(args) > 2 or has_file else {"content_type": "application/json", **fields}


def api_client(user: User, tenant: Tenant | None, *, roles: Sequence[str] = ()) -> ApiClient:
    """With a token of the person for the tenant, or for the platform; with `roles`, of no more rights than they give."""
    _, text = tokens.create_token(user=user, tenant=tenant, name="test", actor=user, roles=roles)
    return ApiClient(headers={"Authorization": f"Bearer {text}"})


ClientFor = Callable[[User | None], TenantClient]


@pytest.fixture
def client_for(db: None) -> ClientFor:
    """client_for(user) is a browser in which the person has signed in; None is nobody."""

    def make(user: User | None) -> TenantClient:
        client = TenantClient()
        if user is not None:
            # What `force_login` does, in one statement instead of six: the matrix makes a thousand of them.
            session = SessionStore()
            session.update({SESSION_KEY: str(user.pk), BACKEND_SESSION_KEY: BACKEND, HASH_SESSION_KEY: user.get_session_auth_hash()})
            with schema_context("public"):
                session.create()
            client.cookies[settings.SESSION_COOKIE_NAME] = str(session.session_key)
        return client

    return make


@pytest.fixture
def api_for(acme: Tenant) -> ClientFor:
    """api_for(user) is a client with the person's token for acme; None has no token."""

    def make(user: User | None) -> ApiClient:
        return ApiClient() if user is None else api_client(user, acme)

    return make


@pytest.fixture
def platform_api(db: None, olga: User) -> ApiClient:
    """A client with the operator's platform token."""
    with schema_context("public"):
        return api_client(olga, None)
