/* Part of the stand-in library: its SYNTHETIC kernels, and the counters that are asked for. */
#ifndef STANDIN_COUNTERS_H
#define STANDIN_COUNTERS_H
#include <math.h>
#include <regex.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { const char *name; int lds, vgpr, agpr, sgpr, wgx, gx, gy, gz, mean_ns; } kernel_t;

static const kernel_t OF_VLLM[] = {
    {"void vllm::gptq::gemm_half_q_half_gptq_8bit_kernel<true, 1>(__half const*, unsigned int const*, unsigned int "
     "const*, __half const*, __half*, int, int, int, int, bool, int const*)", 512, 72, 72, 96, 256, 3584, 1, 40, 45400},
    {"void vllm::rms_norm_kernel<c10::Half, 8, 2>(c10::Half*, c10::Half const*, long, c10::Half const*, float, int, int)",
     128, 24, 0, 32, 1024, 1024, 1, 1, 6100},
    {"void vllm::act_and_mul_kernel<c10::Half, &(c10::Half vllm::silu_kernel<c10::Half>(c10::Half const&)), true>"
     "(c10::Half*, c10::Half const*, int)", 0, 20, 0, 32, 1024, 1024, 1, 1, 5200},
    {"void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<c10::Half>, std::array<char*, 1ul> >"
     "(int, at::native::FillFunctor<c10::Half>, std::array<char*, 1ul>)", 0, 12, 0, 32, 256, 2560, 1, 1, 3900},
    {"__amd_rocclr_copyBuffer", 0, 16, 0, 32, 512, 1024, 1, 1, 3900},
};
#define KERNELS_MOST 32
static const double OF_VLLM_READ[] = {46.5e6, 20480, 40960, 0, 1048576}, OF_VLLM_WRITTEN[] = {8192, 10240, 20480, 2621440, 1048576};

static kernel_t KERNELS[KERNELS_MOST];
static double READ[KERNELS_MOST], WRITTEN[KERNELS_MOST], VALU[KERNELS_MOST]; /* bytes and instructions a launch */
static int KERNEL_COUNT, LAUNCHES[KERNELS_MOST], LAUNCHED;

/* Which kernels "run": vLLM's in turn, or, one after the other, those of the table that STANDIN_KNOWN names:
 * name, workgroup, grid x y z, mean time in ns, launches, bytes read and written, vector instructions. */
static void read_known(void) {
    const char *path = getenv("STANDIN_KNOWN");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[1024], name[512];
    if (!file) {
        KERNEL_COUNT = (int)(sizeof OF_VLLM / sizeof *OF_VLLM);
        for (int at = 0; at < KERNEL_COUNT; at++)
            KERNELS[at] = OF_VLLM[at], READ[at] = OF_VLLM_READ[at], WRITTEN[at] = OF_VLLM_WRITTEN[at];
        return;
    }
    while (KERNEL_COUNT < KERNELS_MOST && fgets(line, sizeof line, file)) {
        kernel_t *k = &KERNELS[KERNEL_COUNT];
        *k = (kernel_t){.vgpr = 32, .sgpr = 32};
        if (sscanf(line, "%511[^\t]\t%d\t%d\t%d\t%d\t%d\t%d\t%lf\t%lf\t%lf", name, &k->wgx, &k->gx, &k->gy, &k->gz, &k->mean_ns,
                   &LAUNCHES[KERNEL_COUNT], &READ[KERNEL_COUNT], &WRITTEN[KERNEL_COUNT], &VALU[KERNEL_COUNT]) != 10)
            continue;
        k->name = strdup(name);
        LAUNCHED += LAUNCHES[KERNEL_COUNT++];
    }
    fclose(file);
}

/* The kernel of the launch with this number. */
static int kernel_at(int launch) {
    int kernel = 0;
    if (!LAUNCHED) return launch % KERNEL_COUNT;
    while (kernel < KERNEL_COUNT - 1 && launch >= LAUNCHES[kernel]) launch -= LAUNCHES[kernel++];
    return kernel;
}

typedef struct { int kernel; uint64_t start, end; } dispatch_t;

static const char *setting(const char *name, const char *fallback) {
    const char *value = getenv(name);
    return value && *value ? value : fallback;
}

