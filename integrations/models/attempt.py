"""Writes that were begun, so that a second try of one can be told what became of the first."""

from __future__ import annotations

from django.db import models


class Attempt(models.Model):
    """One write under its name: the caller's Idempotency-Key, or where there is none the very request. Only
    ``integrations/gateway/retries.py`` writes it. What became of it is in the journal, under ``decision_id``; here is
    kept what the journal does not hold: the answer, sealed. Nothing of the caller's stands here in clear."""

    scope = models.CharField(
        max_length=64, primary_key=True, help_text="Keyed digest of who wrote, by which operation, under which name."
    )
    request = models.CharField(max_length=64, help_text="Keyed digest of what is sent, and through which connection.")
    is_keyed = models.BooleanField(help_text="Whether the caller named it by an Idempotency-Key.")
    actor = models.CharField(max_length=254)
    operation = models.CharField(max_length=100)
    decision_id = models.CharField(max_length=32)
    at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    outcome = models.CharField(max_length=10, blank=True, help_text="Empty: ask the journal.")
    ended_at = models.DateTimeField(null=True, blank=True)
    answer = models.TextField(blank=True, help_text="Sealed: status, headers and body as they were answered.")

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.operation} by {self.actor} ({self.decision_id})"
