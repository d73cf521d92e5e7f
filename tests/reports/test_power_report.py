"""The section on power and the host, in every report; figures made up, nothing was measured."""

import pytest
from sample_analysis import sample_analysis

from rocscope.reports import html, markdown, power, terminal

TELEMETRY = {
    "not_set_against_kernels": None,
    "gpus": [
        {
            "gpu": 0,
            "energy_j": {"value": 1000.0, "basis": "measured", "source": "energy counter"},
            "power_w": {"mean": 250.0, "at_work": 280.0, "idle": 45.0},
            "power_cap_frac": 0.966,
            "clock_hz": {"mean": 1.4e9, "peak": 1.502e9},
            "temperature_hotspot_c": {"mean": 80.0, "most": 91.0},
            "temperature_edge_c": {"mean": 60.0, "most": 70.0},
            "throttled_frac": {"any": 0.5, "power": 0.5, "thermal": 0.0, "current": None},
            "families": [{"family": "gptq_gemm", "energy_j": 600.0, "source": "a share"}],
            "slowdown_by_clock": {
                "slower_frac": 0.1,
                "slower_if_same_cycles_frac": 0.11,
                "verdict": "the clock explains the slowdown",
            },
        },
        {"gpu": 1, "energy_j": {"value": None, "source": "3 readings lie in the window"}, "power_w": None},
    ],
    "marked_phases": [{"phase": "c1", "seconds": 2.0, "gpus": [{"gpu": 0, "power_w": 120.0}]}],
    "energy_per_token": [
        {
            "of": "generated tokens",
            "joules_per_token": 2.5,
            "tokens": 400,
            "basis": "measured",
            "source": "both",
        }
    ],
    "host": {
        "processes": [
            {
                "pid": 7,
                "name": "<b>VLLM|Worker</b>",
                "cpu_frac": {"mean": 0.97, "most": 1.01},
                "rss_bytes": {"mean": 1e9, "most": 3e9},
                "threads": {"mean": 40, "most": 41},
                "io_read_bytes": None,
                "io_write_bytes": 5e6,
            }
        ],
        "sampling_cost": {"host_sampler": {"cpu_s": 0.1, "core_frac": 0.004}, "gpu_telemetry": None},
    },
}


@pytest.mark.parametrize("report", [terminal.REPORT, markdown.REPORT, html.REPORT])
def test_every_report_has_the_section_where_there_is_something_to_show(report):
    assert power.TITLE not in report.render(sample_analysis())
    text = " ".join(report.render(sample_analysis(telemetry=TELEMETRY)).replace("\u00a0", " ").split())
    for part in (
        power.TITLE,
        "1,000 J",
        "280 W",
        "96.6 %",
        "1,400 MHz",
        "93.2 %",
        "91.0 °C",
        "97.0 %",
        "3.00 GB",
    ):
        assert part in text, part
    for part in (
        "2.50 J a token",
        "gptq_gemm 600 J",
        "power 50.0 %",
        "the clock explains the slowdown",
        "0.40 %",
    ):
        assert part in text, part
    assert "<b>VLLM" not in text or report.name == "terminal"


def test_what_is_missing_is_said():
    told = {"gpus": [TELEMETRY["gpus"][1]], "energy_per_token": [], "energy_per_token_missing": "no tokens"}
    found = power.sentences(sample_analysis(telemetry={**told, "not_set_against_kernels": "other clocks"}))
    assert found == [
        "Joules a token are not known: no tokens.",
        "The energy of GPU 1 is not known: 3 readings lie in the window.",
        "Readings are not set against kernels: other clocks.",
    ]
    assert not power.present(sample_analysis())
