from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class PortalConfig(AppConfig):
    name = "portal"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from portal import checks  # noqa: F401  (registers them)


class AdministrationConfig(admin_apps.AdminConfig):
    # Of the two here the one above is the portal's.
    default = False
    default_site = "portal.administration.Administration"
