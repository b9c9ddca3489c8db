"""pgvector, where it is installed and may be switched on; without it the semantic cache can't be."""

from django.db import migrations

_CREATE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') THEN
        CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'The extension vector is not created: whoever runs the database has to.';
END $$
"""


class Migration(migrations.Migration):

    dependencies = [
        ('gateway', '0007_arrived_payload'),
    ]

    operations = [
        migrations.RunSQL(_CREATE, migrations.RunSQL.noop, hints={"placement": "public"}),
    ]
