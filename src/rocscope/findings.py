"""The contract: what an analysis says, as other programs read it in ``analysis.json``.

Grid and workgroup are in work-items, ``*_frac`` is 0 to 1, unknown is null. Fields are added freely,
removed or renamed only with a new ``schema_version``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SCHEMA_VERSION = "1"

Basis = Literal["measured", "modelled"]
Bound = Literal["memory", "compute", "unknown"]
Limiter = Literal[
    "memory-bandwidth",
    "cache-bandwidth",
    "compute",
    "balanced",
    "latency",
    "occupancy",
    "parallelism",
    "launch",
    "communication",
    "unknown",
]
Confidence = Literal["high", "medium", "low"]


Told = Annotated[str | None, BeforeValidator(lambda text: None if text == "" else text)]
"""Text that may be unknown. Older files have ``""`` for that."""


class _Finding(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CaptureInfo(_Finding):
    """Which recording this is about."""

    id: str
    profiler: str
    profiler_version: Told
    provenance: str
    provenance_note: Told = None
    command: list[str]
    host: Told
    started_at: str | None
    duration_s: float | None
    passes: list[dict[str, Any]]
    partial: bool = False
    sources: list[dict[str, Any]] = Field(default_factory=list)
    selection: dict[str, Any] = Field(default_factory=dict)  # --ranks, --steps, --between that were applied


class Drop(_Finding):
    """Rows left out, and why."""

    reason: str
    count: int


class Warned(_Finding):
    """Something that weakens the analysis."""

    code: str
    message: str


class Integrity(_Finding):
    """How much of the recording the analysis covers, and what is wrong with it."""

    labelled_time_frac: float | None  # share of kernel time with a bound; the next three add up to it
    bound_with_bytes_time_frac: float | None = None  # and with bytes and FLOPs of a basis
    bound_by_limit_time_frac: float | None = None  # by the most FLOPs a byte that such a kernel can do
    bound_by_pipes_time_frac: float | None = None  # by measured bytes, and how busy counters saw the pipes
    classified_time_frac: float | None = None  # share of kernel time whose family is not "other"
    dispatches: int
    dropped: list[Drop]
    warnings: list[Warned]


class GpuSummary(_Finding):
    """One GPU over the window: wall, busy (union of intervals) and idle time."""

    gpu: int
    arch: Told
    model: Told
    host: Told = None
    rank: int | None = None
    peak_bandwidth_bytes_per_s: float | None
    achievable_bandwidth_bytes_per_s: float | None
    achievable_source: str | None = None
    peak_flops_per_s: dict[str, float]
    wall_s: float | None
    busy_s: float | None
    idle_s: float | None
    busy_frac: float | None


class FamilySummary(_Finding):
    """A kernel family, all GPUs together."""

    family: str
    dispatches: int
    time_s: float | None
    time_frac: float | None
    bytes: float | None
    achieved_bandwidth_bytes_per_s: float | None
    bandwidth_frac: float | None
    bound: Bound
    limiter: Limiter
    modelled_time_frac: float | None = None  # of its time; bytes and bandwidth are null below two thirds
    split: list[dict[str, Any]] = Field(default_factory=list)  # verdicts: bound, limiter, shapes, time_frac
    verdict: str | None = None  # in words, a divided one with the shapes of each part


class LaunchShape(_Finding):
    """Grid and workgroup in work-items; ``[n, null, null]`` where only the product is known."""

    grid: list[int | None]
    workgroup: list[int | None]


class Quantity(_Finding):
    """A value, how it was come by, and from what."""

    value: float | None = None
    basis: Basis | None = None
    source: str | None = None


class Measure(_Finding):
    """What counters say of a dispatch, or what follows from its launch, then without a basis."""

    measure: str  # of study.MEASURE_COLUMNS or measures.OTHER_MEASURES
    value: float
    basis: Basis | None
    source: str


class Occupancy(_Finding):
    """Waves resident against the most that could be."""

    theoretical_frac: float | None = None
    achieved_frac: float | None = None
    limited_by: str | None = None


class KernelFinding(_Finding):
    """One kernel with one launch shape on one GPU."""

    kernel: str
    raw_name: str
    family: str
    gpu: int
    launch_shape: LaunchShape
    problem_shape: dict[str, Any] | None
    dispatches: int
    time_s: float | None
    time_frac: float | None
    mean_ns: float | None
    p50_ns: float | None
    p99_ns: float | None
    bytes_per_dispatch: Quantity
    flops_per_dispatch: Quantity
    achieved_bandwidth_bytes_per_s: float | None
    bandwidth_frac: float | None
    compute_frac: float | None
    intensity_flop_per_byte: float | None
    ridge_flop_per_byte: float | None
    occupancy: Occupancy
    measures: list[Measure] = Field(default_factory=list)
    bound: Bound
    limiter: Limiter
    confidence: Confidence
    evidence: list[str]
    headroom_s: float | None
    exposed_s: float | None = None  # time in which nothing else ran on that GPU
    case: str | None = None


Regained = Literal["kernel", "gaps", "stalls", "waits", "clock"]
"""Which time a change wins back: of kernels, pauses for launches, long pauses, waiting ranks, low clocks."""


class Gain(_Finding):
    """End-to-end time saved, as a share of the window, if the target is mended."""

    low_frac: float
    mid_frac: float
    high_frac: float
    basis: str
    regains: Regained | None = None
    shares_of: str | None = (
        None  # whose shares it was made with: an entry of [gain] in thresholds.toml, "rule:ID"
    )
    before_frac: float | None = None  # share of the window that may be won back, and what lies below it:
    least_frac: float | None = None  # share of the window that it takes at least


class Target(_Finding):
    """Something worth changing."""

    rank: int
    id: str
    problem: str
    scope: str  # "kernel", "family", "timeline", "configuration"
    family: str | None
    kernel: str | None
    bound: Bound | None = None  # of the launch shapes with most headroom, as is the limiter
    limiter: Limiter | None = None
    launch_shapes: list[LaunchShape] = Field(default_factory=list)
    time_frac: float | None
    headroom_s: float | None  # of `gpu` where that is told: ranks work at the same time, theirs do not add up
    expected_gain: Gain | None  # of the same GPU
    gpu: int | None = None  # of several that run it the one that gains most, and that the others wait for
    confidence: Confidence
    evidence: list[str]
    advice: str
    confirm_by: str


class PhaseSummary(_Finding):
    """Steps of one phase (prefill, decode, mixed)."""

    phase: str
    steps: int
    tokens: int | None
    time_s: float | None
    us_per_token: float | None
    families: list[dict[str, Any]]  # with time_s and us_per_token of each, kernels that overlap counted twice
    kernel_time_s: float | None = None  # sum over families, a GPU's; null where no kernels were recorded
    kernel_us_per_token: float | None = None
    idle_time_s: float | None = None  # of a GPU in these steps: nothing ran; null where that is not known
    idle_us_per_token: float | None = None
    length_by: Literal["gpu", "host"] = "gpu"  # whose annotations time_s is; the host's are no GPU's time


class StepRank(_Finding):
    """One GPU of a step table; figures are of one step, the mean over ``steps``."""

    label: str  # "rank 0", or "GPU 0" where ranks are not recorded
    gpu: int
    rank: int | None
    steps: int  # whole steps that were found
    kernel_s: float  # sum of its kernels and copies
    busy_s: float | None  # union of their intervals
    period_s: float | None  # median from start to start, profiler on
    gaps_s: float | None = None  # of it, pauses for launches, and those between kernels of one launch
    stalls_s: float | None = None  # of it, pauses too long for launches
    calls: float


class StepFamily(_Finding):
    """A family in one step; lists are in the order of ``StepTable.ranks``, 0 where a rank has none of it."""

    family: str
    time_s: list[float]
    calls: list[float]
    mean_s: float  # of the ranks
    time_frac: float | None  # of the step's kernel time, both as means of the ranks
    spread_frac: float | None  # by how much the lowest rank lies below the highest; null with one rank


class StepKernel(_Finding):
    """A kernel in one step of one GPU, all launch shapes together."""

    kernel: str
    raw_name: str
    family: str
    calls: float
    mean_s: float  # of a call


class StepTable(_Finding):
    """One step by family, ranks side by side."""

    phase: Literal["decode", "step"]  # "step" where nothing says which kind
    sequences: int | None  # that each step generates for
    found_by: str
    ranks: list[StepRank]
    families: list[StepFamily]  # longest first
    mean_s: float  # kernel time a step, mean of the ranks
    spread_frac: float | None
    kernels_of: str  # label of the rank that these are of
    kernels: list[StepKernel]  # longest first
    tpot_s: float | None = None  # a token's measured time that kernel time is held against
    tpot_basis: str | None = None  # who measured it
    reconciles: bool | None = None  # whether the kernel time fits in it
    reconciliation: str
    notes: list[str] = Field(default_factory=list)


class LaneFamily(_Finding):
    """How busy one GPU was with kernels of a family, bin by bin."""

    family: str
    busy_frac: list[float]  # of each bin; families that ran at once share it, so that they never exceed 1


class TimelineLane(_Finding):
    """One GPU over the window."""

    gpu: int
    label: str  # "rank 0", or "GPU 0" where ranks are not recorded
    busy_frac: list[float]  # of each bin, union of intervals
    families: list[LaneFamily]  # most time first


class TimelineGap(_Finding):
    """A pause of one GPU."""

    gpu: int
    start_s: float
    duration_s: float
    during: str | None = None  # what it was for, what the host did, which phase it lies in; where known


class TimelineSpan(_Finding):
    """A stretch of the window: successive steps of one phase, or time in which a GPU was throttled."""

    kind: Literal["phase", "throttled"]
    name: str  # the phase; the reason
    gpu: int | None
    start_s: float
    end_s: float
    steps: int | None = None


class TimelineSeries(_Finding):
    """A sensor or a count over time, at most one point a bin: the mean of its readings there.

    Where readings are fewer than bins each is a point, and a null stands where some were missed.
    """

    name: str  # "power", "clock", "memory clock", "temperature", "requests running", "tokens generated"
    unit: str  # "W", "Hz", "°C", "tokens/s", ""
    gpu: int | None
    source: str
    time_s: list[float]
    value: list[float | None]  # null where readings between others are missing


class Timeline(_Finding):
    """The window on one axis: seconds from its first dispatch, or from where the asked window began.

    Small, however long the recording is.
    """

    span_s: float
    bin_s: float
    lanes: list[TimelineLane]
    gaps: list[TimelineGap]  # longest first
    gaps_left_out: int
    gaps_left_out_s: float = 0.0  # their time, added up
    spans: list[TimelineSpan]
    series: list[TimelineSeries]
    notes: list[str] = Field(default_factory=list)  # what is not on it and why; where its clocks differ


class LostTime(_Finding):
    """What ranks wait or low clocks cost, also where it is too little for a target."""

    regains: Literal["waits", "clock"]
    lost_s: float
    window_s: float


class NotEvaluated(_Finding):
    """A rule that lacked an input, and how to collect it."""

    rule: str
    missing: str
    collect_with: str


class Analysis(_Finding):
    """``analysis.json``."""

    schema_version: str = SCHEMA_VERSION
    capture: CaptureInfo
    integrity: Integrity
    gpus: list[GpuSummary]
    families: list[FamilySummary]
    kernels: list[KernelFinding]
    targets: list[Target]
    phases: list[PhaseSummary] = Field(default_factory=list)
    step_table: StepTable | None = None
    step_table_missing: str | None = None  # why there is none
    timeline: Timeline | None = None
    lost_time: list[LostTime] = Field(default_factory=list)
    serving: dict[str, Any] = Field(default_factory=dict)
    telemetry: dict[str, Any] = Field(default_factory=dict)
    not_evaluated: list[NotEvaluated] = Field(default_factory=list)
