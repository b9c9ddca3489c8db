from django.db import migrations, models


class Migration(migrations.Migration):
    """Keys that pay for shadows. Words only: the column stays as it is."""

    dependencies = [
        ('catalog', '0010_prompts'),
    ]

    operations = [
        migrations.AlterField(
            model_name='virtualkey',
            name='purpose',
            field=models.CharField(choices=[('standard', 'Program'), ('playground', 'Playground'), ('shadow', 'Shadow')], default='standard', max_length=16),
        ),
    ]
