/* Preloaded into programs under test: the real-time clock steps; all other clocks stay as they are.

   CLOCK_SHIFTS  whole seconds, separated by blanks; each is added to the real-time clock in turn
   CLOCK_PERIOD  milliseconds until the next one; 0: the first one stays

   The moment of a step follows the monotonic clock: all processes see the same steps. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MOST 16
static long shifts[MOST], count, period;

__attribute__((constructor)) static void read_variables(void) {
  const char *text = getenv("CLOCK_SHIFTS"), *every = getenv("CLOCK_PERIOD");
  for (char *end; text && count < MOST; text = end) {
    long seconds = strtol(text, &end, 10);
    if (end == text) break;
    shifts[count++] = seconds;
  }
  period = every ? atol(every) : 0;
}

static int real(clockid_t clock, struct timespec *now) {
  static int (*next)(clockid_t, struct timespec *);
  if (!next) next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  return next(clock, now);
}

static long shift(void) {
  struct timespec now;
  if (!count) return 0;
  if (!period) return shifts[0];
  real(CLOCK_MONOTONIC, &now);
  return shifts[(now.tv_sec * 1000 + now.tv_nsec / 1000000) / period % count];
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = real(clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec found;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &found)) return -1;
  now->tv_sec = found.tv_sec;
  now->tv_usec = found.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *now) {
  struct timespec found;
  clock_gettime(CLOCK_REALTIME_COARSE, &found);
  if (now) *now = found.tv_sec;
  return found.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
  if (base != TIME_UTC || clock_gettime(CLOCK_REALTIME, now)) return 0;
  return base;
}
