"""Generate tokens with a 4-bit decoder of Llama's form on Triton kernels, and say how long a step takes.

    python3 decoder.py --json step.json
    python3 decoder.py --variant coalesced --attention split --graph --check

Weights and context are random. Every step is annotated as vLLM annotates its own with
``detailed_trace_annotation``, so that a profile of it tells the context.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from model import Decoder, Sizes, device
from reference import Check

WARM_UP = 3


def main() -> int:
    """Run; exit code 1 where --check found an error."""
    options = _options()
    where = device()
    if where == "cpu" and not options.check:
        sys.exit("without a GPU there is nothing to time: give --check")
    torch.manual_seed(0)
    sizes = Sizes.load(options.config, options.layers)
    decoder = Decoder(
        sizes,
        batch=options.batch,
        context=options.context,
        room=max(options.tokens, WARM_UP) + 1,
        variant=options.variant,
        attention=options.attention,
        device=where,
    )
    result = {
        **{name: getattr(options, name) for name in ("variant", "attention", "batch", "context", "graph")},
        "layers": sizes.layers,
        "device": "cpu" if where == "cpu" else torch.cuda.get_device_name(0),
        "torch": torch.__version__,
    }
    failed: list[str] = []
    if options.check:
        check = Check(decoder)
        decoder.step(check)
        failed = check.failed()
        decoder.restart()
        result["check"] = {"passed": not failed, "errors": check.errors}
    if where != "cpu":
        result |= _timed(decoder, options)
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    for each in failed:
        print(f"decoder.py: {each}", file=sys.stderr)
    return 1 if failed else 0


def _timed(decoder: Decoder, options: argparse.Namespace) -> dict[str, object]:
    """Generate the tokens; times of steps by the GPU's clock, of all of them also by the host's."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles the kernels, which a capture may not
        for _ in range(WARM_UP):
            decoder.step()
    torch.cuda.current_stream().wait_stream(side)
    decoder.restart()
    step = decoder.step
    if options.graph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            decoder.step()
        step = graph.replay
        graph.replay()
        decoder.restart()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(options.tokens + 1)]
    torch.cuda.synchronize()
    began = time.perf_counter()
    events[0].record()
    for number in range(options.tokens):
        with torch.profiler.record_function(_annotation(number, decoder)):
            step()
        events[number + 1].record()
    torch.cuda.synchronize()
    wall_s = time.perf_counter() - began
    times_s = [first.elapsed_time(second) / 1e3 for first, second in itertools.pairwise(events)]
    return {
        "steps": options.tokens,
        "profiler_active": torch.autograd.profiler._is_profiler_enabled,
        "step_time_s": {
            "median": statistics.median(times_s),
            "mean": statistics.fmean(times_s),
            "least": min(times_s),
            "most": max(times_s),
        },
        "wall_s": wall_s,
        "tokens_per_s": options.tokens * options.batch / wall_s,
    }


def _annotation(number: int, decoder: Decoder) -> str:
    """Name the step as vLLM does: sums over sequences of new tokens (sq), all tokens (sk) and products."""
    batch = decoder.batch
    attended = batch * (decoder.context + number + 1)
    return (
        f"execute_{number}_context_0(sq0sk0sqsq0sqsk0)_generation_{batch}"
        f"(sq{batch}sk{attended}sqsq{batch}sqsk{attended})"
    )


def _options() -> argparse.Namespace:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=here / "config.json", help="sizes of the model")
    parser.add_argument("--layers", type=_positive, help="instead of the configuration's number")
    parser.add_argument("--tokens", type=_positive, default=64, help="to generate, a step each")
    parser.add_argument("--batch", type=_positive, default=1, help="sequences; one runs the GEMV kernels")
    parser.add_argument("--context", type=_positive, default=2048, help="tokens in the cache at the start")
    parser.add_argument(
        "--variant",
        choices=("strided", "coalesced"),
        default="strided",
        help="how the product of one row reads its weights",
    )
    parser.add_argument("--attention", choices=("plain", "split"), default="plain")
    parser.add_argument("--graph", action="store_true", help="capture the step once and replay it")
    parser.add_argument("--check", action="store_true", help="hold one step against plain torch first")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what is printed there too")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
