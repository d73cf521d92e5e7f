/* Stand-in for the library that rocprofv3 loads into every process of an application.
 *
 * It reads the variables that rocprofv3 sets, records nothing real, and at the ORDERLY END of the process,
 * and only then, writes that process's files with SYNTHETIC kernels: a process that is killed writes
 * nothing. As the real tool it installs handlers for SIGINT, SIGQUIT, SIGABRT and SIGTERM at load time,
 * which an application may replace: on the first of them it waits for the process's children, writes, and
 * passes the signal on.
 *
 * Which processes "launched kernels": the one with the pid STANDIN_DIRECT_PID, and those whose name or
 * command line matches the extended regular expression STANDIN_GPU_PROCESS (default: vLLM's workers and
 * engine core). Others write only the description of the devices.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <regex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "standin_counters.h"

static pid_t init_pid;
static uint64_t init_ns, fini_ns;
static int is_gpu, finalised;
static char leftover[PATH_MAX];
static struct sigaction previous[NSIG];
static const int SIGNALS[] = {SIGINT, SIGQUIT, SIGABRT, SIGTERM};

static uint64_t boottime(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static int enabled(const char *name) { return atoi(setting(name, "0")) != 0; }

static void make_parents(const char *path) {
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *at = copy + 1; *at; at++)
        if (*at == '/') {
            *at = 0;
            mkdir(copy, 0777);
            *at = '/';
        }
}

static int matches(void) {
    char text[8192] = "", part[4096];
    prctl(PR_GET_NAME, (unsigned long)text, 0, 0, 0);
    strcat(text, "\n");
    int descriptor = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t size = descriptor < 0 ? 0 : read(descriptor, part, sizeof part - 1);
    if (descriptor >= 0) close(descriptor);
    for (ssize_t at = 0; at < size; at++) if (!part[at]) part[at] = ' ';
    if (size > 0) { part[size] = 0; strcat(text, part); }
    regex_t pattern;
    if (regcomp(&pattern, setting("STANDIN_GPU_PROCESS", "^VLLM::(Worker|EngineCor)"), REG_EXTENDED | REG_NOSUB | REG_NEWLINE))
        return 0;
    int found = regexec(&pattern, text, 0, NULL, 0) == 0;
    regfree(&pattern);
    return found || atoi(setting("STANDIN_DIRECT_PID", "0")) == getpid();
}

/* The real tool spills records into temporary files; one that stays tells of a process that was killed. */
static void begin_recording(void) {
    if (is_gpu || !matches()) return;
    is_gpu = 1;
    const char *fault = setting("STANDIN_COUNTER_FAULT", "");
    if (!strncmp(fault, "abort:", 6)) { /* in the callback of the first dispatch */
        for (const char *at = fault + 6; *at; at++) fputc(*at == '~' ? '\n' : *at, stderr);
        fputc('\n', stderr);
        fflush(stderr);
        signal(SIGABRT, SIG_DFL);
        abort();
    }
    if (!strncmp(fault, "unknown:", 8)) fprintf(stderr, "%s\n", fault + 8);
    if (getenv("ROCP_OUTPUT_DIR") || getenv("STANDIN_V2_DIR")) return; /* the older tools have no such files */
    snprintf(leftover, sizeof leftover, "%s/.rocprofv3/%d-%d-kernel_dispatch.dat", setting("ROCPROF_TMPDIR", "."), getppid(), getpid());
    make_parents(leftover);
    FILE *file = fopen(leftover, "w");
    if (file) { fputs("stand-in\n", file); fclose(file); }
}

int prctl(int option, ...) {
    static int (*real)(int, unsigned long, unsigned long, unsigned long, unsigned long);
    va_list list;
    va_start(list, option);
    unsigned long a = va_arg(list, unsigned long), b = va_arg(list, unsigned long), c = va_arg(list, unsigned long), d = va_arg(list, unsigned long);
    va_end(list);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "prctl");
    int result = real(option, a, b, c, d);
    if (option == PR_SET_NAME && getpid() == init_pid && !finalised) begin_recording(); /* setproctitle */
    return result;
}

