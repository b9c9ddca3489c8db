"""Every organisation is published anew: the planes read another form of snapshots (`GHS2`)."""

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('gateway', '0004_planes'),
        ('governance', '0006_effects'),
    ]

    operations = [
        # Deleted ones have nothing to compile.
        migrations.RunSQL(
            "update governance_tenant set config_version = config_version + 1 where deleted_at is null",
            migrations.RunSQL.noop,
            hints={"placement": "public"},
        ),
    ]
