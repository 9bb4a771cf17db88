// The calls of libamd_smi.so that the agent's reader makes; all others are generated from the
// binding's own list and answer "not supported". Layouts are those of amdsmi.h.
#include "control.h"

enum { SUCCESS = 0, NOT_SUPPORTED = 2, NOT_FOUND = 31, DRIVER_NOT_LOADED = 34, NO_DATA = 40 };

typedef struct { unsigned gfx, umc, mm, reserved[13]; } usage_t;
typedef struct { unsigned total_mib, used_mib, reserved[2]; } vram_t;
typedef struct { unsigned long long corrected, uncorrected, deferred, reserved[5]; } errors_t;
typedef struct { unsigned long long socket; unsigned current, average; unsigned long long rest[22]; } power_t;
typedef struct { void *handle; unsigned event; char message[256]; unsigned char padding[4]; } event_t;

static long devices[8];
static long ras_seen;

static int index_of(void *handle) { return (int)((long *)handle - devices); }
static int lost(void *handle) {
    perhaps_misbehave();
    return control("lost", -1) == index_of(handle) ? NOT_FOUND : SUCCESS;
}

int amdsmi_init(unsigned long long flags) {
    perhaps_misbehave();
    ras_seen = control("ras_number", 0);
    return control("no_driver", 0) ? DRIVER_NOT_LOADED : SUCCESS;
}
int amdsmi_shut_down(void) { return SUCCESS; }
int amdsmi_status_code_to_string(int status, const char **text) { *text = "stub status"; return SUCCESS; }
int amdsmi_get_socket_handles(unsigned *count, void **sockets) {
    *count = 1;
    if (sockets) sockets[0] = devices;
    return SUCCESS;
}
int amdsmi_get_processor_handles(void *socket, unsigned *count, void **handles) {
    *count = control("count", 2);
    for (unsigned at = 0; handles && at < *count; at++) handles[at] = &devices[at];
    return SUCCESS;
}
int amdsmi_get_gpu_device_uuid(void *handle, unsigned *size, char *uuid) {
    snprintf(uuid, *size, "amd-stub-%d", index_of(handle));
    return SUCCESS;
}
int amdsmi_get_gpu_activity(void *handle, usage_t *usage) {
    usage->gfx = control("utilisation", 40);
    usage->umc = usage->mm = 0xFFFF;
    return lost(handle);
}
int amdsmi_get_gpu_vram_usage(void *handle, vram_t *vram) {
    vram->total_mib = 192 * 1024;
    vram->used_mib = 48 * 1024;
    return lost(handle);
}
int amdsmi_get_temp_metric(void *handle, int sensor, int metric, long long *celsius) {
    *celsius = control("celsius", 61);
    return lost(handle);
}
int amdsmi_get_power_info(void *handle, power_t *power) {
    power->current = 0xFFFF;
    power->average = 420;
    return lost(handle);
}
int amdsmi_get_gpu_total_ecc_count(void *handle, errors_t *errors) {
    errors->corrected = control("ecc_corrected", 7);
    errors->uncorrected = index_of(handle) == 0 ? control("ecc_uncorrected", 0) : 0;
    errors->deferred = 0;
    return lost(handle);
}
int amdsmi_init_gpu_event_notification(void *handle) { return SUCCESS; }
int amdsmi_set_gpu_event_notification_mask(void *handle, unsigned long long mask) { return SUCCESS; }
int amdsmi_stop_gpu_event_notification(void *handle) { return SUCCESS; }
int amdsmi_get_gpu_event_notification(int timeout_ms, unsigned *count, event_t *events) {
    long number = control("ras_number", 0);
    if (number == ras_seen) { *count = 0; return NO_DATA; }
    ras_seen = number;
    *count = 1;
    memset(events, 0, sizeof *events);
    events->handle = &devices[0];
    events->event = control("ras", 3);
    snprintf(events->message, sizeof events->message, "stub event");
    return SUCCESS;
}
