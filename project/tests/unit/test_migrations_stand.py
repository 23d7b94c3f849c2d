"""Replicas of the last release work on the schema of this version until they are replaced, unless CHANGELOG stops them.

A migration may add what an old replica does not know of, and remove what it does not use; it may do nothing else.
"""

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from limiter.db.tables import REVISION

ROOT = Path(__file__).parents[3]
VERSIONS = ROOT / "project/migrations/versions"
RELEASED = "0009"  # the revision of the last release: raise it with each tag
OLD_TABLES = "project/src/limiter/db/tables"
RAW = re.compile(r"\b(DROP|RENAME|SET NOT NULL|TYPE)\b", re.IGNORECASE)
STOPS = re.compile(r"stop the replicas", re.IGNORECASE)


def problems(source: str, used: str) -> Iterator[str]:
    """What old replicas cannot stand of a migration's upgrade; `used` is the text of the tables that they use."""
    upgrade = next(
        node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "upgrade"
    )
    created = {
        _text(call.args[0]) for call in _calls(upgrade, "create_table") if call.args
    }  # a table that only the new replicas know may have any rule
    for call in _calls(upgrade):
        name, words = call.func.attr, [_text(one) for one in call.args]  # type: ignore[attr-defined]
        if created.intersection(words[:2]) and name != "drop_table":
            continue
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        yield from (
            f"{name} of {' '.join(filter(None, words))}" for _ in [0] if _breaks(name, words, keywords, call, used)
        )


def _breaks(
    name: str, words: list[str | None], keywords: dict[str | None, ast.expr], call: ast.Call, used: str
) -> bool:
    match name:
        case "drop_table" | "drop_column":
            gone = words[-1 if name == "drop_column" else 0]
            return gone is None or re.search(rf"\b{re.escape(gone)}\b", used) is not None
        case "rename_table" | "create_check_constraint" | "create_unique_constraint" | "create_foreign_key":
            return True
        case "create_index":
            return _is(keywords.get("unique"), True)
        case "alter_column":
            return "new_column_name" in keywords or "type_" in keywords or _is(keywords.get("nullable"), False)
        case "add_column":
            column = call.args[1]
            assert isinstance(column, ast.Call)
            given = {keyword.arg: keyword.value for keyword in column.keywords}
            return _is(given.get("nullable"), False) and "server_default" not in given
        case "execute":
            return any(text is None or RAW.search(text) for text in words)
    return False


def _calls(function: ast.FunctionDef, name: str = "") -> Iterator[ast.Call]:
    """The calls of alembic's operations, or those of one of them."""
    for node in ast.walk(function):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if ast.unparse(node.func.value) == "op" and name in ("", node.func.attr):
            yield node


def _text(node: ast.expr) -> str | None:
    """The text of a constant, or of what is constant in an f-string; None if it is made otherwise."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return ast.unparse(node) if isinstance(node, ast.JoinedStr) else None


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def released_tables() -> str:
    """The tables of the last release as its tag has them; those of now if there is no tag, so that nothing may go."""
    tag = _git("describe", "--tags", "--abbrev=0")
    names = _git("ls-tree", "--name-only", tag, f"{OLD_TABLES}/").split() if tag else []
    here = [path.read_text() for path in sorted((ROOT / OLD_TABLES).glob("*.py"))]
    return "\n".join([_git("show", f"{tag}:{name}") for name in names] or here)


def _git(*command: str) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    done = subprocess.run([git, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def unreleased() -> str:
    """What CHANGELOG says of the version to come."""
    return (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1]


def test_old_replicas_stand_every_migration_since_the_last_release_or_changelog_stops_them() -> None:
    new = [path for path in sorted(VERSIONS.glob("0*.py")) if path.name[:4] > RELEASED]
    found = [f"{path.name}: {problem}" for path in new for problem in problems(path.read_text(), released_tables())]
    assert found == [] or STOPS.search(unreleased())


def test_the_revision_of_the_last_release_is_one_of_ours() -> None:
    assert RELEASED <= REVISION
    assert any(path.name.startswith(RELEASED) for path in VERSIONS.glob("0*.py"))


USED = 'Column("name", Text), Column("epoch", BigInteger), Table("job"'
BREAKING = {
    'op.drop_column("job", "epoch")': "drop_column of job epoch",
    'op.drop_table("job")': "drop_table of job",
    'op.rename_table("job", "work")': "rename_table of job work",
    'op.alter_column("job", "epoch", new_column_name="run")': "alter_column of job epoch",
    'op.alter_column("job", "epoch", nullable=False)': "alter_column of job epoch",
    'op.alter_column("job", "epoch", type_=sa.Text())': "alter_column of job epoch",
    'op.add_column("job", sa.Column("owner", sa.Text(), nullable=False))': "add_column of job",
    'op.create_unique_constraint("uq", "job", ["epoch"])': "create_unique_constraint of uq job",
    'op.create_index("uq", "job", ["epoch"], unique=True)': "create_index of uq job",
    'op.execute("ALTER TABLE job DROP COLUMN epoch")': "execute of ALTER TABLE job DROP COLUMN epoch",
    'op.execute(f"ALTER INDEX {old} RENAME TO {new}")': "execute of f'ALTER INDEX {old} RENAME TO {new}'",
    "op.execute(statement)": "execute of ",
}
STOOD = (
    'op.add_column("job", sa.Column("owner", sa.Text(), nullable=True))',
    'op.add_column("job", sa.Column("owner", sa.Text(), nullable=False, server_default=""))',
    'op.create_table("new", sa.Column("a", sa.Text()))\n    op.create_unique_constraint("uq", "new", ["a"])',
    'op.create_index("ix", "job", ["epoch"])',
    'op.drop_column("job", "left_over")',
    'op.drop_table("left_over")',
    'op.alter_column("job", "epoch", nullable=True)',
    'op.execute("UPDATE job SET epoch = 0")',
)


def upgrade(operations: str) -> str:
    return f"def upgrade() -> None:\n    {operations}\n\n\ndef downgrade() -> None:\n    op.drop_table('job')\n"


@pytest.mark.parametrize("operation", BREAKING)
def test_what_old_replicas_cannot_stand_is_found(operation: str) -> None:
    assert list(problems(upgrade(operation), USED)) == [BREAKING[operation]]


@pytest.mark.parametrize("operations", STOOD)
def test_what_only_adds_or_removes_what_is_not_used_is_stood(operations: str) -> None:
    assert list(problems(upgrade(operations), USED)) == []


def test_the_renames_of_0004_would_have_been_found() -> None:
    assert len(list(problems((VERSIONS / "0004_plain_names.py").read_text(), USED))) == 3
