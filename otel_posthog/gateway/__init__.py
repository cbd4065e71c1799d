"""The OTLP edge: requests from Collectors and SDKs become Signals (`decode`)."""
