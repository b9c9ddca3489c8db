"""Files that replace what an earlier one delivered: rows out of force stay, and each file keeps what it changed."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models import Q
from django.db.models.functions import Coalesce

STYLES = [("append", "Each file adds to those before"), ("replacement", "Each file replaces what it delivers again")]
STATES = [("applied", "Applied"), ("waiting", "Waits to be applied"), ("dismissed", "Dismissed"), ("undone", "Undone")]


class Migration(migrations.Migration):
    dependencies = [
        ("costs", "0028_attribute_days"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="BillFeed",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("provider", models.CharField(max_length=48)),
                ("account", models.CharField(max_length=160)),
                ("style", models.CharField(choices=STYLES, max_length=12)),
                ("set_at", models.DateTimeField()),
                (
                    "set_by",
                    models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL),
                ),
            ],
            options={
                "db_table": "bill_feed",
                "ordering": ["provider", "account"],
                "constraints": [models.UniqueConstraint(fields=["provider", "account"], name="bill_feed_once")],
            },
        ),
        migrations.CreateModel(
            name="BillDelivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("provider", models.CharField(max_length=48)),
                ("account", models.CharField(max_length=160)),
                ("period", models.DateField()),
                ("currency", models.CharField(max_length=8)),
                ("style", models.CharField(choices=STYLES, max_length=12)),
                ("rows_kept", models.IntegerField()),
                ("rows_new", models.IntegerField()),
                ("rows_gone", models.IntegerField()),
                ("rows_changed", models.IntegerField()),
                ("billed_kept", models.DecimalField(decimal_places=20, max_digits=40)),
                ("billed_new", models.DecimalField(decimal_places=20, max_digits=40)),
                ("billed_gone", models.DecimalField(decimal_places=20, max_digits=40)),
                (
                    "file",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="deliveries", to="costs.billfile"),
                ),
            ],
            options={
                "db_table": "bill_delivery",
                "ordering": ["provider", "account", "period", "currency"],
                "indexes": [models.Index(fields=["provider", "account", "period"], name="bill_delivery_period")],
            },
        ),
        migrations.RemoveConstraint(model_name="billrow", name="bill_row_once"),
        migrations.AddField("billfile", "applied_at", models.DateTimeField(null=True)),
        migrations.AddField("billfile", "changes", models.JSONField(db_default=[], default=list)),
        migrations.AddField("billfile", "doubts", models.JSONField(db_default=[], default=list)),
        migrations.AddField("billfile", "state", models.CharField(choices=STATES, db_default="applied", default="applied", max_length=12)),
        migrations.AddField("billrow", "charge_key", models.CharField(blank=True, db_default="", max_length=32)),
        migrations.AddField("billrow", "is_in_force", models.BooleanField(db_default=True, default=True)),
        migrations.AddField("billrow", "period", models.DateField(null=True)),
        migrations.AddField(
            "billrow",
            "replaced_by",
            models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name="replaced_rows", to="costs.billfile"),
        ),
        migrations.AddIndex("billrow", models.Index("provider", "account", Coalesce("period", "month"), name="bill_row_delivered")),
        migrations.AddConstraint(
            "billrow",
            models.UniqueConstraint(condition=Q(is_in_force=True), fields=("fingerprint", "occurrence"), name="bill_row_in_force"),
        ),
    ]
