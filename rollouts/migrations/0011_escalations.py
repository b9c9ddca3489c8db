"""What the operator's programmes stop for, and how many alerts were false."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('governance', '0008_payloads'),
        ('rollouts', '0010_reported_figures'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Escalation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('false_throttle', 'War room: false throttle'), ('false_alerts', 'Recalibration: false alerts')], max_length=16)),
                ('title', models.CharField(max_length=160)),
                ('reason', models.CharField(max_length=500)),
                ('evidence', models.JSONField(default=dict)),
                ('opened_at', models.DateTimeField()),
                ('due_at', models.DateTimeField()),
                ('closed_at', models.DateTimeField(null=True)),
                ('resolution', models.CharField(blank=True, max_length=1000)),
                ('closed_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('tenant', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='governance.tenant')),
            ],
            options={
                'ordering': ['-opened_at', '-pk'],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('closed_at', None), ('kind', 'false_alerts')), fields=('kind',), name='escalation_one_recalibration_open'),
                    models.CheckConstraint(condition=models.Q(models.Q(('closed_at', None), ('closed_by', None), ('resolution', '')), models.Q(('closed_at__isnull', False), ('closed_by__isnull', False), models.Q(('resolution', ''), _negated=True)), _connector='OR'), name='escalation_closed_with_words'),
                ],
            },
        ),
        migrations.CreateModel(
            name='EscalationNote',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('text', models.CharField(max_length=1000)),
                ('by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('escalation', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='notes', to='rollouts.escalation')),
            ],
            options={
                'ordering': ['at', 'pk'],
            },
        ),
        migrations.CreateModel(
            name='FalseAlertCount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('alerts', models.PositiveIntegerField()),
                ('at', models.DateTimeField()),
                ('tenant', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='governance.tenant')),
            ],
        ),
    ]
