"""Calls whose steps took their time: what was published meanwhile holds before an upstream is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.fernet import Fernet

from gateway.contract import snapshot as contract
from gateway.contract.names import PLATFORM
from gateway.contract.outbound import AllowList
from gateway.contract.sealing import Sealer
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.snapshots import SnapshotStore
from gateway.plane.under_way import UnderWay


async def _publish(store: SnapshotStore, tenant: str, **fields: Any) -> None:
    snapshot = contract.TenantSnapshot(tenant=tenant, slug=tenant, schema=tenant, version=1, **fields)
    assert await store._take(tenant, contract.encode(snapshot))


async def test_switch_for_everybody_that_comes_between_the_steps_holds(tmp_path: Path) -> None:
    async def asked(call: Call) -> str:
        return "asked"

    store = SnapshotStore("", tmp_path, Sealer([Fernet.generate_key().decode()]), AllowList.parse([]), lambda _: None)
    under_way = UnderWay(store)
    await _publish(store, "acme")
    call = Call(cast(Any, None), "chat", {}, cast(Any, None), cast(Any, None), served=store.current("acme"), exchange=asked)
    assert await under_way.exchange(call) == "asked"

    await _publish(store, PLATFORM, switched_off={"models": "Off for everybody: a leak."})

    with pytest.raises(Refusal) as refused:
        await under_way.exchange(call)
    assert (refused.value.code, refused.value.scope) == ("switched_off", "platform:models")
    call.kind = "tool"
    assert await under_way.exchange(call) == "asked"
