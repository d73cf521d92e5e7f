#!/bin/bash
# Records what this folder holds, on a machine with one GPU, a vLLM 0.24 in $SITE and model folders in $MODELS.
# usage: record.sh decoders | serve | loads | windows | repeats | cost | pack FOLDER      several words: one after the other
# A step that was done is not done again; none is begun after $STOP seconds.
set -u
W=${W:-/opt/live} SITE=${SITE:-/opt/vllm/site} MODELS=${MODELS:-/opt/vllm/models} STOP=${STOP:-600}
REPEATS=${REPEATS:-5} A_CLIENT=${A_CLIENT:-3} OUTPUT=${OUTPUT:-128} WAIT_S=${WAIT_S:-170}
LEVELS=${LEVELS:-1 2 4 8 16} SERVERS=${SERVERS:-f1 q1 f2 q2 f3 q3}
FLAGS=${FLAGS:---dtype float16 --attention-backend TRITON_ATTN --max-model-len 4096 --max-num-seqs 16 --kv-cache-memory-bytes 3221225472 --gpu-memory-utilization 0.02}
GRAPHS=${GRAPHS-'{"mode":0,"cudagraph_mode":"FULL_DECODE_ONLY","cudagraph_capture_sizes":[1,2,4,8,16]}'}
SERVE=${SERVE:-python3 -m vllm.entrypoints.cli.main serve}
TELEMETRY=${TELEMETRY:-nvml}
EXAMPLES=${EXAMPLES:-$PWD/examples}
mkdir -p $W/done $W/log $W/load $W/captures $W/traces $W/pid $W/cost

step() { # NAME COMMAND...: run it once, say how long it took
  local name=$1 began=$SECONDS code
  shift
  [ -e $W/done/$name ] && return 0
  [ $SECONDS -ge $STOP ] && { echo "$name: left out, no time"; return 1; }
  "$@" >>$W/log/$name 2>&1
  code=$?
  echo "$name: exit $code, $((SECONDS - began)) s, at $SECONDS s"
  [ $code = 0 ] && { touch $W/done/$name; return 0; }
  tail -n 6 $W/log/$name
  return $code
}

