"""What was measured, in Markdown that also reads well as it stands."""
import os
import platform
import re
import statistics
import time

from drivers import driver_of
from processes import output_of, tool
from servers import OURS


def median(runs, figure):
    return statistics.median(run[figure] for run in runs)


def ratio(runs, base):
    """The CPU time per operation, divided by that of `base` in the same round: the median of the rounds."""
    return statistics.median(run["cpu_us"] / other["cpu_us"] for run, other in zip(runs, base))


def short(value):
    """Three digits, or more where more stand before the point; nothing for what is not known."""
    if not value:
        return "–"
    decimals = 0 if value >= 99.95 else 1 if value >= 9.995 else 2 if value >= 0.9995 else 3
    return f"{value:,.{decimals}f}"


def table(head, rows, first_right):
    """A Markdown table. From the column `first_right` on it has figures, which stand to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells):
        left = [cell.ljust(width) for cell, width in zip(cells[:first_right], widths)]
        right = [cell.rjust(width) for cell, width in zip(cells[first_right:], widths[first_right:])]
        return "| " + " | ".join(left + right) + " |"

    rule = ["-" * width for width in widths[:first_right]] + ["-" * (width - 1) + ":" for width in widths[first_right:]]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def tables(runs, calls):
    """`runs` and `calls` are by workload and server: all the runs, and the system calls per operation."""
    parts, failed = [], []
    for protocol, title in (("http", "HTTP"), ("tcp", "TCP echo"), ("udp", "UDP echo")):
        rows = []
        chosen = {key: of_server for key, of_server in runs.items() if key[0].protocol == protocol}
        has_ratio = any(name == "nginx" for _, name in chosen)
        for (workload, name), of_server in chosen.items():
            errors = sum(run["errors"] for run in of_server)
            if errors:
                failed.append(f"{name}, {workload.name}: {errors:,}")
            row = [workload.name, name + " †" * (errors > 0), f"{median(of_server, 'rate'):,.0f}"]
            row += [short(median(of_server, figure)) for figure in ("p50_us", "p99_us")]
            row += [f"{median(of_server, 'busy'):.0%}", short(median(of_server, "cpu_us"))]
            if has_ratio:
                base = runs.get((workload, "nginx"))
                row.append(f"{ratio(of_server, base):.2f}" if base else "–")
            rows.append(row)
        if not rows:
            continue
        head = ["workload", "server", "operations/s", "p50 µs", "p99 µs", "server busy", "CPU µs/operation"]
        parts.append(f"## {title}\n\n" + table(head + ["÷ nginx"] * has_ratio, rows, 2))
        if any(driver_of(workload) == "python" for workload, _ in chosen):
            parts.append(
                "This load comes from a Python program, which is slower than the server. So throughput and latency are\n"
                "Python's, and only the CPU time says something about the server."
            )
    if failed:
        parts.append("† The load generator counted errors: " + "; ".join(failed) + ".")
    if calls:
        rows = []
        for (workload, name), by_call in calls.items():
            in_order = sorted(by_call.items(), key=lambda item: -item[1])
            which = ", ".join(f"{call} {short(count)}" for call, count in in_order)
            rows.append([workload.name, name, short(sum(by_call.values())), which])
        parts.append("## System calls per operation\n\n" + table(["workload", "server", "calls", "which"], rows, 4))
    return "\n\n".join(parts)


def machine():
    with open("/proc/cpuinfo") as file:
        model = re.search(r"^(?:model name|cpu model|Hardware)\s*:\s*(.*)", file.read(), re.MULTILINE)
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def versions(binary, runs):
    listed = [output_of(binary, "--version")]
    # Where git is missing, or this is not a checkout, there is none.
    commit = output_of("git", "describe", "--always", "--dirty", "--exclude", "*", cwd=os.path.dirname(__file__))
    if re.fullmatch(r"[0-9a-f]+(-dirty)?", commit):
        listed[0] += f" ({commit})"
    used = {name for _, name in runs} | {driver_of(workload) for workload, _ in runs}
    for name, question in {"nginx": "-v", "haproxy": "-v", "lighttpd": "-v", "h2o": "-v", "wrk": "-v", "ab": "-V"}.items():
        found = re.search(r"\d+\.\d+(\.\d+)?", output_of(tool(name), question)) if name in used else None
        if found:
            listed.append(f"{name} {found[0]}")
    return ", ".join([*listed, f"Python {platform.python_version()}"])


def circumstances(arguments, binary, runs):
    """When, where and with what it was measured, as a list."""
    rounds = "1 round" if arguments.rounds == 1 else f"{arguments.rounds} rounds"
    server, load = arguments.cpus
    where = f"the server on CPU {server}, the load on CPU {load}" if tool("taskset") else "on any CPU"
    company = [run["company"] > 0.1 for of_server in runs.values() for run in of_server]
    if any(company):
        quiet = f"Other work took more than a tenth of a CPU during {sum(company)} of {len(company)} runs: take care."
    else:
        quiet = "No other work took more than a tenth of a CPU during any run."
    return "\n".join([
        f"- {time.strftime('%Y-%m-%d')}: {rounds} of {arguments.seconds} s, {where}, over loopback.",
        f"- {machine()}.",
        f"- {versions(binary, runs)}.",
        f"- {quiet}",
    ])


def panels(runs):
    """What the picture shows: (title, [(label, µs, is ours)]), one for each HTTP workload, and one for all the echoes."""
    by_title = {}
    for (workload, name), of_server in runs.items():
        cost = median(of_server, "cpu_us")
        if workload.protocol == "http":
            by_title.setdefault(workload.name, []).append((name, cost, name == OURS))
        else:
            by_title.setdefault("TCP and UDP echo, reactor alone", []).append((workload.name, cost, True))
    return list(by_title.items())
