"""Run inside gdb: writes what it prints for each command of a JSON list, as JSON.

``gdb -batch -nx -ex 'python request = "in.json"; answer = "out.json"' -x gdb_lines.py FILE CORE``
"""

import json
import re

import gdb

HISTORY = re.compile(r"\A\$\d+ = ")


def say(command):
    try:
        text = gdb.execute(command, to_string=True)
    except gdb.error as error:
        return f"error: {error}"
    return HISTORY.sub("", text).rstrip("\n")


for setting in ("confirm off", "width 0", "height 0", "max-value-size unlimited", "charset UTF-8"):
    gdb.execute(f"set {setting}")
with open(request) as file:  # noqa: F821 - set on gdb's command line
    commands = json.load(file)
with open(answer, "w") as file:  # noqa: F821
    json.dump({command: say(command) for command in commands}, file)
