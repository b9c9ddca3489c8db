from django.db import migrations, models


class Migration(migrations.Migration):
    """Providers on Azure, Vertex AI and Bedrock, and credentials that are more than a key; those there are all keys."""

    dependencies = [
        ('catalog', '0005_model_cache'),
    ]

    operations = [
        migrations.AddField(
            model_name='provider',
            name='credential',
            field=models.CharField(choices=[('key', 'API key'), ('entra_id', 'Microsoft Entra ID'), ('service_account', 'Google service account'), ('aws_keys', 'AWS access keys')], default='key', max_length=16),
        ),
        migrations.AddField(
            model_name='provider',
            name='credential_label',
            field=models.CharField(blank=True, editable=False, max_length=200),
        ),
        migrations.AddField(
            model_name='provider',
            name='api_version',
            field=models.CharField(blank=True, max_length=32),
        ),
        migrations.AlterField(
            model_name='provider',
            name='kind',
            field=models.CharField(choices=[('openai', 'OpenAI'), ('anthropic', 'Anthropic'), ('azure_openai', 'Azure OpenAI'), ('vertex_ai', 'Google Vertex AI'), ('bedrock', 'Amazon Bedrock'), ('openai_compatible', 'OpenAI-compatible server')], default='openai_compatible', max_length=24),
        ),
    ]
