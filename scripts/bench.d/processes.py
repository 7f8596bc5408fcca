"""Child processes, and the time that they spend on a CPU.

Every child is remembered from its start, and ended by its own pid whatever happens.
"""
import glob
import os
import resource
import shutil
import signal
import subprocess
import sys

# The signals that ask us to stop.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

children = []


class Failed(Exception):
    """Something outside of this program stood in the way."""


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def tool(name):
    """Where `name` is installed, if it is. Debian keeps servers where only root's shell looks."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    return shutil.which(name, path=path)


def start(command, **options):
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True, **options)
    children.append(child)
    return child


def end(child):
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(3)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for pipe in (child.stdout, child.stderr):
        if pipe:
            pipe.close()
    children.remove(child)


def end_all():
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)  # what is asked for is under way
    while children:
        end(children[-1])


def pinned(cpu, command):
    return [tool("taskset"), "-c", str(cpu), *command] if tool("taskset") else command


def output_of(*command, **options):
    """What `command` has to say, or nothing if it cannot be asked."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | options
    try:
        return subprocess.run(command, check=False, **options).stdout.strip()
    except OSError:
        return ""


def cpu_ns(pid):
    """The time that a process has spent on a CPU, user and system, in ns. All servers here have one process."""
    threads = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            with open(path) as file:
                threads += int(file.read().split()[0])
        except OSError:
            pass  # the thread has just ended
    if threads > 0:
        return threads
    # A kernel without CONFIG_SCHED_INFO counts in ticks only, of 10 ms mostly.
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def busy_ns():
    """The time that all CPUs have spent on anything, in ns. What the host takes from a virtual machine counts too."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def childrens_ns():
    """The time on a CPU of all children that have ended, in ns."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


def default_cpus():
    """Two CPUs that we may use; not the two halves of one core, if there is a choice."""
    allowed = sorted(os.sched_getaffinity(0))

    def core(cpu):
        try:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as file:
                return file.read()
        except OSError:
            return ""

    first, others = allowed[0], allowed[1:]
    apart = [cpu for cpu in others if core(cpu) != core(first)]
    return first, (apart + others + [first])[0]
