"""What was accepted and can never be delivered as it is, kept for an operator.

letter       one of them, and its bytes
letters      where they are kept, in bounds
spool_view   a spool from the outside, for `otel-posthog spool`
"""
