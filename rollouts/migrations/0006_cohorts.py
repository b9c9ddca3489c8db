"""Cohorts of organisations, and where each organisation stands in them."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('governance', '0007_schema_recipe'),
        ('rollouts', '0005_shifts'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Cohort',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slug', models.SlugField(max_length=60, unique=True)),
                ('name', models.CharField(max_length=100)),
                ('purpose', models.CharField(blank=True, max_length=500)),
                ('criteria', models.TextField()),
                ('places', models.PositiveIntegerField()),
                ('over_recruitment', models.PositiveSmallIntegerField()),
                ('created_at', models.DateTimeField()),
                ('screened_at', models.DateTimeField(null=True)),
                ('closed_at', models.DateTimeField(null=True)),
                ('flag', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='cohorts', to='rollouts.flag')),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-created_at', '-pk'],
                'constraints': [models.CheckConstraint(condition=models.Q(('places__gte', 1)), name='cohort_has_places')],
            },
        ),
        migrations.CreateModel(
            name='CohortMember',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.CharField(choices=[('candidate', 'Screened'), ('invited', 'Invited'), ('declined', 'Declined'), ('enrolled', 'Enrolled'), ('active', 'Active'), ('winding_down', 'Winding down'), ('left', 'Left')], default='candidate', max_length=16)),
                ('verdict', models.CharField(choices=[('pass', 'Meets the criteria'), ('fail', 'Misses a criterion'), ('no_data', 'Figures are missing')], max_length=8)),
                ('evidence', models.JSONField(default=list)),
                ('weight', models.FloatField(default=0)),
                ('screened_at', models.DateTimeField()),
                ('override_reason', models.CharField(blank=True, max_length=300)),
                ('invited_at', models.DateTimeField(null=True)),
                ('answer_by', models.DateTimeField(null=True)),
                ('answered_at', models.DateTimeField(null=True)),
                ('activated_at', models.DateTimeField(null=True)),
                ('winding_down_at', models.DateTimeField(null=True)),
                ('leaves_at', models.DateTimeField(null=True)),
                ('left_at', models.DateTimeField(null=True)),
                ('reason', models.CharField(blank=True, max_length=300)),
                ('days_with_calls', django.contrib.postgres.fields.ArrayField(base_field=models.DateField(), default=list, size=None)),
                ('first_call_at', models.DateTimeField(null=True)),
                ('answered_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('cohort', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='members', to='rollouts.cohort')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='governance.tenant')),
            ],
            options={
                'ordering': ['tenant__name'],
                'constraints': [
                    models.UniqueConstraint(fields=('cohort', 'tenant'), name='cohort_member_once'),
                    models.CheckConstraint(condition=models.Q(('state__in', ['candidate', 'declined', 'left']), ('invited_at__isnull', False), _connector='OR'), name='cohort_member_was_invited'),
                    models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['enrolled', 'active', 'winding_down']), _negated=True), ('answered_at__isnull', False), _connector='OR'), name='cohort_member_agreed'),
                    models.CheckConstraint(condition=models.Q(models.Q(('state', 'winding_down'), _negated=True), ('leaves_at__isnull', False), _connector='OR'), name='cohort_member_has_an_end'),
                ],
                'indexes': [models.Index(fields=['tenant', 'state'], name='cohort_member_by_tenant')],
            },
        ),
    ]
