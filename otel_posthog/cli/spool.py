"""`otel-posthog spool`: what waits in a gateway's spool, what died, and having it delivered after all."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_posthog.cli.explain_text import Terminal
    from otel_posthog.gateway.dead_letters.letter import Letter
    from otel_posthog.gateway.dead_letters.letters import Kept
    from otel_posthog.gateway.journal.record import Record
    from otel_posthog.model import Signal

HELP = "look at a gateway's spool: what waits, dead letters, replay, discard"
DESCRIPTION = """
What a gateway has acknowledged waits in its spool until PostHog has it. What PostHog refuses for good, what nobody can
read and what belongs to no project is put aside there as a dead letter, with the reason.

Works beside a running gateway and without one. Run it as the gateway's user, or as root.
"""

OK, PROBLEM, USAGE = 0, 1, 2

_REASONS: Mapping[str, str] = {
    "rejected": "PostHog refused the event",
    "dropped_by_server": "PostHog answered `drop`",
    "encode": "the event has no JSON form",
    "unreadable": "nobody can read the request",
    "unreadable_items": "items of the request that nobody can read; the others were delivered",
    "unrouted": "items that belong to no project",
    "failed": "an internal error, again and again",
    "crashed": "the gateway died of it, again and again",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the commands of `spool` to `parser`."""
    commands = parser.add_subparsers(dest="spool_command", metavar="COMMAND", required=True)

    listing = commands.add_parser("list", help="what waits, and dead letters by reason and project")
    _of_spool(listing)
    _selection(listing, "list")
    listing.add_argument("--letters", action="store_true", help="each dead letter, not only how many")
    listing.add_argument("--json", action="store_true", help="for machines")

    show = commands.add_parser("show", help="one dead letter or waiting record, whole")
    _of_spool(show)
    show.add_argument("id", metavar="ID", help="as `list --letters` shows it")
    show.add_argument("--json", action="store_true", help="for machines")

    replay = commands.add_parser("replay", help="have dead letters delivered after all")
    _of_spool(replay)
    _selection(replay, "replay")
    replay.add_argument("--all", action="store_true", help="every dead letter")
    replay.add_argument(
        "--convert",
        action="store_true",
        help="make new events by the rules of today; without it events go as they are, with their uuids",
    )

    discard = commands.add_parser("discard", help="remove dead letters for good")
    _of_spool(discard)
    _selection(discard, "discard")
    discard.add_argument("--all", action="store_true", help="every dead letter")
    discard.add_argument("--yes", action="store_true", help="do not ask")


def _of_spool(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--spool",
        metavar="DIR",
        default="",
        help="the gateway's spool; by default where a gateway without --spool has it",
    )


