"""For Django: `"otel_posthog.browser.django"` in `INSTALLED_APPS`, `{% load otel_posthog %}{% posthog_script %}`.

The relay: `path("relay/", include("otel_posthog.browser.django.urls"))`.
"""
