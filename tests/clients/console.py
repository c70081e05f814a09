"""Runs the console blocks of a document and compares what comes: console.py DOCUMENT READY_FILE

All commands of a document run in one shell, in their order, in an empty folder. The addresses where
a gateway listens if it is not told stand for those in READY_FILE. What they say must be what the
document says, but for what differs with each run: times, ids, tokens, versions. A line `…` stands
for any lines. Beside this file, NAME.skipped may list commands of the document NAME.md that cannot
be run, with reasons. With UPDATE_DOCS=1 the document is written anew where it differs.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import Checks, Skipped, same

# Where the doors are in the documents.
DOORS = {"grpc": "127.0.0.1:50051", "aws": "127.0.0.1:8787"}
MARK = "----8<---- console.py"
# What all commands together may take.
SECONDS = 300
# What differs with each run, and what stands for it in the comparison.
VARIES = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r'("resumeToken": ")[^"]*'), r"\1<token>"),
    (re.compile(r"(etag: |etag\":\s*\")[\w-]{22}"), r"\1<version>"),
    (re.compile(r'("value": ")[A-Za-z0-9+/=]+'), r"\1<bytes>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
    # A step may be too short to be seen.
    (re.compile(r"^[\w ]+: IN_PROGRESS\n", re.M), ""),
    (re.compile(r"\bafter \d+s"), "after <time>"),
    # The space between the parts of a message is at the whim of the program that prints it.
    (re.compile(r'(?<=["\]}\de]),\s*(?=["{])|(?<="):\s+'), lambda found: found.group().strip()),
]


class Command:
    def __init__(self, first_line):
        self.lines = [first_line]  # as they stand in the document, without the prompt
        self.output = []
        self.got = []
        self.skipped = None  # or why

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


def skipped_commands(document):
    """Reasons by the beginnings of commands."""
    listed = Path(__file__).parent / f"{document.stem.lower()}.skipped"
    lines = listed.read_text().splitlines() if listed.exists() else []
    return dict(line.split(": ", 1)[::-1] for line in lines if line and not line.startswith("#"))


def run(commands, addresses, folder):
    """What each of the commands says."""
    script = "exec 2>&1\n"
    for command in commands:
        text = command.text if command.skipped is None else ":"
        for door, address in DOORS.items():
            text = text.replace(address, addresses[door])
        script += f"{text}\necho; echo '{MARK}'\n"
    # Where the gateway's own commands look if they are not told.
    environment = os.environ | {"PROTON_GATEWAY_ADDRESS": f"http://{addresses['grpc']}"}
    # The commands of a shell that is stopped are stopped with it.
    limited = ["timeout", "--kill-after=5", str(SECONDS), "bash"]
    done = subprocess.run(
        limited,
        input=script,
        text=True,
        capture_output=True,
        cwd=folder,
        env=environment,
        check=False,
    )
    said = [part.strip("\n").splitlines() for part in done.stdout.split(f"{MARK}\n")]
    late = ["nothing: the shell had ended, or was stopped"]
    return said[: len(commands)] + [late] * (len(commands) - len(said))


def shape(lines):
    text = "\n".join(lines).strip("\n")
    for pattern, stands_for in VARIES:
        text = pattern.sub(stands_for, text)
    return text


def matches(wanted, got):
    parts = [re.escape(part) for part in re.split(r"^…$", shape(wanted), flags=re.M)]
    return re.fullmatch(r"(?:.*\n)*?.*".join(parts), shape(got), re.S) is not None


def main():
    document = Path(sys.argv[1])
    addresses = json.loads(Path(sys.argv[2]).read_text())
    text = document.read_text()
    found = list(blocks(text))
    everything = [command for _, commands in found for command in commands]
    checks = Checks()
    reasons = skipped_commands(document)
    unused = set(reasons)
    for command in everything:
        for beginning in filter(command.text.startswith, reasons):
            command.skipped = reasons[beginning]
            unused.discard(beginning)
        program = command.text.split()[0]
        if program in ("aws", "buf", "grpcurl") and not shutil.which(program):
            command.skipped = "the program is not installed"
    with tempfile.TemporaryDirectory() as folder:
        said = run(everything, addresses, folder)
    for command, got in zip(everything, said, strict=True):
        command.got = got
        # A failure is told with what came.
        with checks.that(command.lines[0]):
            if command.skipped:
                raise Skipped(command.skipped)
            if not matches(command.output, got):
                raise AssertionError("it says\n" + "\n".join(got))
    with checks.that("nothing is skipped that is not there"):
        same(unused, set())
    if os.environ.get("UPDATE_DOCS") == "1":
        for (begin, end), commands in reversed(found):
            block = ""
            for command in commands:
                as_it_is = command.skipped or matches(command.output, command.got)
                output = command.output if as_it_is else command.got
                block += "\n".join([f"$ {command.text}", *output]) + "\n"
            for door, address in DOORS.items():
                block = block.replace(addresses[door], address)
            text = text[:begin] + block + text[end:]
        document.write_text(text)
    checks.finish()


main()
