"""Who signed which figures of a bill. Constraints stand in CreateModel."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0006_call_hour'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='RevisionSignature',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.CharField(max_length=64)),
                ('comment', models.CharField(blank=True, max_length=400)),
                ('at', models.DateTimeField()),
                ('voided_at', models.DateTimeField(null=True)),
                ('void_reason', models.CharField(blank=True, max_length=200)),
                ('person', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('revision', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='signatures', to='costs.revision')),
            ],
            options={
                'db_table': 'revision_signature',
                'ordering': ['at', 'pk'],
                'constraints': [models.UniqueConstraint(condition=models.Q(('voided_at', None)), fields=('revision', 'person'), name='revision_signed_once'), models.CheckConstraint(condition=models.Q(models.Q(('void_reason', ''), ('voided_at', None)), ('voided_at__isnull', False), _connector='OR'), name='signature_void_reason')],
            },
        ),
    ]
