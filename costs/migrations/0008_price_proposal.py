"""Prices that are proposed by one person and decided by another. Constraints stand in CreateModel."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0007_revision_signature'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='PriceSheet',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('sheet', 'Price sheet'), ('discount', 'Discount')], max_length=8)),
                ('name', models.CharField(max_length=200)),
                ('note', models.CharField(blank=True, max_length=400)),
                ('unchanged', models.IntegerField()),
                ('proposed_at', models.DateTimeField()),
                ('proposed_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'price_sheet',
                'ordering': ['-proposed_at', '-pk'],
            },
        ),
        migrations.CreateModel(
            name='PriceProposal',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('provider', models.CharField(max_length=48)),
                ('model', models.CharField(max_length=80)),
                ('token_class', models.CharField(choices=[('input', 'Input'), ('cached_input', 'Cached input'), ('cache_write', 'Cache write'), ('output', 'Output')], max_length=16)),
                ('price', models.DecimalField(decimal_places=8, max_digits=18)),
                ('before', models.DecimalField(decimal_places=8, max_digits=18, null=True)),
                ('valid_from', models.DateTimeField()),
                ('source', models.CharField(blank=True, max_length=200)),
                ('status', models.CharField(choices=[('waiting', 'Waiting'), ('approved', 'Approved'), ('rejected', 'Rejected'), ('withdrawn', 'Withdrawn')], default='waiting', max_length=10)),
                ('decided_at', models.DateTimeField(null=True)),
                ('reason', models.CharField(blank=True, max_length=400)),
                ('decided_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('entry', models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='costs.priceentry')),
                ('sheet', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='proposals', to='costs.pricesheet')),
            ],
            options={
                'db_table': 'price_proposal',
                'ordering': ['-pk'],
                'indexes': [models.Index(fields=['status', '-id'], name='price_proposal_status')],
                'constraints': [models.CheckConstraint(condition=models.Q(('price__gte', 0)), name='price_proposal_not_negative'), models.CheckConstraint(condition=models.Q(models.Q(('decided_at', None), ('decided_by', None), ('status', 'waiting')), models.Q(models.Q(('status', 'waiting'), _negated=True), ('decided_at__isnull', False), ('decided_by__isnull', False)), _connector='OR'), name='price_proposal_decided_by_somebody'), models.CheckConstraint(condition=models.Q(('entry', None), ('status', 'approved'), _connector='OR'), name='price_proposal_entry'), models.UniqueConstraint(condition=models.Q(('status', 'waiting')), fields=('provider', 'model', 'token_class', 'valid_from'), name='price_proposal_once')],
            },
        ),
    ]
