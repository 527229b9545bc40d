"""The form of an import: a text, pasted or uploaded."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kafkaproxy.models import Cluster
from kafkaproxy.validators import validate_name
from kafkaproxy.zilla.read import MAX_BYTES

__all__ = ["ImportForm"]

_DEFAULT_FILE: Final = "zilla.yaml"


class ImportForm(forms.Form):
    """What to import, and how. ``cleaned_data["text"]`` is the text, wherever it came from."""

    file = forms.FileField(label=gettext_lazy("File"), required=False, help_text=gettext_lazy("It replaces the text below."))
    text = forms.CharField(
        label=gettext_lazy("Text"),
        required=False,
        strip=False,
        widget=forms.Textarea({"rows": 14, "class": "kp-code kp-yaml", "spellcheck": "false", "wrap": "off"}),
        help_text=gettext_lazy("A zilla.yaml of either dialect, a part of one, or a Compose file that holds one."),
    )
    gateway = forms.CharField(
        label=gettext_lazy("Gateway"),
        required=False,
        max_length=100,
        validators=[validate_name],
        help_text=gettext_lazy("Its name. Empty: the one in the file."),
    )
    cluster = forms.ModelChoiceField(
        Cluster.objects.all(),
        label=gettext_lazy("Cluster"),
        required=False,
        help_text=gettext_lazy("For a part of a file that does not say where Kafka is."),
    )
    file_name = forms.CharField(required=False, max_length=200, widget=forms.HiddenInput)
    seen = forms.CharField(required=False, max_length=100, widget=forms.HiddenInput)
    overwrite = forms.BooleanField(required=False)

    def clean_file(self) -> str | None:
        """Return the text of the upload; None without one."""
        upload = self.cleaned_data["file"]
        if not upload:
            return None
        self._file_name = str(upload.name)
        if upload.size > MAX_BYTES:
            raise ValidationError(_("The file is larger than %(size)d KiB.") % {"size": MAX_BYTES // 1024})
        try:
            return str(upload.read().decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ValidationError(_("The text is not UTF-8: save the file as UTF-8.")) from error

    def clean(self) -> dict[str, Any]:
        """Take the upload, if there is one, for the text."""
        cleaned = super().clean() or self.cleaned_data
        if (uploaded := cleaned.get("file")) is not None:
            cleaned["text"], cleaned["file_name"] = uploaded, self._file_name
        if not cleaned.get("text", "").strip() and not self.errors:
            raise ValidationError(_("Paste a zilla.yaml, or choose a file."))
        # A browser sends the lines of a text area with CRLF: a file that comes back from the preview is the file all the same.
        cleaned["text"] = cleaned.get("text", "").replace("\r\n", "\n").replace("\r", "\n")
        cleaned["file_name"] = cleaned.get("file_name") or _DEFAULT_FILE
        return cleaned
