"""Who may open and change what: every URL of the URL configuration × everybody × their own team's things and others'.

Two tables say it: ``OPENS`` and ``CHANGES``. A page without a row fails, and so do a row without a page, a button without a row,
and whatever is changed by those who may not, by a GET, or from another site.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache, partial
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.apps import apps
from django.contrib.sessions.backends.db import SessionStore
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.test import Client
from django.urls import resolve
from django.utils import timezone

from integrations import actions as connection_actions
from integrations import mirror, tasks
from integrations.gateway import web
from integrations.gateway.integration import Reply
from integrations.leaving import digest_of as held_digest
from integrations.leaving import held_by
from integrations.models import Feed, IntendedGap, MutedFinding
from integrations.pagerduty.analysis.model import Span
from integrations.pagerduty.catalog import CATEGORIES, PRESETS, TOOLS
from integrations.pagerduty.diagnose import Heard
from integrations.sweep import swept
from policies import actions
from policies.actions import clone_changes, digest_of, facts_digest, last_change, preset_changes, setting_changes
from policies.core import chain
from policies.core.call import State
from policies.models import AgentKey, BrowserSession, Checkpoint, Invitation, Membership, SavedView, Team, User
from portal import oidc
from portal.oncall.whatif import digest
from tests.conftest import PASSWORD
from tests.pages import EXAMPLES, GAPPY, PROVIDER, QUERIES, addresses, path_of
from tests.world import SECRET, World, make_world, session_of

pytestmark = pytest.mark.django_db
ADDRESSES = addresses()

# stranger: nobody who is signed in, or somebody who was deactivated since. outsider: a person of no team; of a team's things, the
# managers and members of others too. member, manager: of the team, or of some team. owner: of a personal workspace.
# sign-in: sent there. moved: redirected elsewhere. done: something was changed; whatever else stands there changes nothing.
# refused: 403, 404 or 422. -: whatever is said, nothing is changed. The first row with a star is of pages that have none of their
# own. Behind a page's name what of it is asked for (QUERIES of tests/pages.py). Of second factors managers and owners have some.
OPENS = """
                                  stranger outsider member   manager  owner    auditor  administrator