port() { case $1 in f*) echo $((8100 + ${1#f}));; q*) echo $((8200 + ${1#q}));; esac; }
model() { case $1 in f*) echo q8b-fp16;; q*) echo q8b-gptq8;; esac; }

start() { # SERVER MORE...: a vLLM server in a session of its own
  local name=$1 quantized=() graphs=()
  shift
  [ $(model $name) = q8b-gptq8 ] && quantized=(--quantization gptq)
  [ -n "$GRAPHS" ] && graphs=(--compilation-config "$GRAPHS")
  PYTHONPATH=$SITE VLLM_USE_FLASHINFER_SAMPLER=0 HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 \
    VLLM_DISABLED_KERNELS=MarlinLinearKernel,MacheteLinearKernel,CutlassW4A8LinearKernel,AllSparkLinearKernel,ConchLinearKernel,TritonW4A16LinearKernel \
    setsid $SERVE $MODELS/$(model $name) "${quantized[@]}" --served-model-name $(model $name) --load-format dummy \
    $FLAGS --no-enable-prefix-caching "${graphs[@]}" --host 127.0.0.1 --port $(port $name) "$@" --profiler-config \
    '{"profiler":"torch","torch_profiler_dir":"'$W/traces/$name'","torch_profiler_record_shapes":true,"torch_profiler_with_stack":false,"torch_profiler_dump_cuda_time_total":false,"ignore_frontend":true}' \
    >$W/log/server-$name 2>&1 </dev/null &
  echo $! >$W/pid/$name
}

await() { # SECONDS SERVER...: until each answers /health or has ended
  local limit=$(($SECONDS + $1)) left name
  shift
  while :; do
    left=0
    for name in "$@"; do
      [ -e $W/done/up-$name ] && continue
      if python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$(port $name)/health', timeout=2)" 2>/dev/null; then
        touch $W/done/up-$name; echo "$name: up at $SECONDS s"
      elif kill -0 $(cat $W/pid/$name) 2>/dev/null; then left=1
      else echo "$name: ended"; fi
    done
    [ $left = 0 ] && return
    [ $SECONDS -ge $limit ] && { echo "not all are up"; return; }
    sleep 1
  done
}

serve() {
  local name
  for name in $SERVERS; do [ -e $W/pid/$name ] || start $name; done
  await $WAIT_S $SERVERS
  for name in f1 q1; do
    [ -e $W/pid/$name ] || continue
    [ -e $W/done/up-$name ] && continue
    tail -n 15 $W/log/server-$name
    kill -- -$(cat $W/pid/$name) 2>/dev/null
    sleep 3
    FLAGS="--dtype float16 --attention-backend TRITON_ATTN --max-model-len 4096 --gpu-memory-utilization 0.25" start $name
    await 120 $name
  done
  nvidia-smi --query-gpu=name,driver_version,memory.used,clocks.sm,power.draw --format=csv 2>/dev/null
}

load() { python3 -m rocscope load http://127.0.0.1:$(port $1) --prompt 512 "${@:2}"; }

warm() { load $1 --concurrency $(echo $LEVELS | tr ' ' +) --requests ${WARM:-16} --output 16 --warmup 0; }

repeat() { # SERVER NUMBER: each level once
  local clients
  for clients in $LEVELS; do
    load $1 --concurrency $clients --requests $((A_CLIENT * clients)) --output $OUTPUT --warmup 1 \
      --json-to $W/load/$1.r$2.c$clients.json || return
  done
}

loads() {
  local name number
  for name in f1 q1; do
    [ -e $W/done/up-$name ] || continue
    step warm-$name warm $name
    for number in $(seq $REPEATS); do step load-$name-$number repeat $name $number; done
  done
}

profile() ( # CAPTURE ARGUMENTS...: profile, and make an archive to share beside the next step
  local folder=$W/captures/$1
  shift
  rm -rf $folder && mkdir -p $folder && cd $folder || return
  python3 -m rocscope profile --quiet --telemetry $TELEMETRY --telemetry-hz 10 "$@"
)

window() { # CAPTURE SERVER CONCURRENCY REQUESTS TOKENS
  [ -e $W/done/up-$2 ] || return 1
  step $1 profile $1 --attach http://127.0.0.1:$(port $2) \
    --load builtin:concurrency=$3,requests=$4,prompt=512,output=$5,warmup=0
}

windows() {
  local kind
  for kind in f q; do
    window ${kind}1-c1 ${kind}1 1 2 ${LONG:-144}
    window ${kind}1-c16 ${kind}1 16 16 ${LONG:-144}
  done
}

repeats() { # fresh servers: the load that comes first without the profiler also warms them up
  local name
  for name in f2 q2 f3 q3; do
    [ -e $W/done/up-$name ] && step warm-$name warm $name
    window $name-c1 $name 1 2 ${LONG:-144}
  done
}

decoders() {
  local name variant folder=$EXAMPLES/triton_decoder
  for name in strided-1 coalesced-1 strided-2; do
    variant=${name%-*}
    step decoder-$name profile decoder-$name --profiler torch --model $folder/config.json -- \
      python3 $folder/decoder.py --graph --variant $variant --context 1024 --tokens 272
  done
  for name in strided-1 coalesced-1 strided-2 coalesced-2; do
    step timing-$name python3 $folder/decoder.py --graph --variant ${name%-*} --context 1024 --tokens 272 --json $W/cost/decoder-$name.json
  done
}

tokens() { # SERVER FILE: the server's count of tokens ten times a second, until told to end
  exec python3 -c '
import re, sys, time, urllib.request
out = open(sys.argv[2], "w")
while True:
    text = urllib.request.urlopen(sys.argv[1], timeout=60).read().decode()
    found = re.search(r"^vllm:generation_tokens_total\{.*\} (\S+)", text, re.M)
    print(time.time(), found[1], file=out, flush=True)
    time.sleep(0.1)
' http://127.0.0.1:$(port $1)/metrics $2
}

turn() { # NAME yes|no: a load of sixteen clients, with a window of the profiler in it or without
  local counter running
  tokens q1 $W/cost/$1.tokens & counter=$!
  load q1 --concurrency 16 --requests ${COST:-96} --output 128 --warmup 1 --json-to $W/cost/$1.json & running=$!
  if [ $2 = yes ]; then
    sleep 4
    (profile cost-$1 --attach http://127.0.0.1:$(port q1) --duration 2)
    date +%s.%N >$W/cost/$1.profiled
  fi
  wait $running
  kill $counter
}

cost() {
  local name
  [ -e $W/done/up-q1 ] || return
  for name in off-1 on-1 off-2 on-2; do step cost-$name turn $name ${name/*on*/yes}; done
}

pack() { # FOLDER: archives, loads and logs, in tar files below 16 MiB
  local name jobs=()
  for name in $(cd $W/captures && ls | grep -v ^cost-); do
    [ -e $W/done/$name ] && [ ! -e $W/$name.tar.gz ] || continue
    python3 -m rocscope capture share $W/captures/$name/rocscope-out/*/capture -o $W/$name.tar.gz >>$W/log/share 2>&1 &
    jobs+=($!)
  done
  [ ${#jobs[@]} = 0 ] || wait "${jobs[@]}" # not the servers
  tail -n 20 $W/log/server-* >$W/log/tails 2>/dev/null
  (cd $W && ls -l *.tar.gz && tar cf $1/captures.tar $(ls *.tar.gz | grep -v cost-) && tar czf $1/rest.tar.gz load cost log)
}

for word in "$@"; do
  case $word in
  decoders | serve | loads | windows | repeats | cost) $word ;;
  *) pack $word ;;
  esac
done
