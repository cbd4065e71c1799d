"""From the bytes of an OTLP request to Signals in the normal form of `model/signal.py`.

request         either content type, whole requests: the door, also of `otel-posthog explain`
from_json       OTLP/JSON           from_protobuf   by the generated messages
lean            the same Signals from protobuf, faster: what `prepare` uses for the items that are wanted
mended          strings that are no UTF-8          wire   the protobuf wire format, without a schema
recorded        what tools leave in files          decoded   what became of a request
"""