home                              sign-in  200      200      200      200      200      200
reads-go-on                       sign-in  405      405      405      405      405      405
stop-everything                   sign-in  403      403      403      403      403      200
stop                              sign-in  404      200      200      200      200      200
sign-in                           200      moved    moved    moved    moved    moved    moved
sign-out                          sign-in  405      405      405      405      405      405
search                            sign-in  200      200      200      200      200      200
search key                        sign-in  200      moved    moved    moved    moved    moved
account                           sign-in  200      200      200      200      200      200
second-factor                     sign-in  200      200      200      200      200      200
invitations                       sign-in  403      403      403      403      403      200
invitation                        200      200      200      200      200      200      200
set-up                            410      410      410      410      410      410      410
account_inactive                  sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  sign-in
mfa_authenticate                  sign-in  moved    moved    moved    moved    moved    moved
mfa_login_webauthn                sign-in  moved    moved    moved    moved    moved    moved
account_reauthenticate            sign-in  200      200      moved    moved    200      200
mfa_reauthenticate                sign-in  moved    moved    200      200      moved    moved
mfa_reauthenticate_webauthn       sign-in  moved    moved    200      200      moved    moved
provider-again                    sign-in  200      200      200      200      200      200
openid_connect_login              405      405      405      405      405      405      405
openid_connect_callback           done     done     done     done     done     done     done
mfa_activate_totp                 sign-in  200      200      moved    moved    200      200
mfa_deactivate_totp               sign-in  404      404      200      200      404      404
mfa_add_webauthn                  sign-in  200      200      200      200      200      200
mfa_remove_webauthn               sign-in  404      404      200      200      404      404
mfa_view_recovery_codes           sign-in  404      404      200      200      404      404
mfa_generate_recovery_codes       sign-in  200      200      200      200      200      200
account-time-zone                 sign-in  405      405      405      405      405      405
account-digest                    sign-in  405      405      405      405      405      405
teams                             sign-in  200      200      200      200      200      200
team                              sign-in  404      moved    moved    moved    moved    moved
stop-team                         sign-in  404      403      200      200      403      200
team-members                      sign-in  404      200      200      200      200      200
team-invitations                  sign-in  405      405      405      405      405      405
member-leave                      sign-in  404      403      200      404      403      200
team-connections                  sign-in  404      200      200      200      200      200
connection-bounds                 sign-in  404      200      200      200      200      200
connection                        sign-in  404      200      200      200      200      200
connection-test                   sign-in  404      moved    moved    moved    moved    moved
connection-delete                 sign-in  404      403      200      200      403      200
team-tools                        sign-in  404      200      200      200      200      200
team-tools-history                sign-in  404      200      200      200      200      200
team-reveals                      sign-in  404      200      200      200      200      200
team-preset                       sign-in  404      403      200      200      403      200
team-writes-off                   sign-in  404      403      200      200      403      200
try                               sign-in  404      200      200      200      403      200
try tool                          sign-in  404      200      200      200      403      200
team-agents                       sign-in  404      200      200      200      200      200
agent-connect                     sign-in  404      200      200      200      200      200
agent-change                      sign-in  404      403      200      200      403      200
stop-agent                        sign-in  404      403      200      200      403      200
mirror                            sign-in  404      200      200      200      404      200
coverage                          sign-in  200      200      200      200      200      200
coverage weeks                    sign-in  200      200      200      200      200      200
response                          sign-in  200      200      200      200      200      200
response hour                     sign-in  200      200      200      200      200      200
response-csv                      sign-in  405      405      405      405      405      405
coverage-policy                   sign-in  404      200      200      200      404      200
escalations                       sign-in  200      200      200      200      200      200
escalations days                  sign-in  200      200      200      200      200      200
escalation                        sign-in  404      200      200      200      404      200
escalation if                     sign-in  404      200      200      200      404      200
load                              sign-in  200      200      200      200      200      200
load year                         sign-in  200      200      200      200      200      200
load person                       sign-in  refused  refused  200      200      refused  200
load-csv                          sign-in  405      405      405      405      405      405
load-swaps                        sign-in  404      403      200      200      404      200
load-swaps found                  sign-in  404      403      200      200      404      200
paged                             sign-in  200      200      200      200      200      200
paged policy                      sign-in  refused  200      200      200      refused  200
schedules                         sign-in  200      200      200      200      200      200
schedule                          sign-in  404      200      200      200      404      200
schedule day                      sign-in  404      200      200      200      404      200
schedule month                    sign-in  404      200      200      200      404      200
my-on-call                        sign-in  200      200      200      200      200      200
feed                              200      200      200      200      200      200      200
team-notices                      sign-in  404      200      200      200      200      200
team-checks                       sign-in  404      200      200      200      200      200
standing-check                    sign-in  404      200      200      200      200      200
people                            sign-in  403      403      403      403      200      200
person                            sign-in  403      403      403      403      200      200
grid                              sign-in  403      403      403      403      200      200
grid-clone                        sign-in  403      403      403      403      403      200
grid-clone teams                  sign-in  403      403      403      403      403      200
grid-category                     sign-in  403      403      403      403      403      200
grid-category state               sign-in  403      403      403      403      403      200
grid-tool                         sign-in  403      403      403      403      403      200
catalogue                         sign-in  200      200      200      200      200      200
explain                           sign-in  200      200      200      200      200      200
explain decision                  sign-in  refused  200      200      200      200      200
explain agent                     sign-in  refused  200      200      200      200      200
explain oneself                   sign-in  refused  200      200      200      422      200
ask                               sign-in  405      405      405      405      405      405
request                           sign-in  404      200      200      200      200      200
access                            sign-in  403      403      200      200      200      200
access team                       sign-in  refused  403      200      200      200      200
access-export                     sign-in  405      405      405      405      405      405
audit                             sign-in  200      200      200      200      200      200
audit-export                      sign-in  405      405      405      405      405      405
audit-review                      sign-in  405      405      405      405      405      405
audit-views                       sign-in  405      405      405      405      405      405
audit-integrity                   sign-in  403      403      403      403      200      200
audit-checkpoint                  sign-in  403      403      403      403      200      200
audit-entry                       sign-in  404      404      200      200      200      200
admin:index                       sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:login                       sign-in  403      403      403      403      403      moved
admin:logout                      sign-in  moved    moved    moved    moved    moved    405
admin:password_change             sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  moved
admin:password_change_done        sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:autocomplete                sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  403
admin:jsi18n                      sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:view_on_site                sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  404
admin:policies_user_add           sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:policies_membership_add     sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:policies_team_add           sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:policies_toolsetting_add    sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:policies_toolrule_add       sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:integrations_connection_add sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:app_list                    sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:admin/(?P<url>.*)$          sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  404
admin:*_changelist                sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:*_history                   sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:policies_membership_delete  sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:integrations_connection_delete sign-in sign-in sign-in sign-in sign-in sign-in 200
admin:integrations_intendedgap_delete sign-in sign-in sign-in sign-in sign-in sign-in 200
admin:integrations_mutedfinding_delete sign-in sign-in sign-in sign-in sign-in sign-in 200
admin:*_delete                    sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  403
admin:*/<path:object_id>/         sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  moved
admin:*_add                       sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  403
admin:*_change                    sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
"""
# Behind a page's name, what of all that can be done there. A page that is not named refuses every POST with 405.
CHANGES = """
                                                     stranger outsider member   manager  owner    auditor  administrator
