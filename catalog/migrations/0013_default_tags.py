"""Tags that calls have without their callers saying so."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0012_semantic_cache'),
    ]

    operations = [
        migrations.AddField(
            model_name='project',
            name='tags',
            field=models.JSONField(default=dict),
        ),
        migrations.AddField(
            model_name='virtualkey',
            name='tags',
            field=models.JSONField(default=dict),
        ),
    ]
