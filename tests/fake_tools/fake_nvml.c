/* A stand-in for libnvidia-ml.so.1: synthetic GPUs that do what the file named by FAKE_NVML says.
 *
 *   gpus N | reasons HEX    and fail, hang, crash, noise (orders.h)
 *
 * Only what rocscope asks for is here: the binding looks a symbol up when it is called. */
#define ORDERS "FAKE_NVML"
#include "orders.h"

static char handles[16];

struct pci {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char bus_id[32];
};

struct value {
    uint32_t field, scope;
    int64_t timestamp, latency;
    int type, code;
    union {
        unsigned figure;
        uint64_t wide;
    } value;
};

int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    ENTER;
    return 0;
}

int nvmlShutdown(void)
{
    ENTER;
    return 0;
}

int nvmlSystemGetDriverVersion(char *text, unsigned length)
{
    ENTER;
    snprintf(text, length, "550.0-synthetic");
    return 0;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    ENTER;
    *count = (unsigned)number("gpus", NULL, 2, 10);
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle)
{
    ENTER;
    *handle = handles + index;
    return 0;
}

int nvmlDeviceGetPciInfo_v3(void *handle, struct pci *pci)
{
    ENTER;
    memset(pci, 0, sizeof *pci);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", 0x18 + (int)((char *)handle - handles));
    return 0;
}

int nvmlDeviceGetUUID(void *handle, char *text, unsigned length)
{
    ENTER;
    snprintf(text, length, "GPU-synthetic-%d", (int)((char *)handle - handles));
    return 0;
}

int nvmlDeviceGetName(void *handle, char *text, unsigned length)
{
    (void)handle;
    ENTER;
    snprintf(text, length, "Synthetic H200");
    return 0;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts)
{
    (void)handle;
    ENTER;
    *milliwatts = 612345;
    return 0;
}

int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *milliwatts)
{
    (void)handle;
    ENTER;
    *milliwatts = 700000;
    return 0;
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, uint64_t *millijoules)
{
    (void)handle;
    ENTER;
    *millijoules = 123456789;
    return 0;
}

int nvmlDeviceGetClockInfo(void *handle, int kind, unsigned *mhz)
{
    (void)handle;
    ENTER;
    *mhz = kind == 1 ? 1980 : kind == 2 ? 3201 : 0;
    return 0;
}

int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *degrees)
{
    (void)handle, (void)sensor;
    ENTER;
    *degrees = 44;
    return 0;
}

int nvmlDeviceGetFieldValues(void *handle, int count, struct value *values)
{
    (void)handle, (void)count;
    ENTER;
    values->value.wide = 0;
    values->value.figure = 61;
    values->code = values->field == 82 ? 0 : 3;
    return 0;
}

int nvmlDeviceGetUtilizationRates(void *handle, unsigned *rates)
{
    (void)handle;
    ENTER;
    rates[0] = 98;
    rates[1] = 0;
    return 0;
}

int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *memory)
{
    (void)handle;
    ENTER;
    memory[0] = 150754820096;
    memory[1] = 754820096;
    memory[2] = 150000000000;
    return 0;
}

int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *reasons)
{
    (void)handle;
    ENTER;
    *reasons = number("reasons", NULL, 0, 16);
    return 0;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *reasons)
{
    (void)handle;
    ENTER;
    *reasons = number("reasons", NULL, 0, 16);
    return 0;
}

int nvmlDeviceGetTotalEccErrors(void *handle, int kind, int counter, unsigned long long *count)
{
    (void)handle, (void)counter;
    ENTER;
    *count = kind ? 0 : 7;
    return 0;
}

int nvmlDeviceGetCurrPcieLinkWidth(void *handle, unsigned *lanes)
{
    (void)handle;
    ENTER;
    *lanes = 8;
    return 0;
}

int nvmlDeviceGetMaxPcieLinkWidth(void *handle, unsigned *lanes)
{
    (void)handle;
    ENTER;
    *lanes = 16;
    return 0;
}

int nvmlDeviceGetPcieThroughput(void *handle, int way, unsigned *kib)
{
    (void)handle;
    ENTER;
    *kib = way ? 1000 : 24;
    return 0;
}
