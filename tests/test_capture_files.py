"""What a saved capture costs on disk, and that nothing is lost by writing it small."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from rocscope import archive
from rocscope.capture import Capture

LIVE = Path(__file__).parents[1] / "examples/h200_vllm_live/gptq8.tar.gz"


def test_times_are_written_as_differences_and_read_back_the_same(tmp_path: Path) -> None:
    capture = archive.unpack(LIVE)
    assert capture is not None
    folder = capture.save(tmp_path / "capture")
    again = Capture.load(folder)
    for name, table in capture.tables().items():
        assert table.equals(again.tables()[name]), name
    # as plain numbers, packed by zstd, they took 12 bytes a dispatch
    path = folder / "dispatches.parquet"
    assert path.stat().st_size < 8 * capture.dispatches.num_rows
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    assert "DELTA_BINARY_PACKED" in columns["start_ns"].encodings
    assert "RLE_DICTIONARY" in columns["kernel"].encodings
