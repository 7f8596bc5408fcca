"""The report, in Markdown that is readable as plain text, too."""
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
    """Returns the CPU time per operation relative to `base`.

    Each run is divided by the run of `base` in the same round, and the median is taken.
    """
    return statistics.median(run["cpu_us"] / other["cpu_us"] for run, other in zip(runs, base))


def short(value):
    """Formats a figure with three digits, or all before the point. An unknown one is a dash."""
    if not value:
        return "–"
    decimals = 0 if value >= 99.95 else 1 if value >= 9.995 else 2 if value >= 0.9995 else 3
    return f"{value:,.{decimals}f}"


def table(head, rows, first_right):
    """Returns a Markdown table. From the column `first_right` on, the cells are right-aligned."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells):
        left = [cell.ljust(width) for cell, width in zip(cells[:first_right], widths)]
        figures = zip(cells[first_right:], widths[first_right:])
        right = [cell.rjust(width) for cell, width in figures]
        return "| " + " | ".join(left + right) + " |"

    rule = ["-" * width for width in widths[:first_right]]
    rule += ["-" * (width - 1) + ":" for width in widths[first_right:]]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def tables(runs, calls):
    """Returns the tables of `runs` and `calls`, which are by workload and server."""
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
        head = ["workload", "server", "operations/s", "p50 µs", "p99 µs"]
        head += ["server busy", "CPU µs/operation"] + ["÷ nginx"] * has_ratio
        parts.append(f"## {title}\n\n" + table(head, rows, 2))
        if any(driver_of(workload) == "python" for workload, _ in chosen):
            parts.append(
                "This load comes from a Python program, which is slower than the server. So\n"
                "throughput and latency are Python's, and only the CPU time is the server's own."
            )
    if failed:
        parts.append("† The load generator counted errors: " + "; ".join(failed) + ".")
    if calls:
        rows = []
        for (workload, name), by_call in calls.items():
            in_order = sorted(by_call.items(), key=lambda item: -item[1])
            which = ", ".join(f"{call} {short(count)}" for call, count in in_order)
            rows.append([workload.name, name, short(sum(by_call.values())), which])
        head = ["workload", "server", "calls", "which"]
        parts.append("## System calls per operation\n\n" + table(head, rows, 4))
    return "\n\n".join(parts)


def machine():
    with open("/proc/cpuinfo") as file:
        pattern = r"^(?:model name|cpu model|Hardware)\s*:\s*(.*)"
        model = re.search(pattern, file.read(), re.MULTILINE)
    name = model[1] if model else platform.machine()
    return f"{name}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def versions(binary, runs):
    listed = [output_of(binary, "--version")]
    # Without git, or outside of a checkout, there is no commit.
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    commit = output_of(*command, cwd=os.path.dirname(__file__))
    if re.fullmatch(r"[0-9a-f]+(-dirty)?", commit):
        listed[0] += f" ({commit})"
    used = {name for _, name in runs} | {driver_of(workload) for workload, _ in runs}
    for name in ("nginx", "haproxy", "lighttpd", "h2o", "wrk", "ab"):
        if name in used:
            output = output_of(tool(name), "-V" if name == "ab" else "-v")
            if found := re.search(r"\d+\.\d+(\.\d+)?", output):
                listed.append(f"{name} {found[0]}")
    return ", ".join([*listed, f"Python {platform.python_version()}"])


def circumstances(arguments, binary, runs):
    """Returns when, where and with what it was measured, as a Markdown list."""
    rounds = "1 round" if arguments.rounds == 1 else f"{arguments.rounds} rounds"
    date = time.strftime("%Y-%m-%d")
    server, load = arguments.cpus
    where = f"the server on CPU {server}, the load on CPU {load}"
    if not tool("taskset"):
        where = "on any CPU"
    disturbed = [run["other_work"] > 0.1 for of_server in runs.values() for run in of_server]
    if any(disturbed):
        count = f"{sum(disturbed)} of {len(disturbed)} runs"
        quiet = f"Other work took more than a tenth of a CPU during {count}: take care."
    else:
        quiet = "No other work took more than a tenth of a CPU during any run."
    return "\n".join([
        f"- {date}: {rounds} of {arguments.seconds} s, {where}, over loopback.",
        f"- {machine()}.",
        f"- {versions(binary, runs)}.",
        f"- {quiet}",
    ])


def panels(runs):
    """Returns the panels of the picture, each a (title, [(label, µs, is_ours)]).

    There is one for each HTTP workload, and one for all echo workloads.
    """
    by_title = {}
    for (workload, name), of_server in runs.items():
        cost = median(of_server, "cpu_us")
        if workload.protocol == "http":
            by_title.setdefault(workload.name, []).append((name, cost, name == OURS))
        else:
            title = "TCP and UDP echo, reactor alone"
            by_title.setdefault(title, []).append((workload.name, cost, True))
    return list(by_title.items())
