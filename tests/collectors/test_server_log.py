import gzip
import sys

import pytest

from rocscope import log_lines, pipeline
from rocscope.capture import Capture
from rocscope.collectors import server_log
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.source import Source

SYNTHETIC = b"""(EngineCore pid=1) INFO 11-20 21:38:56 [parallel_state.py:1588] world_size=1
Failed validator: GCN_ARCH_NAME
[hipBLASLt] first call M=1 N=4096 K=4096
[hipBLASLt] first call M=8 N=4096 K=4096
WARNING 11-20 21:38:57 [rocm.py:1] VLLM_USE_TRITON_AWQ is not set, enabling VLLM_USE_TRITON_AWQ.
a secret: hf_abcdefghijk
"""
NONE = dict.fromkeys(log_lines.KINDS, 0)
COUNTED = {**NONE, "tunableop-wrong-arch": 1, "hipblaslt-first-call": 2, "awq-triton-forced": 1}


def read(path):
    builder = CaptureBuilder()
    server_log.READERS[0].read(Source.open(path), builder)
    return builder.build()


def test_lines_are_counted_and_no_text_is_kept(tmp_path):
    path = tmp_path / "synthetic.log"
    path.write_bytes(SYNTHETIC)
    assert server_log.READERS[0].recognises(Source.open(path))
    made = read(path)
    assert made.manifest.log_lines == COUNTED
    assert "hf_abc" not in made.manifest.model_dump_json()
    made.save(tmp_path / "capture")
    assert Capture.load(tmp_path / "capture").manifest.log_lines == COUNTED


def test_a_line_without_end_and_a_cut_gzip(tmp_path):
    endless = tmp_path / "endless.log"
    endless.write_bytes(SYNTHETIC + b"x" * (3 << 20))
    assert read(endless).manifest.log_lines == COUNTED
    cut = tmp_path / "cut.log.gz"
    cut.write_bytes(gzip.compress(SYNTHETIC * 50)[:-12])
    made = read(cut)
    assert made.manifest.log_lines["tunableop-wrong-arch"] >= 1
    assert [each.code for each in made.manifest.notices] == ["damaged-log"]


def test_logs_of_a_run_add_up_and_none_is_none(tmp_path):
    one, two = tmp_path / "stdout.log", tmp_path / "stderr.log"
    one.write_bytes(SYNTHETIC)
    two.write_bytes(SYNTHETIC.replace(b"\n", b"\r\n"))
    assert server_log.count_files([one, two]) == {kind: 2 * each for kind, each in COUNTED.items()}
    assert server_log.count_files([tmp_path / "absent.log"]) is None
    assert server_log.count_files([]) is None
    assert log_lines.total({"made-up": 3}, None) == NONE


@pytest.mark.parametrize("text", [b'{"traceEvents": []}', b"KernelName,DurationNs\n", b"plain text\n"])
def test_other_files_are_no_logs(tmp_path, text):
    path = tmp_path / "other"
    path.write_bytes(text)
    assert not server_log.READERS[0].recognises(Source.open(path))


@pytest.mark.captures
def test_a_real_log_beside_its_recording(captures):
    folder = captures / "h200_vllm"
    made = pipeline.load(folder / "gptq8_graph.kineto.json.gz", folder / "gptq8_graph.log.gz")
    assert made.manifest.log_lines == NONE
    assert made.dispatches.num_rows > 0
    alone = pipeline.load(folder / "gptq8_graph.kineto.json.gz", companions=False)
    assert alone.manifest.log_lines is None


def test_a_run_counts_the_lines_of_what_it_launched(tmp_path):
    says = "print('Failed validator: GCN_ARCH_NAME')"
    done = pipeline.profile([sys.executable, "-c", says], out=tmp_path / "run", profiler="none", sample_hz=0)
    assert done.capture.manifest.log_lines == {**NONE, "tunableop-wrong-arch": 1}
