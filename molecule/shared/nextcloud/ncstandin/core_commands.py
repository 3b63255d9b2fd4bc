# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""occ commands of Nextcloud itself: status, configuration, apps, maintenance mode and setup checks."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

from .console import NEGATABLE, OPTIONAL, OUTPUT, REQUIRED, Argument, Call, Command, ConsoleError, Option
from .state import TYPES, Instance
from .talk_commands import TYPED_ARRAYS_SINCE

MASK = "***REMOVED SENSITIVE VALUE***"
_SENSITIVE_APP = re.compile(
    r"bridge_bot_password|recording_servers|signaling_servers|signaling_ticket_secret|signaling_token_p\w+key_.*"
    r"|sip_bridge_.*|stun_servers|turn_servers"
)
_SENSITIVE_SYSTEM = {"passwordsalt", "secret", "instanceid", "trusted_domains", "dbpassword", "dbuser", "dbname"}
_TYPE_NAMES = {number: name for name, number in TYPES.items()}


def status_of(instance: Instance) -> dict[str, Any]:
    """Return what `occ status` and /status.php say."""
    version = str(instance.system.get("version", "34.0.1.2"))
    return {
        "installed": bool(instance.system.get("installed", False)),
        "version": version,
        "versionstring": ".".join(version.split(".")[:3]),
        "edition": "",
        "maintenance": bool(instance.system.get("maintenance", False)),
        "needsDbUpgrade": bool(instance.settings["needs_upgrade"]),
        "productname": "Nextcloud",
        "extendedSupport": False,
    }


def status(call: Call) -> int:
    """Print the state; -e turns maintenance (1) and a needed upgrade (2) into exit codes."""
    values = status_of(call.instance)
    call.show(values)
    if not call.options["exit-code"]:
        return 0
    if values["maintenance"]:
        return 1
    return 2 if values["needsDbUpgrade"] else 0


def _is_typed(call: Call) -> bool:
    key = call.arguments["name"]
    return (
        call.arguments["app"] == "spreed"
        and key in ("stun_servers", "turn_servers")
        and call.instance.talk_major >= TYPED_ARRAYS_SINCE
    )


def _typed_value(value: str, kind: int) -> Any:
    if kind == TYPES["array"]:
        return json.loads(value)
    if kind == TYPES["boolean"]:
        return value == "1"
    if kind == TYPES["integer"]:
        return int(value)
    return float(value) if kind == TYPES["float"] else value


def app_get(call: Call) -> int:
    """Print one app value; unset is exit code 1 and silence."""
    row = call.instance.app.get((call.arguments["app"], call.arguments["name"]))
    if row is None:
        if "default-value" not in call.given:
            return 1
        call.show_value(call.options["default-value"])
        return 0
    if call.options["details"]:
        call.show(
            {
                "app": call.arguments["app"],
                "key": call.arguments["name"],
                "value": row[0],
                "type": _TYPE_NAMES[row[1]],
                "lazy": bool(row[2]),
                "sensitive": False,
            }
        )
        return 0
    call.show_value(row[0])
    return 0


def _confirm(call: Call, kind: str) -> None:
    """Ask as Nextcloud does before it changes a stored type; without an answer the command is aborted."""
    if call.options["no-interaction"]:
        return
    call.say(f"You are about to set config value {call.arguments['app']}/{call.arguments['name']} as {kind.upper()}")
    if sys.stdin.readline().strip().lower() != "yes":
        raise ConsoleError("Aborted.")


def _convert(value: str, kind: int) -> str:
    if kind == TYPES["array"]:
        try:
            decoded = json.loads(value)
        except ValueError:
            raise ConsoleError("Syntax error") from None
        if not isinstance(decoded, (list, dict)):
            raise ConsoleError("Value is not an array")
        return json.dumps(decoded, separators=(",", ":"))
    if kind == TYPES["boolean"]:
        if value.lower() not in ("true", "1", "on", "yes", "false", "0", "off", "no"):
            raise ConsoleError("Value is not a boolean, please use 'true' or 'false'")
        return "1" if value.lower() in ("true", "1", "on", "yes") else "0"
    if kind == TYPES["integer"] and not re.fullmatch(r"-?\d+", value):
        raise ConsoleError("Value is not an integer")
    return value


def app_set(call: Call) -> int:
    """Store one app value; the answer is the same word for "identical" and for "refused"."""
    app, key, value = call.arguments["app"], call.arguments["name"], call.options["value"]
    row = call.instance.app.get((app, key))
    if call.options["update-only"] and row is None:
        call.say(f"Config value {key} for app {app} not updated, as it has not been set before.")
        return 1
    wanted = call.options["type"] if "type" in call.given else None
    if wanted is not None and wanted not in TYPES:
        raise ConsoleError("Unknown type")
    if wanted is None:
        kind = row[1] if row else TYPES["mixed"]
    else:
        kind = TYPES[wanted]
        if row and row[1] != kind:
            _confirm(call, wanted)
    refused = _is_typed(call) and (wanted != "array")
    stored = None if refused or value is None else _convert(value, kind)
    if stored is None or (row is not None and row[:2] == (stored, kind)):
        call.say("Config value were not updated")
        return 0
    call.instance.put(app, key, stored, kind)
    call.say(
        f"Config value '{key}' for app '{app}' is now set to '{stored}', stored as {_TYPE_NAMES[kind]} in fast cache"
    )
    return 0


