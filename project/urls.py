"""The pages of the demo site. What the gateways serve is in the admin, not here."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from project import views

urlpatterns = [
    path("", views.home, name="home"),
    path("demo/cut", views.cut, name="cut"),
    path("demo/records", views.records, name="records"),
    path("kafkaproxy/", include("kafkaproxy.urls")),
    path("admin/", admin.site.urls),
]
