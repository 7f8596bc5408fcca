"""The load generators.

Each returns operations, seconds, errors, p50_us and p99_us. A latency of 0 is not known. At a fixed
rate, late is added: the share of the requests that were sent more than 1 ms after they were due.
"""
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass

from processes import Failed, end, pinned, start, tool
from workloads import GET


@dataclass(frozen=True)
class Load:
    seconds: int
    folder: str
    cpu: int
    binary: str
    """Our program, whose `blast` is one of the generators."""


# `text` is what is sent. wrk calls `request` once before it begins, and accepts only an HTTP
# request there: `first`.
WRK_SCRIPT = """
local first, text, is_called = FIRST, TEXT, false
function request()
    if is_called then return text end
    is_called = true
    return first
end
function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format('{"operations":%d,"seconds":%f,"errors":%d,"p50_us":%f,"p99_us":%f}\\n',
        summary.requests, summary.duration / 1e6,
        e.connect + e.read + e.write + e.status + e.timeout,
        latency:percentile(50), latency:percentile(99)))
end
"""


def wrk(workload, port, load):
    if workload.protocol == "http":
        close = b"Connection: close\r\n" * workload.closes
        first = text = (GET + close + b"\r\n") * workload.depth
    else:
        first, text = b"GET / HTTP/1.0\r\n\r\n", workload.message
    script = os.path.join(load.folder, "wrk.lua")
    with open(script, "w") as file:
        # For these characters, a JSON string is a Lua string.
        literals = {"FIRST": json.dumps(first.decode()), "TEXT": json.dumps(text.decode())}
        file.write(re.sub("FIRST|TEXT", lambda found: literals[found[0]], WRK_SCRIPT))
    command = [tool("wrk"), "-t1", f"-c{workload.connections}", f"-d{load.seconds}s", "-s", script]
    output = output_of_load([*command, f"http://127.0.0.1:{port}/plaintext"], load)
    result = json.loads(output.splitlines()[-1])
    if workload.depth > 1:
        # wrk corrects its latencies for requests that it sent late, and counts each response as one
        # send of its own. So they are wrong for pipelined requests.
        result["p50_us"] = result["p99_us"] = 0
    return result


def ab(workload, port, load):
    table = os.path.join(load.folder, "ab.csv")
    command = [tool("ab"), "-q", "-r", "-c", str(workload.connections), "-e", table]
    command += ["-k"] * (not workload.closes)
    # ab stops at whichever limit comes first, and allocates memory for all requests of -n.
    command += ["-t", str(load.seconds), "-n", str(1_000_000 * load.seconds)]
    output = output_of_load([*command, f"http://127.0.0.1:{port}/plaintext"], load)

    def figure(name):
        return float(re.search(rf"^{name}:\s+([\d.]+)", output, re.MULTILINE)[1])

    with open(table) as file:
        ms = dict(line.strip().split(",") for line in file)
    return {
        "operations": int(figure("Complete requests")),
        "seconds": figure("Time taken for tests"),
        "errors": int(figure("Failed requests")),
        "p50_us": float(ms["50"]) * 1000,
        "p99_us": float(ms["99"]) * 1000,
    }


def python(workload, port, load):
    variant = "-gso" if workload.depth > 1 else "-close" if workload.closes else ""
    program = os.path.join(os.path.dirname(__file__), "load.py")
    figures = [port, workload.connections, len(workload.message), load.seconds]
    command = [sys.executable, program, workload.protocol + variant, *map(str, figures)]
    return json.loads(output_of_load(command, load))


def blast(workload, port, load):
    """Sends at a fixed rate: `reactor blast`, whose latencies count from when a request was due."""
    command = [load.binary, "blast", f"http://127.0.0.1:{port}/plaintext", "--json"]
    command += ["--connections", str(workload.connections), "--rate", str(workload.rate)]
    result = json.loads(output_of_load([*command, "--duration", f"{load.seconds}s"], load))
    wrong = ("errors", "unsuccessful", "differing", "corrupt", "cut_off")
    return {
        # A response that comes after the end counts, as the server has used its time for it.
        "operations": result["received"],
        # The time that was asked for, so that a rate that is not held shows.
        "seconds": result["duration_seconds"],
        "errors": sum(result[name] for name in wrong),
        "p50_us": result["latency_us"]["p50"],
        "p99_us": result["latency_us"]["p99"],
        # What was never sent was due, too.
        "late": (result["sent_late"] + result["unsent"]) / (workload.rate * load.seconds),
    }


DRIVERS = {"wrk": wrk, "ab": ab, "python": python, "blast": blast}

# Those that need no tool: they are here, or in the program that is measured.
OWN = ("python", "blast")


def driver_of(workload):
    """Returns the load generator for a workload, or None if none of its tools is installed."""
    return next((name for name in workload.tools if name in OWN or tool(name)), None)


def drive(workload, server, load):
    """Loads `server`, and returns what the load generator has counted."""
    port = server.ports[workload.protocol]
    counted = DRIVERS[driver_of(workload)](workload, port, load)
    if counted["operations"] == 0:
        raise Failed("no operation was completed")
    return counted


def output_of_load(command, load):
    child = start(pinned(load.cpu, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, errors = child.communicate(timeout=3 * load.seconds + 30)
    except subprocess.TimeoutExpired:
        raise Failed("the load generator does not exit") from None
    finally:
        end(child)
    if child.returncode != 0 or not output:
        raise Failed(f"the load generator failed: {(errors or output)[-300:].strip()}")
    return output
