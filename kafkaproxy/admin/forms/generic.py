"""Django's form and admin classes with type parameters, which exist for the type checker only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin

__all__ = ["InlineFormSet", "ModelAdmin", "ModelForm", "StackedInline", "TabularInline"]

if TYPE_CHECKING:
    from django.forms.models import BaseInlineFormSet

    InlineFormSet = BaseInlineFormSet[Any, Any, Any]
    ModelAdmin = admin.ModelAdmin[Any]
    ModelForm = forms.ModelForm[Any]
    StackedInline = admin.StackedInline[Any, Any]
    TabularInline = admin.TabularInline[Any, Any]
else:
    from django.forms.models import BaseInlineFormSet as InlineFormSet

    ModelAdmin = admin.ModelAdmin
    ModelForm = forms.ModelForm
    StackedInline = admin.StackedInline
    TabularInline = admin.TabularInline
