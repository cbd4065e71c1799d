"""What of a request could become an event, told from its bytes, and only that decoded (docs/decisions/0076).

request         either content type: the door, `parts.Prepare`
wanted          rules and tags as needles
from_json       needles and items in OTLP/JSON
from_protobuf   needles and items in protobuf
scan            the search for needles
prepared        what is handed on
"""
