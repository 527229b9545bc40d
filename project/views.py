"""The page at ``/``, the records it shows, and how it breaks its stream."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from project import cutting
from project.tail import tail
from project.topics import is_embedded

__all__ = ["cut", "home", "records"]


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


@csrf_exempt  # a client that guesses a page's random name can make its browser connect again
@require_POST
async def cut(request: HttpRequest) -> HttpResponse:
    """Break the connection of a page's stream."""
    if cutting.cut(request.GET.get("page", "")):
        return HttpResponse(status=204)
    return HttpResponse("there is no such connection, or the server is not that of manage.py demo.", status=409)