reads-go-on on,off                                   sign-in  403      403      403      403      403      done
stop-everything rehearse,stop                        sign-in  403      403      403      403      403      done
stop                                                 sign-in  404      403      done     done     403      done
sign-in                                              done     moved    moved    moved    moved    moved    moved
sign-out                                             sign-in  done     done     done     done     done     done
account end_all                                      sign-in  done     done     done     done     done     done
account end,unlink                                   sign-in  404      404      404      404      404      done
account                                              sign-in  done     done     done     done     done     done
invitations invite,resend,revoke                     sign-in  403      403      403      403      403      done
invitation                                           done     moved    moved    moved    moved    moved    moved
set-up                                               410      410      410      410      410      410      410
account_inactive                                     sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  sign-in
mfa_authenticate                                     -        -        -        -        -        -        -
mfa_login_webauthn                                   done     moved    moved    moved    moved    moved    moved
account_reauthenticate                               sign-in  done     done     moved    moved    done     done
mfa_reauthenticate                                   sign-in  moved    moved    done     done     moved    moved
mfa_reauthenticate_webauthn                          sign-in  moved    moved    moved    moved    moved    moved
openid_connect_login                                 done     done     done     done     done     done     done
openid_connect_callback                              405      405      405      405      405      405      405
openid_connect_login link                            sign-in  done     done     done     done     done     done
mfa_activate_totp                                    sign-in  done     done     moved    moved    done     done
mfa_deactivate_totp                                  sign-in  404      404      done     done     404      404
mfa_add_webauthn                                     sign-in  -        -        -        -        -        -
mfa_view_recovery_codes                              sign-in  404      404      done     done     404      404
mfa_remove_webauthn                                  sign-in  404      404      done     done     404      404
mfa_generate_recovery_codes                          sign-in  200      200      done     done     200      200
account-time-zone                                    sign-in  done     done     done     done     done     done
account-digest                                       sign-in  done     done     done     done     done     done
teams create                                         sign-in  403      403      403      403      403      done
teams workspace                                      sign-in  done     done     done     moved    moved    done
stop-team rehearse,stop                              sign-in  404      403      done     done     403      done
team-members add                                     sign-in  404      403      done     422      403      done
team-members remove                                  sign-in  404      403      done     moved    403      done
team-members set                                     sign-in  404      403      done     moved    403      done
team-invitations invite                              sign-in  404      403      done     moved    403      done
team-invitations resend,revoke                       sign-in  404      403      done     404      403      done
member-leave                                         sign-in  404      403      done     404      403      done
team-connections                                     sign-in  404      403      done     done     403      done
connection account_wide                              sign-in  404      403      422      422      403      done
connection approve                                   sign-in  404      403      moved    moved    403      done
connection bounds,discard,discard_from,expiry        sign-in  404      403      done     done     403      done
connection from,kind,replace,switch_off              sign-in  404      403      done     done     403      done
connection explain                                   sign-in  404      done     done     done     422      done
connection test,test_replacement                     sign-in  404      403      done     done     403      done
connection switch_on                                 sign-in  404      403      moved    moved    403      moved
connection-delete                                    sign-in  404      403      done     done     403      done
team-tools                                           sign-in  404      403      done     done     403      done
team-tools undo                                      sign-in  404      403      done     done     403      moved
team-reveals                                         sign-in  404      403      done     done     403      done
team-preset                                          sign-in  404      403      done     done     403      done
team-writes-off                                      sign-in  404      403      done     done     403      done
try                                                  sign-in  404      done     done     done     403      done
mirror                                               sign-in  404      done     done     done     404      done
response-csv                                         sign-in  404      done     done     done     404      done
coverage-policy override                             sign-in  404      done     done     done     404      done
coverage-policy intend,unmark                        sign-in  404      403      done     done     404      done
escalation mute,unmute,apply                         sign-in  404      403      done     done     404      done
load-csv                                             sign-in  404      done     done     done     404      done
load-swaps                                           sign-in  404      403      done     done     404      done
schedule feed                                        sign-in  404      done     done     done     404      done
my-on-call feed                                      sign-in  done     done     done     done     done     done
my-on-call revoke                                    sign-in  404      404      done     done     404      404
feed                                                 405      405      405      405      405      405      405
team-agents close,issue,revoke                       sign-in  404      403      done     done     403      done
agent-change                                         sign-in  404      403      done     done     403      done
stop-agent rehearse,stop                             sign-in  404      403      done     done     403      done
team-notices settings,webhook                        sign-in  404      403      done     done     403      done
team-notices renew,remove,test                       sign-in  404      403      done     done     403      done
team-checks                                          sign-in  404      403      done     done     403      done
standing-check change,remove,run                     sign-in  404      403      done     done     403      done
person leave,role                                    sign-in  403      403      403      403      403      done
person return                                        sign-in  403      403      403      403      403      done
grid-clone                                           sign-in  403      403      403      403      403      done
grid-category                                        sign-in  403      403      403      403      403      done
grid-tool lock,unlock                                sign-in  403      403      403      403      403      done
ask                                                  sign-in  404      done     moved    moved    moved    moved
request allow,decline                                sign-in  404      403      done     done     403      done
access-export                                        sign-in  403      403      done     done     done     done
audit-export                                         sign-in  403      403      done     done     done     done
audit-review                                         sign-in  403      403      done     done     done     done
audit-views                                          sign-in  403      403      done     done     done     done
audit-views delete                                   sign-in  403      403      done     404      404      404
audit-integrity                                      sign-in  403      403      403      403      done     done
audit-integrity newest                               sign-in  403      403      403      403      done     done
admin:password_change                                sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  moved
admin:login                                          sign-in  403      403      403      403      403      moved
admin:logout                                         sign-in  moved    moved    moved    moved    moved    done
admin:policies_user_add                              sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_user_change                           sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_membership_add                        sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_membership_change                     sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_membership_delete                     sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_membership_changelist remove          sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_team_add                              sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_team_change                           sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_team_changelist stop                  sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_team_changelist switch_all_writes_off sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_toolsetting_add                       sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_toolsetting_change                    sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_toolrule_add                          sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_toolrule_change                       sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_agentkey_changelist revoke,stop       sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_stop_changelist lift                  sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_browsersession_changelist end         sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:integrations_connection_add                    sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:integrations_connection_change                 sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:integrations_connection_delete                 sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:integrations_connection_changelist remove,test sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:integrations_feed_changelist revoke            sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:integrations_connection_changelist switch_off  sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:integrations_intendedgap_delete                sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:integrations_intendedgap_changelist remove     sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:integrations_mutedfinding_delete               sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:integrations_mutedfinding_changelist remove    sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_checkpoint_changelist verify          sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_lastverification_changelist verify    sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:mfa_authenticator_changelist take_away         sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:socialaccount_socialaccount_changelist unlink  sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:*_delete                                       sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  403
admin:*_add                                          sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  403
admin:*_change                                       sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  403
admin:*_changelist                                   sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  -
admin:*                                              sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  -
"""

WHY = {"reason": "the matrix"}
Values = dict[str, Any]
CSRF = "x" * 32


def _member(team: Team, action: str) -> Values:
    """Of the first of its members, who are before its managers; to the other role."""
    member = Membership.objects.filter(team=team).order_by("-role", "pk").first()
    assert member is not None
    return {
        "action": action,
        "membership": member.pk,
        "role": "manager" if member.role == "member" else "member",
        **WHY,
    }


def _leaves(user: User, team: Team | None) -> Values:
    """With all that they hold handed over to Ada."""
    ada = User.objects.get(email="ada@example.com")
    return {
        "action": "leave",
        "rest": f"keep:{ada.pk}",
        "seen": held_digest(held_by(user, team, timezone.now())),
        **WHY,
    }


def _example(name: str, team: Team) -> Any:
    return EXAMPLES[name](team)["pk"]


def _invited(team: Team | None, action: str) -> Values:
    row = Invitation.objects.filter(team=team).first()
    return {"action": action, "invitation": row.pk if row else 0}


def _delete(team: Team) -> Values:
    keys = [key.pk for key in team.agent_keys.filter(revoked_at=None)]
    return {"typed": team.connections.get().name, "key": keys, **WHY}


def _check(team: Team) -> Values:
    """Another than the one that there is."""
    about = f"service.PSVCGAP.{team.connections.get().pk}"
    when = {"weekdays": [7], "clock": "04:30", "time_zone": "UTC"}
    return {"about": about, **when, "whom": "anybody", "within_minutes": 20, **WHY}


def _narrower(team: Team) -> Values:
    key = AgentKey.objects.get(pk=_example("agent-change", team))
    return {"seen": facts_digest(key), "calls_per_minute": 5, "may": "core", **WHY}


def _feed(team: Team) -> int:
    return Feed.objects.get(connection__team=team).pk


def _code() -> str:
    return str(format_hotp_value(hotp_value(SECRET, int(time.time()) // 30)))


def _held(team: Team) -> Values:
    row = Checkpoint.objects.get()
    text = chain.Checkpoint(row.document, row.signature, row.public_key).to_json()
    return {"file": SimpleUploadedFile("checkpoint.json", text.encode())}


def _undo(team: Team) -> Values:
    change = last_change(team, "create_incident")
    assert change is not None
    return {"tool": "create_incident", "undo": change.pk}


def _preset(team: Team) -> Values:
    changes = preset_changes(team, preset=PRESETS["observer"], tools=TOOLS)
    return {"change": [f"{name}:{was}:{will}" for name, (was, will) in changes.items()], **WHY}


def _clone(team: Team) -> Values:
    source, target = Team.objects.get(slug="payments"), Team.objects.get(slug="search")
    return {"seen": digest_of(clone_changes(source, target, tools=TOOLS)), **WHY}


def _category(team: Team) -> Values:
    states = {name: State.ON for name, tool in TOOLS.items() if tool.category == CATEGORIES[0]}
    return {"seen": digest_of(setting_changes(dict.fromkeys(Team.objects.all(), states), tools=TOOLS)), **WHY}


def _selected(model: str, action: str) -> Callable[[Team], Values]:
    return lambda team: {"action": action, "confirmed": action, "_selected_action": [_row(model)], **WHY}


def _seat() -> Values:
    """A row of the admin's formset of a team's members: one more."""
    zed = User.objects.get(email="zed@example.com").pk
    held = Membership.objects.filter(team=_row("policies.Team")).order_by("pk")
    rows = [{"id": row.pk, "user": row.user_id, "role": row.role} for row in held]
    found: Values = {"memberships-TOTAL_FORMS": len(rows) + 1, "memberships-INITIAL_FORMS": len(rows)}
    for number, values in enumerate([*rows, {"user": zed, "role": "member"}]):
        found |= {f"memberships-{number}-{name}": value for name, value in values.items()}
    return found


def _row(label: str) -> Any:
    return apps.get_model(label)._default_manager.order_by("pk").values_list("pk", flat=True).first()


def _second_sunday() -> int:
    """When the second gap of ``GAPPY`` begins: the first is marked already."""
    today = timezone.now().astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return int((today + dt.timedelta(days=7 + (6 - today.weekday() or 7))).timestamp())


def _swap(team: Team) -> Values:
    """An hour of somebody's next turn, for somebody who is free then."""
    row, now = team.connections.get(), timezone.now()
    swept_now = swept(row, mirror.kept(row).account, now)
    rendered = swept_now.rendered[EXAMPLES["load-swaps"](team)["schedule_id"]]
    turn = next(one for one in rendered if one.user and one.start > now.timestamp())
    hour = Span(turn.start, turn.start + 3_600)
    busy = {
        user
        for user, spans in swept_now.busy.items()
        if any(each.start < hour.end and each.end > hour.start for each in spans)
    }
    free = next(user for user in sorted(swept_now.account.people) if user not in busy)
    return {
        "action": "accept",
        "swap": f"{hour.start}.{hour.end}.{turn.user}.{free}",
        "confirm": "yes",
        "once": "0" * 32,
    }


