/* Faults that a test brings about while plainsight runs, preloaded into it: a store that cannot be written to any more, and
 * a clock that jumps. Neither can be had of the kernel without root: it makes nothing read-only that is open for writing.
 *
 * The folder that E2E_FAULTS names holds `read-only` while writes to the store are to fail, and `clock` with the seconds
 * by which the clock is wrong.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int named(char *path, size_t room, const char *name) {
    const char *folder = getenv("E2E_FAULTS");
    return folder != NULL && snprintf(path, room, "%s/%s", folder, name) < (int)room;
}

/* Whether a write to this file is to fail. */
static int fails(int file) {
    char path[512], link[64], target[512];
    if (!named(path, sizeof path, "read-only") || access(path, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    if (strstr(target, "/audit.db") == NULL) return 0;
    errno = EROFS;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *bytes, size_t count) {
    return fails(file) ? -1 : REAL(write)(file, bytes, count);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
    return fails(file) ? -1 : REAL(pwrite)(file, bytes, count, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
    return fails(file) ? -1 : REAL(pwrite64)(file, bytes, count, at);
}

int ftruncate(int file, off_t length) {
    return fails(file) ? -1 : REAL(ftruncate)(file, length);
}

int ftruncate64(int file, off64_t length) {
    return fails(file) ? -1 : REAL(ftruncate64)(file, length);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = REAL(clock_gettime)(clock, time);
    char path[512], text[32] = {0};
    if (result != 0 || clock != CLOCK_REALTIME || !named(path, sizeof path, "clock")) return result;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return result;
    if (read(file, text, sizeof text - 1) > 0) time->tv_sec += atol(text);
    close(file);
    return result;
}
