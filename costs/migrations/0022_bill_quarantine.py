"""Rows of bills that cannot be placed yet are counted apart."""

from decimal import Decimal
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0021_archived_month'),
    ]

    operations = [
        migrations.AddField(
            model_name='billerror',
            name='is_quarantined',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='billfile',
            name='billed_quarantined',
            field=models.DecimalField(decimal_places=20, default=Decimal('0'), max_digits=40),
        ),
        migrations.AddField(
            model_name='billfile',
            name='rows_quarantined',
            field=models.IntegerField(default=0),
        ),
    ]
