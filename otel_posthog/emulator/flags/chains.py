"""Flags that rest on other flags."""

from __future__ import annotations

from typing import Final

MAX_CHAIN: Final = 20
"""So many may rest on each other in a row."""


class _BadChainError(Exception):
    def __init__(self, chain: list[str]) -> None:
        super().__init__()
        self.chain = chain


def bad_chain(needs: dict[str, list[str]]) -> list[str]:
    """Flags of which each needs the next, in a circle or too many of them; empty where there are none."""
    depths: dict[str, int] = {}

    def depth(key: str, path: list[str]) -> int:
        if key in path:
            raise _BadChainError([*path[path.index(key) :], key])
        if key not in depths:
            if len(path) > MAX_CHAIN:
                raise _BadChainError(path)
            depths[key] = 1 + max((depth(other, [*path, key]) for other in needs[key]), default=0)
        if depths[key] > MAX_CHAIN + 1:
            raise _BadChainError([key, *needs[key][:1]])
        return depths[key]

    try:
        for key in needs:
            depth(key, [])
    except _BadChainError as error:
        return error.chain
    return []
