from django.db import migrations, models


class Migration(migrations.Migration):
    """What a deployment may be asked in a minute; empty is no ceiling of ours."""

    dependencies = [
        ('catalog', '0006_provider_credentials'),
    ]

    operations = [
        migrations.AddField(
            model_name='deployment',
            name='requests_per_minute',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='deployment',
            name='tokens_per_minute',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
    ]
