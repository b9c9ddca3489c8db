"""Three indexes of calls fewer to keep: one for the time and for "once", and those of ids only for ids that do not follow from others.

A gateway's id says when its call began, and is its request id unless the caller sends one.
"""

from django.db import migrations

FEWER = """
ALTER TABLE event DROP CONSTRAINT event_once;
DROP INDEX event_time;
DROP INDEX event_request;
ALTER TABLE event ADD CONSTRAINT event_once UNIQUE (started_at, event_id);
CREATE INDEX event_undated ON event (event_id) WHERE (get_byte(uuid_send(event_id), 6) >> 4) <> 7;
CREATE INDEX event_request ON event (request_id) WHERE request_id <> event_id::text;
"""
AS_BEFORE = """
DROP INDEX event_request;
DROP INDEX event_undated;
ALTER TABLE event DROP CONSTRAINT event_once;
ALTER TABLE event ADD CONSTRAINT event_once UNIQUE (event_id, started_at);
CREATE INDEX event_time ON event (started_at, event_id);
CREATE INDEX event_request ON event (request_id);
"""


class Migration(migrations.Migration):
    dependencies = [("costs", "0029_bill_deliveries")]

    operations = [migrations.RunSQL(FEWER, AS_BEFORE, hints={"placement": "tenant"})]
