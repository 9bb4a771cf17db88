// libnvidia-ml.so.1 as far as the agent's reader asks it. Numbers are those of nvml.h.
#include "control.h"

enum { SUCCESS = 0, NOT_SUPPORTED = 3, TIMEOUT = 10, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };
enum { XID_EVENT = 8 };

typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { void *device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } event_t;

static long devices[8] = {1, 2, 3, 4, 5, 6, 7, 8};
static long xid_seen;

static int index_of(void *handle) { return (int)((long *)handle - devices); }
static int lost(void *handle) {
    perhaps_misbehave();
    return control("lost", -1) == index_of(handle) ? GPU_IS_LOST : SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    perhaps_misbehave();
    xid_seen = control("xid_number", 0);
    return control("no_driver", 0) ? DRIVER_NOT_LOADED : SUCCESS;
}
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "stub error"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = control("count", 2); return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = &devices[index];
    return SUCCESS;
}
int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size) {
    snprintf(uuid, size, "GPU-stub-%d", index_of(handle));
    return SUCCESS;
}
int nvmlDeviceGetName(void *handle, char *name, unsigned size) {
    snprintf(name, size, "NVIDIA Stub");
    return SUCCESS;
}
int nvmlDeviceGetUtilizationRates(void *handle, utilization_t *usage) {
    usage->gpu = control("utilisation", 40);
    usage->memory = 10;
    return lost(handle);
}
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    memory->total = 80ULL << 30;
    memory->used = 20ULL << 30;
    memory->free = memory->total - memory->used;
    return lost(handle);
}
int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius) {
    *celsius = control("celsius", 55);
    return lost(handle);
}
int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    *milliwatts = 350500;
    return lost(handle);
}
int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *bits) {
    *bits = control("clock_bits", 1);
    return lost(handle);
}
int nvmlDeviceGetTotalEccErrors(void *handle, int kind, int counter, unsigned long long *count) {
    *count = kind == 0 ? control("ecc_corrected", 7) : control("ecc_uncorrected", 0);
    return lost(handle);
}
int nvmlDeviceGetSupportedEventTypes(void *handle, unsigned long long *types) {
    *types = XID_EVENT;
    return SUCCESS;
}
int nvmlEventSetCreate(void **set) { *set = devices; return SUCCESS; }
int nvmlEventSetFree(void *set) { return SUCCESS; }
int nvmlDeviceRegisterEvents(void *handle, unsigned long long types, void *set) { return SUCCESS; }
int nvmlEventSetWait_v2(void *set, event_t *event, unsigned timeout_ms) {
    long number = control("xid_number", 0);
    perhaps_misbehave();
    if (number == xid_seen) return TIMEOUT;
    xid_seen = number;
    memset(event, 0, sizeof *event);
    event->device = &devices[control("xid_device", 0)];
    event->type = XID_EVENT;
    event->data = control("xid", 0);
    return SUCCESS;
}
