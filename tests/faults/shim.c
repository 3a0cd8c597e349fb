/* Preloaded into programs under test: system calls that write to chosen paths fail.

   FAULT_WHEN   the faults happen while this file exists
   FAULT_ERRNO  their number
   FAULT_CALLS  letters: w write, s fsync, o open for writing, r rename, m mkdir, u unlink
   FAULT_PATHS  patterns of fnmatch, separated by blanks; a path must match one of them */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int matches(const char *path) {
  const char *patterns = getenv("FAULT_PATHS");
  char copy[4096], *state = NULL;
  if (!patterns || !path) return 0;
  snprintf(copy, sizeof copy, "%s", patterns);
  for (char *one = strtok_r(copy, " ", &state); one; one = strtok_r(NULL, " ", &state))
    if (fnmatch(one, path, 0) == 0) return 1;
  return 0;
}

static int fails(char call, const char *path) {
  const char *when = getenv("FAULT_WHEN"), *calls = getenv("FAULT_CALLS");
  char absolute[PATH_MAX];
  if (!when || !calls || !strchr(calls, call)) return 0;
  if (syscall(SYS_faccessat, AT_FDCWD, when, F_OK) != 0) return 0;
  if (path && path[0] != '/') {
    char here[PATH_MAX / 2];
    if (!getcwd(here, sizeof here)) return 0;
    snprintf(absolute, sizeof absolute, "%s/%s", here, path);
    path = absolute;
  }
  if (!matches(path)) return 0;
  errno = atoi(getenv("FAULT_ERRNO"));
  return 1;
}

static int fails_on(char call, int descriptor) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size < 0) return 0;
  path[size] = 0;
  return fails(call, path);
}

#define OPEN(name, before, arguments)                                       \
  int name(before const char *path, int flags, ...) {                       \
    va_list rest;                                                           \
    va_start(rest, flags);                                                  \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                           \
    if (flags & (O_WRONLY | O_RDWR) && fails('o', path)) return -1;         \
    return REAL(name) arguments;                                            \
  }
#define COMMA ,
OPEN(open, , (path, flags, mode))
OPEN(open64, , (path, flags, mode))
OPEN(openat, int folder COMMA, (folder, path, flags, mode))
OPEN(openat64, int folder COMMA, (folder, path, flags, mode))

ssize_t write(int descriptor, const void *data, size_t size) {
  return fails_on('w', descriptor) ? -1 : REAL(write)(descriptor, data, size);
}
ssize_t pwrite(int descriptor, const void *data, size_t size, off_t place) {
  return fails_on('w', descriptor) ? -1 : REAL(pwrite)(descriptor, data, size, place);
}
ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t place) {
  return fails_on('w', descriptor) ? -1 : REAL(pwrite64)(descriptor, data, size, place);
}
ssize_t writev(int descriptor, const struct iovec *parts, int count) {
  return fails_on('w', descriptor) ? -1 : REAL(writev)(descriptor, parts, count);
}
int fsync(int descriptor) { return fails_on('s', descriptor) ? -1 : REAL(fsync)(descriptor); }
int rename(const char *from, const char *to) {
  return fails('r', to) ? -1 : REAL(rename)(from, to);
}
int mkdir(const char *path, mode_t mode) { return fails('m', path) ? -1 : REAL(mkdir)(path, mode); }
int unlink(const char *path) { return fails('u', path) ? -1 : REAL(unlink)(path); }