static void expand(char *to, size_t room) {
    const char *pattern = setting("ROCPROF_OUTPUT_FILE_NAME", "%hostname%/%pid%");
    char host[256] = "localhost";
    gethostname(host, sizeof host - 1);
    int used = snprintf(to, room, "%s/", setting("ROCPROF_OUTPUT_PATH", "."));
    while (*pattern && used < (int)room - 300) {
        if (!strncmp(pattern, "%hostname%", 10)) used += sprintf(to + used, "%s", host), pattern += 10;
        else if (!strncmp(pattern, "%ppid%", 6)) used += sprintf(to + used, "%d", getppid()), pattern += 6;
        else if (!strncmp(pattern, "%pid%", 5)) used += sprintf(to + used, "%d", getpid()), pattern += 5;
        else to[used++] = *pattern++;
    }
    to[used] = 0;
}

static FILE *create(const char *suffix) {
    char path[PATH_MAX];
    expand(path, sizeof path - 64);
    strcat(path, suffix);
    make_parents(path);
    return fopen(path, "w");
}

static int generate(dispatch_t *rows, int wanted) {
    uint64_t state = strtoull(setting("STANDIN_SEED", "1"), NULL, 10) * 6364136223846793005ull + 1442695040888963407ull;
    uint64_t life = fini_ns - init_ns;
    if (life / 60000 < (uint64_t)wanted) wanted = (int)(life / 60000) + 1; /* a short life has room for few */
    uint64_t step = life / (uint64_t)(wanted + 1);
    int made = 0;
    for (int at = 0; at < wanted; at++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        int kernel = kernel_at(at);
        uint64_t share = LAUNCHED ? 990 + (state >> 33) % 20 : 900 + (state >> 33) % 200; /* of a thousand */
        uint64_t duration = (uint64_t)KERNELS[kernel].mean_ns * share / 1000;
        uint64_t start = init_ns + step * (uint64_t)(at + 1) - step / 2;
        if (duration >= step || start + duration > fini_ns) continue;
        rows[made++] = (dispatch_t){kernel, start, start + duration};
    }
    return made;
}

static void write_agents(void) {
    FILE *file = create("_agent_info.csv");
    if (!file) return;
    fputs("\"Node_Id\",\"Logical_Node_Id\",\"Agent_Type\",\"Cpu_Cores_Count\",\"Simd_Count\",\"Cpu_Core_Id_Base\",\"Simd_Id_Base\",\"Max_Waves_Per_Simd\",\"Lds_Size_In_Kb\",\"Gds_Size_In_Kb\",\"Num_Gws\",\"Wave_Front_Size\",\"Num_Xcc\",\"Cu_Count\",\"Array_Count\",\"Num_Shader_Banks\",\"Simd_Arrays_Per_Engine\",\"Cu_Per_Simd_Array\",\"Simd_Per_Cu\",\"Max_Slots_Scratch_Cu\",\"Gfx_Target_Version\",\"Vendor_Id\",\"Device_Id\",\"Location_Id\",\"Domain\",\"Drm_Render_Minor\",\"Num_Sdma_Engines\",\"Num_Sdma_Xgmi_Engines\",\"Num_Sdma_Queues_Per_Engine\",\"Num_Cp_Queues\",\"Max_Engine_Clk_Ccompute\",\"Max_Engine_Clk_Fcompute\",\"Sdma_Fw_Version\",\"Fw_Version\",\"Capability\",\"Cu_Per_Engine\",\"Max_Waves_Per_Cu\",\"Family_Id\",\"Workgroup_Max_Size\",\"Grid_Max_Size\",\"Local_Mem_Size\",\"Hive_Id\",\"Gpu_Id\",\"Workgroup_Max_Dim_X\",\"Workgroup_Max_Dim_Y\",\"Workgroup_Max_Dim_Z\",\"Grid_Max_Dim_X\",\"Grid_Max_Dim_Y\",\"Grid_Max_Dim_Z\",\"Name\",\"Vendor_Name\",\"Product_Name\",\"Model_Name\"\n", file);
    fputs("0,0,\"CPU\",2,0,0,0,0,0,0,0,0,1,2,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,6,0,0,0,0,0,0,0,0,0,0,0,\"stand-in CPU\",\"CPU\",\"stand-in CPU\",\"\"\n", file);
    fputs("1,1,\"GPU\",0,480,0,2147487744,10,64,0,64,64,1,120,8,8,1,15,4,32,90008,4098,29580,768,0,128,2,6,8,24,2000,1502,18,64,746037888,15,40,141,1024,4294967295,0,0,4711,1024,1024,1024,2147483647,65535,65535,\"gfx908\",\"AMD\",\"stand-in gfx908 (synthetic)\",\"stand-in\"\n", file);
    fclose(file);
}

