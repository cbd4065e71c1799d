"""`otel-posthog flags`: the flags of an app and of PostHog, what one says for somebody, and which nobody reads."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from otel_posthog.config.flags import SECRET_KEY
from otel_posthog.errors import ConfigError

if TYPE_CHECKING:
    from otel_posthog.flags.asking import Asking

HELP = "list feature flags, ask what one says for a person, report those that nobody reads"
DESCRIPTION = """
Reads the settings of this command's environment, as the service would. What PostHog has is read with a secret key
(OTEL_POSTHOG_FLAGS_SECRET_KEY); asking tells PostHog nothing. A registry is a class of flags in your app; see
docs/flags.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command to `parser`."""
    commands = parser.add_subparsers(dest="flags_command", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="the flags of registries and of PostHog: owner, last day, state")
    ask = commands.add_parser("ask", help="what a flag says for somebody, and why")
    ask.add_argument("key", metavar="KEY", help="the flag")
    ask.add_argument("--for", dest="person", metavar="ID", required=True, help="distinct id of the person")
    ask.add_argument("--group", action="append", default=[], metavar="TYPE=KEY", type=_pair, help="a group of theirs")
    ask.add_argument(
        "--property", action="append", default=[], metavar="NAME=VALUE", type=_pair, help="a property; JSON or text"
    )
    unused = commands.add_parser("unused", help="exit 1 and say which flags are unread, overdue or unknown")
    unused.add_argument("paths", metavar="PATH", nargs="*", default=["."], help="folders and files of the app")
    for each in (listing, unused):
        each.add_argument(
            "--registry", action="append", default=[], metavar="MODULE", help="module with a registry, e.g. shop.flags"
        )
    for each in (listing, ask, unused):
        each.add_argument("--json", action="store_true", help="print JSON for programs")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def run(args: argparse.Namespace) -> int:
    """Runs one of the commands.

    Returns:
        0; 1 where there is something to tidy up, no answer, or no definitions in spite of a key for them.

    Raises:
        ConfigError: A setting or a registry is wrong.
    """
    if args.flags_command == "ask":
        return _ask(args)
    load_registries(args.registry)
    return _unused(args) if args.flags_command == "unused" else _list(args)


def load_registries(modules: list[str]) -> None:
    """Imports the modules, from the working directory as `python -m` would.

    Raises:
        ConfigError: One cannot be imported.
    """
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - what `python -m` does
    try:
        for name in modules:
            _load(name)
    finally:
        sys.path.pop(0)


def _load(name: str) -> None:
    try:
        importlib.import_module(name.partition(":")[0])
    except Exception as error:  # noqa: BLE001 - the app's own module may raise anything
        raise ConfigError(
            f"cannot be imported ({type(error).__name__}: {error})",
            key="--registry",
            source=name,
            hint="Name a module of your app, from the folder that it runs in",
        ) from None


def asking(environ: Mapping[str, str]) -> tuple[Asking | None, str]:
    """(somebody to ask who tells PostHog nothing, why there is nobody).

    Raises:
        ConfigError: A setting is wrong.
    """
    from otel_posthog.config.flags import flags_target
    from otel_posthog.config.load import load_settings

    settings = load_settings(environ)
    target, why = flags_target(settings)
    if target is None:
        return None, why
    try:
        from otel_posthog.flags.asking import Asking

        return Asking(target, settings.flags, lambda _: None), ""
    except ModuleNotFoundError as error:
        from otel_posthog.flags.process import INSTALL

        return None, f"the package {error.name} is not installed: {INSTALL}"


def _remote(environ: Mapping[str, str]) -> tuple[dict[str, dict[str, Any]], str, bool]:
    """(PostHog's definitions by key, why there are none, whether there should have been some)."""
    client, why = asking(environ)
    if client is None:
        return {}, why, False
    found = {str(each["key"]): each for each in client.definitions() if "key" in each}
    client.close()
    if found:
        return found, "", False
    if not cast("Any", client.sdk).secret_key:
        return {}, f"{SECRET_KEY} is not set", False
    if client.sdk.complained:
        return {}, "it gave no definitions (`otel-posthog doctor` says why)", True
    return {}, "it has none", False


def _list(args: argparse.Namespace) -> int:
    from otel_posthog.flags.registry import registered

    known = registered()
    remote, why, failed = _remote(os.environ)
    rows: list[dict[str, Any]] = [
        {
            "key": key,
            "owner": flag.owner if (flag := known.get(key)) is not None else "",
            "expires": str(flag.expires or "") if flag is not None else "",
            "overdue": flag is not None and flag.expired(),
            "state": flag.state if flag is not None else "",
            "registered": flag is not None,
            "posthog": ("active" if remote[key].get("active", True) else "inactive") if key in remote else "",
        }
        for key in sorted({*known, *remote})
    ]
    if args.json:
        print(json.dumps({"flags": rows, "posthog": why or "asked"}, indent=2, ensure_ascii=False))
        return int(failed)
    from otel_posthog.cli.terminal import stdout_page

    page = stdout_page()
    page.title(f"{len(rows)} flag{'s' * (len(rows) != 1)}")
    page.rows(
        (
            "ok" if row["posthog"] == "active" else "off" if row["posthog"] else "note",
            row["key"],
            ", ".join(
                part
                for part in (
                    row["state"] or "in no registry",
                    row["owner"] and f"owner {row['owner']}",
                    row["expires"] and f"{'overdue since' if row['overdue'] else 'until'} {row['expires']}",
                    row["posthog"] and f"{row['posthog']} at PostHog",
                )
                if part
            ),
            "",
        )
        for row in rows
    )
    if why:
        page.text(f"PostHog's are not shown: {why}.")
    print(page, end="")
    return int(failed)


def _ask(args: argparse.Namespace) -> int:
    from otel_posthog.convert.person import person_id
    from otel_posthog.flags.answer import REASONS, Answer
    from otel_posthog.flags.who import Who

    person = person_id(args.person)
    if not person:
        raise ConfigError("is no distinct id", key="--for", source=args.person, hint="Name one person")
    client, why = asking(os.environ)
    if client is None:
        raise ConfigError(f"flags are off: {why}", hint="`otel-posthog status` says more")
    who = Who(person, groups=dict(args.group), person_properties={name: _value(text) for name, text in args.property})
    answer: Answer = client.find(who, args.key).answer(args.key, counts=False)
    client.close()
    if args.json:
        print(json.dumps(asdict(answer), ensure_ascii=False, default=str))
    else:
        said = "no answer" if answer.value is None else json.dumps(answer.value, ensure_ascii=False)
        print(f"{args.key} for {person}: {said} ({answer.source}: {REASONS.get(answer.reason, answer.reason)})")
        if answer.payload is not None:
            print(f"payload: {json.dumps(answer.payload, ensure_ascii=False)}")
    return 1 if answer.value is None else 0


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _unused(args: argparse.Namespace) -> int:
    from otel_posthog.flags.tidying import unused

    absent = next((path for path in args.paths if not os.path.exists(path)), "")  # noqa: PTH110 - as it was written
    if absent:
        # Otherwise every flag would be one that nothing reads.
        raise ConfigError("there is no such file or folder", key="PATH", source=absent, hint="Name those of your app")
    remote, why, failed = _remote(os.environ)
    findings = unused(args.paths, remote=remote)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
        return 1 if findings or failed else 0
    for finding in findings:
        owner = f" (owner: {finding.owner})" if finding.owner else ""
        print(f"{finding.kind}: {finding.key}{owner}: {finding.detail}")
        for place in finding.places:
            print(f"  {place}")
    if not findings:
        print("every flag is read, in time and known")
    if why:
        print(f"PostHog's flags are not looked at: {why}", file=sys.stderr)
    return 1 if findings or failed else 0
