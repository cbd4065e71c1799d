"""From the bytes of an OTLP request to Signals in the normal form of `model/signal.py`.

request         whole requests of either content type: the door, also of `otel-posthog explain`
from_json       OTLP/JSON
json_text       its text, piece by piece
from_protobuf   protobuf, by the generated messages
lean            the same Signals from protobuf, faster: for the items that `prepare` wants
mended          protobuf messages whose strings are no UTF-8
recorded        what tools leave in files
wire            the protobuf wire format, without a schema
decoded         what became of a request
"""
