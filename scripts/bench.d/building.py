"""Building what is measured, with cargo."""
import json
import os
import subprocess

from processes import Failed, log, tool
from servers import OURS

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def cargo(*arguments, **options):
    if not tool("cargo"):
        raise Failed("cargo is missing: install Rust, or name a program with --binary")
    try:
        command = ["cargo", *arguments, "--locked"]
        return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=True, **options)
    except subprocess.CalledProcessError:
        raise Failed(f"cargo {arguments[0]} failed") from None


def target_directory():
    arguments = ["metadata", "--format-version", "1", "--no-deps"]
    return json.loads(cargo(*arguments, stdout=subprocess.PIPE).stdout)["target_directory"]


def build():
    """Builds the release program, and returns its path."""
    log("building the release program")
    cargo("build", "--release")
    return os.path.join(target_directory(), "release", OURS)


def build_tests():
    """Builds the library's own tests as the release program is built, and returns their path."""
    log("building the tests")
    arguments = ["test", "--release", "--lib", "--no-run", "--message-format", "json"]
    output = cargo(*arguments, stdout=subprocess.PIPE, text=True).stdout
    messages = map(json.loads, output.splitlines())
    return next(message["executable"] for message in messages if message.get("executable"))
