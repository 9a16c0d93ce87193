// A link to a server that is far away: a TCP proxy on loopback that delays bytes and lets only so many a second through.
//   shape PORT LATENCY_MS BYTES_PER_SECOND        before 127.0.0.1:PORT; a rate of 0 is no limit
// Prints {"port":N} when it listens, and answers each line on standard input with what passed since the last one:
//   {"connections":N,"get":N,"list":N,"head":N,"other":N,"sent":BYTES,"received":BYTES}
// Ends with its standard input.
//
// LATENCY_MS is a round trip: half of it in each direction, and once more for a connection that is new, as a handshake takes. Each direction is one
// line for all connections: bytes leave one after the other at the rate, then take the latency. What waits to leave is at most QUEUE_NS
// long, connections take turns in it, and a connection that must wait is not read from, so that its sender waits too.
// TCP's slow start and loss are left out.
//
// A request is counted where a connection's client speaks after its server did (no pipelining), by how its first line begins.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 128 << 10, FLOW_LIMIT = 8 << 20, QUEUE_NS = 2000000, TURNS = 64, EVENTS = 256 };

struct connection;

// Bytes on their way. From the server they stay in the kernel, in a pipe: copying them twice would cost more than all else here.
struct block {
  struct block *next;
  struct flow *flow;
  uint64_t due;
  uint32_t length, offset; // A length of 0 is the end.
  int pipe[2];             // -1, or where the bytes are instead of in `bytes`.
  char bytes[];
};

struct queue {
  struct block *first, **last;
};

// One direction of a connection: from one end to the other.
struct flow {
  struct connection *connection;
  struct queue out; // Arrived, and not yet taken by the receiver.
  uint64_t held;    // Bytes on the line and in `out`.
  struct flow *next_ready;
  char from, readable, ready, ended;
};

struct connection {
  int fd[2]; // 0: the client, 1: the server.
  struct flow flow[2]; // By the end that it comes from.
  unsigned on_line;    // Blocks on either line.
  uint64_t opened_at;  // When the handshake is over.
  struct connection *next_opening, *next_finished;
  char open, finished, speaking;
};

// One direction of the link.
struct line {
  struct queue on_way;
  uint64_t free_at; // When all that has been put on it has left.
  struct flow *ready, **ready_last; // Flows that have something to be read, in turn.
};

static struct line lines[2];
static struct connection *opening, **last_opening, *finished;
static struct block *spare[2]; // By the end that they come from.
static uint64_t half_latency, rate;
static int epoll;
static uint64_t connections, gets, lists, heads, others, passed[2];

