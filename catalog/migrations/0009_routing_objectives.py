import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """What a model's deployments are chosen by, and how good each is."""

    dependencies = [
        ('catalog', '0008_key_figures'),
    ]

    operations = [
        migrations.AddField(
            model_name='deployment',
            name='quality',
            field=models.DecimalField(blank=True, decimal_places=2, max_digits=5, null=True),
        ),
        migrations.AddField(
            model_name='deployment',
            name='quality_basis',
            field=models.CharField(blank=True, max_length=200),
        ),
        migrations.AddField(
            model_name='deployment',
            name='quality_set_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='deployment',
            name='quality_source',
            field=models.CharField(blank=True, choices=[('people', 'People'), ('evaluation', 'Evaluation')], max_length=12),
        ),
        migrations.CreateModel(
            name='RoutingObjectives',
            fields=[
                ('model', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='objectives', serialize=False, to='catalog.model')),
                ('cost', models.PositiveSmallIntegerField()),
                ('latency', models.PositiveSmallIntegerField()),
                ('quality', models.PositiveSmallIntegerField()),
                ('explore_percent', models.PositiveSmallIntegerField(default=5)),
                ('changed_at', models.DateTimeField(auto_now=True)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('cost__gte', 0), ('cost__lte', 100), ('latency__gte', 0), ('latency__lte', 100), ('quality__gte', 0), ('quality__lte', 100), ('explore_percent__gte', 0), ('explore_percent__lte', 100)), name='routing_objectives_percent'), models.CheckConstraint(condition=models.Q(('cost__gt', 0), ('latency__gt', 0), ('quality__gt', 0), _connector='OR'), name='routing_objectives_some')],
            },
        ),
    ]
