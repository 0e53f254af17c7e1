"""What the portal itself sends out: notices to a team's webhook address. ``transport.py`` is the one way out, and guarded;
``message.py`` says what a request is made of; ``deliveries.py`` is the outbox; ``actions.py`` is what managers do."""
