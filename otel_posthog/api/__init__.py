"""The calls for developers: PostHog's verbs over our own lane (DESIGN §5).

They work with no span, under any sampling, with no LoggerProvider and while modules are still imported; with the gate
off they return at once. None of them ever raises, blocks or does I/O.
"""
