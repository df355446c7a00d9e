// What the helper programs share: the protocol on stdin and stdout, options,
// stamps and needles, threads, the gap meter. See the package comment of
// testproc for the protocol.
#ifndef HELPER_H
#define HELPER_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-result"

#define PAGE 4096ul
#define load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define add(p, v) __atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL)

// The kernel's headers are not there with musl-gcc.
#define OP_FUTEX_WAIT 0
#define OP_FUTEX_WAKE 1

static void die(const char *what) {
	dprintf(2, "%s: %s\n", what, strerror(errno));
	_exit(1);
}

// say writes one line of the protocol at once, however long it is.
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
	char line[4096];
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(line, sizeof line - 1, format, ap);
	va_end(ap);
	if (n > (int)sizeof line - 2) n = sizeof line - 2;
	line[n++] = '\n';
	if (write(1, line, n) != n) _exit(1);
}

// Options: each program asks for those it knows, and opts_done refuses the rest.
static int opt_argc;
static char **opt_argv;
static char opt_used[256];

static const char *opt(const char *name, int has_value) {
	for (int i = 1; i < opt_argc; i++) {
		if (strcmp(opt_argv[i], name)) continue;
		opt_used[i] = 1;
		if (!has_value) return "";
		if (i + 1 == opt_argc) break;
		opt_used[i + 1] = 1;
		return opt_argv[i + 1];
	}
	return NULL;
}

static uint64_t size_of(const char *s) {
	char *end;
	uint64_t n = strtoull(s, &end, 0);
	switch (*end) {
	case 'T': n <<= 10; // fall through
	case 'G': n <<= 10; // fall through
	case 'M': n <<= 10; // fall through
	case 'K': n <<= 10;
	}
	return n;
}

static size_t size_opt(const char *name, uint64_t otherwise) {
	const char *s = opt(name, 1);
	uint64_t n = s ? size_of(s) : otherwise;
	if ((size_t)n != n) errno = EFBIG, die(name);
	return n;
}

// arg returns the i-th word that is no option, counting from 0.
static const char *arg(int i) {
	for (int k = 1; k < opt_argc; k++)
		if (!opt_used[k] && opt_argv[k][0] != '-' && i-- == 0) return opt_argv[k];
	return NULL;
}

static void opts_done(void) {
	for (int i = 1; i < opt_argc; i++)
		if (!opt_used[i] && opt_argv[i][0] == '-') errno = EINVAL, die(opt_argv[i]);
}

// Stamps: a stamped page holds, in each 8-byte word, stamp plus the address
// of that word, so that a page read from anywhere else is noticed.
static uint64_t stamp;

static uint64_t mix(uint64_t x) { // splitmix64
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static void stamp_page(void *page) {
	volatile uint64_t *w = page;
	for (size_t i = 0; i < PAGE / 8; i++) w[i] = stamp + (uintptr_t)&w[i];
}

// Needles: bytes that are at one place alone. They are announced in hex, word
// by word, so that no buffer holds another copy.
#define NEEDLE 24

static void announce_needle(const char *name, int index, const void *at) {
	char hex[2 * NEEDLE + 1];
	for (int i = 0; i < NEEDLE; i++) sprintf(hex + 2 * i, "%02x", ((const unsigned char *)at)[i]);
	if (index)
		say("needle %s-%d %p %s", name, index, at, hex);
	else
		say("needle %s %p %s", name, at, hex);
}

static void plant(const char *name, int index, void *at) {
	static int serial;
	volatile uint64_t *w = at;
	int id = add(&serial, 1);
	for (int i = 0; i < NEEDLE / 8; i++) w[i] = mix(stamp ^ mix(3 * id + i));
	announce_needle(name, index, at);
}

// map_kind maps memory of a kind: anon (the default), shared, memfd, thp.
static char *map_kind(const char *kind, size_t len) {
	int flags = MAP_PRIVATE | MAP_ANONYMOUS, fd = -1;
	if (!kind) kind = "anon";
	if (!strcmp(kind, "shared")) flags = MAP_SHARED | MAP_ANONYMOUS;
	if (!strcmp(kind, "memfd")) {
		flags = MAP_SHARED;
		if ((fd = memfd_create("testproc", MFD_CLOEXEC)) < 0 || ftruncate(fd, len)) die("memfd");
	}
	size_t room = len + (2 << 20);
	char *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) die("mmap");
	munmap(p, room);
	p = (char *)(((uintptr_t)p + (2 << 20) - 1) & ~((2ul << 20) - 1));
	if (mmap(p, len, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) == MAP_FAILED) die("mmap");
	if (fd >= 0) close(fd);
	if (!strcmp(kind, "thp")) madvise(p, len, MADV_HUGEPAGE);
	return p;
}

// Ballast is memory that makes a process larger. A program may set how much
// it has unless told otherwise.
static char *ballast;
static size_t ballast_size;

static void make_ballast(void) {
	ballast_size = size_opt("--ballast", ballast_size) / PAGE * PAGE;
	if (ballast_size == 0) return;
	ballast = map_kind(NULL, ballast_size);
	for (size_t at = 0; at < ballast_size; at += PAGE) stamp_page(ballast + at);
	say("map ballast %p %zu anon 0-%zu", ballast, ballast_size, (size_t)(ballast_size / PAGE - 1));
}

