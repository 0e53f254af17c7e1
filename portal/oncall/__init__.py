"""What the on-call pages have in common: which schedules somebody may see, how they are drawn, and calendars of them."""
