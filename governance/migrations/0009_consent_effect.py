"""How long each decision on consent took to hold in every process of the gateway."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('governance', '0008_payloads'),
    ]

    operations = [
        migrations.AddField(
            model_name='consentchange',
            name='effect',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='governance.effect'),
        ),
    ]
