// Writes as a training job does, and says how long it took: the speed of the file system, and how long it kept a writer waiting.
//
//   writer checkpoint FILE BYTES GENERATION TENTHS
//     one file in sequence, in blocks of 8 MiB that do not compress, then fsync. Of ten blocks, TENTHS are another content in each GENERATION.
//   writer load DIRECTORY SECONDS
//     as fast as it can: 4 KiB at the end of a log, after ten of them a file of 16 KiB, each of 4000 in turn, after a thousand an fsync of the log.
//
// Prints JSON, times in seconds. `longest` is the longest that one operation took, fsync aside.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK (8u << 20)
#define POOL (64u << 20)

static void fail(const char *what) {
  fprintf(stderr, "writer: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

static uint64_t state = 88172645463325252u;

static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

// Random bytes, made before the clock starts.
static unsigned char *make_pool(void) {
  unsigned char *pool;
  if (posix_memalign((void **)&pool, 4096, POOL) != 0) fail("memory");
  for (size_t at = 0; at < POOL; at += 8) {
    uint64_t value = next();
    memcpy(pool + at, &value, 8);
  }
  return pool;
}

static void write_all(int fd, const unsigned char *bytes, size_t length) {
  while (length > 0) {
    ssize_t written = write(fd, bytes, length);
    if (written < 0) fail("write");
    bytes += written;
    length -= written;
  }
}

static int checkpoint(const char *file, uint64_t bytes, uint64_t generation, uint64_t tenths) {
  unsigned char *pool = make_pool();
  double started = now();
  int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (fd < 0) fail(file);
  for (uint64_t block = 0; block * BLOCK < bytes; block += 1) {
    uint64_t content = block * 1000003 + (block * 7 % 10 < tenths ? generation : 0);
    unsigned char *from = pool + block % (POOL / BLOCK) * BLOCK;
    // Each page is of this block and this content alone.
    for (uint32_t at = 0; at < BLOCK; at += 4096) {
      memcpy(from + at, &content, 8);
      memcpy(from + at + 8, &at, 4);
    }
    uint64_t left = bytes - block * BLOCK;
    write_all(fd, from, left < BLOCK ? left : BLOCK);
  }
  double written = now();
  if (fsync(fd) != 0) fail("fsync");
  if (close(fd) != 0) fail("close");
  double ended = now();
  printf("{\"seconds\": %.6f, \"writeSeconds\": %.6f}\n", ended - started, written - started);
  return 0;
}

static int compare(const void *a, const void *b) {
  float one = *(const float *)a, other = *(const float *)b;
  return (one > other) - (one < other);
}

static int load(const char *directory, double seconds) {
  unsigned char *pool = make_pool();
  char name[4096];
  size_t room = 1u << 20, count = 0;
  float *times = malloc(room * sizeof *times);
  snprintf(name, sizeof name, "%s/log", directory);
  int log = open(name, O_WRONLY | O_CREAT | O_APPEND, 0644);
  if (log < 0) fail(name);
  uint64_t bytes = 0, files = 0;
  double slowest_sync = 0, started = now();
  for (double before = started; before - started < seconds;) {
    write_all(log, pool + next() % (POOL / 4096) * 4096, 4096);
    bytes += 4096;
    if (count % 10 == 9) {
      snprintf(name, sizeof name, "%s/%04d", directory, (int)(files++ % 4000));
      int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
      if (fd < 0) fail(name);
      write_all(fd, pool + next() % (POOL / 16384) * 16384, 16384);
      if (close(fd) != 0) fail("close");
      bytes += 16384;
    }
    double after = now();
    if (count == room) times = realloc(times, (room *= 2) * sizeof *times);
    times[count++] = after - before;
    before = after;
    if (count % 1000 == 0) {
      if (fsync(log) != 0) fail("fsync");
      after = now();
      if (after - before > slowest_sync) slowest_sync = after - before;
      before = after;
    }
    // The log begins anew, as logs do: what is written is bounded.
    if (count % 16384 == 0 && ftruncate(log, 0) != 0) fail("ftruncate");
  }
  double ended = now();
  qsort(times, count, sizeof *times, compare);
  printf("{\"operations\": %zu, \"bytes\": %llu, \"seconds\": %.6f, \"p50\": %.7f, \"p99\": %.7f, \"longest\": %.6f, \"longestSync\": %.6f}\n", count,
         (unsigned long long)bytes, ended - started, times[count / 2], times[count - 1 - count / 100], times[count - 1], slowest_sync);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 6 && strcmp(argv[1], "checkpoint") == 0)
    return checkpoint(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10), strtoull(argv[5], NULL, 10));
  if (argc == 4 && strcmp(argv[1], "load") == 0) return load(argv[2], atof(argv[3]));
  fprintf(stderr, "usage: writer checkpoint FILE BYTES GENERATION TENTHS | writer load DIRECTORY SECONDS\n");
  return 2;
}
