"""What of a request could become an event, told from its bytes, and only that decoded (docs/decisions/0076).

wanted          rules and tags as needles
request         either content type: the door, `parts.Prepare`
from_json, from_protobuf      how needles are found, and items read, in each of them
scan            the search itself   prepared   what is handed on
"""
