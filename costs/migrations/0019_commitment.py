"""Commitments, and what they were used for day by day."""

import django.db.models.deletion
from decimal import Decimal
from django.conf import settings
from django.db import migrations, models

# As in 0012, without btree_gist.
SAME_USE = "hashtextextended(provider || chr(31) || model, 0)"
DRAWN_ONCE = f"""
ALTER TABLE commitment ADD CONSTRAINT commitment_drawn_once EXCLUDE USING gist (
    int8range({SAME_USE}, {SAME_USE}, '[]') WITH &&, daterange(first_on, last_on, '[]') WITH &&
) WHERE (status = 'approved' AND kind <> 'throughput')
"""


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0018_required_tags'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Commitment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('reference', models.CharField(max_length=120)),
                ('kind', models.CharField(choices=[('throughput', 'Provisioned throughput'), ('spend', 'Spend commitment'), ('credits', 'Prepaid credits')], max_length=12)),
                ('provider', models.CharField(max_length=48)),
                ('model', models.CharField(blank=True, max_length=80)),
                ('region', models.CharField(blank=True, max_length=48)),
                ('quantity', models.DecimalField(decimal_places=4, max_digits=18)),
                ('unit_price', models.DecimalField(decimal_places=8, max_digits=18)),
                ('currency', models.CharField(default='USD', max_length=3)),
                ('unit_tokens_per_minute', models.IntegerField(null=True)),
                ('output_weight', models.DecimalField(decimal_places=2, default=Decimal('1'), max_digits=6)),
                ('first_on', models.DateField()),
                ('last_on', models.DateField()),
                ('source', models.CharField(max_length=200)),
                ('status', models.CharField(choices=[('waiting', 'Waiting'), ('approved', 'Approved'), ('rejected', 'Rejected'), ('withdrawn', 'Withdrawn'), ('voided', 'Voided')], default='waiting', max_length=10)),
                ('proposed_at', models.DateTimeField()),
                ('decided_at', models.DateTimeField(null=True)),
                ('reason', models.CharField(blank=True, max_length=400)),
                ('counted_through', models.DateField(null=True)),
                ('decided_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('proposed_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'commitment',
                'ordering': ['-proposed_at', '-pk'],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('status__in', ['waiting', 'approved'])), fields=('reference', 'first_on'), name='commitment_once'),
                    models.CheckConstraint(condition=models.Q(('quantity__gt', 0), ('unit_price__gte', 0)), name='commitment_amounts'),
                    models.CheckConstraint(condition=models.Q(('currency', 'USD')), name='commitment_in_usd'),
                    models.CheckConstraint(condition=models.Q(('last_on__gte', models.F('first_on'))), name='commitment_not_empty'),
                    models.CheckConstraint(condition=models.Q(models.Q(('kind', 'throughput'), ('unit_tokens_per_minute__gt', 0)), models.Q(models.Q(('kind', 'throughput'), _negated=True), ('unit_tokens_per_minute', None)), _connector='OR'), name='commitment_capacity_of_throughput'),
                    models.CheckConstraint(condition=models.Q(('output_weight__gt', 0)), name='commitment_output_weight'),
                    models.CheckConstraint(condition=models.Q(models.Q(('decided_at', None), ('decided_by', None), ('status', 'waiting')), models.Q(models.Q(('status', 'waiting'), _negated=True), ('decided_at__isnull', False), ('decided_by__isnull', False)), _connector='OR'), name='commitment_decided_by_somebody'),
                    models.CheckConstraint(condition=models.Q(('decided_by', models.F('proposed_by')), ('status', 'approved'), _negated=True), name='commitment_four_eyes'),
                ],
            },
        ),
        migrations.CreateModel(
            name='CommitmentDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('model', models.CharField(blank=True, max_length=200)),
                ('quantity', models.DecimalField(decimal_places=20, max_digits=40)),
                ('list_cost', models.DecimalField(decimal_places=20, max_digits=40)),
                ('cost', models.DecimalField(decimal_places=20, max_digits=40)),
                ('commitment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rows', to='costs.commitment')),
            ],
            options={
                'db_table': 'commitment_day',
                'ordering': ['day', 'pk'],
                'constraints': [
                    models.UniqueConstraint(fields=('day', 'commitment', 'model'), name='commitment_day_once'),
                ],
            },
        ),
        migrations.RunSQL(DRAWN_ONCE, "ALTER TABLE commitment DROP CONSTRAINT commitment_drawn_once", hints={"placement": "tenant"}),
    ]
