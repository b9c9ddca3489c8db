"""Calls that wait for their upstream, so that each ends as soon as a newer snapshot forbids it: streams, whole answers, tools."""

from __future__ import annotations

import asyncio
import time

from gateway.contract.names import CAUSE_TAG, PLATFORM
from gateway.contract.snapshot import SnapshotError
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.http import ClientGoneError
from gateway.plane.pipeline.consent import check_consent, check_switches
from gateway.plane.pipeline.identify import check_holder, unreadable_keys
from gateway.plane.served import Served
from gateway.plane.snapshots import SnapshotStore
from gateway.plane.upstream.answers import DRAIN_S, SLOW_S, until_gone
from gateway.plane.usage import Usage

LOOK_S = 1.0
"""Between two looks at all calls that wait for the beginning of an answer."""


class UnderWay:
    """The calls of this process that an upstream works on, by tenant."""

    def __init__(self, snapshots: SnapshotStore) -> None:
        self._snapshots = snapshots
        self._calls: dict[str, dict[Call, asyncio.Task[object]]] = {}
        self._cancelled: set[Call] = set()
        """Those whose task we cancelled, and nobody else."""
        self._look_out: asyncio.TimerHandle | None = None

    @property
    def open_streams(self) -> int:
        return sum(call.upstream is not None for calls in self._calls.values() for call in calls)

    async def exchange(self, call: Call) -> str:
        """The call's exchange with its upstream. Refusal when it is forbidden by now, or while it waits; ClientGoneError when it was given up."""
        assert call.exchange is not None
        assert call.served is not None
        task = asyncio.current_task()
        assert task is not None
        self._check_again(call)
        asked_before = task.cancelling()
        tenant = call.served.tenant
        calls = self._calls.setdefault(tenant, {})
        calls[call] = task
        if self._look_out is None:
            self._look_later()
        try:
            return await call.exchange(call)
        except asyncio.CancelledError:
            if call not in self._cancelled or task.uncancel() > asked_before:  # somebody else wants it to end, too
                raise
            assert call.cut is not None
            raise call.cut from None
        finally:
            self._cancelled.discard(call)
            del calls[call]
            if not calls:  # while it holds a call it is the one in use
                del self._calls[tenant]

    def swapped(self, served: Served) -> None:
        """End what the snapshot that is served from now on forbids: the tenant's calls, or everybody's when it is the platform's."""
        platform = self._snapshots.current(PLATFORM)
        tenants = list(self._calls) if served.tenant == PLATFORM else [served.tenant]
        for call, task in [pair for tenant in tenants for pair in self._calls.get(tenant, {}).items()]:
            assert call.served is not None
            newest = self._snapshots.current(call.served.tenant)
            refusal = refusal_under(platform, newest or call.served, call)
            if refusal is None or call.cut is not None:
                continue
            if call.upstream is not None:  # a stream tells its caller, then ends
                call.cut = refusal
                call.upstream.close()
            elif not call.client_started:  # of an answer that is on its way to the caller nothing is taken back
                self._cancel(call, task, refusal)

    def _look_later(self) -> None:
        # One timer for all calls: to set one for each would cost each a hundredth of its time.
        self._look_out = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """Have the callers of streams watched whose upstreams take long to begin: nobody else would notice that they hang up."""
        self._look_out = None
        if self._calls:
            self._look_later()
        long_ago = time.perf_counter_ns() - int(SLOW_S * 1e9)
        for call, task in [pair for calls in self._calls.values() for pair in calls.items()]:
            if call.stream and call.watcher is None and 0 < call.waits_since_ns < long_ago:
                call.watcher = asyncio.create_task(self._give_up(call, task))

    async def _give_up(self, call: Call, task: asyncio.Task[object]) -> None:
        """End a call whose caller is gone and whose upstream has not begun to answer, when it has had a little time to."""
        await until_gone(call)
        await asyncio.sleep(DRAIN_S)
        call.watcher = None  # it is this task
        if call.cut is None:
            call.usage, call.usage_source = Usage(prompt_tokens=call.input_estimate), "estimated"
            self._cancel(call, task, ClientGoneError())

    def _cancel(self, call: Call, task: asyncio.Task[object], why: Exception) -> None:
        call.cut = why
        self._cancelled.add(call)
        task.cancel()

    def _check_again(self, call: Call) -> None:
        """Steps before this one may have taken their time: what was published meanwhile holds."""
        assert call.served is not None
        platform, newest = self._snapshots.current(PLATFORM), self._snapshots.current(call.served.tenant)
        if newest is None or newest is call.served:  # of its own all is checked; the platform's switches come on their own
            check_switches(platform, call.served, call.kind)
            return
        refusal = refusal_under(platform, newest, call)
        if refusal is not None:
            raise refusal


def refusal_under(platform: Served | None, served: Served, call: Call) -> Refusal | None:
    """Why a call that is under way would be refused by a newer snapshot; None when it would not."""
    assert call.key is not None
    try:
        key = served.snapshot.keys.get(call.key.id)
    except SnapshotError:  # whether it still may is not known, and that is no permission
        return unreadable_keys()
    if key is None:
        return Refusal("key_revoked", f"The key {call.key.id} ({call.key.name}) has been revoked.", scope="key")
    try:
        check_holder(served, key)
        check_switches(platform, served, call.kind)
        if call.kind == "tool":
            _check_tool(served, call, key.tools, key.id)
        else:
            _check_model(served, call, key.models, key.id)
    except Refusal as refusal:
        return refusal
    return None


def _check_model(served: Served, call: Call, allowed: tuple[str, ...] | None, key_id: str) -> None:
    assert call.model is not None
    model = served.snapshot.models.get(call.model.slug)
    if model is None:
        raise Refusal("model_not_found", f"The model {call.model.slug} has been withdrawn.", param="model")
    check_consent(served, model.feature_class)
    is_inner = CAUSE_TAG in call.tags  # its model was chosen by the organisation, not by the caller
    if not is_inner and allowed is not None and model.slug not in allowed:
        raise Refusal("model_not_allowed", f"The key {key_id} may no longer call {model.slug}.", param="model", scope="key")


def _check_tool(served: Served, call: Call, allowed: tuple[str, ...] | None, key_id: str) -> None:
    assert call.name is not None
    tool = served.tools.get(call.name)
    if tool is None:
        raise Refusal("tool_not_found", f"The tool {call.name} has been withdrawn.", param="name")
    check_consent(served, tool.server.feature_class)
    if allowed is not None and tool.server.namespace not in allowed:
        raise Refusal("tool_not_allowed", f"The key {key_id} may no longer use {tool.server.namespace}.", scope="key")