def app_delete(call: Call) -> int:
    """Delete one app value."""
    app, key = call.arguments["app"], call.arguments["name"]
    if call.options["error-if-not-exists"] and (app, key) not in call.instance.app:
        call.say(f"Config {key} of app {app} could not be deleted because it did not exist")
        return 1
    call.instance.remove(app, key)
    call.say(f"Config value {key} of app {app} deleted")
    return 0


def system_get(call: Call) -> int:
    """Print one value of config.php; several names walk into arrays."""
    value: Any = call.instance.system
    for name in call.arguments["name"]:
        if isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict) and name in value:
            value = value[name]
        elif "default-value" in call.given:
            value = call.options["default-value"]
            break
        else:
            return 1
    call.show_value(value)
    return 0


def system_set(call: Call) -> int:
    """Set one value of config.php (one name, or a name and the index of a list)."""
    names, text, kind = call.arguments["name"], call.options["value"], call.options["type"] or "string"
    if text is None:
        raise ConsoleError("Value must not be empty")
    value: Any = {"integer": int, "double": float, "boolean": lambda word: word.lower() == "true"}.get(kind, str)(text)
    system = call.instance.system
    if len(names) == 1:
        system[names[0]] = value
    else:
        entries = dict(enumerate(system.get(names[0]) or []))
        entries[int(names[1])] = value
        system[names[0]] = [entries[index] for index in sorted(entries)]
    call.instance.save_system()
    call.say(f"System config value {' => '.join(names)} set to {kind} {text}")
    return 0


def config_list(call: Call) -> int:
    """Print the configuration of everything, of `system`, or of one app; secrets only with --private."""
    instance, private, which = call.instance, call.options["private"], call.arguments["app"]

    def system() -> dict[str, Any]:
        return {
            key: value if private or key not in _SENSITIVE_SYSTEM else MASK for key, value in instance.system.items()
        }

    def app(name: str) -> Any:
        values = {
            key: _typed_value(row[0], row[1]) if private or not _SENSITIVE_APP.fullmatch(key) else MASK
            for (owner, key), row in sorted(instance.app.items())
            if owner == name
        }
        return values or []

    if which == "system":
        result: dict[str, Any] = {"system": system()}
    elif which == "all":
        names = sorted({owner for owner, _key in instance.app})
        result = {"system": system(), "apps": {name: app(name) for name in names}}
    else:
        result = {"apps": {which: app(which)}}
    call.show(result, default="json_pretty")
    return 0


def _import_source(call: Call) -> str:
    """Return the file's text; from stdin only what is there now, since Nextcloud does not wait for more.

    PHP reads php://stdin to its end, and resolves links before it opens a file: there is nothing under the name of what
    is behind /dev/stdin, unless it is a file.
    """
    name = call.arguments["file"]
    try:
        if name == "php://stdin":
            return sys.stdin.buffer.read().decode()
        if name is not None:
            return (call.instance.root / name).resolve().read_text(encoding="utf-8")
        os.set_blocking(0, False)
        return (sys.stdin.buffer.read() or b"").decode()
    except (OSError, ValueError):
        return ""


def config_import(call: Call) -> int:
    """Store many values at once from a JSON file or stdin."""
    try:
        content = json.loads(_import_source(call))
    except ValueError:
        content = None
    if not isinstance(content, dict) or not content:
        call.say("The file must contain a valid json array")
        return 1
    unknown = [key for key in content if key not in ("system", "apps")]
    if unknown:
        call.say(f"Found invalid entries in root: {', '.join(unknown)}")
        return 1
    apps = content.get("apps") or {}
    for app, values in apps.items():
        for key, value in values.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, str))):
                call.say(
                    f'Invalid app config value for "{app}":"{key}".'
                    " Only integers, strings and null (delete) are allowed."
                )
                return 1
    if content.get("system"):
        call.instance.system.update(content["system"])
        call.instance.save_system()
    for app, values in apps.items():
        for key, value in values.items():
            call.arguments.update(app=app, name=key)
            if value is None:
                call.instance.remove(app, key)
            elif not _is_typed(call):
                call.instance.put(app, key, str(value))
    call.say(f"Config successfully imported from: {call.arguments['file'] or ''}")
    return 0


def _apps(instance: Instance) -> dict[str, str]:
    """Return the apps that are there, with their versions."""
    apps = {"dav": "1.38.0", "files": "2.6.0", "settings": "1.17.0"}
    return {**apps, "spreed": instance.talk_version} if instance.talk_version else apps


def _is_enabled(instance: Instance, app: str) -> bool:
    return app in _apps(instance) and (app != "spreed" or instance.talk_enabled)


