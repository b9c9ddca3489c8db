from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0018_limits_of_deployments"),
    ]

    operations = [
        migrations.AddField(
            model_name="model",
            name="default_parameters",
            field=models.JSONField(blank=True, db_default={}, default=dict),
        ),
        migrations.AlterField(
            model_name="modelreview",
            name="kind",
            field=models.CharField(
                choices=[
                    ("serve", "To be served"),
                    ("facts", "A wider description"),
                    ("parameters", "Default parameters"),
                    ("deployment", "Another deployment"),
                    ("drift", "Changed underneath"),
                ],
                max_length=12,
            ),
        ),
    ]