static void write_kernels(const dispatch_t *rows, int count) {
    FILE *file = create("_kernel_trace.csv");
    if (!file) return;
    fputs("\"Kind\",\"Agent_Id\",\"Queue_Id\",\"Stream_Id\",\"Thread_Id\",\"Dispatch_Id\",\"Kernel_Id\",\"Kernel_Name\",\"Correlation_Id\",\"Start_Timestamp\",\"End_Timestamp\",\"LDS_Block_Size\",\"Scratch_Size\",\"VGPR_Count\",\"Accum_VGPR_Count\",\"SGPR_Count\",\"Workgroup_Size_X\",\"Workgroup_Size_Y\",\"Workgroup_Size_Z\",\"Grid_Size_X\",\"Grid_Size_Y\",\"Grid_Size_Z\"\n", file);
    for (int at = 0; at < count; at++) {
        const kernel_t *k = &KERNELS[rows[at].kernel];
        fprintf(file, "\"KERNEL_DISPATCH\",\"Agent 1\",1,1,%d,%d,%d,\"%s\",%d,%lu,%lu,%d,0,%d,%d,%d,%d,1,1,%d,%d,%d\n", getpid(), at + 1, rows[at].kernel + 1,
                k->name, at + 1, rows[at].start, rows[at].end, k->lds, k->vgpr, k->agpr, k->sgpr, k->wgx, k->gx, k->gy, k->gz);
    }
    fclose(file);
}

static void write_counters(const dispatch_t *rows, int count) {
    FILE *file = create("_counter_collection.csv");
    if (!file) return;
    int seen[KERNELS_MOST] = {0}, interval = atoi(setting("STANDIN_COUNTER_INTERVAL", "1"));
    fputs("\"Correlation_Id\",\"Dispatch_Id\",\"Agent_Id\",\"Queue_Id\",\"Process_Id\",\"Thread_Id\",\"Grid_Size\",\"Kernel_Id\",\"Kernel_Name\",\"Workgroup_Size\",\"LDS_Block_Size\",\"Scratch_Size\",\"VGPR_Count\",\"Accum_VGPR_Count\",\"SGPR_Count\",\"Counter_Name\",\"Counter_Value\",\"Start_Timestamp\",\"End_Timestamp\"\n", file);
    for (int at = 0; at < count; at++) {
        const kernel_t *k = &KERNELS[rows[at].kernel];
        if (!counted(rows[at].kernel, ++seen[rows[at].kernel], at + 1)) continue;
        int group = at / interval % group_count;
        for (int name = 0; name < group_sizes[group]; name++)
            if (strcmp(groups[group][name], setting("STANDIN_DROPS", "")))
            fprintf(file, "%d,%d,\"Agent 1\",1,%d,%d,%d,%d,\"%s\",%d,%d,0,%d,%d,%d,\"%s\",%f,%lu,%lu\n", at + 1, at + 1, getpid(), getpid(), k->gx * k->gy * k->gz,
                    rows[at].kernel + 1, k->name, k->wgx, k->lds, k->vgpr, k->agpr, k->sgpr, groups[group][name], value_of(groups[group][name], &rows[at]), rows[at].start, rows[at].end);
    }
    fclose(file);
}

