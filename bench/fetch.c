// Downloads over HTTP/1.1 as plainly as can be, for what a link and a disk can do at most.
//   fetch PORT LIST THREADS [DIRECTORY]      GET each request target of LIST (one a line) from 127.0.0.1:PORT, dealt out to THREADS
//                                            connections that stay open; with DIRECTORY, each body into a file of its own there
// Prints {"operations":N,"bytes":N,"seconds":S}. Answers must be 200 with a Content-Length.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 20 };

static char **targets;
static size_t count, next_target;
static uint64_t total_bytes;
static uint16_t port;
static const char *directory;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what, const char *about) {
  fprintf(stderr, "fetch: %s %.200s: %s\n", what, about, strerror(errno));
  exit(1);
}

static void write_all(int fd, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t n = write(fd, bytes, length);
    if (n <= 0) fail("write", directory);
    bytes += n;
    length -= (size_t)n;
  }
}

static int dial(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect", "");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  return fd;
}

static uint64_t get(int fd, size_t index, char *buffer) {
  const char *target = targets[index];
  int length = snprintf(buffer, BUFFER, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n\r\n", target, port);
  if (send(fd, buffer, (size_t)length, MSG_NOSIGNAL) != length) fail("send", target);
  size_t have = 0;
  char *body = NULL;
  while (!body) {
    ssize_t n = recv(fd, buffer + have, BUFFER - 1 - have, 0);
    if (n <= 0) fail("head of", target);
    have += (size_t)n;
    buffer[have] = 0;
    body = strstr(buffer, "\r\n\r\n");
  }
  body += 4;
  const char *size = strcasestr(buffer, "\r\nContent-Length:");
  if (strncmp(buffer, "HTTP/1.1 200", 12) || !size || size > body) {
    fprintf(stderr, "fetch: %.200s was answered with %.300s\n", target, buffer);
    exit(1);
  }
  uint64_t bytes = strtoull(size + 17, NULL, 10), left = bytes - (have - (size_t)(body - buffer));
  int file = -1;
  if (directory) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%zu", directory, index);
    if ((file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) < 0) fail("open", path);
    write_all(file, body, have - (size_t)(body - buffer));
  }
  while (left > 0) {
    ssize_t n = recv(fd, buffer, left < BUFFER ? left : BUFFER, 0);
    if (n <= 0) fail("body of", target);
    if (file >= 0) write_all(file, buffer, (size_t)n);
    left -= (uint64_t)n;
  }
  if (file >= 0) close(file);
  return bytes;
}

static void *worker(void *unused) {
  (void)unused;
  char *buffer = malloc(BUFFER);
  uint64_t bytes = 0;
  int fd = dial();
  for (;;) {
    size_t index = __atomic_fetch_add(&next_target, 1, __ATOMIC_RELAXED);
    if (index >= count) break;
    bytes += get(fd, index, buffer);
  }
  close(fd);
  __atomic_fetch_add(&total_bytes, bytes, __ATOMIC_RELAXED);
  free(buffer);
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 4 && argc != 5) {
    fprintf(stderr, "usage: fetch PORT LIST THREADS [DIRECTORY]\n");
    return 2;
  }
  port = (uint16_t)atoi(argv[1]);
  directory = argc == 5 ? argv[4] : NULL;
  FILE *list = fopen(argv[2], "r");
  if (!list) fail("open", argv[2]);
  size_t capacity = 0, length = 0;
  char *line = NULL;
  for (ssize_t n; (n = getline(&line, &length, list)) > 0;) {
    if (line[n - 1] == '\n') line[n - 1] = 0;
    if (count == capacity) targets = realloc(targets, (capacity = capacity ? capacity * 2 : 1024) * sizeof *targets);
    targets[count++] = strdup(line);
  }
  fclose(list);
  int threads = atoi(argv[3]);
  pthread_t *ids = malloc(sizeof *ids * (size_t)threads);
  double start = now();
  for (int i = 0; i < threads; i++) pthread_create(&ids[i], NULL, worker, NULL);
  for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
  printf("{\"operations\":%zu,\"bytes\":%llu,\"seconds\":%.6f}\n", count, (unsigned long long)total_bytes, now() - start);
  return 0;
}
