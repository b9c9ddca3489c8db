"""Readings of a price feed: what it does not know, and that nobody in person proposed or withdrew."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0012_price_dimensions'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='priceproposal',
            name='price_proposal_decided_by_somebody',
        ),
        migrations.AddField(
            model_name='pricesheet',
            name='unknown',
            field=models.JSONField(default=list),
        ),
        migrations.AlterField(
            model_name='pricesheet',
            name='kind',
            field=models.CharField(choices=[('sheet', 'Price sheet'), ('discount', 'Discount'), ('feed', 'Price feed')], max_length=8),
        ),
        migrations.AlterField(
            model_name='pricesheet',
            name='proposed_by',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddConstraint(
            model_name='priceproposal',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('decided_at', None), ('decided_by', None), ('status', 'waiting')), models.Q(models.Q(('status', 'waiting'), _negated=True), ('decided_at__isnull', False), ('decided_by__isnull', False)), models.Q(('decided_at__isnull', False), ('status', 'withdrawn')), _connector='OR'), name='price_proposal_decided_by_somebody'),
        ),
    ]
