"""What surveys are about: a cohort, what a plan rolls out, or both."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('governance', '0011_effect_patience'),
        ('rollouts', '0015_longer_waivers'),
    ]

    operations = [
        migrations.AddField(
            model_name='surveyanswer',
            name='stage',
            field=models.CharField(blank=True, choices=[('internal', 'Internal'), ('pilot', 'Pilot'), ('limited', 'Limited'), ('ramp', 'Ramp'), ('general', 'General')], db_default='', default='', max_length=16),
        ),
        migrations.AddField(
            model_name='surveyanswer',
            name='subject',
            field=models.CharField(blank=True, choices=[('costs', 'cost attribution and anomaly detection'), ('gateway', 'the AI gateway')], db_default='', default='', max_length=16),
        ),
        migrations.AlterField(
            model_name='surveyanswer',
            name='cohort',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='answers', to='rollouts.cohort'),
        ),
        migrations.AlterField(
            model_name='surveyprompt',
            name='cohort',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='rollouts.cohort'),
        ),
        migrations.AddConstraint(
            model_name='surveyanswer',
            constraint=models.CheckConstraint(condition=models.Q(('cohort__isnull', False), models.Q(('subject', ''), _negated=True), _connector='OR'), name='survey_is_about_something'),
        ),
    ]
