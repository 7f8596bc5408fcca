"""The report, in Markdown that is readable as plain text, too."""
import os
import platform
import re
import statistics
import time

from drivers import driver_of
from peers import REFERENCES, version
from processes import output_of, tool
from servers import OURS


def median(runs, figure):
    return statistics.median(run[figure] for run in runs)


def ratios(runs, base):
    """Returns the CPU times per operation relative to `base`.

    Each run is divided by the run of `base` in the same round, so that a slow minute of the machine
    is in both.
    """
    return [run["cpu_us"] / other["cpu_us"] for run, other in zip(runs, base)]


def certainty(found):
    """Returns how sure a median of ratios is: the least and the greatest of the rounds.

    If 1.00 is between them, even the direction of the difference is not known.

    >>> certainty([0.91, 0.94, 0.92])
    '0.91 to 0.94'
    >>> certainty([0.97, 0.99, 1.004])
    '0.97 to 1.00, no difference shown'
    >>> certainty([0.91])
    'one round'
    """
    if len(found) == 1:
        return "one round"
    least, greatest = f"{min(found):.2f}", f"{max(found):.2f}"
    shows_none = float(least) <= 1 <= float(greatest)
    return f"{least} to {greatest}" + ", no difference shown" * shows_none


# Of a fixed rate: the least share of it that must be reached, and the greatest share of requests
# that may be sent late.
REACHED_MIN, LATE_MAX = 0.99, 0.01


def failure_to_hold(workload, runs):
    """Returns why the runs do not show the server at the workload's rate, or an empty string.

    A server that falls behind, or a generator that sends late, makes more requests ready together.
    Each of them is then cheaper, so the CPU time would look better than it is.

    >>> from workloads import Workload
    >>> at_2k = Workload("", "", "http", (), 64, rate=2000)
    >>> run = {"rate": 2000, "late": 0.0, "busy": 0.1, "generator": 1.0}
    >>> failure_to_hold(at_2k, [run])
    ''
    >>> failure_to_hold(at_2k, [run | {"rate": 1500, "late": 0.9, "busy": 0.99}])
    '1,500 of 2,000 a second, with a busy server'
    >>> failure_to_hold(at_2k, [run | {"late": 0.05, "generator": 0.7}])
    '5.0 % sent late, by a load generator that had only 70 % of a CPU'
    """
    if not workload.rate:
        return ""
    reached, late = median(runs, "rate"), median(runs, "late")
    if reached < REACHED_MIN * workload.rate:
        what = f"{reached:,.0f} of {workload.rate:,} a second"
    elif late > LATE_MAX:
        what = f"{late * 100:.1f} % sent late"
    else:
        return ""
    # The generator never sleeps. So what is missing of its CPU, other work has taken.
    generator = median(runs, "generator")
    if generator < 0.95:
        return f"{what}, by a load generator that had only {generator * 100:.0f} % of a CPU"
    return what + ", with a busy server" * (median(runs, "busy") > 0.9)


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


# Which workloads each table has, and its title.
SECTIONS = (
    (lambda w: w.protocol == "http" and not w.rate, "HTTP"),
    (lambda w: w.rate, "HTTP at a fixed rate"),
    (lambda w: w.protocol == "tcp", "TCP echo"),
    (lambda w: w.protocol == "udp", "UDP echo"),
)


def tables(runs, calls):
    """Returns the tables of `runs` and `calls`, which are by workload and server."""
    parts, failed, unheld = [], [], []
    for belongs, title in SECTIONS:
        chosen = {key: of_server for key, of_server in runs.items() if belongs(key[0])}
        if not chosen:
            continue
        reference = REFERENCES[next(iter(chosen))[0].protocol]
        has_ratio = any(name == reference for _, name in chosen)
        rows = []
        for (workload, name), of_server in chosen.items():
            base = runs.get((workload, reference))
            mark = ""
            if errors := sum(run["errors"] for run in of_server):
                failed.append(f"{name}, {workload.name}: {errors:,}")
                mark = " †"
            if why := failure_to_hold(workload, of_server):
                unheld.append(f"{name}, {workload.name}: {why}")
                mark += " ‡"
            row = [workload.name, name + mark, f"{median(of_server, 'rate'):,.0f}"]
            row += [short(median(of_server, figure)) for figure in ("p50_us", "p99_us")]
            row += [f"{median(of_server, 'busy'):.0%}"]
            row += ["–" if why else short(median(of_server, "cpu_us"))]
            if has_ratio:
                is_known = base and not why and not failure_to_hold(workload, base)
                found = ratios(of_server, base) if is_known else []
                is_itself = name == reference
                row.append(f"{statistics.median(found):.2f}" if found else "–")
                row.append(certainty(found) if found and not is_itself else "")
            rows.append(row)
        head = ["workload", "server", "operations/s", "p50 µs", "p99 µs"]
        head += ["server busy", "CPU µs/operation"] + [f"÷ {reference}", "in rounds"] * has_ratio
        parts.append(f"## {title}\n\n" + table(head, rows, 2))
        if any(driver_of(workload) == "python" for workload, _ in chosen):
            parts.append(
                "This load comes from a Python program, slower than most of the servers. So their\n"
                "throughput and latency are Python's, and only the CPU time is their own."
            )
    if failed:
        parts.append("\n- ".join(["† The load generator counted errors:\n", *failed]))
    if unheld:
        parts.append("\n- ".join(["‡ The rate was not held:\n", *unheld]))
    if calls:
        parts.append("## System calls per operation\n\n" + table_of_calls(calls))
    return "\n\n".join(parts)


def table_of_calls(calls):
    rows = []
    for (workload, name), by_call in calls.items():
        in_order = sorted(by_call.items(), key=lambda item: -item[1])
        which = ", ".join(f"{call} {short(count)}" for call, count in in_order)
        rows.append([workload.name, name, short(sum(by_call.values())), which])
    return table(["workload", "server", "calls", "which"], rows, 4)


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
    peers = dict.fromkeys(name for _, name in runs if name != OURS)
    listed += filter(None, map(version, peers))
    drivers = {driver_of(workload) for workload, _ in runs}
    for name in sorted(drivers & {"wrk", "ab"}):
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
    """Returns the panels of the picture, one for each workload: a (title, bars).

    A bar is a (label, µs, note, is_ours). Its µs are None if the rate was not held.
    """
    by_title = {}
    for (workload, name), of_server in runs.items():
        cost, note = median(of_server, "cpu_us"), ""
        if workload.rate:
            note = f", p99 {short(median(of_server, 'p99_us'))} µs"
        if failure_to_hold(workload, of_server):
            cost, note = None, "rate not held"
        by_title.setdefault(workload.name, []).append((name, cost, note, name == OURS))
    return list(by_title.items())