static void write_copies(void) {
    FILE *file = create("_memory_copy_trace.csv");
    if (!file) return;
    fputs("\"Kind\",\"Direction\",\"Stream_Id\",\"Source_Agent_Id\",\"Destination_Agent_Id\",\"Correlation_Id\",\"Start_Timestamp\",\"End_Timestamp\"\n", file);
    uint64_t start = init_ns + (fini_ns - init_ns) / 100;
    fprintf(file, "\"MEMORY_COPY\",\"MEMORY_COPY_HOST_TO_DEVICE\",0,\"Agent 0\",\"Agent 1\",90001,%lu,%lu\n", start, start + 1000 < fini_ns ? start + 1000 : fini_ns);
    fclose(file);
}

static void write_stats(const dispatch_t *rows, int count) {
    FILE *file = create("_kernel_stats.csv");
    if (!file) return;
    fputs("\"Name\",\"Calls\",\"TotalDurationNs\",\"AverageNs\",\"Percentage\",\"MinNs\",\"MaxNs\",\"StdDev\"\n", file);
    double all = 0;
    for (int at = 0; at < count; at++) all += (double)(rows[at].end - rows[at].start);
    for (int kernel = 0; kernel < KERNEL_COUNT; kernel++) {
        double sum = 0, square = 0, least = INFINITY, most = 0;
        int calls = 0;
        for (int at = 0; at < count; at++)
            if (rows[at].kernel == kernel) {
                double ns = (double)(rows[at].end - rows[at].start);
                calls++, sum += ns, square += ns * ns, least = fmin(least, ns), most = fmax(most, ns);
            }
        if (calls)
            fprintf(file, "\"%s\",%d,%.0f,%.6f,%.2f,%.0f,%.0f,%.6f\n", KERNELS[kernel].name, calls, sum, sum / calls, 100 * sum / all, least, most,
                    calls > 1 ? sqrt(fmax(0, (square - sum * sum / calls) / (calls - 1))) : 0.0);
    }
    fclose(file);
}

