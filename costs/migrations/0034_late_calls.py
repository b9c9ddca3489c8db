from decimal import Decimal
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0033_budget_by_tag'),
    ]

    operations = [
        migrations.AddField(
            model_name='reconciliationline',
            name='late',
            field=models.DecimalField(db_default=Decimal('0'), decimal_places=20, default=Decimal('0'), max_digits=40),
        ),
        migrations.AddField(
            model_name='reconciliationline',
            name='late_tokens',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='revision',
            name='late_calls',
            field=models.BigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='revision',
            name='telemetry_through',
            field=models.DateTimeField(null=True),
        ),
    ]
