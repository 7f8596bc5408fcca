"""Child processes, and their CPU time.

Every child is recorded when it starts, and is terminated by its own pid, however the program ends.
"""
import glob
import os
import resource
import shutil
import signal
import subprocess
import sys

# The signals that stop this program.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

children = []


class Failed(Exception):
    """A failure outside of this program."""


def log(text):
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr, flush=True)


def tool(name):
    """Returns the path of `name`, or None. Debian has servers outside of a user's PATH."""
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
        signal.signal(number, signal.SIG_IGN)  # the program is already stopping
    while children:
        end(children[-1])


def pinned(cpu, command):
    return [tool("taskset"), "-c", str(cpu), *command] if tool("taskset") else command


def output_of(*command, **options):
    """Returns what `command` prints, or an empty string if it cannot be run."""
    options = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    } | options
    try:
        return subprocess.run(command, check=False, **options).stdout.strip()
    except OSError:
        return ""


def cpu_ns(pid):
    """Returns the CPU time of a process, user and system, in ns. Each server is one process."""
    threads = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            with open(path) as file:
                threads += int(file.read().split()[0])
        except OSError:
            pass  # the thread has just ended
    if threads > 0:
        return threads
    # A kernel without CONFIG_SCHED_INFO counts in ticks only, mostly of 10 ms.
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def busy_ns():
    """Returns the busy time of all CPUs, in ns, with what the host takes from a virtual machine."""
    with open("/proc/stat") as file:
        fields = list(map(int, file.readline().split()[1:9]))
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    ticks = user + nice + system + irq + softirq + steal
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def childrens_ns():
    """Returns the CPU time of all children that have ended, in ns."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


def default_cpus():
    """Returns two CPUs that we may use, if possible not two hardware threads of one core."""
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
