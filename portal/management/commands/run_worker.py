"""``manage.py run_worker``: runs the portal's tasks until it is told to stop."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Run the portal's tasks (connection tests, checkpoints, reminders) until SIGTERM or SIGINT."

    def handle(self, *args: Any, **options: Any) -> None:
        from integrations.tasks import huey
        from portal import digest  # noqa: F401 - its task is the portal's own, for it tells what pages tell

        # SIGTERM, what supervisors send, lets running tasks finish; SIGINT (Ctrl-C) does not wait for them. Threads:
        # the tasks wait for PagerDuty, and share the process's one runtime.
        consumer = huey.create_consumer(
            workers=4,
            worker_type="thread",
            periodic=True,
            max_delay=1.0,
            graceful_signal="TERM",
            shutdown_timeout=45,
            flush_locks=True,
        )
        self.stdout.write("worker: ready")
        self.stdout.flush()
        consumer.run()
