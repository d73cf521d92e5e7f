/* A stand-in for libamd_smi.so: synthetic GPUs that do what the file named by FAKE_AMDSMI says, read anew at
 * every call so that a test can change its mind. Lines of that file:
 *
 *   gpus N | version MAJOR | arch HEX | device HEX
 *   set FIELD VALUE       a field of the table of sensors; all others are all ones: "not filled"
 *   and what every stand-in heeds (orders.h): fail, hang, crash, noise
 *
 * fields.h is made from the binding that loads this: offset, width and count of each field of the table.
 * Every symbol that the binding wants and this file lacks is made to answer 2, "not supported". */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ORDERS "FAKE_AMDSMI"
#include "fields.h"
#include "orders.h"

enum { NOT_SUPPORTED = 2, MAX_GPUS = 16 };

static char handles[MAX_GPUS], socket_handle;

static int index_of(void *handle) { return (int)((char *)handle - handles); }

static uint32_t gpus(void) { return (uint32_t)number("gpus", NULL, 2, 10); }

int amdsmi_init(uint64_t flags)
{
    (void)flags;
    ENTER;
    return 0;
}

int amdsmi_shut_down(void)
{
    ENTER;
    return 0;
}

int amdsmi_get_lib_version(uint32_t *version)
{
    static char build[] = "synthetic";
    char *where = build;
    ENTER;
    version[0] = (uint32_t)number("version", NULL, 26, 10);
    version[1] = version[2] = 0;
    memcpy(version + 4, &where, sizeof where);
    return 0;
}

int amdsmi_get_socket_handles(uint32_t *count, void **found)
{
    ENTER;
    *count = 1;
    if (found)
        found[0] = &socket_handle;
    return 0;
}

int amdsmi_get_processor_handles(void *socket, uint32_t *count, void **found)
{
    (void)socket;
    ENTER;
    *count = gpus();
    for (uint32_t n = 0; found && n < *count; n++)
        found[n] = handles + n;
    return 0;
}

int amdsmi_get_gpu_device_bdf(void *handle, uint64_t *bdf)
{
    ENTER;
    *bdf = (uint64_t)(0x10 + 0x10 * index_of(handle)) << 8; /* bus 0x10, 0x20, ... */
    return 0;
}

int amdsmi_get_gpu_device_uuid(void *handle, uint32_t *length, char *uuid)
{
    ENTER;
    snprintf(uuid, *length, "synthetic-%d", index_of(handle));
    return 0;
}

int amdsmi_get_gpu_asic_info(void *handle, char *info)
{
    uint64_t device, target;
    ENTER;
    device = number("device", NULL, 0x738c, 16);
    target = number("arch", NULL, 0x908, 16);
    memset(info, 0, ASIC_INFO_BYTES);
    strcpy(info + ASIC_market_name, "Synthetic MI100");
    sprintf(info + ASIC_asic_serial, "%016X", 0xABC0 + index_of(handle));
    memcpy(info + ASIC_device_id, &device, sizeof device);
    memcpy(info + ASIC_target_graphics_version, &target, sizeof target);
    return 0;
}

int amdsmi_get_gpu_metrics_info(void *handle, unsigned char *table)
{
    ENTER;
    memset(table, 0xFF, METRICS_BYTES);
    for (const struct field *each = fields; each->name; each++) {
        char value[64];
        if (!find("set", each->name, value))
            continue;
        uint64_t figure = strtoull(value, NULL, 0);
        if (!strcmp(each->name, "average_socket_power"))
            figure += (uint64_t)index_of(handle);
        for (int n = 0; n < each->count; n++)
            memcpy(table + each->offset + n * each->width, &figure, (size_t)each->width);
    }
    return 0;
}

int amdsmi_get_gpu_memory_usage(void *handle, int kind, uint64_t *used)
{
    (void)handle, (void)kind;
    ENTER;
    *used = 12345678901;
    return 0;
}

int amdsmi_get_gpu_memory_total(void *handle, int kind, uint64_t *total)
{
    (void)handle, (void)kind;
    ENTER;
    *total = 34359738368;
    return 0;
}

int amdsmi_get_power_cap_info(void *handle, uint32_t sensor, uint64_t *cap)
{
    (void)handle, (void)sensor;
    ENTER;
    memset(cap, 0, 8 * sizeof *cap);
    cap[0] = number("cap", NULL, 290000000, 10);
    return 0;
}

int amdsmi_get_gpu_total_ecc_count(void *handle, uint64_t *count)
{
    (void)handle;
    ENTER;
    memset(count, 0, 8 * sizeof *count);
    count[0] = 3;
    return 0;
}

int amdsmi_get_pcie_info(void *handle, unsigned char *info)
{
    (void)handle;
    ENTER;
    memset(info, 0xFF, PCIE_INFO_BYTES);
    uint16_t most = (uint16_t)number("lanes_most", NULL, 16, 10), now = (uint16_t)number("lanes", NULL, 8, 10);
    memcpy(info + PCIE_max_pcie_width, &most, sizeof most);
    memcpy(info + PCIE_pcie_width, &now, sizeof now);
    return 0;
}

/* Single figures, asked for where the table lacks them. */
int amdsmi_get_power_info(void *handle, unsigned char *info)
{
    uint32_t watts = 222;
    (void)handle;
    ENTER;
    memset(info, 0xFF, POWER_INFO_BYTES);
    memcpy(info + POWER_average_socket_power, &watts, sizeof watts);
    return 0;
}

int amdsmi_get_clock_info(void *handle, int kind, uint32_t *clock)
{
    (void)handle;
    ENTER;
    memset(clock, 0, CLOCK_INFO_BYTES);
    clock[0] = 1000 + (uint32_t)kind;
    return 0;
}

int amdsmi_get_temp_metric(void *handle, int sensor, int metric, int64_t *degrees)
{
    (void)handle, (void)sensor, (void)metric;
    ENTER;
    *degrees = 55;
    return 0;
}

int amdsmi_get_gpu_activity(void *handle, uint32_t *activity)
{
    (void)handle;
    ENTER;
    memset(activity, 0, ACTIVITY_BYTES);
    activity[0] = 77;
    activity[1] = 0xFFFF;
    return 0;
}
