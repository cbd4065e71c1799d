"""Protobuf messages whose strings are no UTF-8, mended with U+FFFD.

protobuf's parser refuses a whole message for one bad string, and Collectors do forward such strings (Go does not
check them). So the message is read by a twin of its schema in which every string is bytes, its bad texts are replaced,
and what it then serialises to is a good message.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message

MessageT = TypeVar("MessageT", bound=Message)


def mended(message: type[MessageT], raw: bytes) -> MessageT | None:
    """The message in `raw`, with U+FFFD for what is no UTF-8; `None` where it is broken, or nested too deep."""
    try:
        twin: Any = _twin(message.DESCRIPTOR.file, message.DESCRIPTOR.full_name).FromString(raw)
        _mend(twin, message.DESCRIPTOR)
        return message.FromString(twin.SerializeToString())
    except (DecodeError, EncodeError, RecursionError):
        return None


def _mend(twin: Any, original: Any) -> None:
    for field, value in twin.ListFields():
        meant = original.fields_by_number[field.number]
        many = hasattr(value, "append")
        if meant.type == FieldDescriptor.TYPE_STRING:
            if many:
                value[:] = [_text(item) for item in value]
            else:
                setattr(twin, field.name, _text(value))
        elif meant.type == FieldDescriptor.TYPE_MESSAGE:
            for item in value if many else (value,):
                _mend(item, meant.message_type)


def _text(raw: bytes) -> bytes:
    return raw.decode("utf-8", "replace").encode()


@functools.cache
def _twin(file: FileDescriptor, name: str) -> type[Message]:
    pool: Any = descriptor_pool.DescriptorPool()
    _add(pool, file, set())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _add(pool: Any, file: Any, known: set[str]) -> None:
    """`file` and what it needs, every string made bytes; a pool of their own, so that names do not clash."""
    if file.name in known:
        return
    known.add(file.name)
    for needed in file.dependencies:
        _add(pool, needed, known)
    copy = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(copy)
    waiting = list(copy.message_type)
    while waiting:
        message = waiting.pop()
        waiting += message.nested_type
        for field in message.field:
            if field.type == FieldDescriptor.TYPE_STRING:
                field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
    pool.AddSerializedFile(copy.SerializeToString())
