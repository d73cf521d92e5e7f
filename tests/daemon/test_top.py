"""``rocscope top``: one look at the daemon, in 80 columns."""

from click.testing import CliRunner
from test_control import daemon

from rocscope.cli import cli
from rocscope.commands.top import picture


def test_one_look_says_what_runs(tmp_path):
    with daemon(tmp_path) as context:
        result = CliRunner().invoke(cli, ["top", "--once", "--state", str(context.settings.state.folder)])
        assert result.exit_code == 0, result.output
        assert "on node: 0 servers up" in result.output and "windows:" in result.output
        assert '"gpus": []' in CliRunner().invoke(
            cli, ["top", "--json", "--state", str(context.settings.state.folder)]
        ).output  # fmt: skip


def test_hostile_names_are_harmless_and_lines_short():
    from rich.console import Console

    engine = {
        "name": "\x1b[31mred" * 9,
        "url": "u",
        "up": True,
        "tokens_per_s": 512.3,
        "requests_running": 3.0,
        "requests_waiting": None,
        "kv_cache_used_frac": 0.25,
    }
    gpu = {
        "gpu": 0,
        "bdf": "0000:c1:00.0",
        "model": "AMD Instinct MI100",
        "power_w": 187.0,
        "clock_hz": 1.5e9,
        "temperature_c": 73.0,
        "busy_frac": 0.9,
        "memory_busy_frac": 0.5,
        "memory_used_bytes": 3e10,
        "throttled": True,
    }
    found = {
        "version": "1",
        "node": "n\x07",
        "engines": [engine],
        "gpus": [gpu],
        "windows": None,
        "open_findings": 2,
        "parts": [{"name": "telemetry", "state": "failing", "reason": "\x1b]0;x\x07"}],
    }
    console = Console(width=80, record=True, color_system=None)
    console.print(picture(found))
    text = console.export_text()
    assert "\x1b" not in text and "\x07" not in text
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    assert "512 tokens/s" in text and "187 W" in text and "throttled" in text and "2 open" in text
