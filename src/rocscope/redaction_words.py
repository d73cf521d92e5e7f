"""Which text may leave the house: lists of what is known to be harmless, all else is replaced.

A kernel name is kept, since nothing can be said without it, but not the paths and addresses inside it.
Operators and API calls are kept where their namespace is one that only libraries define names in.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from typing import Any, Final

PROFILERS: Final = frozenset(
    {"rocprofv3", "rocprofv2", "rocprofv1", "rocprof", "rocpd", "torch", "kineto", "none", "replay", "ncu"}
    | {"torch-profiler", "omniperf", "rocprof-compute", "table", "unknown"}
)
FORMATS: Final = re.compile(
    r"(rocprof(v[123])?|rocpd|rocminfo|server|torch|kineto|omniperf|capture|chrome|table|telemetry|load|model)"
    r"([-_ ](csv|json|db|sqlite|trace|kernels?|counters?|stats|printed|text|results?|copies|agents?|info|hip"
    r"|v[123]|api|calls|config|derived|empty|input|log|memory|merged|metrics|operations|roofline|run|sysinfo|times))*"
)
SUFFIXES: Final = (".csv", ".json", ".db", ".txt", ".parquet", ".pftrace", ".gz")
OPERATORS: Final = re.compile(
    r"(aten|c10|c10d|c10d_functional|_c10d_functional|prims|torch|vllm|_C|_C_\w{1,24}|_moe_C|_rocm_C|inductor"
    r"|rocm|triton|nccl|rccl)(::?|\.)[a-z_][a-z0-9_]{0,63}(\.[a-z]\w{0,15})?"
)
API: Final = re.compile(r"(hip|hsa_|hsa|cuda|cu|nccl|rccl|roctx)[A-Z_a-z]\w{1,63}")
ANNOTATIONS: Final = re.compile(
    r"execute_(\d+_)?context_\d+\([sqk\d, ]*\)_generation_\d+\([sqk\d, ]*\)"
    r"|execute_(new|cached|model|dummy_batch)(_\d+)?(_(new|cached)_\d+)*"
    r"|ProfilerStep[#*]?\d*|nccl:[a-z_]{1,40}"
)
OVERHEADS: Final = frozenset(
    {"Activity Buffer Request", "Buffer Flush", "Lazy Function Loading", "Runtime Triggered Module Loading"}
    | {"Instrumentation", "Resource", "Activity Buffer Flush"}
)
COUNTERS: Final = re.compile(
    r"(SQC?|TA|TD|TCP|TCC|TCA|GRBM|CPC|CPF|CPG|SPI|GDS|GCEA|EA|RLC|ATC|UTCL[12]|GL[12][AC]?|SX|TCI|MALL)"
    r"_[A-Z0-9_]{2,60}(\[\d{1,3}\])?(_(sum|avr|max|min))?"
    r"|(dram|lts|l1tex|sm|smsp|gpu|gpc|launch)__[a-z0-9_]{2,60}(\.[a-z_]{2,40}){0,2}"
    r"|(Fetch|Write|Wave|VALU|SALU|SFetch|FlatVMem|FlatLDS|LDS|GDS|VFetch|VWrite|MemUnit|MemWrites|L2Cache|TCC|GPU"
    r"|ALU|Mem|Occupancy|Mean|Write)(Size|s|fronts|Insts|Utilization|Busy|Stalled|BankConflict|Hit|UnitStalled"
    r"|32B|64B|StalledByLDS|Occupancy|PerCU|OccupancyPerCU|OccupancyPerActiveCU|Percent|Mfma\w{0,8})?"
    r"|(read|write|l2|l1)_bytes|(l2_hit|l1_hit|(theoretical|achieved)_occupancy|[vs]alu_busy|mfma_busy)_frac"
    r"|(issue_active|mem_unit_busy|mem_unit_stalled|lds_conflict)_frac|flops_measured|workgroups|waves(_per_cu)?"
    r"|global_load_(requests|sectors)|(valu|vmem)_insts"
)
GIVEN: Final = re.compile(
    r"(gptq|awq|gguf|bnb)_gemm|kv_cache|(vector|matrix)_[a-z]{2,4}\d{1,2}|dequant|gemm|conv|ssm|attention|rmsnorm"
    r"|layernorm|rope|activation|moe|quantize|sampling|embedding|communication|memcpy|elementwise|reduction|other"
)
SUBJECTS: Final = re.compile(
    r"(gpu|process):\d{1,10}|load:(un)?profiled:\d{1,4}|load:beside:\d{1,4}|server|host|node|load|engine|rocscope"
)
METRICS: Final = re.compile(
    r"(vllm:)?[a-z][a-z0-9_:]{1,60}_(w|c|hz|j|s|v|ns|us|ms|bytes|frac|pct|count|total|sum|per_s|bytes_per_s|mhz|rpm)"
    r"|vllm:[a-z_]{3,60}|threads|throttled(_(power|current|thermal|reliability))?|throttle_status"
    r"|ecc_(un)?correctable"
    r"|requests_(running|waiting|finished:(stop|length|abort|error|repetition|other))|engines|engine_steps"
    r"|(prompt|generation|step|prefix_cache_(queried|hit)|kv_cache_capacity)_tokens|preemptions|estimated_flops"
    r"|((ttft|itl|tpot|e2e|queue|prefill|decode)_s|request_(prompt|generation)_tokens)"
    r"_bucket:(inf|[0-9][0-9.e+-]{0,11})"
)
SAMPLE_SOURCES: Final = frozenset({"host", "amdsmi", "sysfs", "nvml", "serving", "load"})
PROCESS_NAME: Final = re.compile(
    r"python3?(\.\d{1,2})?|vllm|VLLM::(EngineCore|Worker|APIServer|Router)(_(TP|PP|DP|EP)?\d{1,3})*|pt_main_thread"
)
AGENT: Final = re.compile(r"((Agent|agent|device|Device|GPU|gpu) ?)?\d{1,5}")
PCI: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
ARCH: Final = re.compile(r"gfx[0-9a-f]{3,4}(:(xnack|sramecc)[+-]){0,2}|sm_\d{2,3}a?")
VERSION: Final = re.compile(
    r"((cupti|roctracer) )?v?\d{1,7}(\.\d{1,6}){0,3}([-+.](rc|dev|post|rocm|cu)?\d{1,8}(\.\d{1,4}){0,2})?"
)
CODE: Final = re.compile(r"[a-z]{2,20}(-[a-z]{2,20}){0,5}")

MODEL_WORDS: Final = frozenset(  # values of text fields in config.json that say nothing of whose model it is
    {"float16", "bfloat16", "float32", "half", "float", "torch.float16", "torch.bfloat16", "auto", "static"}
    | {
        "gptq",
        "awq",
        "gguf",
        "fp8",
        "bitsandbytes",
        "compressed-tensors",
        "quark",
        "group",
        "weight",
        "channel",
    }
    | {"llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "gemma", "gemma2", "gemma3"}
    | {
        "gemma3_text",
        "phi3",
        "granite",
        "olmo",
        "olmo2",
        "exaone4",
        "seed_oss",
        "smollm3",
        "internlm3",
        "silu",
    }
    | {
        "qwen3_next",
        "deepseek_v2",
        "deepseek_v3",
        "gpt_oss",
        "glm4",
        "glm4_moe",
        "starcoder2",
        "falcon",
        "gelu",
    }
)
MODEL_KEYS: Final = frozenset(
    {"model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim"}
    | {"num_key_value_heads", "vocab_size", "dtype", "torch_dtype", "num_experts", "num_local_experts"}
    | {"n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "shared_expert_intermediate_size"}
    | {"quantization_config", "text_config", "quant_method", "bits", "w_bit", "group_size", "q_group_size"}
    | {
        "desc_act",
        "lm_head",
        "config_groups",
        "weights",
        "num_bits",
        "actorder",
        "sliding_window",
        "n_shared_experts",
    }
    | {"first_k_dense_replace", "kv_lora_rank", "q_lora_rank", "tie_word_embeddings", "hidden_act", "sym"}
    | {"group_0", "group_1", "group_2", "group_3"}
)
COMMAND_WORDS: Final = frozenset(
    {"vllm", "serve", "bench", "throughput", "latency", "python", "python3", "-m"}
)
FLAGS: Final = frozenset(  # of vLLM; their values are kept where they are numbers or known words
    {
        "--tensor-parallel-size",
        "-tp",
        "--pipeline-parallel-size",
        "-pp",
        "--data-parallel-size",
        "-dp",
        "--dtype",
    }
    | {
        "--quantization",
        "-q",
        "--max-model-len",
        "--max-num-seqs",
        "--max-num-batched-tokens",
        "--enforce-eager",
    }
    | {
        "--gpu-memory-utilization",
        "--kv-cache-dtype",
        "--block-size",
        "--seed",
        "--swap-space",
        "--load-format",
    }
    | {"--enable-prefix-caching", "--no-enable-prefix-caching", "--enable-chunked-prefill", "--num-prompts"}
    | {"--no-enable-chunked-prefill", "--disable-log-requests", "--input-len", "--output-len", "--batch-size"}
    | {
        "--shutdown-timeout",
        "--trust-remote-code",
        "--model",
        "--max-concurrency",
        "--enable-expert-parallel",
    }
)
FLAG_VALUES: Final = MODEL_WORDS | {"true", "false", "none", "dummy", "fp8_e4m3", "fp8_e5m2"}

_PATH: Final = re.compile(
    r"\bat [^()'>]*[/\\][^()'>]*"  # clang: (lambda at /home/some one/file.cu:1:2)
    r"|[^\s()<>,'\"{}\[\];]*[/\\][^()<>,'\"{};]*"
)
_ADDRESS: Final = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+|\b[a-z]+://\S+")
_DTYPE: Final = re.compile(
    r"(c10::)?(Half|BFloat16|Float8_\w{2,10}|float|double|int|long|long int|char|signed char|unsigned char"
    r"|bool|short|half|Scalar|TensorList|Tensor|ScalarList|unsigned int|\s)?(\[\])?"
)
_VOCABULARY: Final = frozenset(
    """
        a after and are before by calls column copies counter data dispatch dispatches duration end event
        events file files for from gpu header host id ids in is kernel left line malformed missing name
        names negative no not of on or out perturbed row rows saturated span start target the time times
        timestamp totals unknown unreadable value values was were with within without zero database view
    """.split()  # noqa: SIM905  # a list of eighty quoted words reads worse
)
_NUMBER: Final = re.compile(r"-?\d{1,9}(\.\d{1,6})?")


class Words:
    """Replaces text; ``removed`` counts what was, by kind. A pseudonym holds within one archive only."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)  # never kept: short secrets could be guessed from a bare hash
        self._hosts: dict[str, str] = {}
        self.removed: dict[str, int] = {}

    def count(self, what: str, many: int = 1) -> None:
        """Note that ``many`` of ``what`` were removed."""
        if many:
            self.removed[what] = self.removed.get(what, 0) + many

    def pseudonym(self, text: str, kind: str) -> str:
        """Return a name that stands for ``text``, the same each time."""
        self.count(f"{kind} names replaced")
        return f"{kind}-{hashlib.blake2b(text.encode(), key=self._key, digest_size=5).hexdigest()}"

    def host(self, name: str) -> str:
        """Return ``host-0``, ``host-1``… for a host name; an empty one stays empty."""
        if not name:
            return ""
        if name not in self._hosts:
            self._hosts[name] = f"host-{len(self._hosts)}"
            self.count("host names replaced")
        return self._hosts[name]

    def kept(self, text: str, allowed: re.Pattern[str] | frozenset[str], kind: str) -> str:
        """Return ``text`` if it is allowed, else a pseudonym."""
        known = text in allowed if isinstance(allowed, frozenset) else allowed.fullmatch(text) is not None
        return text if known or not text else self.pseudonym(text, kind)

    def sentence(self, text: str, kind: str) -> str:
        """Return ``text`` if all its words are of our own vocabulary, else a pseudonym."""
        known = all(word in _VOCABULARY for word in re.split(r"[^a-z]+", text) if word)
        plain = re.fullmatch(r"[a-z ,;:'()-]*", text) is not None
        return text if known and plain else self.pseudonym(text, kind)

    def kernel(self, name: str) -> str:
        """Return a kernel name without the paths and addresses in it."""
        found = name.replace("operator/", "operator\0")  # division, no path
        found = _PATH.sub(lambda m: "at PATH" if m.group().startswith("at ") else "PATH", found)
        found = _ADDRESS.sub("ADDRESS", found).replace("operator\0", "operator/")
        if found != name:
            self.count("paths and addresses in kernel names removed")
        return found

    def shapes(self, text: str) -> str | None:
        """Return operator shapes with only sizes and types in them, or ``None`` where that cannot be."""
        try:
            operands: list[Any] = json.loads(text)
            clean = [
                {"dims": [int(size) for size in each["dims"]], "dtype": self._dtype(each.get("dtype"))}
                | ({"stored": int(each["stored"])} if "stored" in each else {})
                for each in operands
            ]
        except (ValueError, TypeError, KeyError, AttributeError):
            self.count("operator shapes removed")
            return None
        return json.dumps(clean)

    def _dtype(self, name: object) -> str:
        return name if isinstance(name, str) and _DTYPE.fullmatch(name) else ""

    def command(self, words: list[str] | tuple[str, ...]) -> list[str]:
        """Return a command with the known words and flags of vLLM; the model is ``MODEL``, the rest gone."""
        kept: list[str] = []
        expects = ""  # what the word before makes of this one
        for position, word in enumerate(words):
            flag, equals, value = word.partition("=")
            name = word.rpartition("/")[2] if position == 0 else word
            if word in FLAGS:
                kept.append(word)
            elif equals and flag in FLAGS:
                kept.append(f"{flag}={self._value(flag, value)}")
            elif name in COMMAND_WORDS:
                kept.append(name)
            elif expects == "serve":
                kept.append("MODEL")
                self.count("model names removed")
            elif expects in FLAGS and not word.startswith("-"):
                kept.append(self._value(expects, word))
            else:
                kept.append("REDACTED")
                self.count("command arguments removed")
            expects = word
        return kept

    def _value(self, flag: str, value: str) -> str:
        if flag == "--model":
            self.count("model names removed")
            return "MODEL"
        if value in FLAG_VALUES or _NUMBER.fullmatch(value):
            return value
        self.count("command arguments removed")
        return "REDACTED"

    def model(self, config: dict[str, object]) -> dict[str, object]:
        """Return the sizes in a ``config.json``: known keys, with numbers or known words."""
        clean: dict[str, object] = {}
        for key, value in config.items():
            if key not in MODEL_KEYS:
                self.count("fields of the model's config removed")
            elif isinstance(value, dict):
                clean[key] = self.model(value)
            elif value is None or isinstance(value, bool | int | float) or value in MODEL_WORDS:
                clean[key] = value
            else:
                self.count("fields of the model's config removed")
        return clean
