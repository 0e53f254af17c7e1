from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from portal.forms import SignInForm
from portal.views import (
    access,
    account,
    agents,
    audit,
    catalogue,
    connections,
    explain,
    grid,
    home,
    members,
    requests,
    reveals,
    stops,
    teams,
    tools,
    trying,
)

urlpatterns = [
    path("", home.index, name="home"),
    path("reads-go-on/", home.reads_go_on, name="reads-go-on"),
    path("stop/", stops.everything, name="stop-everything"),
    path("stops/<int:pk>/", stops.lift, name="stop"),
    path(
        "sign-in/",
        LoginView.as_view(
            template_name="sign_in/index.html", authentication_form=SignInForm, redirect_authenticated_user=True
        ),
        name="sign-in",
    ),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
    path("account/", account.index, name="account"),
    path("teams/", teams.index, name="teams"),
    path("teams/<slug:slug>/", teams.team, name="team"),
    path("teams/<slug:slug>/stop/", stops.team, name="stop-team"),
    path("teams/<slug:slug>/members/", members.index, name="team-members"),
    path("teams/<slug:slug>/connections/", connections.index, name="team-connections"),
    path("teams/<slug:slug>/connections/bounds/", connections.bounds, name="connection-bounds"),
    path("teams/<slug:slug>/connections/<uuid:pk>/", connections.detail, name="connection"),
    path("teams/<slug:slug>/tools/", tools.index, name="team-tools"),
    path("teams/<slug:slug>/tools/history/", tools.history, name="team-tools-history"),
    path("teams/<slug:slug>/tools/reveals/", reveals.index, name="team-reveals"),
    path("teams/<slug:slug>/tools/preset/<slug:name>/", tools.preset, name="team-preset"),
    path("teams/<slug:slug>/tools/writes-off/", stops.writes_off, name="team-writes-off"),
    path("teams/<slug:slug>/try/", trying.index, name="try"),
    path("teams/<slug:slug>/agents/", agents.index, name="team-agents"),
    path("teams/<slug:slug>/agents/<uuid:pk>/connect/", agents.connect, name="agent-connect"),
    path("teams/<slug:slug>/agents/<uuid:pk>/stop/", stops.agent, name="stop-agent"),
    path("grid/", grid.index, name="grid"),
    path("grid/clone/", grid.clone, name="grid-clone"),
    path("grid/category/", grid.category, name="grid-category"),
    path("grid/tools/<slug:name>/", grid.tool, name="grid-tool"),
    path("catalogue/", catalogue.index, name="catalogue"),
    path("explain/", explain.index, name="explain"),
    path("requests/", requests.ask, name="ask"),
    path("requests/<int:pk>/", requests.detail, name="request"),
    path("access/", access.index, name="access"),
    path("access/export/", access.export, name="access-export"),
    path("audit/", audit.index, name="audit"),
    path("audit/export/", audit.export, name="audit-export"),
    path("audit/review/", audit.review, name="audit-review"),
    path("audit/views/", audit.views, name="audit-views"),
    path("audit/<int:pk>/", audit.entry, name="audit-entry"),
    path("admin/", admin.site.urls),
]