def _only(action: str) -> Callable[[Team], Values]:
    return lambda team: {"action": action, **WHY}


BODIES: dict[str, Callable[[Team], Values]] = {
    "reads-go-on on": lambda team: {"action": "on", "minutes": 30, **WHY},
    "reads-go-on off": lambda team: {"action": "off", "minutes": 30, **WHY},
    "stop-everything rehearse": _only("rehearse"),
    "stop-everything stop": _only("stop"),
    "stop": lambda team: WHY,
    "sign-in": lambda team: {"username": "mina@example.com", "password": PASSWORD},
    "sign-out": lambda team: {},
    "account": lambda team: {"old": PASSWORD, "new": "a new and long one", "again": "a new and long one"},
    "account end_all": lambda team: {"action": "end_all"},
    "account end": lambda team: {
        "action": "end",
        "session": BrowserSession.objects.filter(user__email="ada@example.com").earliest("pk").pk,
    },
    "account unlink": lambda team: {"action": "unlink", "account": _row("socialaccount.SocialAccount")},
    "invitations invite": lambda team: {"action": "invite", "email": "second@example.com", "team_role": "member"},
    "invitations resend": lambda team: _invited(None, "resend"),
    "invitations revoke": lambda team: _invited(None, "revoke"),
    "invitation": lambda team: {"name": "Guest", "new": "a new and long one", "again": "a new and long one"},
    "mfa_login_webauthn": lambda team: {"credential": ""},
    "account_reauthenticate": lambda team: {"password": PASSWORD},
    "mfa_reauthenticate": lambda team: {"code": _code()},
    "openid_connect_login": lambda team: {},
    "openid_connect_login link": lambda team: {"link": "yes"},
    "mfa_activate_totp": lambda team: {"code": _code()},
    "mfa_deactivate_totp": lambda team: {},
    "mfa_remove_webauthn": lambda team: {},
    "mfa_view_recovery_codes": lambda team: {},
    "mfa_generate_recovery_codes": lambda team: {},
    "account-time-zone": lambda team: {"time_zone": "Europe/Berlin"},
    "account-digest": lambda team: {},
    "teams create": lambda team: {"action": "create", "name": "New"},
    "teams workspace": lambda team: {"action": "workspace"},
    "stop-team rehearse": _only("rehearse"),
    "stop-team stop": _only("stop"),
    "team-members add": lambda team: {"action": "add", "email": "zed@example.com", "role": "member", **WHY},
    "team-members remove": lambda team: _member(team, "remove"),
    "team-members set": lambda team: _member(team, "set"),
    "team-invitations invite": lambda team: {"action": "invite", "email": "second@example.com", "team_role": "member"},
    "team-invitations resend": lambda team: _invited(team, "resend"),
    "team-invitations revoke": lambda team: _invited(team, "revoke"),
    "member-leave": lambda team: _leaves(Membership.objects.get(pk=_example("member-leave", team)).user, team),
    "team-connections": lambda team: {
        "name": "Second",
        "region": "us",
        "kind": "user",
        "token": "y_NbAkKc66ryYTWUXYEz",
        "team_ids": "PTEAM01",
        **WHY,
    },
    "connection account_wide": lambda team: {"action": "account_wide", "tools": ["list_priorities"], **WHY},
    "connection approve": lambda team: {"action": "approve", "email": "night@example.com"},
    "connection bounds": lambda team: {"action": "bounds", "team_ids": "PTEAM02"},
    "connection expiry": lambda team: {"action": "expiry", "token_expires_on": "2099-01-01"},
    "connection explain": lambda team: {"action": "explain", "type": "service", "id_or_name": "Checkout"},
    "connection from": lambda team: {"action": "from", "email": "day@example.com"},
    "connection replace": lambda team: {"action": "replace", "token": "y_NbAkKc66ryYTWUXYEw"},
    **{
        f"connection {action}": _only(action)
        for action in (
            "discard",
            "discard_from",
            "kind",
            "switch_off",
            "switch_on",
            "test",
            "test_replacement",
        )
    },
    "connection-delete": _delete,
    "try": lambda team: {},
    "mirror": lambda team: {},
    "response-csv": lambda team: {"connection": team.connections.get().pk, "days": 90},
    "coverage-policy override": lambda team: {
        "action": "override",
        "schedule": "PSCHGAP",
        "person": "PUSRGAP",
        "starts": (timezone.now() + dt.timedelta(days=1)).isoformat(),
        "ends": (timezone.now() + dt.timedelta(days=2)).isoformat(),
        "confirm": "yes",
        "once": "0" * 32,
    },
    "coverage-policy intend": lambda team: {
        "action": "intend",
        "every": "once",
        "until": (timezone.now() + dt.timedelta(days=30)).date(),
        "from": _second_sunday(),
        "to": _second_sunday() + 86_400,
        **WHY,
    },
    "coverage-policy unmark": lambda team: {
        "action": "unmark",
        "mark": IntendedGap.objects.filter(connection__team=team).get().pk,
    },
    "escalation mute": lambda team: {
        "action": "mute",
        "finding": f"nobody_on_call:policy:{GAPPY}:0",
        "until": (timezone.now() + dt.timedelta(days=30)).date(),
        **WHY,
    },
    "escalation unmute": lambda team: {
        "action": "unmute",
        "mute": MutedFinding.objects.filter(connection__team=team).get().pk,
    },
    "escalation apply": lambda team: {
        "action": "apply",
        **QUERIES["escalation if"](team),
        "was": digest(mirror.kept(team.connections.get()).account.policies[GAPPY]),
        "confirm": "yes",
        "once": "0" * 32,
    },
    "load-csv": lambda team: {"connection": str(team.connections.get().pk)},
    "load-swaps": _swap,
    "schedule feed": lambda team: {"action": "feed"},
    "my-on-call feed": lambda team: {"action": "feed"},
    "my-on-call revoke": lambda team: {"action": "revoke", "feed": _feed(team)},
    "team-tools": lambda team: {"tool": "resolve_incident", "state": "on", **WHY},
    "team-tools undo": _undo,
    "team-reveals": lambda team: WHY,
    "team-preset": _preset,
    "team-writes-off": lambda team: WHY,
    "team-agents close": lambda team: {
        "action": "close",
        "alarm": team.agent_keys.get(alarms__isnull=False).alarms.get().pk,
    },
    "team-agents issue": lambda team: {
        "action": "issue",
        "name": "new",
        "connection": team.connections.get().pk,
        "calls_per_minute": 5,
        "may": "core",
    },
    "team-agents revoke": lambda team: {"action": "revoke", "key": team.agent_keys.all()[0].pk},
    "agent-change": _narrower,
    "stop-agent rehearse": _only("rehearse"),
    "stop-agent stop": _only("stop"),
    "team-notices settings": lambda team: {"action": "settings", "horizon_days": 21, **WHY},
    "team-notices webhook": lambda team: {"action": "webhook", "url": "https://hooks.example.org/", **WHY},
    **{f"team-notices {action}": _only(action) for action in ("renew", "remove", "test")},
    "team-checks": lambda team: _check(team),
    "standing-check change": lambda team: {"action": "change", **_check(team)},
    "standing-check remove": _only("remove"),
    "standing-check run": _only("run"),
    "person leave": lambda team: _leaves(User.objects.get(pk=_example("person", team)), None),
    "person role": lambda team: {"action": "role", "role": "auditor", **WHY},
    "person return": _only("return"),
    "grid-clone": _clone,
    "grid-category": _category,
    "grid-tool lock": lambda team: {"action": "lock", "seen": "open", **WHY},
    "grid-tool unlock": lambda team: {"action": "unlock", "seen": "open", **WHY},
    "ask": lambda team: {**QUERIES["explain agent"](team), "why": "We are on call."},
    "request allow": lambda team: {"answer": "allow", "word": "Go on."},
    "request decline": lambda team: {"answer": "decline", "word": "Not now."},
    "access-export": lambda team: {**QUERIES["access team"](team), "form": "csv"},
    "audit-integrity": _held,
    "audit-integrity newest": _only("newest"),
    "audit-export": lambda team: {"q": "", "form": "jsonl"},
    "audit-review": lambda team: {"q": f"team:{team.slug}", "first": 1, "last": 2, "note": "Looked at."},
    "audit-views": lambda team: {"q": "verdict:deny", "name": "Mine"},
    "audit-views delete": lambda team: {"delete": SavedView.objects.get(user__email="mina@example.com").pk},
    "admin:logout": lambda team: {},
    "admin:policies_user_add": lambda team: {
        "email": "new@example.com",
        "name": "New",
        "role": "",
        "is_active": "on",
        "password": "a new and long one",
    },
    "admin:policies_user_change": lambda team: {"name": "Newer", "role": "administrator", "is_active": "on"},
    "admin:policies_membership_add": lambda team: {
        "user": User.objects.get(email="zed@example.com").pk,
        "team": team.pk,
        "role": "member",
    },
    "admin:policies_membership_change": lambda team: {"role": "manager"},
    "admin:policies_membership_delete": lambda team: {"confirmed": "remove"},
    "admin:policies_membership_changelist remove": lambda team: {
        **_selected("policies.Membership", "remove")(team),
        "_selected_action": [_example("member-leave", team)],
    },
    "admin:policies_team_add": lambda team: {"name": "New", "slug": "new"},
    "admin:policies_team_change": lambda team: _seat(),
    "admin:policies_toolsetting_add": lambda team: {"team": team.pk, "tool": "merge_incidents", "state": "on", **WHY},
    "admin:policies_toolsetting_change": lambda team: {"state": "off", **WHY},
    "admin:policies_toolrule_add": lambda team: {"tool": "resolve_incident", "locked": "on", **WHY},
    "admin:policies_toolrule_change": lambda team: {"risk": "high", **WHY},
    "admin:integrations_connection_add": lambda team: {
        "team": team.pk,
        "name": "Second",
        "region": "us",
        "kind": "user",
        "whole_account": "on",
        "from_email": "ada@example.com",
        "new_token": "y_NbAkKc66ryYTWUXYEz",
    },
    "admin:integrations_connection_change": lambda team: {"new_token": "y_NbAkKc66ryYTWUXYEw"},
    "admin:integrations_connection_delete": lambda team: {"confirmed": "remove"},
    "admin:integrations_intendedgap_delete": lambda team: {"confirmed": "remove"},
    "admin:integrations_mutedfinding_delete": lambda team: {"confirmed": "remove"},
    **{
        f"admin:{model.lower().replace('.', '_')}_changelist {action}": _selected(model, action)
        for model, actions in (
            ("integrations.Connection", ("remove", "switch_off", "test")),
            ("integrations.IntendedGap", ("remove",)),
            ("integrations.MutedFinding", ("remove",)),
            ("integrations.Feed", ("revoke",)),
            ("mfa.Authenticator", ("take_away",)),
            ("policies.AgentKey", ("revoke", "stop")),
            ("policies.BrowserSession", ("end",)),
            ("policies.Checkpoint", ("verify",)),
            ("policies.LastVerification", ("verify",)),
            ("policies.Stop", ("lift",)),
            ("policies.Team", ("stop", "switch_all_writes_off")),
            ("socialaccount.SocialAccount", ("unlink",)),
        )
        for action in actions
    },
}
"""Row of the table → what is sent there, so that it would be done if it may be: for each row with a ``done``."""
SENT_TO = {"grid-clone": "grid-clone teams", "grid-category": "grid-category state", "try": "try tool"}
"""Page → what stands in the address that its forms are sent to: a row of QUERIES."""


WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE|TRUNCATE|CREATE|DROP|ALTER)\b", re.IGNORECASE)
SIGN_INS = ("/sign-in/", "/admin/login/")
OWN = {
    "nobody": ("stranger", "payments"),
    "dora": ("stranger", "payments"),
    "zed": ("outsider", "payments"),
    "vic": ("member", "payments"),
    "mina": ("manager", "payments"),
    "pia": ("owner", "workspace"),
    "rhea": ("auditor", "payments"),
    "ada": ("administrator", "payments"),
}
"""Person → what they are in the table, and whose things they ask for."""
FOREIGN = (
    ("vic", "outsider", "search"),
    ("mina", "outsider", "search"),
    ("mina", "outsider", "workspace"),
    ("pia", "outsider", "payments"),
    ("rhea", "auditor", "workspace"),
    ("ada", "administrator", "search"),
)


def table(text: str) -> dict[str, dict[str, str]]:
    """Row → who → what becomes of it; a line that names several things to be done is a row each."""
    head, *lines = (line.split() for line in text.splitlines() if line.strip())
    rows: dict[str, dict[str, str]] = {}
    for line in lines:
        (name, *things), cells = line[: -len(head)], line[-len(head) :]
        for row in [f"{name} {thing}" for thing in things[0].split(",")] if things else [name]:
            assert row not in rows, f"{row} stands twice in the table."
            rows[row] = dict(zip(head, cells, strict=True))
    return rows


