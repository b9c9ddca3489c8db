"""Units with a price of their own: audio, images, hour-long cache writes, and tools that the provider ran."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0016_bill_source'),
    ]

    operations = [
        migrations.AddField(
            model_name='inbox',
            name='units',
            field=models.JSONField(null=True),
        ),
        migrations.AddField(
            model_name='rejectedinbox',
            name='units',
            field=models.JSONField(null=True),
        ),
        migrations.AlterField(
            model_name='priceentry',
            name='token_class',
            field=models.CharField(choices=[('input', 'Input'), ('cached_input', 'Cached input'), ('cache_write', 'Cache write'), ('output', 'Output'), ('audio_input', 'Audio input'), ('image_input', 'Image input'), ('cache_write_1h', 'Cache write, 1 hour'), ('audio_output', 'Audio output'), ('image_output', 'Image output'), ('web_search', 'Web searches'), ('file_search', 'File searches')], max_length=16),
        ),
        migrations.AlterField(
            model_name='priceproposal',
            name='token_class',
            field=models.CharField(choices=[('input', 'Input'), ('cached_input', 'Cached input'), ('cache_write', 'Cache write'), ('output', 'Output'), ('audio_input', 'Audio input'), ('image_input', 'Image input'), ('cache_write_1h', 'Cache write, 1 hour'), ('audio_output', 'Audio output'), ('image_output', 'Image output'), ('web_search', 'Web searches'), ('file_search', 'File searches')], max_length=16),
        ),
        migrations.AlterField(
            model_name='supersededprice',
            name='token_class',
            field=models.CharField(choices=[('input', 'Input'), ('cached_input', 'Cached input'), ('cache_write', 'Cache write'), ('output', 'Output'), ('audio_input', 'Audio input'), ('image_input', 'Image input'), ('cache_write_1h', 'Cache write, 1 hour'), ('audio_output', 'Audio output'), ('image_output', 'Image output'), ('web_search', 'Web searches'), ('file_search', 'File searches')], max_length=16),
        ),
        migrations.RunSQL("ALTER TABLE event ADD COLUMN units jsonb", "ALTER TABLE event DROP COLUMN units", hints={"placement": "tenant"}),
    ]
