"""How long changes took to reach every process of the gateway, drills among them."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('governance', '0005_switches'),
    ]

    operations = [
        migrations.CreateModel(
            name='Effect',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('scope', models.CharField(choices=[('project', 'Project'), ('tenant', 'Organisation'), ('global', 'Everybody')], max_length=8)),
                ('what', models.CharField(max_length=160)),
                ('is_drill', models.BooleanField(default=False)),
                ('decided_at', models.DateTimeField()),
                ('config_version', models.BigIntegerField(null=True)),
                ('effective_at', models.DateTimeField(null=True)),
                ('planes', models.PositiveIntegerField(null=True)),
                ('given_up', models.BooleanField(default=False)),
                ('actor', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('tenant', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='effects', to='governance.tenant')),
            ],
            options={
                'ordering': ['-decided_at', '-pk'],
                'indexes': [models.Index(fields=['tenant', '-decided_at'], name='effect_by_tenant'), models.Index(condition=models.Q(('effective_at', None), ('given_up', False)), fields=['decided_at'], name='effect_waiting')],
            },
        ),
    ]