OPENED, CHANGED = table(OPENS), table(CHANGES)


def rows_of(name: str, rows: dict[str, dict[str, str]]) -> list[str]:
    """The rows of a page: its own, and those with a star that it fits. None: there is no row of it."""
    own = [row for row in rows if row.split()[0] == name]
    stars = [row for row in rows if "*" in row.split()[0] and fnmatchcase(name, row.split()[0]) and row not in own]
    plain = [row for row in stars if " " not in row][: 0 if name in own else 1]
    return [*own, *(row for row in stars if " " in row), *plain]


MAY_BE_DONE = {row for row, who in CHANGED.items() if "done" in who.values()}
OPENABLE = [(name, row) for name in ADDRESSES for row in rows_of(name, OPENED)]
DOABLE = [(name, row) for name in ADDRESSES for row in rows_of(name, CHANGED) or [""]]


def body_of(name: str, row: str, team: Team) -> Values:
    if row == "admin:*_changelist":
        app, model = name.removeprefix("admin:").removesuffix("_changelist").split("_")
        return {"action": "delete_selected", "_selected_action": [_row(f"{app}.{model}")], "post": "yes"}
    return BODIES[row](team) if row in BODIES else {}


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    """Made once. It is never committed, and each request is rolled back."""
    logging.disable()  # hundreds of refusals are meant
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_world()
        transaction.set_rollback(True)
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def cookies(world: World, django_db_blocker: Any) -> dict[str, str]:
    """Everybody's session. Dora is signed in as she was before she was deactivated."""
    sessions = {"nobody": ""}
    with django_db_blocker.unblock():
        for who in OWN.keys() - sessions:
            sessions[who] = session_of(User.objects.get(email=f"{who}@example.com"))
            # What the page shows that sets an authenticator app up.
            session = SessionStore(sessions[who])
            session["mfa.totp.secret"] = SECRET
            session.save()
    return sessions


