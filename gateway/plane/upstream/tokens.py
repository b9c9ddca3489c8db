"""Access tokens of this process: asked for once however many calls wait, kept until shortly before they expire, renewed meanwhile.

A token belongs to a tenant and a credential as it is sealed, so that a new credential never meets an old token.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from gateway.contract.credentials import CredentialError, Token, WithToken, read_token
from gateway.contract.outbound import AllowList, OutboundError, check_url
from gateway.plane.errors import Refusal

logger = logging.getLogger(__name__)

Holder = tuple[str, str]

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 64 * 1024
RENEW_SHARE = 0.8
"""Of its life, after which a token is renewed while it is still used."""
LAST_S = 30.0
"""Before its end a token is no longer used: it must outlive its way to the upstream."""
PAUSE_S = 5.0
"""After a failure nobody asks again for so long: a token service that is ill is not to be stormed."""
DOUBT_S = 60.0
"""A token younger than this is not at fault when the upstream refuses it."""


@dataclass
class _Kept:
    token: str
    got_at: float
    renew_at: float
    usable_until: float


@dataclass
class _Failure:
    reason: str
    until: float


class Tokens:
    def __init__(self, client: Callable[[], aiohttp.ClientSession], allow: AllowList, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._allow = allow
        self._clock = clock
        self._kept: dict[Holder, _Kept] = {}
        self._failures: dict[Holder, _Failure] = {}
        self._asking: dict[Holder, asyncio.Task[str]] = {}

    async def get(self, holder: Holder, credential: WithToken, provider: str) -> str:
        """A token that is good for at least LAST_S seconds. Refusal (`upstream_error`) when the token service gives none."""
        kept, now = self._kept.get(holder), self._clock()
        if kept is not None and now < kept.usable_until:
            if now >= kept.renew_at and not self._is_paused(holder, now):
                self._ask(holder, credential)
            return kept.token
        if self._is_paused(holder, now):
            reason = self._failures[holder].reason
        else:
            try:
                return await asyncio.shield(self._ask(holder, credential))
            except CredentialError as error:
                reason = str(error)
        raise Refusal("upstream_error", f"The gateway got no access token for the provider {provider}: {reason}.")

    def doubt(self, holder: Holder) -> None:
        """The upstream refused a token that should be good: the next call gets a new one, unless this one is new."""
        kept = self._kept.get(holder)
        if kept is not None and self._clock() - kept.got_at > DOUBT_S:
            del self._kept[holder]

    async def close(self) -> None:
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def _is_paused(self, holder: Holder, now: float) -> bool:
        failure = self._failures.get(holder)
        return failure is not None and now < failure.until

    def _ask(self, holder: Holder, credential: WithToken) -> asyncio.Task[str]:
        task = self._asking.get(holder)
        if task is None:
            task = self._asking[holder] = asyncio.create_task(self._renew(holder, credential))
            task.add_done_callback(lambda done: self._done(holder, done))
        return task

    def _done(self, holder: Holder, task: asyncio.Task[str]) -> None:
        del self._asking[holder]
        if not task.cancelled() and task.exception() is not None:  # looked at here, since a renewal has nobody who waits for it
            logger.warning("token.refused", extra={"tenant": holder[0], "error": str(task.exception())})

    async def _renew(self, holder: Holder, credential: WithToken) -> str:
        try:
            token = await self._fetch(credential)
        except CredentialError as error:
            self._failures[holder] = _Failure(str(error), self._clock() + PAUSE_S)
            raise
        now = self._clock()
        for old in [each for each, kept in self._kept.items() if kept.usable_until < now]:
            del self._kept[old]  # credentials that were replaced are not asked for again
        for old in [each for each, failure in self._failures.items() if failure.until < now]:
            del self._failures[old]
        life = token.expires_in_s
        self._kept[holder] = _Kept(token.value, now, now + RENEW_SHARE * life, now + max(life - LAST_S, life / 2))
        return token.value

    async def _fetch(self, credential: WithToken) -> Token:
        """CredentialError for whatever goes wrong, without the service's words: it may quote what it was sent."""
        url = credential.token_endpoint
        try:
            check_url(url, self._allow)
            async with self._client().post(
                url,
                data=credential.token_form(time.time()),
                headers={"content-type": "application/x-www-form-urlencoded", "accept": "application/json", "user-agent": "gatehouse"},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                allow_redirects=False,
            ) as response:
                body = await response.content.read(MAX_ANSWER_BYTES)
                while not response.content.at_eof() and len(body) < MAX_ANSWER_BYTES:
                    body += await response.content.read(MAX_ANSWER_BYTES - len(body))
        except OutboundError as error:
            raise CredentialError(str(error).rstrip(".")) from error
        except TimeoutError as error:
            raise CredentialError(f"the token service did not answer within {TIMEOUT_S:g} seconds") from error
        except (aiohttp.ClientError, OSError) as error:
            raise CredentialError("the token service could not be reached") from error
        return read_token(response.status, body)
