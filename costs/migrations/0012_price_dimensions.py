"""Prices by service tier, region and context band, and the tier that a call was served in."""

from django.conf import settings
from django.db import migrations, models

ADD_TIER = "ALTER TABLE event ADD COLUMN service_tier text NOT NULL DEFAULT 'standard'"
# As in 0002; the key is longer now.
KEY = (
    "hashtextextended(provider || chr(31) || model || chr(31) || token_class || chr(31) || service_tier || chr(31) || region"
    " || chr(31) || context_over::text, 0)"
)
NO_OVERLAP = f"""
ALTER TABLE price_entry DROP CONSTRAINT price_no_overlap;
ALTER TABLE price_entry ADD CONSTRAINT price_no_overlap EXCLUDE USING gist (
    int8range({KEY}, {KEY}, '[]') WITH &&, tstzrange(valid_from, valid_to) WITH &&
)
"""
BEFORE = "hashtextextended(provider || chr(31) || model || chr(31) || token_class, 0)"
OVERLAP_BEFORE = f"""
ALTER TABLE price_entry DROP CONSTRAINT price_no_overlap;
ALTER TABLE price_entry ADD CONSTRAINT price_no_overlap EXCLUDE USING gist (
    int8range({BEFORE}, {BEFORE}, '[]') WITH &&, tstzrange(valid_from, valid_to) WITH &&
)
"""


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0011_usage_day'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='priceentry',
            name='price_one_open_entry',
        ),
        migrations.RemoveConstraint(
            model_name='priceproposal',
            name='price_proposal_once',
        ),
        migrations.AddField(
            model_name='inbox',
            name='service_tier',
            field=models.TextField(null=True),
        ),
        migrations.AddField(
            model_name='priceentry',
            name='context_over',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='priceentry',
            name='region',
            field=models.CharField(blank=True, default='', max_length=48),
        ),
        migrations.AddField(
            model_name='priceentry',
            name='service_tier',
            field=models.CharField(choices=[('standard', 'Standard'), ('batch', 'Batch'), ('flex', 'Flex'), ('priority', 'Priority'), ('fast', 'Fast')], default='standard', max_length=16),
        ),
        migrations.AddField(
            model_name='priceproposal',
            name='context_over',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='priceproposal',
            name='region',
            field=models.CharField(blank=True, default='', max_length=48),
        ),
        migrations.AddField(
            model_name='priceproposal',
            name='service_tier',
            field=models.CharField(choices=[('standard', 'Standard'), ('batch', 'Batch'), ('flex', 'Flex'), ('priority', 'Priority'), ('fast', 'Fast')], default='standard', max_length=16),
        ),
        migrations.AddField(
            model_name='rejectedinbox',
            name='service_tier',
            field=models.TextField(null=True),
        ),
        migrations.AddField(
            model_name='supersededprice',
            name='context_over',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='supersededprice',
            name='region',
            field=models.CharField(blank=True, default='', max_length=48),
        ),
        migrations.AddField(
            model_name='supersededprice',
            name='service_tier',
            field=models.CharField(choices=[('standard', 'Standard'), ('batch', 'Batch'), ('flex', 'Flex'), ('priority', 'Priority'), ('fast', 'Fast')], default='standard', max_length=16),
        ),
        migrations.AddConstraint(
            model_name='priceentry',
            constraint=models.CheckConstraint(condition=models.Q(('context_over__gte', 0)), name='price_context_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='priceentry',
            constraint=models.UniqueConstraint(condition=models.Q(('valid_to', None)), fields=('provider', 'model', 'token_class', 'service_tier', 'region', 'context_over'), name='price_one_open_entry'),
        ),
        migrations.AddConstraint(
            model_name='priceproposal',
            constraint=models.UniqueConstraint(condition=models.Q(('status', 'waiting')), fields=('provider', 'model', 'token_class', 'service_tier', 'region', 'context_over', 'valid_from'), name='price_proposal_once'),
        ),
        migrations.RunSQL(NO_OVERLAP, OVERLAP_BEFORE, hints={"placement": "tenant"}),
        migrations.RunSQL(ADD_TIER, "ALTER TABLE event DROP COLUMN service_tier", hints={"placement": "tenant"}),
    ]
