// Reads files as a data loader does, with as little of its own in the way as can be, and prints what it took as JSON.
//   reader files LIST THREADS        open, read whole, close: each path of LIST (one a line), dealt out to THREADS threads
//   reader sequential FILE           read FILE from start to end in 1 MiB reads
//   reader random FILE COUNT         COUNT reads of 4 KiB at random places of FILE, with the open
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 20, PAGE = 4096 };

static char **paths;
static size_t path_count;
static size_t next_path;
static uint64_t total_bytes;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what, const char *path) {
  fprintf(stderr, "reader: %s %s: %s\n", what, path, strerror(errno));
  exit(1);
}

static uint64_t read_whole(const char *path, char *buffer) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("open", path);
  uint64_t bytes = 0;
  ssize_t n;
  while ((n = read(fd, buffer, BUFFER)) > 0) bytes += (uint64_t)n;
  if (n < 0) fail("read", path);
  close(fd);
  return bytes;
}

static void *reader(void *unused) {
  (void)unused;
  char *buffer = malloc(BUFFER);
  uint64_t bytes = 0;
  for (;;) {
    size_t i = __atomic_fetch_add(&next_path, 1, __ATOMIC_RELAXED);
    if (i >= path_count) break;
    bytes += read_whole(paths[i], buffer);
  }
  __atomic_fetch_add(&total_bytes, bytes, __ATOMIC_RELAXED);
  free(buffer);
  return NULL;
}

static void load(const char *list) {
  FILE *f = fopen(list, "r");
  if (!f) fail("open", list);
  size_t capacity = 0, length = 0;
  char *line = NULL;
  ssize_t n;
  while ((n = getline(&line, &length, f)) > 0) {
    if (line[n - 1] == '\n') line[n - 1] = 0;
    if (path_count == capacity) paths = realloc(paths, (capacity = capacity ? capacity * 2 : 1024) * sizeof *paths);
    paths[path_count++] = strdup(line);
  }
  free(line);
  fclose(f);
}

static void report(uint64_t operations, uint64_t bytes, double seconds) {
  printf("{\"operations\":%llu,\"bytes\":%llu,\"seconds\":%.6f}\n", (unsigned long long)operations, (unsigned long long)bytes, seconds);
}

int main(int argc, char **argv) {
  if (argc == 4 && !strcmp(argv[1], "files")) {
    load(argv[2]);
    int threads = atoi(argv[3]);
    pthread_t *ids = malloc(sizeof *ids * (size_t)threads);
    double start = now();
    for (int i = 0; i < threads; i++) pthread_create(&ids[i], NULL, reader, NULL);
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    report(path_count, total_bytes, now() - start);
    return 0;
  }
  if (argc == 3 && !strcmp(argv[1], "sequential")) {
    char *buffer = malloc(BUFFER);
    double start = now();
    uint64_t bytes = read_whole(argv[2], buffer);
    report(1, bytes, now() - start);
    return 0;
  }
  if (argc == 4 && !strcmp(argv[1], "random")) {
    double start = now();
    int fd = open(argv[2], O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) fail("open", argv[2]);
    uint64_t count = strtoull(argv[3], NULL, 10), pages = (uint64_t)st.st_size / PAGE, seed = 88172645463325252ull;
    char *buffer = malloc(PAGE);
    for (uint64_t i = 0; i < count; i++) {
      seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
      if (pread(fd, buffer, PAGE, (off_t)(seed % pages * PAGE)) != PAGE) fail("read", argv[2]);
    }
    report(count, count * PAGE, now() - start);
    return 0;
  }
  fprintf(stderr, "usage: reader files LIST THREADS | sequential FILE | random FILE COUNT\n");
  return 2;
}