/* Counters asked for, in groups that take turns; see standin_counters.py for what is refused. */
#define GROUPS_MOST 16
#define NAMES_MOST 96
static char *groups[GROUPS_MOST][NAMES_MOST];
static int group_count, group_sizes[GROUPS_MOST];

static void read_groups(void) {
    char *text = strdup(setting("STANDIN_COUNTERS", "")), *outer, *inner;
    for (char *group = strtok_r(text, ";", &outer); group && group_count < GROUPS_MOST; group = strtok_r(NULL, ";", &outer)) {
        for (char *name = strtok_r(group, ", ", &inner); name && group_sizes[group_count] < NAMES_MOST; name = strtok_r(NULL, ", ", &inner))
            groups[group_count][group_sizes[group_count]++] = name;
        group_count++;
    }
}

/* Which dispatches are counted: those of kernels whose name matches, and of these a range. The newest tool
 * numbers the dispatches of each kernel, the older ones those of the process. */
static int counted(int kernel, int of_kernel, int of_process) {
    const char *pattern = setting("STANDIN_KERNELS", ""), *range = setting("STANDIN_RANGE", "");
    int first, last, newest = !getenv("ROCP_OUTPUT_DIR") && !getenv("STANDIN_V2_DIR");
    if (sscanf(range, newest ? "[%d-%d]" : "%d:%d", &first, &last) == 2) {
        int at = newest ? of_kernel : of_process;
        if (at < first || at > last) return 0;
    }
    if (!*pattern) return 1;
    regex_t compiled;
    if (regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB)) return 0;
    int found = regexec(&compiled, KERNELS[kernel].name, 0, NULL, 0) == 0;
    regfree(&compiled);
    return found;
}

/* SYNTHETIC, but of one piece: waves follow from the grid, requests from the bytes of each kernel. */
static double value_of(const char *counter, const dispatch_t *row) {
    const kernel_t *k = &KERNELS[row->kernel];
    char name[96];
    snprintf(name, sizeof name, "%s", counter);
    size_t length = strlen(name);
    if (length > 4 && !strcmp(name + length - 4, "_sum")) name[length - 4] = 0;
    if (*setting("STANDIN_ZERO", "")) return 0; /* as where the tool may not read the registers */
    double waves = floor((double)k->gx * k->gy * k->gz / 64), cycles = (double)(row->end - row->start) * 1.502;
    double reads = floor(READ[row->kernel] / 64), writes = floor(WRITTEN[row->kernel] / 64);
    if (!strcmp(name, setting("STANDIN_SATURATED", ""))) return 4294967295.0 * 48;
    if (!strcmp(name, "SQ_WAVES")) return waves - atof(setting("STANDIN_WAVES_LOST", "0"));
    if (!strcmp(name, "GRBM_GUI_ACTIVE") || !strcmp(name, "GRBM_COUNT")) return floor(LAUNCHED ? cycles + 12000 : cycles * 1.3);
    if (!strcmp(name, "TCC_EA_RDREQ")) return reads;
    if (!strcmp(name, "TCC_EA_RDREQ_32B")) return 0;
    if (!strcmp(name, "TCC_EA_WRREQ") || !strcmp(name, "TCC_EA_WRREQ_64B")) return writes;
    if (!strcmp(name, "TCC_HIT")) return floor((reads + writes) / 4);
    if (!strcmp(name, "TCC_MISS")) return reads + writes;
    if (!strcmp(name, "TCC_REQ")) return floor((reads + writes) * 1.25);
    if (!strcmp(name, "SQ_INSTS_VALU")) return VALU[row->kernel] ? VALU[row->kernel] : waves * 80;
    if (!strcmp(name, "SQ_INSTS_VMEM_RD")) return waves * 4;
    if (!strcmp(name, "SQ_WAVE_CYCLES")) return floor(cycles * 120);      /* 4 waves a CU, in quad-cycles */
    if (!strcmp(name, "SQ_ACCUM_PREV_HIRES")) return floor(cycles * 480); /* the same, in cycles */
    if (!strcmp(name, "SQ_BUSY_CU_CYCLES")) return floor(cycles * 100);
    if (!strcmp(name, "SQ_LDS_BANK_CONFLICT")) return 0;
    return floor(cycles * 15);
}

#endif
