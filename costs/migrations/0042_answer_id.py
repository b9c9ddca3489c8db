"""What the answer of a call is called, so that a span of the same call is known again. Its index comes with the first such span, see `costs.services.ingest`."""

from django.db import migrations, models



class Migration(migrations.Migration):
    dependencies = [("costs", "0041_drop_rejected_at")]

    operations = [
        migrations.AddField("inbox", "answer_id", models.TextField(null=True)),
        migrations.AddField("rejectedinbox", "answer_id", models.TextField(null=True)),
        migrations.RunSQL("ALTER TABLE event ADD COLUMN answer_id text", "ALTER TABLE event DROP COLUMN answer_id", hints={"placement": "tenant"}),
    ]