static void write_json(const dispatch_t *rows, int count) {
    FILE *file = create("_results.json");
    if (!file) return;
    fprintf(file, "{\"rocprofiler-sdk-tool\":[{\"metadata\":{\"pid\":%d,\"init_time\":%lu,\"fini_time\":%lu,\"node\":{\"hostname\":\"stand-in\"},\"command\":[\"stand-in\"]},", getpid(), init_ns, fini_ns);
    fputs("\"agents\":[{\"size\":312,\"id\":{\"handle\":7},\"type\":2,\"capability\":{\"HotPluggable\":0,\"HSAMMUPresent\":0,\"SharedWithGraphics\":0,\"QueueSizePowerOfTwo\":0,\"QueueSize32bit\":0,\"QueueIdleEvent\":0,\"VALimit\":0,\"WatchPointsSupported\":0,\"WatchPointsTotalBits\":0,\"DoorbellType\":0,\"AQLQueueDoubleMap\":0,\"DebugTrapSupported\":0,\"WaveLaunchTrapOverrideSupported\":0,\"WaveLaunchModeSupported\":0,\"PreciseMemoryOperationsSupported\":0,\"DEPRECATED_SRAM_EDCSupport\":0,\"Mem_EDCSupport\":0,\"RASEventNotify\":0,\"ASICRevision\":0,\"SRAM_EDCSupport\":0,\"SVMAPISupported\":0,\"CoherentHostAccess\":0,\"DebugSupportedFirmware\":0,\"Reserved\":0},\"cu_count\":120,\"simd_count\":480,\"simd_per_cu\":4,\"wave_front_size\":64,\"node_id\":1,\"logical_node_id\":1,\"logical_node_type_id\":0,\"name\":\"gfx908\",\"vendor_name\":\"AMD\",\"product_name\":\"stand-in gfx908 (synthetic)\",\"model_name\":\"stand-in\"}],", file);
    fputs("\"counters\":[],\"strings\":{\"callback_records\":[],\"buffer_records\":[],\"marker_api\":[],\"counters\":{\"dimension_ids\":[]},\"pc_sample_instructions\":[],\"pc_sample_comments\":[],\"att_filenames\":[],\"code_object_snapshot_filenames\":[]},\"code_objects\":[],\"kernel_symbols\":[", file);
    for (int kernel = 0; kernel < KERNEL_COUNT; kernel++) {
        const kernel_t *k = &KERNELS[kernel];
        fprintf(file, "%s{\"size\":88,\"kernel_id\":%d,\"code_object_id\":1,\"kernel_name\":\"%s.kd\",\"kernel_object\":1,\"kernarg_segment_size\":0,\"kernarg_segment_alignment\":16,\"group_segment_size\":%d,\"private_segment_size\":0,\"sgpr_count\":%d,\"arch_vgpr_count\":%d,\"accum_vgpr_count\":%d,\"formatted_kernel_name\":\"%s\",\"demangled_kernel_name\":\"%s\",\"truncated_kernel_name\":\"%s\"}",
                kernel ? "," : "", kernel + 1, k->name, k->lds, k->sgpr, k->vgpr, k->agpr, k->name, k->name, k->name);
    }
    fputs("],\"host_functions\":[],\"callback_records\":{\"counter_collection\":[]},\"buffer_records\":{\"kernel_dispatch\":[", file);
    for (int at = 0; at < count; at++) {
        const kernel_t *k = &KERNELS[rows[at].kernel];
        fprintf(file, "%s{\"size\":184,\"kind\":11,\"operation\":2,\"thread_id\":%d,\"correlation_id\":{\"internal\":%d,\"external\":0},\"start_timestamp\":%lu,\"end_timestamp\":%lu,\"dispatch_info\":{\"size\":72,\"agent_id\":{\"handle\":7},\"queue_id\":{\"handle\":1},\"kernel_id\":%d,\"dispatch_id\":%d,\"private_segment_size\":0,\"group_segment_size\":%d,\"workgroup_size\":{\"x\":%d,\"y\":1,\"z\":1},\"grid_size\":{\"x\":%d,\"y\":%d,\"z\":%d}},\"stream_id\":{\"handle\":1}}",
                at ? "," : "", getpid(), at + 1, rows[at].start, rows[at].end, rows[at].kernel + 1, at + 1, k->lds, k->wgx, k->gx, k->gy, k->gz);
    }
    fputs("],\"hip_api\":[],\"hsa_api\":[],\"marker_api\":[],\"rccl_api\":[],\"memory_copy\":[],\"memory_allocation\":[],\"scratch_memory\":[],\"rocdecode_api\":[],\"rocjpeg_api\":[]}}]}\n", file);
    fclose(file);
}

/* rocprof v1: raw text, one line a dispatch, that the wrapper makes a table of once the application is gone. */
static void write_v1(const dispatch_t *rows, int count) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/input_results_%d/results.txt", setting("ROCP_OUTPUT_DIR", "."), getpid());
    make_parents(path);
    FILE *file = fopen(path, "w");
    int seen[KERNELS_MOST] = {0};
    for (int at = 0; file && at < count; at++) {
        if (!counted(rows[at].kernel, ++seen[rows[at].kernel], at)) continue;
        const kernel_t *k = &KERNELS[rows[at].kernel];
        fprintf(file, "dispatch[%d], gpu-id(1), queue-id(0), queue-index(%d), pid(%d), tid(%d), grd(%d), wgr(%d), lds(%d), scr(0), arch_vgpr(%d), accum_vgpr(%d), sgpr(%d), wave_size(64), sig(0x0), obj(0x7f0000000000), kernel-name(\"%s.kd\"), time(%lu,%lu,%lu,%lu)\n",
                at, at, getpid(), getpid(), k->gx * k->gy * k->gz, k->wgx, k->lds, k->vgpr, k->agpr, k->sgpr, k->name, rows[at].start - 500, rows[at].start, rows[at].end, rows[at].end + 500);
        for (int name = 0; name < group_sizes[0]; name++)
            fprintf(file, "  %s (%.10f)\n", groups[0][name], value_of(groups[0][name], &rows[at]));
    }
    if (file) fclose(file);
}

