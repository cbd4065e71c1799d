"""Feature flags of the local PostHog: from a YAML file, with PostHog's own rules.

model, operators, rules        what a flag is, and its value for somebody; pure
document                       YAML -> flags; every mistake with file, line, key and the way out
definitions                    flags -> what PostHog serves to SDKs that evaluate by themselves
state, service                 the flags in force, and the requests of SDKs
"""
