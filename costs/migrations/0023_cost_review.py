"""What people decided in the monthly review of costs, and who signed months off."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0022_bill_quarantine'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='ReviewSignature',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('month', models.DateField(unique=True)),
                ('figures', models.JSONField()),
                ('sha256', models.CharField(max_length=64)),
                ('note', models.CharField(blank=True, max_length=400)),
                ('signed_at', models.DateTimeField()),
                ('signed_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'cost_review_signature',
                'ordering': ['-month'],
            },
        ),
        migrations.CreateModel(
            name='ReviewItem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('commitment', 'Unused commitment'), ('idle', 'Idle deployment'), ('low_value', 'Low-value model'), ('untagged', 'Untagged money'), ('lacks_tags', 'Without required tags'), ('anomaly', 'Open anomaly')], max_length=12)),
                ('ref', models.CharField(blank=True, max_length=200)),
                ('title', models.CharField(max_length=200)),
                ('month', models.DateField()),
                ('decision', models.CharField(choices=[('keep', 'Keep'), ('retire', 'Retire'), ('change', 'Change'), ('watch', 'Watch')], max_length=8)),
                ('note', models.CharField(blank=True, max_length=400)),
                ('due_on', models.DateField(null=True)),
                ('decided_at', models.DateTimeField()),
                ('closed_month', models.DateField(null=True)),
                ('closed_at', models.DateTimeField(null=True)),
                ('closed_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('decided_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'cost_review_item',
                'ordering': ['pk'],
                'constraints': [models.UniqueConstraint(condition=models.Q(('closed_at', None)), fields=('kind', 'ref'), name='review_item_open_once'), models.CheckConstraint(condition=models.Q(models.Q(('closed_at', None), ('closed_by', None), ('closed_month', None)), models.Q(('closed_at__isnull', False), ('closed_by__isnull', False), ('closed_month__isnull', False)), _connector='OR'), name='review_item_closed_by_somebody')],
            },
        ),
    ]
