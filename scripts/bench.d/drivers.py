"""The load generators. Each returns operations, seconds, errors, p50_us and p99_us (0 where it is not known)."""
import json
import os
import re
import subprocess
import sys

from processes import Failed, end, pinned, start, tool
from workloads import GET

# `text` is what is sent. Before wrk begins, it asks once what that will be, and insists on a request: `first`.
WRK_SCRIPT = """
local first, text, is_asked = FIRST, TEXT, false
function request()
    if is_asked then return text end
    is_asked = true
    return first
end
function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format('{"operations":%d,"seconds":%f,"errors":%d,"p50_us":%f,"p99_us":%f}\\n',
        summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
        latency:percentile(50), latency:percentile(99)))
end
"""


def wrk(workload, port, seconds, folder, cpu):
    if workload.protocol == "http":
        first = text = (GET + b"Connection: close\r\n" * workload.closes + b"\r\n") * workload.depth
    else:
        first, text = b"GET / HTTP/1.0\r\n\r\n", workload.message
    script = os.path.join(folder, "wrk.lua")
    with open(script, "w") as file:
        # Lua reads a string of these characters as JSON writes it.
        literals = {"FIRST": json.dumps(first.decode()), "TEXT": json.dumps(text.decode())}
        file.write(re.sub("FIRST|TEXT", lambda found: literals[found[0]], WRK_SCRIPT))
    command = [tool("wrk"), "-t1", f"-c{workload.connections}", f"-d{seconds}s", "-s", script]
    output = output_of_load([*command, f"http://127.0.0.1:{port}/plaintext"], seconds, cpu)
    result = json.loads(output.splitlines()[-1])
    if workload.depth > 1:
        # wrk corrects its latencies for requests that it sent late, and takes each answer for a sending of its own.
        result["p50_us"] = result["p99_us"] = 0
    return result


def ab(workload, port, seconds, folder, cpu):
    table = os.path.join(folder, "ab.csv")
    command = [tool("ab"), "-q", "-r", "-c", str(workload.connections), "-e", table] + ["-k"] * (not workload.closes)
    # It stops at whichever comes first, and sets memory aside for as many requests as it is told to make.
    command += ["-t", str(seconds), "-n", str(1_000_000 * seconds)]
    output = output_of_load([*command, f"http://127.0.0.1:{port}/plaintext"], seconds, cpu)

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


def python(workload, port, seconds, folder, cpu):
    kind = workload.protocol + ("-trains" if workload.depth > 1 else "-close" if workload.closes else "")
    program = os.path.join(os.path.dirname(__file__), "load.py")
    figures = [port, workload.connections, len(workload.message), seconds]
    return json.loads(output_of_load([sys.executable, program, kind, *map(str, figures)], seconds, cpu))


DRIVERS = {"wrk": wrk, "ab": ab, "python": python}


def driver_of(workload):
    """What drives it; nothing, if none of its tools is installed."""
    return next((name for name in workload.tools if name == "python" or tool(name)), None)


def drive(workload, server, seconds, folder, cpu):
    """Loads `server`, and returns what the load generator has counted."""
    counted = DRIVERS[driver_of(workload)](workload, server.ports[workload.protocol], seconds, folder, cpu)
    if counted["operations"] == 0:
        raise Failed("not one operation was completed")
    return counted


def output_of_load(command, seconds, cpu):
    child = start(pinned(cpu, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, errors = child.communicate(timeout=3 * seconds + 30)
    except subprocess.TimeoutExpired:
        raise Failed("the load generator does not end") from None
    finally:
        end(child)
    if child.returncode != 0 or not output:
        raise Failed(f"the load generator says: {(errors or output)[-300:].strip()}")
    return output
