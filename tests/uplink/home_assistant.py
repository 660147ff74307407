"""Validates a device discovery payload (standard input) with Home Assistant's own schema.

Argument: a directory with the unpacked parts of its wheel and with voluptuous. The schema and its
constants are Home Assistant's; this script replaces the few helpers that the schema needs.
"""

import ast
import json
import re
import sys
import types

import importlib.util

root = sys.argv[1]
sys.path.insert(0, root)
import voluptuous as vol  # noqa: E402


def constants(path):
    """Every plain constant of a module, without running it."""
    found = {}
    for node in ast.parse(open(path, encoding="utf-8").read()).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name) or getattr(node, "value", None) is None:
            continue
        text = re.sub(r"\bPlatform\.([A-Z_]+)", lambda m: repr(m.group(1).lower()), ast.unparse(node.value))
        try:
            found[target.id] = eval(text, {}, dict(found))
        except Exception:  # Whatever needs more than constants is not needed here.
            pass
    return found


def module(name, values):
    made = types.ModuleType(name)
    made.__dict__.update(values)
    sys.modules[name] = made
    return made


def topic(value):
    if not isinstance(value, str) or not value or "#" in value[:-1]:
        raise vol.Invalid(f"not a topic: {value!r}")
    return value


def text(value):
    if not isinstance(value, str):
        raise vol.Invalid(f"not text: {value!r}")
    return value


mqtt = f"{root}/homeassistant/components/mqtt"
for name in ("homeassistant", "homeassistant.helpers", "homeassistant.components", "homeassistant.components.mqtt"):
    module(name, {"__path__": []})
module("homeassistant.const", constants(f"{root}/homeassistant/const.py"))
helpers = {name: text for name in ("string", "template", "url", "configuration_url", "icon")}
helpers |= {"boolean": bool, "ensure_list": lambda v: v if isinstance(v, list) else [v], "deprecated": lambda *_: lambda v: v}
sys.modules["homeassistant.helpers"].config_validation = module("homeassistant.helpers.config_validation", helpers)
module("homeassistant.helpers.entity", {"ENTITY_CATEGORIES_SCHEMA": vol.In(["config", "diagnostic"])})
module("homeassistant.helpers.typing", {"ConfigType": dict})
module("homeassistant.components.mqtt.const", constants(f"{mqtt}/const.py"))
qos = {"valid_publish_topic": topic, "valid_subscribe_topic": topic, "valid_qos_schema": vol.In([0, 1, 2])}
module("homeassistant.components.mqtt.util", qos)
spec = importlib.util.spec_from_file_location("homeassistant.components.mqtt.schemas", f"{mqtt}/schemas.py")
schemas = importlib.util.module_from_spec(spec)
spec.loader.exec_module(schemas)

payload = json.loads(sys.stdin.read())
schemas.DEVICE_DISCOVERY_SCHEMA(payload)
common = schemas.MQTT_ENTITY_COMMON_SCHEMA.extend({}, extra=vol.ALLOW_EXTRA)
for entity in payload["components"].values():
    common(entity)
try:
    schemas.DEVICE_DISCOVERY_SCHEMA({**payload, "origin": {}})
except vol.Invalid:
    print(f"{len(payload['components'])} entities pass Home Assistant's own schema, which refuses one without origin")
else:
    sys.exit("the schema takes anything")