def _selection(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("--id", metavar="ID", action="append", default=[], help=f"{verb} this one; may be repeated")
    parser.add_argument("--reason", metavar="REASON", default="", help=f"{verb} those of this reason")
    parser.add_argument("--project", metavar="NAME", default="", help=f"{verb} those of this project")


def run(args: argparse.Namespace) -> int:
    """Runs one of the commands.

    Returns:
        0; 1 where there is no such spool or letter; 2 where it is not said which ones are meant.
    """
    from otel_posthog.gateway.configuration.bridge_file import default_spool

    spool = args.spool or os.environ.get("OTEL_POSTHOG_SPOOL_DIR", "").strip() or default_spool(os.environ)
    spool = os.path.expanduser(spool)  # noqa: PTH111 - text, as the file layer has it
    commands = {"list": _list, "show": _show, "replay": _replay, "discard": _discard}
    try:
        if not os.path.isdir(spool):  # noqa: PTH112
            return _complain(f"{spool}: there is no such folder. Name the gateway's spool with --spool")
        with _as_owner(spool):
            os.listdir(spool)  # noqa: PTH208 - a folder that may not be entered is no empty one
            return commands[args.spool_command](args, spool)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _complain(
            f"{spool}: {error.strerror or type(error).__name__}{where}. Run it as the gateway's user, or as root"
        )


@contextlib.contextmanager
def _as_owner(spool: str) -> Generator[None, None, None]:
    """Root acts as the spool's owner: what it makes is the gateway's, and no link in there leads it anywhere else."""
    if os.geteuid() != 0:
        yield
        return
    owner = os.stat(spool)  # noqa: PTH116
    group = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def _complain(text: str, code: int = PROBLEM) -> int:
    from otel_posthog.gateway.process.log_lines import escaped

    print(f"otel-posthog spool: {escaped(text)}", file=sys.stderr)
    return code


def _selected(args: argparse.Namespace, spool: str) -> Iterator[Kept]:
    from otel_posthog.delivery.spool_files import OsFiles
    from otel_posthog.gateway.dead_letters.letters import read_letters

    ids = set(args.id)
    for kept in read_letters(spool, OsFiles()):
        letter = kept.letter
        if ids and kept.id not in ids:
            continue
        if args.reason and (letter is None or letter.reason != args.reason):
            continue
        if args.project and (letter is None or letter.project != args.project):
            continue
        yield kept


# --- list ----------------------------------------------------------------------------------------------------------


def _list(args: argparse.Namespace, spool: str) -> int:
    from otel_posthog.cli.explain_text import Terminal
    from otel_posthog.delivery.spool_files import OsFiles
    from otel_posthog.gateway.dead_letters.spool_view import folders, view

    files = OsFiles()
    found = [view(spool, name, files) for name in folders(spool, files)]
    totals: dict[tuple[str, str], list[int]] = {}
    each: list[Kept] = []
    for kept in _selected(args, spool):
        letter = kept.letter
        key = (letter.reason, letter.project) if letter is not None else ("unknown", "")
        total = totals.setdefault(key, [0, 0, 0])
        total[0] += 1
        total[1] += kept.size
        total[2] = max(total[2], letter.time_ns if letter is not None else 0)
        if args.letters or args.id:
            each.append(kept)
    if args.json:
        document = {
            "spool": spool,
            "folders": [
                {
                    "name": one.name,
                    "records": one.records,
                    "bytes": one.size,
                    "oldest": _iso(one.oldest_ns),
                    "damaged": one.damaged,
                    "unreadable_segments": one.unreadable,
                }
                for one in found
            ],
            "dead_letters": [
                {"reason": reason, "project": project, "letters": count, "bytes": size, "newest": _iso(newest)}
                for (reason, project), (count, size, newest) in sorted(totals.items())
            ],
            **({"letters": [_head(kept) for kept in each]} if args.letters or args.id else {}),
        }
        print(json.dumps(document, indent=2))
        return OK
    terminal = Terminal.for_stream(sys.stdout)
    terminal.line(terminal.paint(f"Spool {spool}", 1))
    terminal.gap()
    rows = [("FOLDER", "RECORDS", "BYTES", "OLDEST", "")]
    rows.extend(
        (one.name, str(one.records), _size(one.size), _age(one.oldest_ns), _trouble(one.damaged, one.unreadable))
        for one in found
    )
    _table(terminal, rows if found else [("nothing waits", "", "", "", "")])
    terminal.gap()
    if not totals:
        terminal.line("  no dead letters")
        return OK
    rows = [("REASON", "LETTERS", "BYTES", "NEWEST", "PROJECT")]
    rows.extend(
        (reason, str(count), _size(size), _age(newest), project or "–")
        for (reason, project), (count, size, newest) in sorted(totals.items())
    )
    _table(terminal, rows)
    terminal.gap()
    for reason in sorted({reason for reason, _ in totals}):
        terminal.line(f"  {reason}: {_REASONS.get(reason, 'written by another version of otel-posthog')}")
    if each:
        terminal.gap()
    for kept in each:
        head = _head(kept)
        about = "  ".join(str(head[key]) for key in ("time", "reason", "project", "event", "note") if head.get(key))
        terminal.line(f"  {terminal.paint(kept.id, 1)}  {about}")
    return OK


def _head(kept: Kept) -> dict[str, Any]:
    letter = kept.letter
    if letter is None:
        return {"id": kept.id, "reason": "unknown", "bytes": kept.size}
    return {
        "id": kept.id,
        "time": _iso(letter.time_ns),
        "reason": letter.reason,
        "project": letter.project,
        "event": letter.event.event if letter.event is not None else "",
        "note": letter.note,
        "bytes": kept.size,
    }


def _table(terminal: Terminal, rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].rjust(widths[2])]
        cells += [cell.ljust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        terminal.line(f"  {'  '.join(cells)}".rstrip())


def _trouble(damaged: int, unreadable: int) -> str:
    parts = [f"{damaged} damaged"] if damaged else []
    parts += [f"{unreadable} segments of another version, or unreadable"] if unreadable else []
    return ", ".join(parts)


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _iso(time_ns: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_ns // 10**9)) if time_ns else ""


def _age(time_ns: int) -> str:
    if not time_ns:
        return "–"
    seconds = max(time.time() - time_ns / 1e9, 0)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


# --- show ----------------------------------------------------------------------------------------------------------


def _show(args: argparse.Namespace, spool: str) -> int:
    from otel_posthog.delivery.spool_files import OsFiles
    from otel_posthog.gateway.dead_letters.letters import DEAD, read_letters
    from otel_posthog.gateway.dead_letters.spool_view import waiting

    folder = args.id.partition("/")[0]
    if folder == DEAD:
        kept = next((kept for kept in read_letters(spool, OsFiles()) if kept.id == args.id), None)
        if kept is None:
            return _complain(f"there is no dead letter {args.id!r}: see `otel-posthog spool list --letters`")
        document = _head(kept)
        if kept.letter is not None:
            document.update(_letter(kept.letter))
    else:
        found = next((each for each in waiting(spool, folder, OsFiles()) if each.id == args.id), None)
        if found is None:
            return _complain(f"no record {args.id!r} waits: it may have been delivered meanwhile")
        document = dict[str, Any]({"id": found.id, "bytes": found.size})
        if found.record is not None:
            document["source"] = _source(found.record)
    if args.json:
        print(json.dumps(document, indent=2))
        return OK
    from otel_posthog.cli.explain_text import Terminal

    terminal = Terminal.for_stream(sys.stdout)
    # ASCII, so that nothing in it can act on a terminal.
    for line in json.dumps(document, indent=2).splitlines():
        terminal.line(line)
    return OK


def _letter(letter: Letter) -> dict[str, Any]:
    document: dict[str, Any] = {}
    event = letter.event
    if event is not None:
        document["event"] = {
            "event": event.event,
            "distinct_id": event.distinct_id,
            "uuid": event.uuid,
            "timestamp_ns": event.timestamp_ns,
            "properties": dict(event.properties),
        }
    document["source"] = _source(letter.source) if letter.source is not None else None
    return document


def _source(record: Record) -> dict[str, Any]:
    document: dict[str, Any] = {
        "content": record.content,
        "kind": record.kind,
        "media_type": record.media_type,
        "caller": record.caller,
        "received": _iso(record.received_ns),
        "rules": dict(record.digests),
        "bytes": len(record.body),
    }
    if record.content == "event":
        document["event"] = json.loads(record.body)
    elif record.content == "request":
        try:
            document["items"] = [_item(signal) for signal in _signals(record)]
        except Exception as error:  # noqa: BLE001 - an edge: it lies here because nobody could read it
            document["items"] = f"cannot be read: {type(error).__name__}: {error}"
    return document


def _signals(record: Record) -> Sequence[Signal]:
    from otel_posthog.gateway.decode.request import decode
    from otel_posthog.gateway.inflate import inflate

    body = inflate(record.body, 1 << 30) if record.gzip else record.body
    return decode(record.kind, body, content_type=record.media_type).signals


def _item(signal: Signal) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        return value.hex() if isinstance(value, bytes) else str(value)

    item = {
        "kind": signal.kind.value,
        "name": signal.name,
        "trace_id": signal.trace_id,
        "span_id": signal.span_id,
        "time_ns": signal.time_ns,
        "attributes": dict(signal.attributes),
        "resource": dict(signal.resource.attributes),
    }
    return json.loads(json.dumps(item, default=plain))


# --- replay, discard -----------------------------------------------------------------------------------------------


def _nothing_chosen(args: argparse.Namespace) -> bool:
    return not (args.id or args.reason or args.project or args.all)


def _replay(args: argparse.Namespace, spool: str) -> int:
    from otel_posthog.delivery.spool_files import OsFiles
    from otel_posthog.gateway.dead_letters.letters import discard
    from otel_posthog.gateway.dead_letters.spool_view import replayable, write_replay

    if _nothing_chosen(args):
        return _complain("which ones? Name --id, --reason or --project, or --all", USAGE)
    files = OsFiles()
    chosen: list[Record] = []
    ids: list[str] = []
    left: dict[str, int] = {}
    now_ns = time.time_ns()
    for kept in _selected(args, spool):
        record = replayable(kept, convert=args.convert, now_ns=now_ns)
        if isinstance(record, str):
            left[record] = left.get(record, 0) + 1
        else:
            chosen.append(record)
            ids.append(kept.id)
    for why, count in sorted(left.items()):
        print(f"left alone: {count} ({why})", file=sys.stderr)
    if not chosen:
        return _complain("there is nothing to replay")
    name = write_replay(spool, chosen, files)
    # Only now: between the two they are there twice, and are the same events.
    discard(spool, ids, files)
    how = (
        "by the rules of today: where these make other events of them, PostHog will have both"
        if args.convert
        else "as they are: an event that PostHog already has is not counted twice"
    )
    print(f"{len(chosen)} to be delivered, {how}.")
    print(f"They are in {name}; a running gateway takes them within seconds, else the next one at its start.")
    return OK


def _discard(args: argparse.Namespace, spool: str) -> int:
    from otel_posthog.delivery.spool_files import OsFiles
    from otel_posthog.gateway.dead_letters.letters import discard

    if _nothing_chosen(args):
        return _complain("which ones? Name --id, --reason or --project, or --all", USAGE)
    ids = [kept.id for kept in _selected(args, spool)]
    if not ids:
        return _complain("there is no such dead letter")
    if not args.yes:
        if not sys.stdin.isatty():
            return _complain(f"{len(ids)} dead letters would be removed for good: say --yes", USAGE)
        print(f"Remove {len(ids)} dead letters for good? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("nothing was removed")
            return PROBLEM
    discard(spool, ids, OsFiles())
    print(f"{len(ids)} dead letters were removed.")
    return OK
