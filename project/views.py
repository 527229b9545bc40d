"""The page at ``/``, and the records it shows."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from project.tail import tail
from project.topics import is_embedded

__all__ = ["home", "records"]


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Show the demo."""
    return render(request, "project/home.html", {"embedded": is_embedded()})


@require_GET
async def records(request: HttpRequest) -> JsonResponse:
    """Answer with the newest records of the demo's topics, read from Kafka itself; ``?after=`` the number of the last."""
    try:
        after = int(request.GET.get("after", "0"))
    except ValueError:
        return JsonResponse({"error": "after is a number"}, status=400)
    follower = await sync_to_async(tail)()
    return JsonResponse({"records": follower.after(after)}, headers={"cache-control": "no-store"})
