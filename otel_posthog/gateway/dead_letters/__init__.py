"""What was accepted and can never be delivered as it is, kept for an operator.

letters      the store                     spool_view   a spool from the outside, for `otel-posthog spool`
"""
