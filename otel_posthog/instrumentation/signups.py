"""Who signs up without being logged in: an account that was made in the request of a visitor, if it is surely theirs.

A merge of the wrong two cannot be undone, and a sign-up that was missed comes right with the first login. So whatever
leaves a doubt is no sign-up: somebody is logged in, the request bears credentials that nobody has looked at, another
server has sent it, it failed, or it made several accounts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from otel_posthog.instrumentation.visit import Account, Visit

_FIRST_FAILURE: Final = 400
_MOST: Final = 2
"""Accounts that are remembered of one request: one more than a sign-up makes."""
_CREDENTIALS: Final = re.compile(
    r"auth|api.?key|jwt|oidc|token|identity|(?<![a-z])(user(?!-agent)|uid(?![a-z]))", re.IGNORECASE
)
_HARMLESS: Final = re.compile(r"[cx]srf|^sec-", re.IGNORECASE)
"""Tokens against forgery, and what browsers say of a request, name nobody."""
_BROWSERS: Final = ("origin", "sec-fetch-site")
"""One of these comes with each form that a browser sends."""


def is_a_visitor_s(headers: Mapping[str, str]) -> bool:
    """Whether a request with these headers comes from a browser, and bears no credentials beside cookies.

    Another server may pass on the id of a browser whose user it knows, and it alone.

    Args:
        headers: By name, in any case.
    """
    if not any(name in headers for name in _BROWSERS):
        return False
    return not any(_CREDENTIALS.search(name) and not _HARMLESS.search(name) for name in headers)


def account_made(visit: Visit | None, account: Account) -> None:
    """An account was made in the request.

    Args:
        visit: The request; `None` outside of any: then it is an import, or an operator at a shell.
        account: Whose, and who saw it.
    """
    if visit is not None and len(visit.accounts) < _MOST:
        visit.accounts.append(account)


def sign_up(visit: Visit, status: int, framework: str) -> Account | None:
    """Who signed up in a request that is being answered; `None` where nobody did, or that is not sure.

    Args:
        visit: The request.
        status: Of the answer.
        framework: Which is answering: it takes what it has seen itself.
    """
    if any(account.framework != framework for account in visit.accounts):
        return None
    accounts, visit.accounts = visit.accounts, []
    alone = len(accounts) == 1 and not (visit.ambient.distinct_id or visit.ambient.nobody)
    return accounts[0] if alone and status < _FIRST_FAILURE else None
