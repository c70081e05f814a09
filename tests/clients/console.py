"""Runs the console blocks of a document and compares what comes: console.py DOCUMENT ADDRESS

All commands of a document run in one shell, in their order, in an empty folder; 127.0.0.1:50051
stands for ADDRESS. What they say must be what the document says, but for what differs with each
run: times, ids, tokens, versions. A line `…` stands for any lines. With UPDATE_DOCS=1 the document
is written anew where it differs.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import Checks, Skipped

MARK = "----8<---- console.py"
SECONDS = 120
# What differs with each run, and what stands for it in the comparison.
VARIES = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r'("resumeToken": ")[^"]*'), r"\1<token>"),
    (re.compile(r"(etag: |etag\":\s*\")[\w-]{22}"), r"\1<version>"),
    (re.compile(r'("value": ")[A-Za-z0-9+/=]+'), r"\1<bytes>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
    # The space between the parts of a message is at the whim of the program that prints it.
    (re.compile(r'(?<=["\]}\de]),\s*(?=["{])|(?<="):\s+'), lambda found: found.group().strip()),
]


class Command:
    def __init__(self, first_line):
        self.lines = [first_line]  # as they stand in the document, without the prompt
        self.output = []

    @property
    def text(self):
        return "\n".join(self.lines)

    def is_whole(self):
        """Whether the shell would not ask for more."""
        checked = subprocess.run(
            ["bash", "-n"], input=self.text + "\n", text=True, capture_output=True, check=False
        )
        return checked.returncode == 0 and not checked.stderr and not self.text.endswith("\\")


def blocks(text):
    """The commands of each console block, and where the block begins and ends."""
    for block in re.finditer(r"^```console\n(.*?)^```$", text, re.M | re.S):
        commands = []
        for line in block.group(1).splitlines():
            if commands and not commands[-1].is_whole():
                commands[-1].lines.append(line)
            elif line.startswith("$ "):
                commands.append(Command(line[2:]))
            else:
                commands[-1].output.append(line)
        yield block.span(1), commands


def run(commands, address, folder):
    """What each of the commands says."""
    script = "exec 2>&1\n"
    for command in commands:
        script += command.text.replace("127.0.0.1:50051", address)
        script += f"\necho; echo '{MARK}'\n"
    done = subprocess.run(
        ["bash"], input=script, text=True, capture_output=True, cwd=folder, timeout=SECONDS, check=False
    )
    said = [part.strip("\n").splitlines() for part in done.stdout.split(f"{MARK}\n")]
    return said[: len(commands)] + [["nothing: the shell had ended"]] * (len(commands) - len(said))


def shape(lines):
    text = "\n".join(lines)
    for pattern, stands_for in VARIES:
        text = pattern.sub(stands_for, text)
    return text


def matches(wanted, got):
    parts = [re.escape(part) for part in re.split(r"^…$", shape(wanted), flags=re.M)]
    return re.fullmatch(r"(?:.*\n)*?.*".join(parts), shape(got), re.S) is not None


def main():
    document, address = Path(sys.argv[1]), sys.argv[2]
    text = document.read_text()
    found = list(blocks(text))
    everything = [command for _, commands in found for command in commands]
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        said = run(everything, address, folder)
    for command, got in zip(everything, said, strict=True):
        command.got = got
        # A failure is told with what came.
        with checks.that(command.lines[0]):
            if not shutil.which(command.lines[0].split()[0]) and "=$(" not in command.lines[0]:
                raise Skipped("the program is not installed")
            if not matches(command.output, got):
                raise AssertionError("it says\n" + "\n".join(got))
    if os.environ.get("UPDATE_DOCS") == "1":
        for (begin, end), commands in reversed(found):
            block = ""
            for command in commands:
                as_it_is = matches(command.output, command.got)
                output = command.output if as_it_is else command.got
                output = [line.replace(address, "127.0.0.1:50051") for line in output]
                block += "\n".join([f"$ {command.text}", *output]) + "\n"
            text = text[:begin] + block + text[end:]
        document.write_text(text)
    checks.finish()


main()
