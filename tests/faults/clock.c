/* Preloaded into programs under test: the real-time clock steps; all other clocks stay as they are.

   CLOCK_STEPS   whole seconds, separated by blanks; each is one step, in turn
   CLOCK_PERIOD  milliseconds between two steps; 0: only the first step is made, at once
   CLOCK_START   reading of the monotonic clock before the first period, in milliseconds

   The moment of a step follows the monotonic clock: all processes see the same steps. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MOST 16
static long steps[MOST], count, period, start;

static long number(const char *name) {
  const char *text = getenv(name);
  return text ? atol(text) : 0;
}

__attribute__((constructor)) static void read_variables(void) {
  const char *text = getenv("CLOCK_STEPS");
  for (char *end; text && count < MOST; text = end) {
    long seconds = strtol(text, &end, 10);
    if (end == text) break;
    steps[count++] = seconds;
  }
  period = number("CLOCK_PERIOD");
  start = number("CLOCK_START");
}

static int real(clockid_t clock, struct timespec *now) {
  static int (*next)(clockid_t, struct timespec *);
  if (!next) next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  return next(clock, now);
}

static long shift(void) {
  struct timespec now;
  long sum = 0, made;
  if (!count) return 0;
  if (!period) return steps[0];
  real(CLOCK_MONOTONIC, &now);
  made = (now.tv_sec * 1000 + now.tv_nsec / 1000000 - start) / period;
  for (long i = 0; i < count; i++) sum += steps[i] * (made / count + (i < made % count));
  return sum;
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