Ask = Callable[..., Client]


@pytest.fixture(scope="module")
def clients() -> dict[bool, Client]:
    """With tokens of forms checked, and without: of each one, which need not be made for every request."""
    return {checks: Client(enforce_csrf_checks=checks) for checks in (False, True)}


@pytest.fixture
def at(cookies: dict[str, str], clients: dict[bool, Client]) -> Ask:
    """Somebody at a browser that knows nothing but who they are: whatever came of an earlier request was rolled back."""

    def browser(who: str, checks: bool = False) -> Client:
        client = clients[checks]
        client.cookies.clear()
        if cookies[who]:
            client.cookies["sessionid"] = cookies[who]
        return client

    return browser


@pytest.fixture(autouse=True)
def nothing_goes_out(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """What is asked of PagerDuty and left to the worker is written elsewhere: here a statement that changes nothing stands for
    it. The provider of sign-ins is one that nobody answers for."""

    def asks() -> None:
        User.objects.filter(pk=0).update(name="")

    def runner(*_: Any) -> Any:
        def run(*_: Any) -> Heard:
            asks()
            return Heard(Reply(403, (), b"{}"))

        return run

    def use(*_: Any, **__: Any) -> web.Done:
        asks()
        return web.Done({"error": {"kind": "failed", "problem": "Not in this test.", "remedy": "None."}}, True)

    monkeypatch.setattr(connection_actions, "_runner", runner)
    monkeypatch.setattr(web, "use_tool", use)
    monkeypatch.setattr(tasks.Task, "enqueue", lambda *_: asks())
    issuer = "https://id.example.com"
    settings.OIDC_PROVIDERS = json.dumps(
        [{"id": PROVIDER, "name": "Corp", "issuer": issuer, "client_id": "x", "client_secret": "x"}]
    )
    said = {"issuer": issuer, "authorization_endpoint": f"{issuer}/in", "token_endpoint": f"{issuer}/token"}
    monkeypatch.setitem(oidc._configurations, issuer, (time.monotonic(), said))
    # When a session was last seen is written by any page, now and then.
    monkeypatch.setattr(actions, "SEEN_SECONDS", 1_000_000_000)
    # Django keeps a copy of all that a template was given: most of the time that this test takes.
    monkeypatch.setattr("django.test.client.store_rendered_templates", lambda *_, **__: None)


@contextmanager
def watched(*, but: str = "nothing") -> Iterator[list[str]]:
    """What is written meanwhile, statement by statement, to all tables ``but`` some; then it is rolled back."""
    written: list[str] = []

    def look(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if WRITES.match(sql) and f'"{but}"' not in sql:
            written.append(sql)
        return execute(sql, *arguments)

    with transaction.atomic(), connection.execute_wrapper(look):
        yield written
        transaction.set_rollback(True)


SESSIONS = "django_session"
"""Where a step of a sign-in, and of setting a second factor up, leaves what the next one needs: by a GET, too."""


def became(answer: Any, written: list[str]) -> str:
    """In the table's words."""
    if written:
        return (
            "done" if answer.status_code < 400 else f"{answer.status_code}, and changed all the same: {written[0][:60]}"
        )
    if answer.status_code in (301, 302):
        return "sign-in" if answer["Location"].partition("?")[0] in SIGN_INS else "moved"
    return str(answer.status_code)


def fits(meant: str, answer: Any, written: list[str]) -> bool:
    if meant == "-":
        return not [sql for sql in written if f'"{SESSIONS}"' not in sql]
    return became(answer, written) in (("403", "404", "422") if meant == "refused" else (meant,))


@cache
def _path(name: str, query: str, team: Team) -> str:
    """``query``: the row of QUERIES that it asks for."""
    path = path_of(ADDRESSES[name], team)
    return f"{path}?{urlencode(QUERIES[query](team))}" if query in QUERIES else path


def tries(world: World, of: Callable[[Team], Any]) -> Iterator[tuple[str, str, Team]]:
    """Who, as what, and whose things; others' as well where ``of`` differs from team to team."""
    teams = {"payments": world.cast.payments, "search": world.cast.search, "workspace": world.workspace}
    of_a_team = of(teams["payments"]) != of(teams["search"])
    for who, role, team in (*((who, *what) for who, what in OWN.items()), *(FOREIGN if of_a_team else ())):
        yield who, role, teams[team]


def test_every_page_stands_in_the_table_and_every_row_is_one_of_a_page() -> None:
    for name in ADDRESSES:
        assert rows_of(name, OPENED), (
            f"The page {name} is new: say in OPENS of tests/portal/test_matrix.py who may open it, and in CHANGES and BODIES "
            "what can be done there, by whom."
        )
    used = {row for _, row in (*OPENABLE, *DOABLE)}
    gone = sorted((OPENED.keys() | CHANGED.keys()) - used)
    assert gone == [], f"There are no such pages any more: take their rows out of tests/portal/test_matrix.py: {gone}"
    assert QUERIES.keys() <= OPENED.keys(), "Say in OPENS who may ask for this."
    assert MAY_BE_DONE - BODIES.keys() == set(), "Say in BODIES what is sent there."
    assert BODIES.keys() - CHANGED.keys() == set(), "Say in CHANGES who may do this."


class Forms(HTMLParser):
    """The forms of a page that are sent by POST: where to, and what each of their buttons does."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, set[str]]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self._inside = (given.get("method") or "").lower() == "post"
            if self._inside:
                self.found.append((given.get("action") or "", set()))
        elif self._inside and given.get("name") in ("action", "answer") and given.get("value"):
            self.found[-1][1].add(str(given["value"]))

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "form"


def buttons(path: str, page: str) -> set[str]:
    """What can be done by the forms of a page, as CHANGES names it."""
    parser = Forms()
    parser.feed(page)
    found: set[str] = set()
    for target, actions_ in parser.found:
        name = resolve((target or path).partition("?")[0]).view_name
        found |= {f"{name} {action}" for action in actions_} or {name}
    return found


@pytest.mark.parametrize(("name", "row"), OPENABLE)
def test_who_opens_a_page_and_nothing_is_changed_by_it(name: str, row: str, world: World, at: Ask) -> None:
    for who, role, team in tries(world, partial(_path, name, row)):
        path = _path(name, row, team)
        with watched(but=SESSIONS) as written:
            answer = at(who).get(path)
            assert fits(OPENED[row][role], answer, written), f"{who} opens {path}: {became(answer, written)}"
        # Of what the admin offers its rows tell.
        if not name.startswith("admin") and answer["Content-Type"].startswith("text/html"):
            missing = buttons(path, answer.content.decode()) - CHANGED.keys()
            assert missing == set(), "Say in CHANGES of tests/portal/test_matrix.py who may do this."


@pytest.mark.parametrize(("name", "row"), DOABLE)
def test_who_changes_what(name: str, row: str, world: World, at: Ask) -> None:
    expected = CHANGED.get(row, {})
    own = _path(name, SENT_TO.get(name, ""), world.cast.payments)
    for who, role, team in tries(
        world, lambda team: (_path(name, SENT_TO.get(name, ""), team), body_of(name, row, team))
    ):
        path = _path(name, SENT_TO.get(name, ""), team)
        body = body_of(name, row, team)
        meant = expected.get(role) or ("sign-in" if role == "stranger" else "405")
        if role == "outsider" and OWN[who] != (role, team.slug) and path == own:
            meant = "-"  # They may do so for their own team, and the form names another.
        with watched() as written:
            answer = at(who).post(path, body)
            assert fits(meant, answer, written), f"{who} at {path}: {row}: {became(answer, written)}, not {meant}"
        if role == "administrator" and body and row in MAY_BE_DONE:
            # The same in the address changes nothing.
            with watched(but=SESSIONS) as written:
                at(who).get(path, body)
                assert written == [], f"GET {path} of {row}"
        if "confirmed" in body:
            with watched() as written:
                at(who).post(path, {**body, "confirmed": ""})
                assert written == [], f"{path} of {row}, not confirmed"


@pytest.mark.parametrize(("name", "row"), [(name, row) for name, row in DOABLE if row in MAY_BE_DONE])
def test_no_other_site_changes_anything(name: str, row: str, world: World, at: Ask) -> None:
    """Nor does a form without its token."""
    who, team = next(
        (who, team)
        for who, role, team in tries(world, partial(_path, name, SENT_TO.get(name, "")))
        if CHANGED[row][role] == "done"
    )
    client = at(who, checks=True)
    client.cookies["csrftoken"] = CSRF
    path = _path(name, SENT_TO.get(name, ""), team)
    for token, headers, meant in (
        ({}, {}, "403"),
        ({"csrfmiddlewaretoken": CSRF}, {"Origin": "https://elsewhere.example"}, "403"),
        ({"csrfmiddlewaretoken": CSRF}, {"Origin": "http://testserver"}, "done"),
    ):
        with watched() as written:
            answer = client.post(path, {**body_of(name, row, team), **token}, headers=headers)
            assert became(answer, written) == meant, f"{who} at {path} with {headers}"


def test_no_page_takes_a_form_without_its_token(world: World) -> None:
    """Whatever can be done there: none is exempt from what the test above goes by."""
    taken = [
        name for name in ADDRESSES if getattr(resolve(_path(name, "", world.cast.payments)).func, "csrf_exempt", 0)
    ]
    assert taken == []
