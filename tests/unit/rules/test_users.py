"""The section `users:` of the rules file."""

from pathlib import Path

from otel_posthog.config.settings import RulesConfig
from otel_posthog.rules.load import load_rules, load_users
from otel_posthog.rules.users import UserReference, UsersConfig, UserSource, UserText

YAML = """
users:
  distinct_id: user.uuid
  set:
    role: role
    company: user.company.name
    auth_method: login.method
    plan: session.plan
  set_once:
    first_seen: user.date_joined
  groups:
    company: company_id
  sources: [session.user_id, g.account, "shop.auth:current_user"]
"""
TOML = """
[tool.otel_posthog.users]
distinct_id = "user"
sources = []
"""


def written(tmp_path: Path, name: str, text: str) -> RulesConfig:
    """A file with this text."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return RulesConfig(path=str(path))


def test_everything_it_can_say(tmp_path: Path) -> None:
    """A bare path is one of the user; the others have a root of their own."""
    config = written(tmp_path, "bridge.yaml", YAML)

    assert load_users(config) == UsersConfig(
        distinct_id=UserReference("user", ("uuid",)),
        set=(
            ("role", UserReference("user", ("role",))),
            ("company", UserReference("user", ("company", "name"))),
            ("auth_method", UserReference("login", ("method",))),
            ("plan", UserReference("session", ("plan",))),
        ),
        set_once=(("first_seen", UserReference("user", ("date_joined",))),),
        groups=(("company", UserReference("user", ("company_id",))),),
        sources=(
            UserSource("session", "user_id"),
            UserSource("g", "account"),
            UserSource("call", "shop.auth:current_user"),
        ),
    )
    assert load_rules(config).rules == ()


def test_in_pyproject(tmp_path: Path) -> None:
    """The same in a `pyproject.toml`; an empty list of sources is not the same as none."""
    config = written(tmp_path, "pyproject.toml", TOML)

    assert load_users(config) == UsersConfig(distinct_id=UserReference("user", ()), sources=())


def test_without_the_section(tmp_path: Path) -> None:
    """No file, or a file without the section: the user's id is all that leaves."""
    config = written(tmp_path, "bridge.yaml", "default_rules: true\n")

    assert (load_users(config), load_users(RulesConfig())) == (UsersConfig(), UsersConfig())


def test_an_id_with_text_around_it(tmp_path: Path) -> None:
    """Ids are written as the rules write them; a reference alone in braces is that reference."""
    text = written(tmp_path, "text.yaml", 'users: {distinct_id: "user-{user.id}@{session.realm}"}')
    alone = written(tmp_path, "alone.yaml", 'users: {distinct_id: "{uuid}"}')

    assert load_users(text) == UsersConfig(
        distinct_id=UserText(
            ("user-", UserReference("user", ("id",)), "@", UserReference("session", ("realm",))),
        )
    )
    assert load_users(alone) == UsersConfig(distinct_id=UserReference("user", ("uuid",)))


def test_rules_that_name_people_are_not_contradicted(tmp_path: Path) -> None:
    """Without the section nobody is looked for, since other ids would make two people of each; with it, somebody is."""
    rule = 'rules: [{name: paid, match: {name: pay}, capture: paid, distinct_id: "user-{user_id}"}]\n'
    nobody = "rules: [{name: paid, match: {name: pay}, capture: paid}]\n"

    assert load_users(written(tmp_path, "rule.yaml", rule)) == UsersConfig(stands_back=True)
    assert load_users(written(tmp_path, "nobody.yaml", nobody)) == UsersConfig()
    assert load_users(written(tmp_path, "both.yaml", rule + "users: {set: {role: role}}")) == UsersConfig(
        set=(("role", UserReference("user", ("role",))),)
    )
