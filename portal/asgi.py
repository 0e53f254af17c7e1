"""The ASGI application: the gateway's doors beside Django's pages."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
django_application = get_asgi_application()

from integrations.gateway.app import Gateway  # noqa: E402  (needs the settings)
from portal.set_up import announce  # noqa: E402

application = Gateway(django_application, started=announce)
