from django.db import migrations, models


class Migration(migrations.Migration):
    """The protocol that a provider speaks; those there are all speak OpenAI's."""

    dependencies = [
        ('catalog', '0002_key_rotation'),
    ]

    operations = [
        migrations.AddField(
            model_name='provider',
            name='dialect',
            field=models.CharField(choices=[('openai', 'OpenAI'), ('anthropic', 'Anthropic')], default='openai', max_length=16),
        ),
        migrations.AlterField(
            model_name='provider',
            name='kind',
            field=models.CharField(choices=[('openai', 'OpenAI'), ('anthropic', 'Anthropic'), ('openai_compatible', 'OpenAI-compatible server')], default='openai_compatible', max_length=24),
        ),
    ]
