"""The statements that make an organisation's schema, written down once."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('governance', '0006_effects'),
    ]

    operations = [
        migrations.CreateModel(
            name='SchemaRecipe',
            fields=[
                ('digest', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('statements', models.TextField()),
                ('recorded_at', models.DateTimeField()),
            ],
        ),
    ]
