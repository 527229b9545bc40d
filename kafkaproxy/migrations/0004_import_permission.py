from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("kafkaproxy", "0003_admin_permissions"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="gateway",
            options={
                "ordering": ["position", "name"],
                "permissions": [
                    ("watch_gateway", "Can watch streams, requests and errors live"),
                    ("import_gateway", "Can import a zilla.yaml: gateways, clusters, guards"),
                ],
                "verbose_name": "gateway",
                "verbose_name_plural": "gateways",
            },
        ),
    ]
