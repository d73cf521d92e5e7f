"""What the daemon costs: 8 synthetic GPUs, one vLLM's recorded /metrics (50 kB) and the host, at 1 Hz.

Budgets: below 1 % of one core on average and 120 MB resident, the daemon and its children together, from
/proc as top sees them. Windows, analysis and readers of the page are not in these figures. The library of the
GPUs is a stand-in built with gcc, else a synthetic tree of the driver's files.
usage: bench_daemon.py [--smoke] [--seconds N]
"""

import http.server
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "data_makers")]
import synthetic_sysfs  # noqa: E402  # its folder is put on the path above

import serving_recorded  # noqa: E402  # as above
from fake_tools import fake_amdsmi  # noqa: E402  # as above

SMOKE = "--smoke" in sys.argv
SECONDS = int(sys.argv[sys.argv.index("--seconds") + 1]) if "--seconds" in sys.argv else 6 if SMOKE else 120
GPUS, SETTLE_S = 8, 3 if SMOKE else 20
CPU_BUDGET_FRAC, MEMORY_BUDGET_MB = 0.01, 120
TEXTS = [text.encode() for _, text in serving_recorded.texts()]


class Answers(http.server.BaseHTTPRequestHandler):
    """Gives the recorded texts of a real server, in their order and then the last again and again."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self) -> None:
        body = TEXTS[min(Answers.asked, len(TEXTS) - 1)]
        Answers.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def used(processes: list[psutil.Process]) -> tuple[float, float, float]:
    """CPU time so far, s, resident and proportional memory, MB."""
    memory = [process.memory_full_info() for process in processes]
    cpu_s = sum(sum(process.cpu_times()[:2]) for process in processes)
    return cpu_s, sum(each.rss for each in memory) / 1e6, sum(each.pss for each in memory) / 1e6


with tempfile.TemporaryDirectory() as folder:
    place = Path(folder)
    for index in range(GPUS):
        blob = synthetic_sysfs.table(3, synthetic_sysfs.MI100)
        synthetic_sysfs.card(place / "sys", index, blob=blob, node=index + 1, hwmon__power1_cap="290000000")
    environment = {**os.environ, "ROCSCOPE_SYSFS": str(place / "sys")}
    way = "amdsmi" if shutil.which("gcc") else "sysfs"
    if way == "amdsmi":
        environment["ROCM_PATH"] = str(fake_amdsmi.install(place / "rocm"))
        environment["FAKE_AMDSMI"] = str(place / "told")
        fake_amdsmi.tell(place / "told", gpus=GPUS)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = place / "rocscope.toml"
    config.write_text(
        f"[state]\nfolder = '{place / 'state'}'\nmin_free_bytes = 1\n[http]\nlisten = '127.0.0.1:0'\n"
        f"[sampling]\ntelemetry = '{way}'\n[[engines.known]]\nurl = 'http://127.0.0.1:{server.server_port}'\n"
    )
    command = [sys.executable, "-m", "rocscope", "daemon", "--config", str(config)]
    daemon = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert daemon.stdout and daemon.stderr and daemon.stdout.readline().startswith("rocscope daemon runs")
    time.sleep(SETTLE_S)
    main = psutil.Process(daemon.pid)
    processes = [main, *main.children(recursive=True)]
    first, asked, began = used(processes), Answers.asked, time.monotonic()
    parts = {process.pid: sum(process.cpu_times()[:2]) for process in processes}
    time.sleep(SECONDS)
    wall_s = time.monotonic() - began
    last = used(processes)
    frac, scrapes = (last[0] - first[0]) / wall_s, (Answers.asked - asked) / wall_s
    names = {process.pid: f"{(sum(process.cpu_times()[:2]) - parts[process.pid]) / wall_s:.2%}"
             f" and {process.memory_info().rss / 1e6:.0f} MB" for process in processes}  # fmt: skip
    wakeups = main.num_ctx_switches()
    daemon.send_signal(signal.SIGTERM)
    code = daemon.wait(30)
    log = daemon.stderr.read()
    server.shutdown()

print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
print(
    f"daemon with {GPUS} synthetic GPUs through {way}, one server at {scrapes:.2f} scrapes/s, "
    f"{wall_s:.0f} s: {frac:.2%} of one core (budget {CPU_BUDGET_FRAC:.0%}), {last[1]:.0f} MB resident "
    f"(budget {MEMORY_BUDGET_MB} MB; {last[2]:.0f} MB where what is shared is shared out), "
    f"{last[1] - first[1]:+.1f} MB since the beginning"
)
print(f"each process: {', '.join(names.values())}; switches of the main thread {wakeups.voluntary}")
if code != 0 or "level=error" in log:
    sys.exit(f"the daemon ended with {code}:\n{log}")
sys.exit(0 if SMOKE or (frac < CPU_BUDGET_FRAC and last[1] < MEMORY_BUDGET_MB) else 1)
