from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0034_late_calls'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='commitment',
            name='commitment_in_usd',
        ),
        migrations.AddField(
            model_name='commitment',
            name='quoted',
            field=models.DecimalField(decimal_places=8, max_digits=18, null=True),
        ),
        migrations.AddField(
            model_name='commitment',
            name='rate',
            field=models.DecimalField(decimal_places=10, max_digits=20, null=True),
        ),
        migrations.AddField(
            model_name='commitment',
            name='rate_on',
            field=models.DateField(null=True),
        ),
        migrations.AddConstraint(
            model_name='commitment',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('currency', 'USD'), ('quoted', None), ('rate', None), ('rate_on', None)), models.Q(models.Q(('currency', 'USD'), _negated=True), ('quoted__gte', 0), ('rate__gt', 0), ('rate_on__isnull', False)), _connector='OR'), name='commitment_quote'),
        ),
    ]
