"""The form of log lines."""

from __future__ import annotations

import logging

from gateway.contract.logs import FieldFormatter


def test_fields_follow_the_event_and_what_libraries_attach_does_not() -> None:
    record = logging.makeLogRecord(
        {"msg": "key.revoked", "levelname": "INFO", "key_id": "k1", "request": "GET /?token=1", "data": {"args": "2"}}
    )

    assert FieldFormatter("%(levelname)s %(message)s").format(record) == "INFO key.revoked key_id=k1"
