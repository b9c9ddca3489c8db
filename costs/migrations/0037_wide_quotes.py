from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0036_bill_parts'),
    ]

    operations = [
        migrations.AlterField(
            model_name='commitment',
            name='quoted',
            field=models.DecimalField(decimal_places=8, max_digits=26, null=True),
        ),
        migrations.AlterField(
            model_name='priceentry',
            name='quoted',
            field=models.DecimalField(decimal_places=8, max_digits=26, null=True),
        ),
        migrations.AlterField(
            model_name='priceproposal',
            name='quoted',
            field=models.DecimalField(decimal_places=8, max_digits=26, null=True),
        ),
        migrations.AlterField(
            model_name='supersededprice',
            name='quoted',
            field=models.DecimalField(decimal_places=8, max_digits=26, null=True),
        ),
    ]