static void fail(const char *what) {
  fprintf(stderr, "shape: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void put(struct queue *queue, struct block *block) {
  block->next = NULL;
  if (!queue->first) queue->last = &queue->first;
  *queue->last = block;
  queue->last = &block->next;
}

static struct block *take(struct queue *queue) {
  struct block *block = queue->first;
  queue->first = block->next;
  return block;
}

static struct block *new_block(int end) {
  struct block *block = spare[end];
  if (block) {
    spare[end] = block->next;
    return block;
  }
  int pipe[2] = {-1, -1};
  int piped = end == 1 && !pipe2(pipe, O_CLOEXEC | O_NONBLOCK);
  if (piped) fcntl(pipe[0], F_SETPIPE_SZ, 2 * BLOCK); // As many pieces fit as such a stretch of a stream may have.
  if (!(block = malloc(sizeof *block + (piped ? 0 : BLOCK)))) fail("memory");
  block->pipe[0] = pipe[0];
  block->pipe[1] = pipe[1];
  return block;
}

// The block's bytes have been taken, all of them if it is to be used again.
static void free_block(struct block *block) {
  if (block->pipe[0] >= 0 && block->offset < block->length) {
    close(block->pipe[0]);
    close(block->pipe[1]);
    free(block);
    return;
  }
  int end = block->flow->from;
  block->next = spare[end];
  spare[end] = block;
}

static void finish(struct connection *c) {
  if (c->finished) return;
  c->finished = 1;
  close(c->fd[0]);
  close(c->fd[1]);
  c->next_finished = finished;
  finished = c;
}

// Frees the finished connections that nothing refers to any more.
static void sweep(void) {
  for (struct connection **place = &finished, *c; (c = *place);) {
    if (c->on_line || !c->open || c->flow[0].ready || c->flow[1].ready) {
      place = &c->next_finished;
      continue;
    }
    *place = c->next_finished;
    for (int end = 0; end < 2; end++)
      while (c->flow[end].out.first) free_block(take(&c->flow[end].out));
    free(c);
  }
}

static void make_ready(struct flow *flow) {
  struct connection *c = flow->connection;
  if (flow->ready || !flow->readable || flow->ended || c->finished || !c->open || flow->held >= FLOW_LIMIT) return;
  struct line *line = &lines[(int)flow->from];
  flow->ready = 1;
  flow->next_ready = NULL;
  if (!line->ready) line->ready_last = &line->ready;
  *line->ready_last = flow;
  line->ready_last = &flow->next_ready;
}

static int begins(const struct block *block, const char *word) {
  size_t length = strlen(word);
  return block->length >= length && !memcmp(block->bytes, word, length);
}

static void count(const struct flow *flow, const struct block *block) {
  struct connection *c = flow->connection;
  passed[(int)flow->from] += block->length;
  if (flow->from == 1) c->speaking = 0;
  else if (!c->speaking) {
    c->speaking = 1;
    const char *end = memchr(block->bytes, '\r', block->length);
    size_t first_line = end ? (size_t)(end - block->bytes) : block->length;
    if (begins(block, "HEAD ")) heads++;
    else if (!begins(block, "GET ")) others++;
    else if (memmem(block->bytes, first_line, "list-type=", 10) || memmem(block->bytes, first_line, "prefix=", 7)) lists++;
    else gets++;
  }
}

// Reads one block of the flow whose turn it is and puts it on the line.
static void advance(struct line *line, uint64_t time) {
  struct flow *flow = line->ready;
  line->ready = flow->next_ready;
  flow->ready = 0;
  struct connection *c = flow->connection;
  if (c->finished) return;
  struct block *block = new_block(flow->from);
  int fd = c->fd[(int)flow->from];
  block->flow = flow;
  block->length = block->offset = 0;
  ssize_t n = block->pipe[1] < 0 ? recv(fd, block->bytes, BLOCK, MSG_DONTWAIT)
                                 : splice(fd, NULL, block->pipe[1], NULL, BLOCK, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (n < 0) {
    free_block(block);
    flow->readable = 0;
    if (errno != EAGAIN && errno != EINTR) finish(c);
    return;
  }
  block->length = (uint32_t)n;
  if (n == 0) flow->ended = 1;
  else count(flow, block);
  if (line->free_at < time) line->free_at = time;
  if (rate) line->free_at += (uint64_t)n * 1000000000u / rate;
  block->due = line->free_at + half_latency;
  flow->held += (uint64_t)n;
  c->on_line++;
  put(&line->on_way, block);
  make_ready(flow);
}

// Gives the receiver what has arrived for it.
static void deliver(struct flow *flow) {
  struct connection *c = flow->connection;
  int to = c->fd[1 - flow->from];
  while (flow->out.first && !c->finished) {
    struct block *block = flow->out.first;
    if (block->length == 0) {
      shutdown(to, SHUT_WR);
      free_block(take(&flow->out));
      struct flow *other = &c->flow[1 - flow->from];
      if (other->ended && !other->out.first && c->on_line == 0) finish(c);
      continue;
    }
    size_t left = block->length - block->offset;
    ssize_t n = block->pipe[0] < 0 ? send(to, block->bytes + block->offset, left, MSG_DONTWAIT | MSG_NOSIGNAL)
                                   : splice(block->pipe[0], NULL, to, NULL, left, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n < 0) {
      if (errno == EAGAIN || errno == EINTR) return;
      finish(c);
      return;
    }
    flow->held -= (uint64_t)n;
    block->offset += (uint32_t)n;
    if (block->offset == block->length) free_block(take(&flow->out));
    make_ready(flow);
  }
}

static void arrive(struct block *block) {
  struct flow *flow = block->flow;
  struct connection *c = flow->connection;
  c->on_line--;
  if (c->finished) {
    free_block(block);
    return;
  }
  put(&flow->out, block);
  deliver(flow);
}

static void watch(int fd, void *what, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = what};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

// No waiting: splice(2) goes by the socket's own flag.
static void set_up(int fd) {
  fcntl(fd, F_SETFL, O_NONBLOCK);
  int yes = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static void open_connection(int client, uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (server < 0 || connect(server, (struct sockaddr *)&address, sizeof address)) {
    close(client);
    if (server >= 0) close(server);
    return;
  }
  set_up(client);
  set_up(server);
  struct connection *c = calloc(1, sizeof *c);
  if (!c) fail("memory");
  c->fd[0] = client;
  c->fd[1] = server;
  for (char end = 0; end < 2; end++) c->flow[(int)end] = (struct flow){.connection = c, .from = end};
  connections++;
  c->opened_at = now() + 2 * half_latency;
  if (!opening) last_opening = &opening;
  *last_opening = c;
  last_opening = &c->next_opening;
  // Which end it is stands in the pointer's lowest bit.
  watch(client, c, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
  watch(server, (char *)c + 1, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

static int full(const struct line *line, uint64_t time) { return rate && line->free_at > time + QUEUE_NS; }

// Does what is due. @returns when something is due next, 0 for at once, UINT64_MAX for never
static uint64_t pass_on(void) {
  uint64_t next = UINT64_MAX;
  for (; opening && opening->opened_at <= now(); opening = opening->next_opening) {
    opening->open = 1;
    make_ready(&opening->flow[0]);
    make_ready(&opening->flow[1]);
  }
  if (opening) next = opening->opened_at;
  for (struct line *line = lines; line < lines + 2; line++) {
    uint64_t time = now();
    for (int turns = 0; turns < TURNS && line->ready && !full(line, time); turns++) advance(line, time);
    while (line->on_way.first && line->on_way.first->due <= time) arrive(take(&line->on_way));
    if (line->ready) {
      uint64_t room_at = full(line, time) ? line->free_at - QUEUE_NS : 0;
      if (room_at < next) next = room_at;
    }
    if (line->on_way.first && line->on_way.first->due < next) next = line->on_way.first->due;
  }
  sweep();
  return next;
}

static void answer(void) {
  printf("{\"connections\":%llu,\"get\":%llu,\"list\":%llu,\"head\":%llu,\"other\":%llu,\"sent\":%llu,\"received\":%llu}\n",
         (unsigned long long)connections, (unsigned long long)gets, (unsigned long long)lists, (unsigned long long)heads,
         (unsigned long long)others, (unsigned long long)passed[0], (unsigned long long)passed[1]);
  fflush(stdout);
  connections = gets = lists = heads = others = passed[0] = passed[1] = 0;
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: shape PORT LATENCY_MS BYTES_PER_SECOND\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  uint16_t port = (uint16_t)atoi(argv[1]);
  half_latency = (uint64_t)(atof(argv[2]) * 1e6 / 2);
  rate = (uint64_t)atof(argv[3]);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1024)) fail("listen");
  getsockname(listener, (struct sockaddr *)&address, &length);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) fail("epoll");
  static long at_listener, at_input; // Even addresses.
  watch(listener, &at_listener, EPOLLIN);
  watch(0, &at_input, EPOLLIN);
  printf("{\"port\":%d}\n", ntohs(address.sin_port));
  fflush(stdout);

  for (;;) {
    uint64_t next = pass_on(), time = now();
    uint64_t wait = next <= time ? 0 : next - time;
    struct timespec timeout = {.tv_sec = (time_t)(wait / 1000000000u), .tv_nsec = (long)(wait % 1000000000u)};
    struct epoll_event events[EVENTS];
    int n = epoll_pwait2(epoll, events, EVENTS, next == UINT64_MAX ? NULL : &timeout, NULL);
    for (int i = 0; i < n; i++) {
      void *what = events[i].data.ptr;
      if (what == &at_listener) {
        int client;
        while ((client = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) open_connection(client, port);
      } else if (what == &at_input) {
        char line[256];
        if (read(0, line, sizeof line) <= 0) return 0;
        answer();
      } else {
        int end = (int)((uintptr_t)what & 1);
        struct connection *c = (struct connection *)((char *)what - end);
        if (c->finished) continue;
        if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
          c->flow[end].readable = 1;
          make_ready(&c->flow[end]);
        }
        if (events[i].events & EPOLLOUT) deliver(&c->flow[1 - end]);
      }
    }
  }
}
