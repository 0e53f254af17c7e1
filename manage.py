"""Django's command line for Pagewarden."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    if sys.argv[1:2] == ["demo"]:
        # It makes the very settings that every other command needs.
        from portal.demo import main

        main(sys.argv[2:])
    else:
        execute_from_command_line(sys.argv)
