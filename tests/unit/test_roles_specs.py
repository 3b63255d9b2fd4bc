# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role's defaults, argument specs and README describe one interface, and its names keep the conventions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
TYPES = {"str": str, "int": int, "float": (int, float), "bool": bool, "list": list, "dict": dict, "raw": object}
BEGIN, END = "<!-- BEGIN_ANSIBLE_DOCS -->", "<!-- END_ANSIBLE_DOCS -->"


class Loader(yaml.SafeLoader):
    """Reads tasks, too, with Ansible's own tags as plain values."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: loader.construct_scalar(node))


def load(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=Loader) if path.exists() else None  # noqa: S506


def defaults_of(role: str) -> dict[str, Any]:
    return load(ROOT / "roles" / role / "defaults/main.yml") or {}


def specs_of(role: str) -> dict[str, Any]:
    return load(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]


def options_of(role: str) -> dict[str, Any]:
    return specs_of(role)["main"].get("options", {})


def tasks_of(role: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every task of the role with its file, those in blocks and handlers included."""

    def flatten(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for task in tasks:
            yield task
            for part in ("block", "rescue", "always"):
                yield from flatten(task.get(part, []))

    for folder in ("tasks", "handlers"):
        for path in sorted((ROOT / "roles" / role / folder).glob("*.yml")):
            for task in flatten(load(path) or []):
                yield path.relative_to(ROOT).as_posix(), task


def option_nodes(options: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, option in options.items():
        yield name, option
        for inner, node in option_nodes(option.get("options", {})):
            yield f"{name}.{inner}", node


def test_there_are_roles() -> None:
    assert len(ROLES) >= 8


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "file", ["README.md", "defaults/main.yml", "meta/main.yml", "meta/argument_specs.yml", "tasks/main.yml"]
)
def test_role_is_complete(role: str, file: str) -> None:
    assert (ROOT / "roles" / role / file).is_file(), f"roles/{role}/{file} is missing"


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_specs_name_the_same_options(role: str) -> None:
    """An option without a default stands commented out in the defaults; a required one is named in a comment."""
    options = options_of(role)
    text = (ROOT / "roles" / role / "defaults/main.yml").read_text(encoding="utf-8")
    comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    commented_out = set(re.findall(r"^# ([a-z_]+):(?: |$)", comments, re.MULTILINE)) & set(options)
    required = {name for name, option in options.items() if option.get("required", False)}
    assert set(defaults_of(role)) & required == set(), "a required option has no default"
    assert set(defaults_of(role)) | commented_out | required == set(options)
    assert set(defaults_of(role)) & commented_out == set(), "an option is set and commented out"
    assert [name for name in sorted(required) if name not in comments] == []


@pytest.mark.parametrize("role", ROLES)
def test_types_fit_the_defaults(role: str) -> None:
    def fits(value: Any, kind: str) -> bool:
        if isinstance(value, str) and "{{" in value:
            return True
        return isinstance(value, TYPES[kind]) and isinstance(value, bool) == (kind == "bool")

    options = options_of(role)
    wrong = {
        name: value
        for name, value in defaults_of(role).items()
        if name in options and not fits(value, options[name]["type"])
    }
    assert wrong == {}


@pytest.mark.parametrize("role", ROLES)
def test_every_option_is_described_and_sets_no_default(role: str) -> None:
    for entry in specs_of(role).values():
        for name, option in option_nodes(entry.get("options", {})):
            assert option.get("type") in TYPES, f"{name}: type"
            assert option.get("description"), f"{name}: description"
            assert "default" not in option, f"{name}: a default in the spec sets nothing"


@pytest.mark.parametrize("role", ROLES)
def test_readme_block_is_made_from_the_specs(role: str) -> None:
    text = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    assert text.count(BEGIN) == 1 and text.count(END) == 1
    block = text[text.index(BEGIN) : text.index(END) + len(END)]
    template = jinja2.Template((ROOT / ".config/role-readme.md.j2").read_text(encoding="utf-8"))  # noqa: S701
    assert block == template.render(argument_specs=specs_of(role)).strip()


@pytest.mark.parametrize("role", ROLES)
def test_public_names_carry_their_prefix(role: str) -> None:
    prefixes = (f"{role}_", "hpb_", "talk_")
    assert [name for name in options_of(role) if not name.startswith(prefixes)] == []


@pytest.mark.parametrize("role", ROLES)
def test_internal_names_carry_their_prefix(role: str) -> None:
    internal = set(load(ROOT / "roles" / role / "vars/main.yml") or {})
    facts: set[str] = set()
    for _file, task in tasks_of(role):
        internal.update({task["register"]} if "register" in task else set())
        internal.update({task["loop_control"]["loop_var"]} if "loop_var" in task.get("loop_control", {}) else set())
        facts.update(set(task.get("ansible.builtin.set_fact", {})) - {"cacheable"})
    assert sorted(name for name in internal if not name.startswith(f"__{role}_")) == []
    # A fact that other roles read is public, but no option that a user could set.
    assert sorted(name for name in facts if not name.startswith((f"__{role}_", f"{role}_"))) == []
    assert sorted(facts & set(options_of(role))) == []


@pytest.mark.parametrize("role", ROLES)
def test_main_reads_like_a_table_of_contents(role: str) -> None:
    lines = (ROOT / "roles" / role / "tasks/main.yml").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 40


@pytest.mark.parametrize("role", ROLES)
def test_task_names_say_which_file_they_are_in(role: str) -> None:
    wrong = []
    for file, task in tasks_of(role):
        stem = Path(file).stem
        if stem != "main" and not task.get("name", "").startswith(f"{stem} | "):
            wrong.append(f"{file}: {task.get('name', '(no name)')}")
    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
def test_commands_are_justified(role: str) -> None:
    """A comment stands at every task that runs a command, and says why no module serves."""
    for path in sorted((ROOT / "roles" / role / "tasks").glob("*.yml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if line.strip().rstrip(":") not in {"ansible.builtin.command", "ansible.builtin.shell"}:
                continue
            start = max(index for index in range(number) if lines[index].lstrip().startswith("- name:"))
            above = lines[max(start - 1, 0) : number]
            assert any(text.lstrip().startswith("#") for text in above), f"{path.relative_to(ROOT)}:{number + 1}"
