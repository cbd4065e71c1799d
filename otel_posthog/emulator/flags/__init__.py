"""Feature flags of the local PostHog: from a YAML file, with PostHog's own rules.

Its modules:

    model, operators, rules                what a flag is, and its value for somebody; pure
    document, checked, operands, chains    YAML -> flags; every mistake with file, line, key and the way out
    definitions                            flags -> what PostHog serves to SDKs that evaluate by themselves
    state, service, answers, overview      the flags in force, the requests of SDKs, the page
"""