/* rocprofv2's file plugin. */
static void write_v2(const dispatch_t *rows, int count) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/results_%d.csv", setting("STANDIN_V2_DIR", "."), getpid());
    FILE *file = fopen(path, "w");
    if (!file) return;
    fputs("Dispatch_ID,GPU_ID,Queue_ID,PID,TID,Grid_Size,Workgroup_Size,LDS_Per_Workgroup,Scratch_Per_Workitem,Arch_VGPR,Accum_VGPR,SGPR,Wave_Size,Kernel_Name,Start_Timestamp,End_Timestamp,Correlation_ID", file);
    int seen[KERNELS_MOST] = {0};
    for (int name = 0; name < group_sizes[0]; name++) fprintf(file, ",%s", groups[0][name]);
    fputc('\n', file);
    for (int at = 0; at < count; at++) {
        const kernel_t *k = &KERNELS[rows[at].kernel];
        if (!counted(rows[at].kernel, ++seen[rows[at].kernel], at)) continue;
        fprintf(file, "%d,1,1,%d,%d,%d,%d,%d,0,%d,%d,%d,64,\"%s.kd\",%lu,%lu,%d", at + 1, getpid(), getpid(), k->gx * k->gy * k->gz, k->wgx,
                k->lds, k->vgpr, k->agpr, k->sgpr, k->name, rows[at].start, rows[at].end, at + 1);
        for (int name = 0; name < group_sizes[0]; name++) fprintf(file, ",%f", value_of(groups[0][name], &rows[at]));
        fputc('\n', file);
    }
    fclose(file);
}

static void finalise(void) {
    if (finalised || getpid() != init_pid) return;
    begin_recording();
    finalised = 1;
    fini_ns = boottime();
    int wanted = LAUNCHED ? LAUNCHED : atoi(setting("STANDIN_DISPATCHES", "250"));
    dispatch_t *rows = calloc((size_t)wanted + 1, sizeof *rows);
    int count = is_gpu && rows ? generate(rows, wanted) : 0;
    if (getenv("ROCP_OUTPUT_DIR")) {
        if (count) write_v1(rows, count);
    } else if (getenv("STANDIN_V2_DIR")) {
        if (count) write_v2(rows, count);
    } else if (count * 100 >= atoi(setting("ROCPROF_MINIMUM_OUTPUT_BYTES", "0"))) {
        const char *formats = setting("ROCPROF_OUTPUT_FORMAT", "rocpd");
        if (strstr(formats, "csv")) {
            write_agents();
            if (count && group_count && !*setting("STANDIN_COUNTER_FAULT", "")) write_counters(rows, count);
            if (count && enabled("ROCPROF_KERNEL_TRACE")) write_kernels(rows, count);
            if (count && enabled("ROCPROF_MEMORY_COPY_TRACE")) write_copies();
            if (count && enabled("ROCPROF_STATS")) write_stats(rows, count);
        }
        if (strstr(formats, "json")) write_json(rows, count);
    }
    if (*leftover) unlink(leftover);
    free(rows);
}

static void on_signal(int number) {
    char path[64], children[256];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", getpid(), getpid());
    for (;;) { /* as the real one: let the children write first */
        int descriptor = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t size = descriptor < 0 ? 0 : read(descriptor, children, sizeof children);
        if (descriptor >= 0) close(descriptor);
        if (size <= 0 || getpid() != init_pid) break;
        usleep(10000);
    }
    finalise();
    sigaction(number, &previous[number], NULL);
    raise(number);
}

__attribute__((constructor)) static void begin(void) {
    init_pid = getpid();
    init_ns = boottime();
    read_groups();
    read_known();
    if (!strcmp(setting("ROCPROF_SIGNAL_HANDLERS", "1"), "1"))
        for (size_t at = 0; at < sizeof SIGNALS / sizeof *SIGNALS; at++) {
            struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND | SA_NODEFER};
            sigaction(SIGNALS[at], &action, &previous[SIGNALS[at]]);
        }
    begin_recording();
}

__attribute__((destructor)) static void end(void) { finalise(); }
