"""Django's command line for Pagewarden."""

from __future__ import annotations

import json
import os
import sys

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    if sys.argv[1:2] == ["demo"]:
        # It makes the very settings that every other command needs.
        from portal.demo import main as demo

        demo(sys.argv[2:])
        return
    if sys.argv[1:2] == ["verify_export"]:
        # For machines that have nothing of the portal's but its code.
        from portal.management.commands.verify_export import Command

        Command().run_from_argv(sys.argv)
        return
    try:
        _ = settings.SECRET_KEY  # reads all of them
    except (ImproperlyConfigured, OSError) as error:
        # 2: nothing was done, and of the journal nothing can be told. 1 would say that it is broken.
        if sys.argv[1:2] == ["verify_audit"] and "--json" in sys.argv:
            sys.stdout.write(json.dumps({"status": "unknown", "problem": str(error)}) + "\n")
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
