"""What planes last said of one deployment is looked up by organisation and deployment."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('gateway', '0005_republish'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='circuitchange',
            index=models.Index(fields=['tenant', 'deployment', '-at'], name='gateway_circuit_of'),
        ),
    ]
