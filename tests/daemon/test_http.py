"""What the HTTP side answers: health, status, metrics, the ledger."""

import asyncio
import shutil
import subprocess

import httpx
import pytest
from http_serving import FAMILIES, serving, write

from rocscope.daemon import store_windows


def test_health_status_and_metrics_are_answered(tmp_path):
    async def scenario():
        async with serving(tmp_path) as (_, url), httpx.AsyncClient() as client:
            health = await client.get(f"{url}/healthz")
            assert health.text == "ok\n" and "default-src 'none'" in health.headers["content-security-policy"]
            assert health.headers["x-content-type-options"] == "nosniff" and "server" not in health.headers
            assert "access-control-allow-origin" not in health.headers
            assert (await client.get(f"{url}/readyz")).json() == {"ready": True, "reason": ""}
            status = (await client.get(f"{url}/api/v1/status")).json()
            assert status["node"] == "node" and status["store"]["state"] == "ok" and status["windows"] is None
            document = (await client.get(f"{url}/openapi.json")).json()
            posts = [path for path, item in document["paths"].items() if "post" in item]
            assert posts == ["/api/v1/webhook"]  # nothing else has an effect
            for path in ("/docs", "/redoc", "/nowhere"):
                assert (await client.get(url + path)).status_code == 404

    asyncio.run(scenario())


def test_what_the_ledger_holds_is_shown(tmp_path):
    async def scenario():
        async with serving(tmp_path) as (context, url), httpx.AsyncClient() as client:
            now = context.clock.wall_s()

            def group(connection):
                store_windows.create(connection, "w1", "schedule", now, started_at=now)
                store_windows.commit_window_result(
                    connection,
                    {
                        "window_id": "w1",
                        "key": {"gpu": "MI100"},
                        "families": [
                            {"gpu": "0", "family": "gptq_gemm", "dispatches": 10, "busy_s": 0.5, "bytes": 1e9,
                             "bytes_basis": "modelled", "bandwidth_frac": 0.4},
                            {"gpu": "0", "family": "attention", "dispatches": 2, "busy_s": 0.1},
                        ],
                        "findings": [{"id": "f1", "at": now, "kind": "regression", "family": "gptq_gemm",
                                      "size_frac": 0.1, "evidence": ["<script>"]}],
                    },
                    ended_at=now + 2, window_s=2.0,
                )  # fmt: skip

            await write(context, group)
            (window,) = (await client.get(f"{url}/api/v1/windows")).json()
            assert window["id"] == "w1" and window["state"] == "done"
            detail = (await client.get(f"{url}/api/v1/windows/w1")).json()
            assert [each["family"] for each in detail["families"]] == ["gptq_gemm", "attention"]
            assert detail["families"][1]["bytes"] is None and detail["key"] == {"gpu": "MI100"}
            assert (await client.get(f"{url}/api/v1/windows/other")).status_code == 404
            assert (await client.get(f"{url}/api/v1/findings")).json()[0]["size_frac"] == 0.1
            assert len((await client.get(f"{url}/api/v1/families")).json()) == 2
            page = (await client.get(f"{url}/metrics")).text
            assert 'rocscope_kernel_busy_seconds_total{family="gptq_gemm",gpu="0"} 0.5' in page
            assert 'rocscope_kernel_bytes_total{basis="modelled",family="gptq_gemm",gpu="0"} 1e+09' in page
            assert 'rocscope_windows_total{reason="schedule",result="ok"} 1.0' in page
            again = (await client.get(f"{url}/metrics")).text
            assert 'rocscope_kernel_busy_seconds_total{family="gptq_gemm",gpu="0"} 0.5' in again  # not twice

    asyncio.run(scenario())


def fill(context, gpus):
    """Give every series that a GPU can have."""
    from rocscope.daemon.metric_names import COUNTERS, GAUGES

    now = context.clock.monotonic_s()
    for index in range(gpus):
        values = dict.fromkeys([each.metric for each in (*GAUGES, *COUNTERS)], 1.0)
        context.history.add_all(now, "telemetry", f"gpu:0000:{index:02x}:00.0", values)


def test_the_page_of_metrics_is_clean_and_within_its_budget(tmp_path):
    async def scenario():
        async with serving(tmp_path, gpus=8) as (context, url), httpx.AsyncClient() as client:
            now = context.clock.wall_s()

            def group(connection):
                store_windows.create(connection, "w1", "schedule", now, started_at=now)
                rows = [
                    {"gpu": str(gpu), "family": f"f{family}", "dispatches": 1, "busy_s": 1.0, "bytes": 1.0,
                     "bytes_basis": "measured", "flops": 1.0, "flops_basis": "modelled",
                     "bandwidth_frac": 0.5}
                    for gpu in range(8) for family in range(FAMILIES)
                ]  # fmt: skip
                store_windows.commit_window_result(connection, {"window_id": "w1", "families": rows})

            await write(context, group)
            fill(context, 8)
            return (await client.get(f"{url}/metrics")).text

    page = asyncio.run(scenario())
    series = [line for line in page.splitlines() if line and not line.startswith("#")]
    assert 500 < len(series) < 1000
    busy = [line for line in series if line.startswith("rocscope_kernel_busy_seconds_total{")]
    assert (
        sum(float(line.rpartition(" ")[2]) for line in busy) == 8 * FAMILIES
    )  # what has no label of its own
    assert "\x1b" not in page and 'model="MI100 <b>\\\\x1b[31m"' in page
    assert 'rocscope_gpu_clock_hertz{bdf="0000:00:00.0",domain="gfx",gpu="0",uuid="uuid0"} 1.0' in page
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: apt-get install prometheus")
    checked = subprocess.run(["promtool", "check", "metrics"], input=page.encode(), capture_output=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_value_that_stopped_coming_is_gone(tmp_path):
    async def scenario():
        async with serving(tmp_path, gpus=1) as (context, url), httpx.AsyncClient() as client:
            then = context.clock.monotonic_s() - 30
            context.history.add(then, "telemetry", "gpu:0000:00:00.0", "power_w", 90.0)
            page = (await client.get(f"{url}/metrics")).text
            assert "rocscope_gpu_power_watts{" not in page and "rocscope_gpu_info{" in page
            assert 'rocscope_last_sample_timestamp_seconds{source="telemetry"}' in page
            context.history.add(context.clock.monotonic_s(), "telemetry", "gpu:0000:00:00.0", "power_w", 91.0)
            assert "rocscope_gpu_power_watts{" in (await client.get(f"{url}/metrics")).text

    asyncio.run(scenario())


def test_throttled_seconds_are_integrated(tmp_path):
    async def scenario():
        async with serving(tmp_path, gpus=1) as (context, url), httpx.AsyncClient() as client:
            await client.get(f"{url}/metrics")
            for _ in range(12):
                at = context.clock.monotonic_s()
                context.history.add(at, "telemetry", "gpu:0000:00:00.0", "throttled_power", 1.0)
                context.history.add(at, "telemetry", "gpu:0000:00:00.0", "throttled_thermal", 0.0)
                await asyncio.sleep(0.05)
            page = (await client.get(f"{url}/metrics")).text
            found = dict(
                line.rsplit(" ", 1) for line in page.splitlines() if "throttled_seconds_total{" in line
            )
            power = next(float(v) for k, v in found.items() if 'reason="power"' in k)
            assert 0.4 < power < 2.0
            assert next(float(v) for k, v in found.items() if 'reason="thermal"' in k) == 0

    asyncio.run(scenario())
