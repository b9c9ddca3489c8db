"""Drills of pillars, projects and phases, away and back."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('governance', '0009_consent_effect'),
    ]

    operations = [
        migrations.CreateModel(
            name='Drill',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('phase', 'Phase'), ('project', 'Project'), ('pillar', 'Pillar')], max_length=8)),
                ('reference', models.CharField(max_length=140)),
                ('title', models.CharField(max_length=140)),
                ('rto_s', models.PositiveIntegerField()),
                ('started_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(null=True)),
                ('verdict', models.CharField(choices=[('pass', 'Pass'), ('fail', 'Fail'), ('waiting', 'On its way'), ('no_data', 'No process')], default='waiting', max_length=8)),
                ('actor', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('away', models.OneToOneField(on_delete=django.db.models.deletion.RESTRICT, related_name='+', to='governance.effect')),
                ('back', models.OneToOneField(null=True, on_delete=django.db.models.deletion.RESTRICT, related_name='+', to='governance.effect')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='drills', to='governance.tenant')),
            ],
            options={
                'ordering': ['-started_at', '-pk'],
                'indexes': [models.Index(fields=['tenant', '-started_at'], name='drill_by_tenant')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('ended_at', None)), fields=('tenant', 'kind', 'reference'), name='drill_one_under_way'), models.CheckConstraint(condition=models.Q(('ended_at', None), models.Q(('verdict', 'waiting'), _negated=True), _connector='XOR'), name='drill_ends_with_a_verdict')],
            },
        ),
    ]
