// What a stub does is read from a file of "name value" lines at every call, so that a test can
// break a GPU while its reader runs.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long control(const char *wanted, long otherwise) {
    const char *path = getenv("STUB_GPU_CONTROL");
    FILE *file = path ? fopen(path, "r") : NULL;
    char name[64];
    long value, found = otherwise;
    if (!file) return otherwise;
    while (fscanf(file, "%63s %ld", name, &value) == 2)
        if (strcmp(name, wanted) == 0) found = value;
    fclose(file);
    return found;
}

static void perhaps_misbehave(void) {
    while (control("hang", 0)) pause();
    if (control("crash", 0)) abort();
}
