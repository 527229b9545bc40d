"""The form of a trial: the request, and the client that sends it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from django import forms
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kafkaproxy.admin.pages.tryit_run import Asked
from kafkaproxy.core.names import is_token
from kafkaproxy.guards.principals import ClientPrincipal

__all__ = ["TrialForm"]

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_PARAMETER: Final = re.compile(r"\{[^/{}]*\}")
_CLIENTS: Final = [
    ("anonymous", gettext_lazy("without credentials")),
    ("token", gettext_lazy("with a token")),
    ("user", gettext_lazy("a user who is logged in to the site")),
]


class TrialForm(forms.Form):
    """A request. Acting as another user needs a permission, and only a superuser may act as a superuser."""

    required_css_class = "required"

    method = forms.CharField(label=gettext_lazy("method"), max_length=20, widget=forms.TextInput({"list": "kp-methods"}))
    target = forms.CharField(
        label=gettext_lazy("path"),
        max_length=4000,
        strip=False,
        help_text=gettext_lazy("With its query, such as /items/1?a=b."),
    )
    scheme = forms.ChoiceField(label=gettext_lazy("scheme"), choices=[("https", "https"), ("http", "http")])
    host = forms.CharField(label=gettext_lazy("host"), max_length=255)
    fields_text = forms.CharField(
        label=gettext_lazy("header fields"),
        required=False,
        widget=forms.Textarea({"rows": 3, "class": "kp-code", "spellcheck": "false"}),
        help_text=gettext_lazy("One a line: content-type: application/json"),
    )
    body = forms.CharField(
        label=gettext_lazy("body"),
        required=False,
        strip=False,
        widget=forms.Textarea({"rows": 5, "class": "kp-code", "spellcheck": "false"}),
    )
    client = forms.ChoiceField(label=gettext_lazy("client"), choices=_CLIENTS, widget=forms.RadioSelect)
    token = forms.CharField(
        label=gettext_lazy("token"),
        required=False,
        widget=forms.PasswordInput({"autocomplete": "off"}),
        help_text=gettext_lazy("Sent as authorization: Bearer. Not kept. For another place, write a header field or a query."),
    )
    username = forms.CharField(
        label=gettext_lazy("user"),
        required=False,
        max_length=254,
        widget=forms.TextInput({"autocomplete": "off"}),
        help_text=gettext_lazy("A user name; guards of the kind session take the client for that user. Empty: yourself."),
    )
    seconds = forms.IntegerField(
        label=gettext_lazy("time limit, seconds"),
        min_value=1,
        max_value=60,
        initial=5,
        help_text=gettext_lazy("A stream is cut off then."),
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._user = user
        self.chosen_user: Any = None

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are suggested."""
        return _METHODS

    @property
    def client_text(self) -> str:
        """The client in words, for the history: never a token."""
        if self.chosen_user is not None:
            return _("user %(name)s") % {"name": self.chosen_user.get_username()}
        return str(self.cleaned_data["client"])

    def clean_method(self) -> str:
        """Methods are tokens, and case counts."""
        method: str = self.cleaned_data["method"]
        if not is_token(method):
            raise ValidationError(_("Write a method, such as GET."))
        return method

    def clean_target(self) -> str:
        """A path begins with a slash and has no fragment."""
        target: str = self.cleaned_data["target"]
        if not target.startswith("/") or "#" in target or any(each < "!" for each in target):
            raise ValidationError(_("Begin with a slash; write no spaces and no #."))
        if (parameter := _PARAMETER.search(target.partition("?")[0])) is not None:
            message = _("Write a value of your own in the place of %(part)s. (A brace itself is %%7B.)")
            raise ValidationError(message % {"part": parameter[0]})
        return target

    def clean_fields_text(self) -> tuple[tuple[str, str], ...]:
        """Read the lines."""
        fields = []
        for number, line in enumerate(self.cleaned_data["fields_text"].splitlines(), 1):
            if not line.strip():
                continue
            name, colon, value = line.strip().partition(":")
            if not colon or not is_token(name) or not _is_latin(value):
                raise ValidationError(_("Line %(number)d: write name: value, in Latin-1.") % {"number": number})
            fields.append((name, value.lstrip(" \t")))
        return tuple(fields)

    def clean(self) -> dict[str, Any]:
        """Find the user that sends it, and check that this user may act as that one."""
        super().clean()
        data = self.cleaned_data
        if data.get("client") == "user":
            self.chosen_user = self._find_user(data.get("username") or "")
        if data.get("client") == "token" and not (data.get("token") and data["token"].isascii()):
            self.add_error("token", _("Paste a token."))
        return data

    def _find_user(self, name: str) -> Any:
        if name in ("", self._user.get_username()):
            return self._user
        if not self._user.has_perm("kafkaproxy.try_route_as_user"):
            self.add_error("username", _("You may only be yourself here: acting as another user needs a permission."))
            return None
        model = get_user_model()
        found = model._default_manager.filter(**{model.USERNAME_FIELD: name, "is_active": True}).first()  # noqa: SLF001 (public)
        if found is None:
            self.add_error("username", _("There is no active user of this name."))
        elif getattr(found, "is_superuser", False) and not self._user.is_superuser:
            self.add_error("username", _("Only a superuser may act as a superuser."))
        else:
            return found
        return None

    def asked(self, principals: Mapping[str, ClientPrincipal]) -> Asked:
        """Return the request."""
        data = self.cleaned_data
        fields = data["fields_text"]
        if data["client"] == "token":
            fields = (*fields, ("authorization", f"Bearer {data['token']}"))
        return Asked(
            method=data["method"],
            target=data["target"],
            scheme=data["scheme"],
            host=data["host"],
            fields=fields,
            body=data["body"].encode(),
            seconds=data["seconds"],
            principals=principals,
        )


def _is_latin(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True