static uint64_t now_ns(void) {
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void sleep_ns(long ns) {
	struct timespec ts = {ns / 1000000000, ns % 1000000000};
	nanosleep(&ts, NULL);
}

static pid_t tid_self(void) { return syscall(SYS_gettid); }

static long futex(uint32_t *word, int op, uint32_t val) {
	return syscall(SYS_futex, word, op, val, NULL, NULL, 0);
}

// Threads.
struct thread {
	char name[16];
	void (*run)(struct thread *);
	void *arg;
	int index;
	pid_t tid;
	pid_t task;  // as /proc calls it, which may be that of another pid namespace
	int settled; // it is where it is to be, or about to block there
};

static void *thread_main(void *p) {
	struct thread *t = p;
	prctl(PR_SET_NAME, t->name);
	char path[64];
	int n = readlink("/proc/thread-self", path, sizeof path - 1);
	path[n < 0 ? 0 : n] = 0;
	char *last = strrchr(path, '/');
	t->task = last ? atoi(last + 1) : tid_self();
	store(&t->tid, tid_self());
	t->run(t);
	return NULL;
}

static void settle(struct thread *t) { store(&t->settled, 1); }

static void start(struct thread *t, pthread_attr_t *attr) {
	pthread_t id;
	if ((errno = pthread_create(&id, attr, thread_main, t))) die("pthread_create");
	pthread_detach(id);
}

static char thread_state(pid_t tid) {
	char path[64], stat[512];
	sprintf(path, "/proc/self/task/%d/stat", tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) return 0;
	int n = read(fd, stat, sizeof stat - 1);
	close(fd);
	if (n <= 0) return 0;
	stat[n] = 0;
	char *p = strrchr(stat, ')');
	return p ? p[2] : 0;
}

static void wait_settled(struct thread *t) {
	while (!load(&t->settled)) sleep_ns(100000);
}

static void wait_blocked(struct thread *t) {
	wait_settled(t);
	while (thread_state(t->task) != 'S') sleep_ns(100000);
}

// Gap meter: the longest time between two iterations of threads that sleep
// for 1 ms, that compute, and that write to memory.
static uint64_t gap_sleep, gap_compute, gap_write;
static int gap_generation;
static struct thread gap_threads[2];

static uint64_t gap_step(uint64_t *longest, uint64_t last, int *generation) {
	uint64_t now = now_ns();
	int g = load(&gap_generation);
	if (g != *generation) { // the time before the reset does not count
		*generation = g;
		store(longest, 0);
	} else if (now - last > load(longest)) {
		store(longest, now - last);
	}
	return now;
}

static void gap_sleeper(struct thread *t) {
	int g = 0;
	settle(t);
	for (uint64_t last = now_ns();; last = gap_step(&gap_sleep, last, &g)) sleep_ns(1000000);
}

static void gap_computer(struct thread *t) {
	int g = 0;
	settle(t);
	for (uint64_t last = now_ns();; last = gap_step(&gap_compute, last, &g)) {}
}

static void gap_start(void) {
	if (!opt("--gap", 0)) return;
	gap_threads[0] = (struct thread){.name = "gap-sleep", .run = gap_sleeper};
	gap_threads[1] = (struct thread){.name = "gap-compute", .run = gap_computer};
	for (int i = 0; i < 2; i++) start(&gap_threads[i], NULL), wait_settled(&gap_threads[i]);
}

// A reset takes effect at each thread's next iteration.
static void gap_command(int reset) {
	if (reset) {
		add(&gap_generation, 1);
		say("ok");
	} else {
		say("gap %llu %llu %llu", (unsigned long long)load(&gap_sleep), (unsigned long long)load(&gap_compute),
			(unsigned long long)load(&gap_write));
	}
}

// init begins every program.
static void init(int argc, char **argv) {
	opt_argc = argc, opt_argv = argv;
	if (argc > (int)sizeof opt_used) errno = E2BIG, die("arguments");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memcpy(&stamp, (void *)getauxval(AT_RANDOM), 8);
	stamp &= ~0xfffull;
	say("pid %d", getpid());
	say("stamp 0x%llx", (unsigned long long)stamp);
	make_ballast();
}

// serve ends every program: it answers each line of stdin with one line, and
// exits when stdin closes. handle returns 0 for a command that it does not know.
static char words_buffer[4096];

static int read_line(char *line, int size) {
	for (int n = 0; n < size - 1;) {
		ssize_t k = read(0, line + n, 1);
		if (k < 0 && errno == EINTR) continue;
		if (k <= 0) return 0;
		if (line[n] == '\n') {
			line[n] = 0;
			return 1;
		}
		n++;
	}
	return 0;
}

__attribute__((noreturn)) static void serve(int (*handle)(int argc, char **argv)) {
	while (read_line(words_buffer, sizeof words_buffer)) {
		char *words[16] = {0}, *save;
		int n = 0;
		for (char *w = strtok_r(words_buffer, " ", &save); w && n < 15; w = strtok_r(NULL, " ", &save)) words[n++] = w;
		if (n == 0) words[0] = "", n = 1;
		if (handle && handle(n, words)) continue;
		if (!strcmp(words[0], "ping")) say("pong");
		else if (!strcmp(words[0], "gap")) gap_command(n > 1);
		else if (!strcmp(words[0], "exit")) _exit(n > 1 ? atoi(words[1]) : 0);
		else if (!strcmp(words[0], "abort")) abort();
		else say("error unknown command %s", words[0]);
	}
	_exit(0);
}

__attribute__((noreturn)) static void ready(int (*handle)(int argc, char **argv)) {
	gap_start();
	opts_done();
	say("ready");
	serve(handle);
}

static void answer(int failed) {
	if (failed) say("error %s", strerror(errno));
	else say("ok");
}
#endif
