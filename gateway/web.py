"""Portal and plane on one port, for a single machine: `granian --interface asgi gateway.web:app`.

The plane's paths go to the plane, everything else to Django, which knows no lifespan; so the lifespan is the plane's.
"""

from __future__ import annotations

import os
from typing import Any

from governance.asgi import application as portal  # first: it reads the local secrets into the environment

from django.conf import settings  # isort: skip
from gateway.plane.asgi import app as plane
from gateway.plane.asgi import is_ours
from gateway.plane.http import Receive, Scope, Send

# With the embedded database only the portal's settings know where it listens.
os.environ.setdefault("DATABASE_URL", settings.DATABASE_URL)
os.environ.setdefault("DATA_DIR", str(settings.DATA_DIR))

_portal: Any = portal  # Django types the three arguments of ASGI more narrowly than ASGI does


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan" or is_ours(scope["path"]):
        await plane(scope, receive, send)
    else:
        await _portal(scope, receive, send)