def app_list(call: Call) -> int:
    """Print enabled and disabled apps."""
    apps = _apps(call.instance)
    enabled = {name: apps[name] for name in sorted(apps) if _is_enabled(call.instance, name)}
    disabled = {name: apps[name] for name in sorted(apps) if name not in enabled}
    if "output" in call.given and call.options["output"] != "plain":
        # An empty PHP array has no keys, so it is encoded as a list.
        call.show({"enabled": enabled or [], "disabled": disabled or []})
        return 0
    call.say("Enabled:")
    call.show(enabled)
    call.say("Disabled:")
    call.show(disabled)
    return 0


def app_enable(call: Call) -> int:
    """Switch apps on."""
    code = 0
    for app in call.arguments["app-id"]:
        if app not in _apps(call.instance):
            call.say(f"Could not download app {app}")
            code = 1
        elif _is_enabled(call.instance, app):
            call.say(f"{app} already enabled")
        else:
            call.instance.put(app, "enabled", "yes")
            call.instance.put(app, "installed_version", _apps(call.instance)[app])
            call.say(f"{app} {_apps(call.instance)[app]} enabled")
    return code


def app_disable(call: Call) -> int:
    """Switch apps off."""
    for app in call.arguments["app-id"]:
        if not _is_enabled(call.instance, app):
            call.say(f"No such app enabled: {app}")
        elif app != "spreed":
            call.say(f"{app} can't be disabled.")
            return 2
        else:
            call.instance.put(app, "enabled", "no")
            call.say(f"{app} {_apps(call.instance)[app]} disabled")
    return 0


def maintenance_mode(call: Call) -> int:
    """Switch the maintenance mode, or say how it is."""
    now = bool(call.instance.system.get("maintenance", False))
    wanted = True if call.options["on"] else False if call.options["off"] else None
    if wanted is None:
        call.say(f"Maintenance mode is currently {'enabled' if now else 'disabled'}")
    elif wanted == now:
        call.say(f"Maintenance mode already {'enabled' if now else 'disabled'}")
    else:
        call.instance.system["maintenance"] = wanted
        call.instance.save_system()
        call.say(f"Maintenance mode {'enabled' if wanted else 'disabled'}")
    return 0


def setup_checks(call: Call) -> int:
    """Run the one setup check that the stand-in has: Talk's High-performance backend."""
    from . import setupcheck

    wanted = call.arguments["type"]
    results = {}
    if wanted in ("all", "talk", setupcheck.CLASS) and call.instance.talk_enabled:
        results = {"talk": {setupcheck.CLASS: setupcheck.check(call.instance)}}
    elif wanted != "all":
        call.say("Invalid type specified (or no results for that type)")
        return 1
    if call.options["output"] in ("json", "json_pretty"):
        call.show(results)
    else:
        for category, checks in results.items():
            call.say(f"\t{category}:")
            for check in checks.values():
                sign = {"success": "✓", "error": "✗", "warning": "⚠"}.get(check["severity"], "ℹ")
                call.say(f"\t\t{sign} {check['name']}" + (f": {check['description']}" if check["description"] else ""))
    good = all(check["severity"] == "success" for checks in results.values() for check in checks.values())
    return 0 if good else 1


_APP_KEY = (Argument("app"), Argument("name"))
_APPS = (Argument("app-id", array=True),)
_DEFAULT = Option("default-value", OPTIONAL)

COMMANDS = (
    Command("app:disable", app_disable, _APPS),
    Command("app:enable", app_enable, _APPS, (Option("force", short="f"),)),
    Command("app:list", app_list, (), (Option("shipped", REQUIRED), OUTPUT)),
    Command("config:app:delete", app_delete, _APP_KEY, (OUTPUT, Option("error-if-not-exists"))),
    Command("config:app:get", app_get, _APP_KEY, (OUTPUT, Option("details"), _DEFAULT)),
    Command(
        "config:app:set",
        app_set,
        _APP_KEY,
        (
            OUTPUT,
            Option("value", REQUIRED),
            Option("type", REQUIRED, default="string"),
            Option("lazy", NEGATABLE),
            Option("sensitive", NEGATABLE),
            Option("update-only"),
        ),
    ),
    Command("config:import", config_import, (Argument("file", required=False),)),
    Command("config:list", config_list, (Argument("app", required=False, default="all"),), (OUTPUT, Option("private"))),
    Command("config:system:get", system_get, (Argument("name", array=True),), (OUTPUT, _DEFAULT)),
    Command(
        "config:system:set",
        system_set,
        (Argument("name", array=True),),
        (OUTPUT, Option("type", REQUIRED, default="string"), Option("value", REQUIRED), Option("update-only")),
    ),
    Command("maintenance:mode", maintenance_mode, (), (Option("on"), Option("off"))),
    Command("setupchecks", setup_checks, (Argument("type", required=False, default="all"),), (OUTPUT,)),
    Command("status", status, (), (OUTPUT, Option("exit-code", short="e"))),
)
