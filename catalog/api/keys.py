"""Keys over REST."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import selectors
from catalog.api.endpoints import BAD, RowsView, named_in_body, one
from catalog.api.serializers.fields import TagsInput
from catalog.api.serializers.keys import (
    BulkRotationInput,
    KeyInput,
    KeyOutput,
    KeySelectionInput,
    NewKeyOutput,
    NewKeysOutput,
    RevokedKeysOutput,
    RotationInput,
)
from catalog.errors import InvalidValueError
from catalog.filters import KeyFilter
from catalog.models import VirtualKey
from catalog.services import default_tags
from catalog.services import keys as key_services
from governance.access import Permission
from governance.api.inputs import body_of
from governance.errors import NotAllowedError
from governance.models import Membership, User
from governance.requests import ApiRequest
from governance.selectors import members_of


class Keys(RowsView):
    """One's own keys; everybody's with the right to manage keys."""

    access = {"GET": Permission.VIEW, "POST": Permission.USE_GATEWAY}
    serializer_class = KeyOutput
    make_rows = staticmethod(selectors.key_rows)

    @property
    def ordering(self) -> list[str]:
        sort = self.request.query_params.get("sort", "newest")
        if sort.removeprefix("-") not in selectors.KEY_ORDERS:
            raise InvalidValueError(
                f"Keys are sorted by {', '.join(selectors.KEY_ORDERS)}; with - before it the other way round.", field="sort"
            )
        return selectors.key_order(sort)

    def get_queryset(self) -> QuerySet[VirtualKey]:
        found: QuerySet[VirtualKey] = KeyFilter(self.request.query_params, queryset=selectors.keys_visible_to(self.request.membership)).qs
        return selectors.ranked_keys(found)

    @extend_schema(
        operation_id="keys_list",
        parameters=[
            *(OpenApiParameter(name, OpenApiTypes.STR) for name in KeyFilter.base_filters),
            OpenApiParameter(
                "sort", OpenApiTypes.STR, description="newest, owner, spend, expiry or used; with - before it the other way round."
            ),
        ],
        responses=KeyOutput(many=True),
    )
    def get(self, request: ApiRequest) -> Response:
        return super().get(request)

    @extend_schema(operation_id="keys_create", request=KeyInput, responses={201: NewKeyOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        """Make a key. The answer holds its text, once."""
        data = body_of(request, KeyInput)
        project = named_in_body(data["project"], selectors.projects(), "project", slug=data.pop("project"))
        owner = self._owner(request, data.pop("owner", None))
        key, text = key_services.create_key(project=project, owner=owner, actor=request.user, **data)
        response = Response(NewKeyOutput({"key": selectors.key_rows([key])[0], "secret": text}).data, status=201)
        response["Cache-Control"] = "no-store"
        return response

    def _owner(self, request: ApiRequest, email: str | None) -> User:
        if email is None or email.lower() == request.user.email:
            return request.user
        if not request.membership.can(Permission.MANAGE_KEYS):  # the token may have fewer roles than the person
            raise NotAllowedError("To make a key for somebody else takes the right to manage keys.", field="owner")
        member: Membership = named_in_body(email, members_of(request.tenant), "owner", user__email=email.lower())
        return member.user


class KeyDetail(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(operation_id="keys_retrieve", responses={200: KeyOutput, **BAD})
    def get(self, request: ApiRequest, public_id: str) -> Response:
        key = one(selectors.keys_visible_to(request.membership), public_id=public_id)
        return Response(KeyOutput(selectors.key_rows([key])[0]).data)


class KeyRotate(APIView):
    """A new secret for the key: one's own, or anybody's with the right to manage keys. The old one works on for a while."""

    access = {"POST": Permission.VIEW}

    @extend_schema(request=RotationInput, responses={200: NewKeyOutput, **BAD})
    def post(self, request: ApiRequest, public_id: str) -> Response:
        key = one(selectors.keys_visible_to(request.membership), public_id=public_id)
        hours = body_of(request, RotationInput)["overlap_hours"]
        key, text = key_services.rotate_key(key=key, actor=request.user, overlap=timedelta(hours=hours))
        response = Response(NewKeyOutput({"key": selectors.key_rows([key])[0], "secret": text}).data)
        response["Cache-Control"] = "no-store"
        return response


class KeyTags(APIView):
    """The tags of the key's calls, where the caller does not say otherwise: one's own key, or anybody's with the right to manage keys."""

    access = {"PUT": Permission.VIEW}

    @extend_schema(request=TagsInput, responses={200: KeyOutput, **BAD})
    def put(self, request: ApiRequest, public_id: str) -> Response:
        key = one(selectors.keys_visible_to(request.membership), public_id=public_id)
        key = default_tags.set_key_tags(key=key, actor=request.user, **body_of(request, TagsInput))
        return Response(KeyOutput(selectors.key_rows([key])[0]).data)


class KeyRevoke(APIView):
    """End a key at once: one's own, or anybody's with the right to manage keys."""

    access = {"POST": Permission.VIEW}

    @extend_schema(request=None, responses={200: KeyOutput, **BAD})
    def post(self, request: ApiRequest, public_id: str) -> Response:
        key = key_services.revoke_key(key=one(selectors.keys_visible_to(request.membership), public_id=public_id), actor=request.user)
        return Response(KeyOutput(selectors.key_rows([key])[0]).data)


def _selected(request: ApiRequest, data: dict[str, Any]) -> QuerySet[VirtualKey]:
    keys, filters = selectors.keys_visible_to(request.membership), data.pop("filters")
    if "ids" in data:
        return keys.filter(public_id__in=data.pop("ids"))
    found: QuerySet[VirtualKey] = KeyFilter(filters, queryset=keys).qs
    return found


class KeysRotate(APIView):
    """New secrets for many keys at once, all or none; at most 1,000. Keys that have ended and those of playgrounds are left out."""

    access = {"POST": Permission.VIEW}

    @extend_schema(request=BulkRotationInput, responses={200: NewKeysOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        data = body_of(request, BulkRotationInput)
        overlap = timedelta(hours=data.pop("overlap_hours"))
        made = key_services.rotate_keys(chosen=_selected(request, data), actor=request.user, overlap=overlap, **data)
        rows = selectors.key_rows([key for key, _ in made])
        body = {"keys": [{"key": row, "secret": text} for row, (_, text) in zip(rows, made, strict=True)]}
        response = Response(NewKeysOutput(body).data)
        response["Cache-Control"] = "no-store"
        return response


class KeysRevoke(APIView):
    """End many keys at once, all or none. Keys that have ended are left out."""

    access = {"POST": Permission.VIEW}

    @extend_schema(request=KeySelectionInput, responses={200: RevokedKeysOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        data = body_of(request, KeySelectionInput)
        ended = key_services.revoke_keys(chosen=_selected(request, data), actor=request.user, **data)
        return Response(RevokedKeysOutput({"revoked": ended}).data)
