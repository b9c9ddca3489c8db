"""Calls by what their answer is called.

Of the id's hash: it takes a third of the room, and costs each call half of what an index of the texts does. An index of the kind `hash` would be
cheaper still for ids that differ, and grows slower with each equal one, as a server may give that draws its ids badly. Built apart from the
column, so that reading goes on; what arrives waits in the inbox meanwhile.
"""

from django.db import migrations

INDEX = "CREATE INDEX event_answer ON event (hashtextextended(answer_id, 0)) WHERE answer_id IS NOT NULL"


class Migration(migrations.Migration):
    dependencies = [("costs", "0045_set_aside_by_time")]

    operations = [migrations.RunSQL(INDEX, "DROP INDEX event_answer", hints={"placement": "tenant"})]
