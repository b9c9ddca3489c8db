"""Two more classes. Nothing changes in the database."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0024_prompt_days_of_before'),
    ]

    operations = [
        migrations.AlterField(
            model_name='priceentry',
            name='token_class',
            field=models.CharField(choices=[('input', 'Input'), ('cached_input', 'Cached input'), ('cache_write', 'Cache write'), ('output', 'Output'), ('audio_input', 'Audio input'), ('image_input', 'Image input'), ('cache_write_1h', 'Cache write, 1 hour'), ('audio_output', 'Audio output'), ('image_output', 'Image output'), ('web_search', 'Web searches'), ('file_search', 'File searches'), ('cached_audio', 'Cached audio input'), ('cached_image', 'Cached image input')], max_length=16),
        ),
        migrations.AlterField(
            model_name='priceproposal',
            name='token_class',
            field=models.CharField(choices=[('input', 'Input'), ('cached_input', 'Cached input'), ('cache_write', 'Cache write'), ('output', 'Output'), ('audio_input', 'Audio input'), ('image_input', 'Image input'), ('cache_write_1h', 'Cache write, 1 hour'), ('audio_output', 'Audio output'), ('image_output', 'Image output'), ('web_search', 'Web searches'), ('file_search', 'File searches'), ('cached_audio', 'Cached audio input'), ('cached_image', 'Cached image input')], max_length=16),
        ),
        migrations.AlterField(
            model_name='supersededprice',
            name='token_class',
            field=models.CharField(choices=[('input', 'Input'), ('cached_input', 'Cached input'), ('cache_write', 'Cache write'), ('output', 'Output'), ('audio_input', 'Audio input'), ('image_input', 'Image input'), ('cache_write_1h', 'Cache write, 1 hour'), ('audio_output', 'Audio output'), ('image_output', 'Image output'), ('web_search', 'Web searches'), ('file_search', 'File searches'), ('cached_audio', 'Cached audio input'), ('cached_image', 'Cached image input')], max_length=16),
        ),
    ]
