"""An ordinary Django app in one module, settings included: nothing of ours."""

import logging

from django.http import HttpResponse
from django.urls import path
from opentelemetry import trace

SECRET_KEY = "not a secret"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = __name__
MIDDLEWARE = []
INSTALLED_APPS = []
DATABASES = {}
USE_TZ = True
LOGGING_CONFIG = None
logger = logging.getLogger("shop")


def buy(request):
    trace.get_current_span().set_attributes(
        {
            "posthog.event": "order paid",
            "posthog.properties.total": 12.5,
            "posthog.set.plan": "pro",
            "posthog.groups.company": "acme",
        }
    )
    return HttpResponse("thank you")


def fail(request):
    with (
        trace.get_tracer("shop").start_as_current_span("check stock"),
        trace.get_tracer("shop").start_as_current_span("ask warehouse"),
    ):
        raise ValueError("no stock left")


def note(request):
    logger.warning("newsletter", extra={"posthog.event": "newsletter joined", "posthog.distinct_id": "grace"})
    return HttpResponse("noted")


def index(request):
    return HttpResponse("welcome")


urlpatterns = [path("buy", buy), path("fail", fail), path("note", note), path("", index)]
